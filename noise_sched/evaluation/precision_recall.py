"""Precision and recall, density and coverage: fidelity and variety apart, by nearest neighbours.

Each image has a ball as large as the distance to its k-th nearest neighbour of its own set.

    precision   share of the images in the ball of some real image      Kynkaanniemi et al. 2019 (1904.06991)
    recall      share of the real images in the ball of some image      k = 3
    density     real balls that an image is in, divided by k, the mean  Naeem et al. 2020 (2002.09797)
    coverage    share of the real balls with an image in them           k = 5

They depend on the numbers of images: compare equal ones.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from noise_sched.evaluation.features import BLOCK, Features

PRECISION_NEIGHBOUR, DENSITY_NEIGHBOUR = 3, 5


@dataclasses.dataclass(frozen=True)
class PrecisionRecall:
    """Improved precision and recall, each in [0, 1]."""

    precision: float
    recall: float


@dataclasses.dataclass(frozen=True)
class DensityCoverage:
    """Density, which may exceed 1, and coverage in [0, 1]."""

    density: float
    coverage: float


def precision_recall(generated: Features, real: Features) -> PrecisionRecall:
    """Measures precision and recall, on `inception/2048`."""
    balls, real_balls = (_radii(each, PRECISION_NEIGHBOUR) for each in (generated, real))
    precise, recalled = np.zeros(len(generated), bool), np.zeros(len(real), bool)
    for here, there, gap in _gaps(generated, real):
        precise[here] |= (gap <= real_balls[there]).any(axis=1)
        recalled[there] |= (gap <= balls[here, None]).any(axis=0)
    return PrecisionRecall(float(precise.mean()), float(recalled.mean()))


def density_coverage(generated: Features, real: Features) -> DensityCoverage:
    """Measures density and coverage, on `inception/2048`."""
    radii = _radii(real, DENSITY_NEIGHBOUR)
    inside, covered = 0, np.zeros(len(real), bool)
    for _, there, gap in _gaps(generated, real):
        within = gap <= radii[there]
        inside += within.sum()
        covered[there] |= within.any(axis=0)
    return DensityCoverage(
        float(inside / DENSITY_NEIGHBOUR / len(generated)), float(covered.mean())
    )


def _radii(y: Features, k: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest neighbour, itself not counted."""
    best = np.full((len(y), k), np.inf)

    def keep_nearest(rows: slice, gap: np.ndarray) -> None:
        best[rows] = np.partition(np.concatenate([best[rows], gap], axis=1), k - 1)[:, :k]

    for here, there, gap in _gaps(y, y, each_pair_once=True):
        if here == there:
            np.fill_diagonal(gap, np.inf)
        else:
            keep_nearest(there, gap.T)
        keep_nearest(here, gap)
    return best.max(axis=1)


def _gaps(
    x: Features, y: Features, each_pair_once: bool = False
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Squared distances in blocks: which rows of x, which of y, and those between them.

    With `each_pair_once`, where x is y, blocks below the diagonal are left out.
    """
    for first in range(0, len(x), BLOCK):
        here = slice(first, min(first + BLOCK, len(x)))
        rows = np.asarray(x.values[here], np.float64)
        for second in range(first if each_pair_once else 0, len(y), BLOCK):
            there = slice(second, min(second + BLOCK, len(y)))
            others = np.asarray(y.values[there], np.float64)
            yield here, there, squared_distances(rows, others)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x - y|^2 = |x|^2 + |y|^2 - 2 x.y of all pairs of rows; 0 where it is less than its rounding.

    The three sums of d products are off by at most d eps (|x|^2 + |y|^2) in all (Higham 2002, equation 3.5),
    and adding them by less than 2 eps of that: without this equal rows would be near 0, on either side.
    """
    both = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1)
    squares = both - 2 * x @ y.T
    squares[squares <= (x.shape[1] + 2) * np.finfo(np.float64).eps * both] = 0
    return squares
