r"""Gaussian random fields of a known power spectrum, at any resolution from the same scene.

    (1)  S(f) ~ f^-1.5,     f in cycles across the image, two-dimensional,     S(0) that of f = 1

periodic, grey, without classes. The exponent is less than that of photographs (about 2), so that fine
detail has more of the variance. Scene i is a function of i alone; its image at a size is the mean over
squares of a field of 64 pixels a side, 0.5 + 0.18 times the field of unit variance, cut to [0, 1] (one
pixel of 180 at 64). The data for which the best linear denoiser is the best of all, and all that
`calibrate` assumes holds.

This module imports TFDS when it is imported: `noise_sched.data.offline` imports it only on use.
"""

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from PIL import Image

COUNT = 4096
SIZES = (8, 16, 32, 64)
EXPONENT = -1.5
_FINEST = 64
_MEAN, _STD = 0.5, 0.18


def scene(index: int, size: int) -> UInt8[np.ndarray, "{size} {size} 1"]:
    """The image of a scene at a size, one of `SIZES`."""
    fine = _FINEST
    # Normal draws from Philox's raw words, which never change between versions of NumPy (Box and Muller).
    words = np.random.Philox(key=np.array([index, 0xF1E1D], np.uint64)).random_raw(2 * fine * fine)
    u = (((words >> np.uint64(11)) + 0.5) * 2.0**-53).reshape(2, fine, fine)
    white = np.sqrt(-2.0 * np.log(u[0])) * np.cos(2.0 * np.pi * u[1])
    field = np.fft.ifft2(np.fft.fft2(white) * _amplitude(fine)).real
    image = np.clip(_MEAN + _STD * field, 0.0, 1.0)
    parts = image.reshape(size, fine // size, size, fine // size)
    return np.round(255 * parts.mean(axis=(1, 3))).astype(np.uint8)[..., None]


def _amplitude(side: int) -> np.ndarray:
    """The root of (1), so that white noise of variance 1 becomes a field of variance 1."""
    along = np.fft.fftfreq(side) * side
    frequency = np.hypot(*np.meshgrid(along, along, indexing="ij"))
    power = np.maximum(frequency, 1.0) ** EXPONENT
    return np.sqrt(power / power.mean())


class RandomFields(tfds.core.GeneratorBasedBuilder):
    """Builder of the data set "random_fields"."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "4,096 fields, one split."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=f"{size}x{size}", description=f"At {size} x {size} pixels.")
        for size in SIZES
    ]
    # No downloads, hence no checksums; see `noise_sched.data.digits`.
    url_infos = None

    @property
    def _size(self) -> int:
        return int(self.builder_config.name.split("x")[0])

    def _info(self):
        shape = (self._size, self._size, 1)
        return tfds.core.DatasetInfo(
            builder=self,
            description="Gaussian random fields, the same scenes at every resolution.",
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(shape=shape, dtype=np.uint8)}
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # Nothing is downloaded.
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(COUNT):
            # A PIL image, because TFDS can encode an array only with TensorFlow.
            yield i, {"image": Image.fromarray(scene(i, self._size)[..., 0])}


BUILDER = RandomFields
