r"""Frechet distance of two sets of features, taken as Gaussians: FID, FD-DINOv2, sFID, by the features.

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)                                            (1)

(Dowson and Landau 1982; as FID Heusel et al. 2017, arXiv 1706.08500), with means and covariances (of n - 1)
in float64. What is reported is d^2, as by everyone.

With S2 = F F^T the matrix F^T S1 F has the eigenvalues of S1 S2 (but for zeros) and is symmetric, so that
the last trace is the sum of the roots of its eigenvalues: no root of a product is taken, and covariances
without full rank need no epsilon.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy import linalg

from noise_sched.evaluation.features import Features

SIZES = 8  # numbers of images that the line of `infinity` goes through
SMALLEST_SHARE = 0.2  # of all images, the first of those


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """What a Frechet distance knows of features.

    Attributes:
      mean: in float64.
      covariance: divided by the number of images less one.
      count: how many images; None where a file does not say.
    """

    mean: Float64[np.ndarray, " length"]
    covariance: Float64[np.ndarray, "length length"]
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class Frechet:
    """A Frechet distance (squared), and what its number of images does to it.

    Attributes:
      distance: of all images.
      low, high: a 95 % interval of it under other draws of as many images from the same model, the real ones
        fixed: the normal interval of the infinitesimal jackknife (Efron 1982), which is the bootstrap with
        infinitely many replicates, to first order in 1 / n. Not in it: the bias of a number of
        images, and another training of the model, which moves FID more.
      infinity: the distance extrapolated to infinitely many images of the model (Chong and Forsyth 2020,
        arXiv 1911.07023): the bias is about proportional to 1 / n, and differs from model to model.
      count: how many images.
      real_count: how many real ones; None where a file of statistics does not say.
    """

    distance: float
    low: float
    high: float
    infinity: float
    count: int
    real_count: int | None


class Sums:
    """Sums over features, from which statistics follow; of parts of a set, they add up."""

    def __init__(self, length: int):
        self.count = 0
        self._mean, self._outer = np.zeros(length), np.zeros((length, length))

    def add(self, rows: Float64[np.ndarray, "rows length"]) -> None:
        """Adds rows. Each block is centred by itself, so that a large mean costs no digits."""
        mean = rows.mean(axis=0)
        centred = rows - mean
        self._join(len(rows), mean, centred.T @ centred)

    def join(self, other: "Sums") -> None:
        """Adds what another has seen."""
        self._join(other.count, other._mean, other._outer)

    def _join(self, count: int, mean: np.ndarray, outer: np.ndarray) -> None:
        # Chan, Golub and LeVeque 1979: the mean of the whole, and the spread of the two means.
        total = self.count + count
        gap = mean - self._mean
        self._outer += outer + np.outer(gap, gap) * (self.count * count / total)
        self._mean = self._mean + gap * (count / total)
        self.count = total

    def statistics(self) -> Statistics:
        """Mean and covariance of all rows."""
        return Statistics(self._mean, self._outer / (self.count - 1), self.count)


def statistics_of(features: Features) -> Statistics:
    """Mean and covariance of features, in one pass."""
    sums = Sums(features.length)
    for block in features.blocks():
        sums.add(block)
    return sums.statistics()


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Equation (1)."""
    return _distance(a, b, _factor(b.covariance))


def frechet(generated: Features, real: Features | Statistics, seed: int = 0) -> Frechet:
    """The Frechet distance of features to real ones.

    Args:
      generated: [n, length].
      real: features, or statistics of them.
      seed: of the order in which `infinity` takes the generated images.
    """
    known = real if isinstance(real, Statistics) else statistics_of(real)
    factor = _factor(known.covariance)
    curve = _curve(generated, known, factor, seed)
    whole, distance = curve[-1]
    error = _standard_error(generated, whole, known, factor)
    inverse = [1 / each.count for each, _ in curve if each.count]
    _, infinity = np.polyfit(inverse, [value for _, value in curve], 1)
    return Frechet(
        distance=distance,
        low=distance - 1.96 * error,
        high=distance + 1.96 * error,
        infinity=float(infinity),
        count=len(generated),
        real_count=known.count,
    )


def _distance(a: Statistics, b: Statistics, factor: np.ndarray) -> float:
    """Equation (1), with F of the second covariance."""
    root = np.sqrt(_eigen_of_product(a.covariance, factor)[0]).sum()
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * root
    return float(np.sum((a.mean - b.mean) ** 2) + spread)


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F of S = F F^T, [length, rank]."""
    values, vectors = _eigen(covariance, np.linalg.norm(covariance))
    return vectors * np.sqrt(values)


def _eigen_of_product(covariance: np.ndarray, factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`_eigen` of F^T S F."""
    largest = np.sum(factor**2, axis=0).max(
        initial=0.0
    )  # of F F^T: the columns are at right angles
    return _eigen(factor.T @ covariance @ factor, largest * np.linalg.norm(covariance))


def _eigen(matrix: np.ndarray, size: float | np.floating) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues above 0 of a symmetric matrix without negative ones, and their vectors as columns.

    What is not above length * eps * size, `size` the norms of the matrices it was computed from, is 0 for all
    that is known, as the rank of a matrix is decided. It must be left out: the root of what rounding leaves
    of a 0, 1e-16, would be 1e-8, in hundreds of directions.
    """
    found: Any = linalg.eigh(matrix, driver="evr")
    values, vectors = found
    known = values > float(size) * len(values) * np.finfo(np.float64).eps
    return values[known], vectors[:, known]


def _curve(
    generated: Features, real: Statistics, factor: np.ndarray, seed: int
) -> list[tuple[Statistics, float]]:
    """Statistics and distances of growing parts of the generated images, the last of all of them."""
    order = np.random.default_rng(seed).permutation(len(generated))
    ends = np.linspace(max(2, SMALLEST_SHARE * len(order)), len(order), SIZES).astype(int)
    sums, found = Sums(generated.length), []
    for start, end in zip([0, *ends[:-1]], np.unique(ends), strict=False):
        for block in generated.part(order[start:end]).blocks():
            sums.add(block)
        part = sums.statistics()
        found.append((part, _distance(part, real, factor)))
    return found


def _standard_error(
    generated: Features, whole: Statistics, real: Statistics, factor: np.ndarray
) -> float:
    """Of the distance under draws of as many images, from each image's influence.

    With y = x - m1 the distance changes by 2 (m1 - m2).y + y.(I - T) y less its mean when an image x gets
    more weight: I - T is the derivative of tr S1 - 2 tr (S1 S2)^(1/2) in S1, and T = F (F^T S1 F)^(-1/2) F^T
    is the optimal transport of one Gaussian to the other, in the directions that both have.
    """
    values, vectors = _eigen_of_product(whole.covariance, factor)
    half = factor @ (vectors * values**-0.25)  # T = half half^T
    shift = 2 * (whole.mean - real.mean)
    influences = []
    for block in generated.blocks():
        y = block - whole.mean
        influences.append(y @ shift + np.sum(y**2, axis=1) - np.sum((y @ half) ** 2, axis=1))
    return float(np.std(np.concatenate(influences), ddof=1) / np.sqrt(len(generated)))
