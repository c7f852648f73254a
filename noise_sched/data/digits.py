"""scikit-learn's handwritten digits as a TFDS data set: the default, which needs no download.

1,797 greyscale images of 8 x 8 pixels in ten classes (the test part of UCI's "Optical Recognition
of Handwritten Digits", Alpaydin and Kaynak 1998, shipped inside scikit-learn). One split, "train",
with all of them, in scikit-learn's order.

scikit-learn's pixels are the whole numbers 0..16; here they are bytes,

    byte = (255 v + 8) // 16,

which is 255 v / 16 rounded (half up); v = round(16 byte / 255) gives v back exactly.

This module imports TFDS when it is imported: `noise_sched.data.offline` imports it only on use.
"""

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Num, UInt8
from PIL import Image

from noise_sched.data import offline


def to_bytes(
    values: Num[np.ndarray, "*batch height width"],
) -> UInt8[np.ndarray, "*batch height width"]:
    """Pixels 0..16 to bytes 0..255: (255 v + 8) // 16."""
    return ((255 * values.astype(np.int64) + 8) // 16).astype(np.uint8)


class Digits(tfds.core.GeneratorBasedBuilder):
    """Builder of the data set "digits"."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "All 1,797 digits, one split."}
    # No downloads, hence no checksums. Without this line TFDS looks for a file of them, and the way
    # it looks (4.9.10) needs the package importlib_resources, which it does not depend on.
    url_infos = None

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="The 1,797 handwritten digits of scikit-learn, 8 x 8, greyscale.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # Nothing is downloaded.
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        from sklearn.datasets import load_digits

        digits = load_digits()
        pairs = zip(to_bytes(digits.images), digits.target, strict=True)
        for i, (image, label) in enumerate(pairs):
            # A PIL image, because TFDS can encode an array only with TensorFlow.
            yield i, {"image": Image.fromarray(image), "label": int(label)}


BUILDER = Digits


def prepare(data_dir: str | None = None) -> None:
    """Writes the data set below `data_dir`; see `noise_sched.data.offline.prepare`."""
    offline.prepare("digits", data_dir)
