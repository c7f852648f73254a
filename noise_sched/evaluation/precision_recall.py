"""Precision and recall, density and coverage: fidelity and variety apart, by nearest neighbours.

Each image has a ball as large as the distance to its k-th nearest neighbour of its own set.

    precision   share of the images in the ball of some real image      Kynkaanniemi et al. 2019 (1904.06991)
    recall      share of the real images in the ball of some image      k = 3
    density     real balls that an image is in, divided by k, the mean  Naeem et al. 2020 (2002.09797)
    coverage    share of the real balls with an image in them           k = 5

They depend on the numbers of images: compare equal ones.
"""

import dataclasses

import numpy as np

from noise_sched.evaluation.features import Features

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
    precise, _, _ = _inside(generated, real, PRECISION_NEIGHBOUR)
    recalled, _, _ = _inside(real, generated, PRECISION_NEIGHBOUR)
    return PrecisionRecall(float(np.mean(precise > 0)), float(np.mean(recalled > 0)))


def density_coverage(generated: Features, real: Features) -> DensityCoverage:
    """Measures density and coverage, on `inception/2048`."""
    inside, nearest, radii = _inside(generated, real, DENSITY_NEIGHBOUR)
    return DensityCoverage(
        float(np.mean(inside) / DENSITY_NEIGHBOUR), float(np.mean(nearest <= radii))
    )


def _inside(x: Features, y: Features, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who is in whose ball.

    Returns:
      For each x in how many balls of y it is; for each y the squared distance to the nearest x, and the
      squared radius of its ball.
    """
    radii = _radii(y, k)
    inside, nearest = np.zeros(len(x), np.int64), np.full(len(y), np.inf)
    row = 0
    for rows in x.blocks():
        column = 0
        for others in y.blocks():
            here = slice(column, column + len(others))
            gap = squared_distances(rows, others)
            inside[row : row + len(rows)] += (gap <= radii[here]).sum(axis=1)
            nearest[here] = np.minimum(nearest[here], gap.min(axis=0))
            column += len(others)
        row += len(rows)
    return inside, nearest, radii


def _radii(y: Features, k: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest neighbour, itself not counted."""
    found = []
    for row, rows in enumerate(y.blocks()):
        best = np.full((len(rows), k), np.inf)
        for column, others in enumerate(y.blocks()):
            gap = squared_distances(rows, others)
            if row == column:
                np.fill_diagonal(gap, np.inf)
            best = np.sort(np.concatenate([best, gap], axis=1), axis=1)[:, :k]
        found.append(best[:, -1])
    return np.concatenate(found)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x - y|^2 = |x|^2 - 2 x.y + |y|^2 of all pairs of rows, which rounding may leave just below 0."""
    return np.sum(x**2, axis=1)[:, None] - 2 * x @ y.T + np.sum(y**2, axis=1)
