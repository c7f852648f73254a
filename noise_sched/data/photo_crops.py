"""Crops of ten photographs that lie in packages: colour and natural spectra without a download.

Two are scikit-learn's, eight scikit-image's (`pip install 'noise_sched[data]'`). There are 2,560 crops of
64 x 64 pixels, 256 of each photograph, which is their class: squares of 64 pixels up to two thirds of the
photograph's shorter side, at random places, reduced by averaging. Crop i is a function of i alone.

Crops of one photograph overlap, and there are only ten of those: a model learns the ten, so nothing can be
said of how it would do on other photographs. What can be asked is what needs colour, edges and a natural
spectrum, such as which input scale a resolution wants.

This module imports TFDS when it is imported: `noise_sched.data.offline` imports it only on use.
"""

import functools
import importlib.resources
import io

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from PIL import Image

SIDE = 64
OF_EACH = 256
PHOTOGRAPHS = {  # class -> (package, file)
    "astronaut": ("skimage", "data/astronaut.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "galaxies": ("skimage", "data/hubble_deep_field.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "retina": ("skimage", "data/retina.jpg"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
    "tissue": ("skimage", "data/ihc.png"),
}
NAMES = tuple(PHOTOGRAPHS)


@functools.cache
def photograph(name: str) -> Image.Image:
    """One of the photographs, as RGB.

    Raises:
      ValueError: if the package that has it is not installed.
    """
    package, file = PHOTOGRAPHS[name]
    try:
        content = (importlib.resources.files(package) / file).read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        raise ValueError(
            f"the data set photo_crops needs {file} of the package {package}, which is not installed. "
            "Install it with\n    pip install 'noise_sched[data]'"
        ) from None
    return Image.open(io.BytesIO(content)).convert("RGB")


def crop(index: int) -> tuple[UInt8[np.ndarray, "64 64 3"], int]:
    """Crop number `index`, and its class."""
    label = index % len(NAMES)
    whole = photograph(NAMES[label])
    # Raw words of Philox never change between versions of NumPy.
    words = np.random.Philox(key=np.array([index, 0xC809], np.uint64)).random_raw(3)
    size, x, y = ((words >> np.uint64(11)) * 2.0**-53).tolist()
    largest = 2 * min(whole.size) // 3
    side = SIDE + int(size * (largest - SIDE + 1))
    left, top = int(x * (whole.width - side + 1)), int(y * (whole.height - side + 1))
    box = (left, top, left + side, top + side)
    return np.asarray(whole.resize((SIDE, SIDE), Image.Resampling.BOX, box=box)), label


class PhotoCrops(tfds.core.GeneratorBasedBuilder):
    """Builder of the data set "photo_crops"."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "2,560 crops, one split."}
    # No downloads, hence no checksums; see `noise_sched.data.digits`.
    url_infos = None

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Crops of ten photographs, 64 x 64.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(names=NAMES),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # Nothing is downloaded.
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(OF_EACH * len(NAMES)):
            image, label = crop(i)
            # A PIL image, because TFDS can encode an array only with TensorFlow.
            yield i, {"image": Image.fromarray(image), "label": label}


BUILDER = PhotoCrops
