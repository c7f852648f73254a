"""Distance to the nearest real image: noise lies far from all of them, a copy on top of one.

The distance of two images is the root of their mean squared difference over pixels and channels,
with 0 black and 1 white. The real images themselves say what counts as near and far: the
distance of each to the nearest other one. An image is far (noise, or a thing that the data does not
have) beyond the 99th percentile of those distances, and a copy below the 1st: each holds for 1 % of
the real images, by definition.
"""

import dataclasses

import numpy as np

from noise_sched.evaluation.image_set import EvaluationInputError, ImageSet
from noise_sched.evaluation.references import check_same_shape

FAR_PERCENTILE = 99.0
COPY_PERCENTILE = 1.0

# Rows of a distance matrix made at a time: bounds the memory, whatever the number of images.
_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class Nearest:
    """Distances to the nearest real image.

    Attributes:
      far: the share of images farther than `far_beyond` from every real one; of real ones 0.01.
      copies: the share nearer than `copy_below` to some real one; of real ones 0.01.
      mean: the mean distance of the images to the nearest real one.
      real_mean: the mean distance of the real ones to the nearest other real one.
      far_beyond: the 99th percentile of the real ones' distances.
      copy_below: the first.
    """

    far: float
    copies: float
    mean: float
    real_mean: float
    far_beyond: float
    copy_below: float


def nearest(generated: ImageSet, real: ImageSet) -> Nearest:
    """Measures each image's distance to the nearest real one.

    Raises:
      EvaluationInputError: images of different sizes, or fewer than two real ones.
    """
    check_same_shape(generated, real)
    if len(real) < 2:
        raise EvaluationInputError(
            f"{real.name}: the distance among real images needs two of them; got {len(real)}."
        )
    pixels = real.images.reshape(len(real), -1)
    among_real = _nearest(pixels, pixels, leave_self_out=True)
    distances = _nearest(generated.images.reshape(len(generated), -1), pixels)
    copy_below, far_beyond = np.percentile(among_real, [COPY_PERCENTILE, FAR_PERCENTILE])
    return Nearest(
        far=float(np.mean(distances > far_beyond)),
        copies=float(np.mean(distances < copy_below)),
        mean=float(distances.mean()),
        real_mean=float(among_real.mean()),
        far_beyond=float(far_beyond),
        copy_below=float(copy_below),
    )


def _nearest(x: np.ndarray, y: np.ndarray, leave_self_out: bool = False) -> np.ndarray:
    """For each row of x the root mean squared difference to the nearest row of y."""
    y_squares = np.sum(y**2, axis=1)
    found = np.empty(len(x))
    for start in range(0, len(x), _CHUNK):
        rows = x[start : start + _CHUNK]
        # |x - y|^2 = |x|^2 - 2 x.y + |y|^2, which rounding may leave just below 0.
        squares = np.sum(rows**2, axis=1)[:, None] - 2 * rows @ y.T + y_squares
        if leave_self_out:
            index = np.arange(len(rows))
            squares[index, start + index] = np.inf
        found[start : start + _CHUNK] = squares.min(axis=1)
    return np.sqrt(np.maximum(found, 0) / x.shape[1])
