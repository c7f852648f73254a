r"""Frechet distance of two sets of features, taken as Gaussians: FID, FD-DINOv2, sFID, by the features.

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)                                            (1)

(Dowson and Landau 1982; as FID Heusel et al. 2017, arXiv 1706.08500), with means and covariances (of n - 1)
in float64. What is reported is d^2, as by everyone.

With S1 = G G^T and S2 = F F^T the last trace is the sum of the singular values of G^T F: their squares are
the eigenvalues of F^T S1 F, which are those of S1 S2 but for zeros. A singular value is known to about eps
times the largest, the root of an eigenvalue only to the root of eps, which matters where variances
span many orders of magnitude. Covariances without full rank need no epsilon.
"""

import dataclasses

import numpy as np
from jaxtyping import Float64
from scipy import linalg

from noise_sched.evaluation.features import Features

GROUPS = (1, 2, 4)  # into which `infinity` divides the images


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
        arXiv 1911.07023): the bias is about proportional to 1 / n, and differs from model to model. That
        holds from about ten images per feature; with fewer the line fits badly, and its error is large.
      infinity_error: its standard error: of other draws of as many images, and of the line's fit.
      count: how many images.
      real_count: how many real ones; None where a file of statistics does not say.
    """

    distance: float
    low: float
    high: float
    infinity: float
    infinity_error: float
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
    return _sums(features).statistics()


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Equation (1)."""
    return _distance(a, b, _factor(b.covariance))


def frechet(generated: Features, real: Features | Statistics, seed: int = 0) -> Frechet:
    """The Frechet distance of features to real ones.

    Args:
      generated: [n, length], n at least 8.
      real: features, or statistics of them.
      seed: of how `infinity` divides the generated images.
    """
    known = real if isinstance(real, Statistics) else statistics_of(real)
    factor = _factor(known.covariance)
    whole, curve = _curve(generated, known, factor, seed)
    distance = curve[0]
    error = _standard_error(generated, whole, known, factor)
    line, covariance = np.polyfit(np.array(GROUPS) / len(generated), curve, 1, cov=True)
    return Frechet(
        distance=distance,
        low=distance - 1.96 * error,
        high=distance + 1.96 * error,
        infinity=float(line[1]),
        infinity_error=float(np.hypot(error, np.sqrt(covariance[1, 1]))),
        count=len(generated),
        real_count=known.count,
    )


def _distance(a: Statistics, b: Statistics, factor: np.ndarray) -> float:
    """Equation (1), with F of the second covariance."""
    root = np.linalg.svd(_factor(a.covariance).T @ factor, compute_uv=False).sum()
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * root
    return float(np.sum((a.mean - b.mean) ** 2) + spread)


def _sums(features: Features) -> Sums:
    sums = Sums(features.length)
    for block in features.blocks():
        sums.add(block)
    return sums


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F of S = F F^T, [length, rank], by Cholesky's method with pivots.

    It ends where the variance that is left is nothing but rounding, length x eps of the largest.
    """
    cholesky = linalg.get_lapack_funcs("pstrf", [covariance])
    lower, pivots, rank, _ = cholesky(covariance, lower=1)
    factor = np.zeros((len(covariance), rank))
    factor[pivots - 1] = np.tril(lower)[:, :rank]
    return factor


def _known(values: np.ndarray) -> np.ndarray:
    """Eigenvalues of a matrix without negative ones, with 0 for those that are nothing but rounding.

    Each is known to about eps times the largest, times their number at worst, as the rank of a matrix is
    decided.
    """
    floor = values.max(initial=0.0) * len(values) * np.finfo(np.float64).eps
    return np.where(values > floor, values, 0.0)


def _curve(
    generated: Features, real: Statistics, factor: np.ndarray, seed: int
) -> tuple[Statistics, list[float]]:
    """Statistics of all generated images, and the mean distance of their groups for each of `GROUPS`.

    As every image is in one group of each size, what chance does to the images cancels between the
    sizes, and `infinity` varies no more than the distance itself; of single samples it would.
    """
    order = np.random.default_rng(seed).permutation(len(generated))
    groups = [_sums(generated.part(part)) for part in np.array_split(order, GROUPS[-1])]
    curve = []
    while True:
        parts = [group.statistics() for group in groups]
        curve.insert(0, float(np.mean([_distance(part, real, factor) for part in parts])))
        if len(parts) == 1:
            return parts[0], curve
        for group, other in zip(groups[::2], groups[1::2], strict=True):
            group.join(other)
        groups = groups[::2]


def _standard_error(
    generated: Features, whole: Statistics, real: Statistics, factor: np.ndarray
) -> float:
    """Of the distance under draws of as many images, from each image's influence.

    With y = x - m1 the distance changes by 2 (m1 - m2).y + y.(I - T) y less its mean when an image x gets
    more weight: I - T is the derivative of tr S1 - 2 tr (S1 S2)^(1/2) in S1, and T = F (F^T S1 F)^(-1/2) F^T
    is the optimal transport of one Gaussian to the other, in the directions that both have.
    """
    values, vectors = np.linalg.eigh(factor.T @ whole.covariance @ factor)
    values = _known(values)
    kept = values > 0
    half = factor @ (vectors[:, kept] * values[kept] ** -0.25)  # T = half half^T
    shift = 2 * (whole.mean - real.mean)
    influences = []
    for block in generated.blocks():
        y = block - whole.mean
        influences.append(y @ shift + np.sum(y**2, axis=1) - np.sum((y @ half) ** 2, axis=1))
    return float(np.std(np.concatenate(influences), ddof=1) / np.sqrt(len(generated)))
