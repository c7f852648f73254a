r"""Images that differ in brightness: the data set that shows whether zero terminal SNR matters.

4,096 greyscale images of 32 x 32 pixels in four classes. In [-1, 1] units,

    image = m + 0.2 p,      m ~ U(-0.8, 0.8),    mean(p) = 0,  max |p| = 1

so that an image's mean is m (to rounding) whatever its pattern p is: a disc, a cross, stripes
or a ramp, of random place and direction. Lin et al. 2024 (arXiv 2305.08891) show the same on
photographs: a schedule that leaves some signal at its last level teaches a model to read the brightness
from the noise, and sampling, whose noise has no brightness, then comes out medium.

This module imports TFDS when it is imported: `noise_sched.data.offline` imports it only on use.
"""

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Int, UInt8
from PIL import Image

SIDE = 32
COUNT = 4096
RANGE = 0.8  # of the means
CONTRAST = 0.2  # of the patterns
NAMES = ("disc", "cross", "stripes", "ramp")


def generate(
    count: int = COUNT,
) -> tuple[UInt8[np.ndarray, "count height width"], Int[np.ndarray, "count"]]:
    """The first `count` images as bytes, and their labels; always the same."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % len(NAMES)
    images = [rng.uniform(-RANGE, RANGE) + CONTRAST * _pattern(NAMES[k], rng) for k in labels]
    return np.round((np.stack(images) + 1) * 127.5).astype(np.uint8), labels


def _pattern(name: str, rng: np.random.Generator) -> Float[np.ndarray, "height width"]:
    """A pattern with mean 0 and largest size 1."""
    axis = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    centre_y, centre_x, direction = rng.uniform(-1, 1, 3) * (0.25, 0.25, np.pi)
    y, x = np.meshgrid(axis - centre_y, axis - centre_x, indexing="ij")
    along = np.cos(direction) * x + np.sin(direction) * y
    across = np.cos(direction) * y - np.sin(direction) * x
    pattern = {
        "disc": lambda: np.tanh(20 * (0.2 - np.hypot(x, y))),
        "cross": lambda: np.tanh(20 * (0.08 - np.minimum(abs(along), abs(across)))),
        "stripes": lambda: np.sin(8 * np.pi * along),
        "ramp": lambda: along,
    }[name]()
    pattern = pattern - pattern.mean()
    return pattern / abs(pattern).max()


class Brightness(tfds.core.GeneratorBasedBuilder):
    """Builder of the data set "brightness"."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "4,096 images, one split."}
    # No downloads, hence no checksums; see `noise_sched.data.digits`.
    url_infos = None

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Patterns on grounds of every brightness, 32 x 32.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 1), dtype=np.uint8),
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
        for i, (image, label) in enumerate(zip(*generate(), strict=True)):
            # A PIL image, because TFDS can encode an array only with TensorFlow.
            yield i, {"image": Image.fromarray(image), "label": int(label)}


BUILDER = Brightness
