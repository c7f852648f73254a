"""Kernel distance: do images, as a whole, follow the distribution of the real ones?

The squared maximum mean discrepancy with the cubic kernel k(x, y) = (x.y/d + 1)^3 and its unbiased
estimate, as in KID (Binkowski et al. 2018, arXiv 1801.01401, section 4):

    mean k(x_i, x_j) over i != j  +  mean k(y_i, y_j) over i != j  -  2 mean k(x_i, y_j)

but of all images at once, and on the pixels themselves (in [-1, 1], d of them), not on a network's features:
made for small images such as the digits, and not comparable with a published KID. Unbiased means that a
perfect model scores 0 on average, and so sometimes a little below.
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from noise_sched.evaluation.features import Features

MOST = 10_000  # images of each side
_MODEL_RANGE = (2.0, -1.0)  # [0, 1] -> [-1, 1]


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
    real_some, among_real = _real_side(real, seed)
    return KernelDistance(
        _discrepancy(_some(generated, seed), real_some, among_real, *_MODEL_RANGE)
    )


def discrepancy(x: Features, y: Features) -> float:
    """The unbiased estimate between two sets of features."""
    return _discrepancy(x, y, _mean_of_pairs(y))


def _discrepancy(
    x: Features, y: Features, among_y: float, scale: float = 1.0, shift: float = 0.0
) -> float:
    across = _total(x, y, scale, shift) / (len(x) * len(y))
    return float(_mean_of_pairs(x, scale, shift) + among_y - 2 * across)


@functools.lru_cache(maxsize=4)  # training and grids judge many models by the same real images
def _real_side(real: Features, seed: int) -> tuple[Features, float]:
    """Those that enter, and the mean of their own pairs."""
    some = _some(real, seed)
    return some, _mean_of_pairs(some, *_MODEL_RANGE)


def _some(features: Features, seed: int) -> Features:
    order = np.random.default_rng(seed).permutation(len(features))
    return features.part(np.sort(order[:MOST]))


def _mean_of_pairs(a: Features, scale: float = 1.0, shift: float = 0.0) -> float:
    itself = sum(_kernel(np.sum(p**2, axis=1), a.length).sum() for p in _blocks(a, scale, shift))
    return (_total(a, a, scale, shift) - itself) / (len(a) * (len(a) - 1))


def _total(a: Features, b: Features, scale: float = 1.0, shift: float = 0.0) -> float:
    return sum(
        _kernel(p @ q.T, a.length).sum()
        for p in _blocks(a, scale, shift)
        for q in _blocks(b, scale, shift)
    )


def _blocks(features: Features, scale: float, shift: float) -> Iterator[np.ndarray]:
    return (block * scale + shift for block in features.blocks())


def _kernel(products: np.ndarray, length: int) -> np.ndarray:
    base = products / length + 1
    return base * base * base  # NumPy's power is ten times slower
