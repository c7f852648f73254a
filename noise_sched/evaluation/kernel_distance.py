"""Kernel distance: do images, as a whole, follow the distribution of the real ones?

The squared maximum mean discrepancy with the cubic kernel k(x, y) = (x.y/d + 1)^3 and its unbiased
estimate, as in KID (Binkowski et al. 2018, arXiv 1801.01401, section 4):

    mean k(x_i, x_j) over i != j  +  mean k(y_i, y_j) over i != j  -  2 mean k(x_i, y_j)

but of all images at once, and on the pixels themselves (in [-1, 1], d of them), not on a network's features:
made for small images such as the digits, and not comparable with a published KID. Unbiased means that a
perfect model scores 0 on average, and so sometimes a little below.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from noise_sched.evaluation.features import Features

MOST = 10_000  # images of each side


@dataclasses.dataclass(frozen=True)
class KernelDistance:
    """Squared kernel distance on pixels.

    Attributes:
      distance: between the images and the real ones; 0 on average for a perfect model.
    """

    distance: float


def kernel_distance(generated: Features, real: Features, seed: int = 0) -> KernelDistance:
    """Measures the squared kernel distance of images to real ones, on `pixels`.

    Of more than 10,000 images of a side that many enter, drawn by the seed: all pairs are compared.
    """
    order = np.random.default_rng(seed).permutation
    x, y = (each.part(np.sort(order(len(each))[:MOST])) for each in (generated, real))
    return KernelDistance(discrepancy(x, y, scale=2.0, shift=-1.0))  # [0, 1] -> [-1, 1]


def discrepancy(x: Features, y: Features, scale: float = 1.0, shift: float = 0.0) -> float:
    """The unbiased estimate between features scale x + shift."""

    def blocks(features: Features) -> Iterator[np.ndarray]:
        return (block * scale + shift for block in features.blocks())

    def total(a: Features, b: Features) -> float:
        return sum(_kernel(p @ q.T, a.length).sum() for p in blocks(a) for q in blocks(b))

    def mean_of_pairs(a: Features) -> float:
        itself = sum(_kernel(np.sum(p**2, axis=1), a.length).sum() for p in blocks(a))
        return (total(a, a) - itself) / (len(a) * (len(a) - 1))

    return float(mean_of_pairs(x) + mean_of_pairs(y) - 2 * total(x, y) / (len(x) * len(y)))


def _kernel(products: np.ndarray, length: int) -> np.ndarray:
    base = products / length + 1
    return base * base * base  # NumPy's power is ten times slower
