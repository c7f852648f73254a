"""Frechet distance of two Gaussians, from features or from their statistics."""

import dataclasses

import numpy as np
from jaxtyping import Float64

from noise_sched.evaluation.features import Features


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and covariance of features, in float64; `count` None where a file does not say."""

    mean: Float64[np.ndarray, " length"]
    covariance: Float64[np.ndarray, "length length"]
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class Frechet:
    distance: float
    low: float
    high: float
    infinity: float


def statistics_of(features: Features) -> Statistics:
    shift = next(features.blocks())[0]
    total, outer = 0.0, 0.0
    for block in features.blocks():
        block = block - shift
        total = total + block.sum(0)
        outer = outer + block.T @ block
    n = len(features)
    mean = total / n
    return Statistics(mean + shift, (outer - n * np.outer(mean, mean)) / (n - 1), n)


def _factor(covariance):
    values, vectors = np.linalg.eigh(covariance)
    kept = values > values.max(initial=0.0) * len(values) * np.finfo(float).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def frechet_distance(a: Statistics, b: Statistics) -> float:
    cross = np.linalg.norm(_factor(a.covariance).T @ _factor(b.covariance), "nuc")
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross
    return float(np.sum((a.mean - b.mean) ** 2) + spread)


def frechet(generated: Features, real: Features | Statistics) -> Frechet:
    other = real if isinstance(real, Statistics) else statistics_of(real)
    d = frechet_distance(statistics_of(generated), other)
    return Frechet(d, d, d, d)
