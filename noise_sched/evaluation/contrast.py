"""Contrast: are images washed out to grey?

The contrast of an image is the standard deviation of its pixels, its range their maximum less their
minimum, both with 0 black and 1 white. An image is washed out when its contrast is below nearly
all real ones: below their first percentile. Of the real images 1 % are, by definition.

Noise may have plenty of contrast: `nearest` finds that.
"""

import dataclasses

import numpy as np

from noise_sched.evaluation.image_set import ImageSet
from noise_sched.evaluation.references import check_same_shape

WASHED_OUT_PERCENTILE = 1.0


@dataclasses.dataclass(frozen=True)
class ContrastFigures:
    """Contrast and range of a set of images: mean and standard deviation over the images."""

    contrast_mean: float
    contrast_std: float
    range_mean: float
    range_std: float


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Contrast of images beside that of real ones.

    Attributes:
      washed_out: the share of images whose contrast is below `floor`; of real ones 0.01.
      floor: the first percentile of the real images' contrast.
      generated: the images' figures.
      real: the same figures of the real images.
    """

    washed_out: float
    floor: float
    generated: ContrastFigures
    real: ContrastFigures


def contrast(generated: ImageSet, real: ImageSet) -> Contrast:
    """Compares the contrast of images with that of real ones.

    Raises:
      EvaluationInputError: the two have images of different sizes.
    """
    check_same_shape(generated, real)
    floor = float(np.percentile(_contrasts(real), WASHED_OUT_PERCENTILE))
    return Contrast(
        washed_out=float(np.mean(_contrasts(generated) < floor)),
        floor=floor,
        generated=_figures(generated),
        real=_figures(real),
    )


def _contrasts(images: ImageSet) -> np.ndarray:
    return images.images.std(axis=(1, 2, 3))


def _figures(images: ImageSet) -> ContrastFigures:
    contrasts = _contrasts(images)
    ranges = np.ptp(images.images, axis=(1, 2, 3))
    return ContrastFigures(
        contrast_mean=float(contrasts.mean()),
        contrast_std=float(contrasts.std()),
        range_mean=float(ranges.mean()),
        range_std=float(ranges.std()),
    )
