"""Kernel distance: do images, as a whole, follow the distribution of the real ones?

The squared maximum mean discrepancy with the cubic kernel k(x, y) = (x.y/d + 1)^3 and its unbiased
estimate, as in KID (Binkowski et al. 2018, arXiv 1801.01401, section 4):

    mean k(x_i, x_j) over i != j  +  mean k(y_i, y_j) over i != j  -  2 mean k(x_i, y_j)

but on the pixels themselves (in [-1, 1], d of them), not on a network's features: made for small
images such as the digits, and not comparable with a published KID. Unbiased means that a perfect
model scores 0 on average, and so sometimes a little below.
"""

import dataclasses

import numpy as np

from noise_sched.evaluation.image_set import EvaluationInputError, ImageSet
from noise_sched.evaluation.references import check_same_shape

SPLIT_SEED = 0

# Rows of a kernel matrix made at a time: bounds the memory, whatever the number of images.
_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class KernelDistance:
    """Squared kernel distance on pixels.

    Attributes:
      distance: between the images and the real ones; 0 on average for a perfect model.
      real_halves: between two random halves of the real ones: what chance alone makes of 0.
    """

    distance: float
    real_halves: float


def kernel_distance(generated: ImageSet, real: ImageSet) -> KernelDistance:
    """Measures the squared kernel distance of images to real ones.

    Raises:
      EvaluationInputError: images of different sizes, fewer than two images or four real ones.
    """
    check_same_shape(generated, real)
    if len(generated) < 2 or len(real) < 4:
        raise EvaluationInputError(
            f"The kernel distance needs two images and four real ones; got {len(generated)} "
            f"({generated.name}) and {len(real)} ({real.name})."
        )
    x, y = _features(generated), _features(real)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(y))
    half = len(y) // 2
    return KernelDistance(
        distance=_unbiased_mmd2(x, y),
        real_halves=_unbiased_mmd2(y[order[:half]], y[order[half:]]),
    )


def _features(images: ImageSet) -> np.ndarray:
    return images.images.reshape(len(images), -1) * 2 - 1


def _unbiased_mmd2(x: np.ndarray, y: np.ndarray) -> float:
    def among(z: np.ndarray) -> float:
        diagonal = np.sum(_kernel(np.sum(z * z, axis=1), z.shape[1]))
        return float((_kernel_sum(z, z) - diagonal) / (len(z) * (len(z) - 1)))

    return among(x) + among(y) - 2 * _kernel_sum(x, y) / (len(x) * len(y))


def _kernel(products: np.ndarray, dimension: int) -> np.ndarray:
    return (products / dimension + 1) ** 3


def _kernel_sum(x: np.ndarray, y: np.ndarray) -> float:
    starts = range(0, len(x), _CHUNK)
    return float(sum(_kernel(x[i : i + _CHUNK] @ y.T, x.shape[1]).sum() for i in starts))
