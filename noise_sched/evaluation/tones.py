"""Brightness and contrast: are images washed out to grey, or all of medium brightness?

The kind `tones` is three numbers per image, with 0 black and 1 white: the mean of its pixels (brightness),
their standard deviation (contrast) and their maximum less their minimum (range).

An image is washed out when its contrast is below nearly all real ones: below their first percentile. Of the
real images 1 % are, by definition. Where zero SNR is never trained on, images come out of medium brightness
(Lin et al. 2023, arXiv 2305.08891): the standard deviation of the brightness is then below that of the real
ones. Noise may have plenty of contrast: `nearest` finds that.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import stats

from noise_sched.evaluation.features import Extractor, Features

WASHED_OUT_PERCENTILE = 1.0
BRIGHTNESS, CONTRAST, RANGE = range(3)


def extractor() -> Extractor:
    """Of images of any shape."""

    def apply(params: None, images: Array, numbers: Array) -> dict[str, Float[Array, "n 3"]]:
        flat = images.reshape(len(images), -1).astype(jnp.float32) / 255
        columns = (flat.mean(axis=1), flat.std(axis=1), flat.max(axis=1) - flat.min(axis=1))
        return {"tones": jnp.stack(columns, axis=1)}

    return Extractor("tones", {"tones": 3}, apply, batch=256)


@dataclasses.dataclass(frozen=True)
class Brightness:
    """Brightness of images beside that of real ones.

    Attributes:
      distance: the Wasserstein distance of the two distributions of brightness.
      mean, std: of the images' brightness.
      real_mean, real_std: of the real ones'.
    """

    distance: float
    mean: float
    std: float
    real_mean: float
    real_std: float


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Contrast of images beside that of real ones.

    Attributes:
      distance: the Wasserstein distance of the two distributions of contrast.
      washed_out: the share of images whose contrast is below `floor`; of real ones 0.01.
      floor: the first percentile of the real images' contrast.
      mean, std: of the images' contrast.
      real_mean, real_std: of the real ones'.
      range_mean, real_range_mean: the mean of maximum less minimum.
    """

    distance: float
    washed_out: float
    floor: float
    mean: float
    std: float
    real_mean: float
    real_std: float
    range_mean: float
    real_range_mean: float


def brightness(generated: Features, real: Features) -> Brightness:
    """Compares how bright images are, on `tones`."""
    x, y = _column(generated, BRIGHTNESS), _column(real, BRIGHTNESS)
    return Brightness(
        distance=float(stats.wasserstein_distance(x, y)),
        mean=float(x.mean()),
        std=float(x.std()),
        real_mean=float(y.mean()),
        real_std=float(y.std()),
    )


def contrast(generated: Features, real: Features) -> Contrast:
    """Compares how much contrast images have, on `tones`."""
    x, y = _column(generated, CONTRAST), _column(real, CONTRAST)
    floor = float(np.percentile(y, WASHED_OUT_PERCENTILE))
    return Contrast(
        distance=float(stats.wasserstein_distance(x, y)),
        washed_out=float(np.mean(x < floor)),
        floor=floor,
        mean=float(x.mean()),
        std=float(x.std()),
        real_mean=float(y.mean()),
        real_std=float(y.std()),
        range_mean=float(_column(generated, RANGE).mean()),
        real_range_mean=float(_column(real, RANGE).mean()),
    )


def _column(features: Features, index: int) -> np.ndarray:
    return np.concatenate([block[:, index] for block in features.blocks()])
