"""Kernel distance: do images, as a whole, follow the distribution of the real ones?

The squared maximum mean discrepancy with the cubic kernel k(x, y) = (x.y/d + 1)^3 and its unbiased
estimate, as in KID (Binkowski et al. 2018, arXiv 1801.01401, section 4):

    mean k(x_i, x_j) over i != j  +  mean k(y_i, y_j) over i != j  -  2 mean k(x_i, y_j)

but of all images at once, and on the pixels themselves (in [-1, 1], d of them), not on a network's features:
made for small images such as the digits, and not comparable with a published KID. Unbiased means that a
perfect model scores 0 on average, and so sometimes a little below.
"""

import dataclasses

import numpy as np

from noise_sched.evaluation.features import Features


@dataclasses.dataclass(frozen=True)
class KernelDistance:
    """Squared kernel distance on pixels.

    Attributes:
      distance: between the images and the real ones; 0 on average for a perfect model.
    """

    distance: float


def kernel_distance(generated: Features, real: Features) -> KernelDistance:
    """Measures the squared kernel distance of images to real ones, on `pixels`."""
    across = 2 * _sum(generated, real) / (len(generated) * len(real))
    return KernelDistance(_mean_of_pairs(generated) + _mean_of_pairs(real) - across)


def kernel(products: np.ndarray, length: int) -> np.ndarray:
    """The cubic kernel, of scalar products of rows."""
    return (products / length + 1) ** 3


def _mean_of_pairs(x: Features) -> float:
    diagonal = sum(
        kernel(np.sum(rows**2, axis=1), x.length).sum() for rows in map(_scaled, x.blocks())
    )
    return float((_sum(x, x) - diagonal) / (len(x) * (len(x) - 1)))


def _sum(x: Features, y: Features) -> float:
    return float(
        sum(
            kernel(_scaled(a) @ _scaled(b).T, x.length).sum()
            for a in x.blocks()
            for b in y.blocks()
        )
    )


def _scaled(rows: np.ndarray) -> np.ndarray:
    return rows * 2 - 1
