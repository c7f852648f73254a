r"""Which differences between settings are more than what training seeds do.

Training the same setting again with another seed moves its figures, often by more than settings differ ("The
FID Lottery", arXiv 2606.20536). So a setting is trained with several seeds, the same ones as the others, and

    y(setting, seed) = setting + seed + noise                                                  (1)

is fitted by least squares: cells of one seed share initial keys and the order of images, which the seed's own
term takes out, so the comparison is paired. The noise's variance s^2 is pooled over all settings, from the
residuals and their degrees of freedom d. The difference of a setting from the best one then has

    t = difference / sqrt(s^2 c),   c = 1 / n + 1 / m  where all seeds are there               (2)

of Student's distribution with d degrees of freedom; p is two-sided, and Holm's correction allows for there
being many settings. A setting is "worse" if p < 0.05, else "inconclusive".

The best is chosen by the same numbers, so a setting that ties with it is as good a choice.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import stats

from noise_sched.evaluation.metric import Better

LEVEL = 0.05

Verdict = Literal["best", "worse", "inconclusive"]
Values = Mapping[tuple[Any, Any], float]


class Summary(NamedTuple):
    """One setting beside the best.

    Attributes:
      mean: over its seeds.
      error: the standard error of that mean, from its own seeds: sd / sqrt(n); NaN with one seed.
      count: how many seeds it has.
      p: of the difference from the best, corrected; NaN of the best itself and where nothing is known.
      verdict: "best", "worse", or "inconclusive".
    """

    mean: float
    error: float
    count: int
    p: float
    verdict: Verdict


def compare(values: Values, better: Better) -> dict[Any, Summary]:
    """Compares settings with the best of them.

    Args:
      values: a figure by (setting, seed); those that are not finite count as missing.
      better: which way it is better.

    Returns:
      A summary for each setting that has a value, in the order of `values`.
    """
    values = {key: value for key, value in values.items() if math.isfinite(value)}
    settings = list(dict.fromkeys(setting for setting, _ in values))
    if not settings:
        return {}
    own = {s: np.array([v for (t, _), v in values.items() if t == s]) for s in settings}
    means = {setting: float(found.mean()) for setting, found in own.items()}
    best = (min if better == "lower" else max)(means, key=lambda s: means[s])
    ps = _corrected(_differences(values, settings, best))
    found = {}
    for setting in settings:
        each, p = own[setting], ps.get(setting, math.nan)
        error = float(each.std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else math.nan
        verdict = "best" if setting == best else "worse" if p < LEVEL else "inconclusive"
        found[setting] = Summary(means[setting], error, len(each), p, verdict)
    return found


def noise(values: Values) -> tuple[float, int]:
    """The standard deviation of the noise of (1), and its degrees of freedom; NaN and 0 with one seed."""
    settings = list(dict.fromkeys(setting for setting, _ in values))
    variance, freedom, _, _ = _fit(values, settings)
    return math.sqrt(variance) if freedom else math.nan, freedom


def best_of(values: Values, better: Better, draws: int = 20_000) -> dict[Any, float]:
    """How likely each setting is the best, given the noise that its seeds show.

    Returns:
      A probability for each setting; empty where there is no more than one seed.
    """
    settings, found = winners(values, better, draws)
    counts = np.bincount(found, minlength=len(settings)) / draws
    return dict(zip(settings, counts.tolist(), strict=True)) if len(found) else {}


def winners(
    values: Values, better: Better, draws: int = 20_000, seed: int = 0
) -> tuple[list[Any], np.ndarray]:
    """The best setting of each of many draws of the means.

    The means are drawn from what (1) says of them: their estimates, with Student's distribution of the pooled
    variance around them.

    Returns:
      The settings, and the number of the best one [draws]; no draws where there is no more than one seed.
    """
    values = {key: value for key, value in values.items() if math.isfinite(value)}
    settings = list(dict.fromkeys(setting for setting, _ in values))
    if not settings:
        return [], np.zeros(0, int)
    variance, freedom, effects, spread = _fit(values, settings)
    if not freedom:
        return settings, np.zeros(0, int)
    rng = np.random.default_rng(seed)
    ridge = 1e-12 * np.trace(spread) * np.eye(len(settings))
    root = np.linalg.cholesky(spread + ridge)
    scale = np.sqrt(variance * freedom / rng.chisquare(freedom, (draws, 1)))
    drawn = effects + scale * (rng.standard_normal((draws, len(settings))) @ root.T)
    return settings, drawn.argmin(1) if better == "lower" else drawn.argmax(1)


def _differences(values: Values, settings: Sequence[Any], best: Any) -> dict[Any, float]:
    """The p of each setting's difference from the best, equation (2); none where it cannot be known."""
    variance, freedom, effects, spread = _fit(values, settings)
    if not freedom:
        return {}
    b = settings.index(best)
    found = {}
    for i, setting in enumerate(settings):
        if i == b:
            continue
        c = spread[i, i] + spread[b, b] - 2 * spread[i, b]
        difference = abs(effects[i] - effects[b])
        if variance * c > 0:
            found[setting] = float(2 * stats.t.sf(difference / math.sqrt(variance * c), freedom))
        else:
            found[setting] = 1.0 if difference == 0 else 0.0
    return found


def _fit(values: Values, settings: Sequence[Any]) -> tuple[float, int, np.ndarray, np.ndarray]:
    """Least squares of (1).

    Returns:
      The variance of the noise, its degrees of freedom, the settings' effects, and their covariance over that
      variance.
    """
    seeds = list(dict.fromkeys(seed for _, seed in values))
    rows, y = np.zeros((len(values), len(settings) + len(seeds))), np.array(list(values.values()))
    for row, (setting, seed) in zip(rows, values, strict=True):
        row[settings.index(setting)] = 1
        row[len(settings) + seeds.index(seed)] = 1
    # The seeds' effects are measured from their mean: effects of settings are then means over seeds.
    centred = rows[:, len(settings) :]
    design = np.hstack([rows[:, : len(settings)], centred - 1 / len(seeds)])
    solution, _, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    freedom = len(y) - int(rank)
    residual = y - design @ solution
    variance = float(residual @ residual) / freedom if freedom else math.nan
    spread = np.linalg.pinv(design.T @ design)[: len(settings), : len(settings)]
    return variance, freedom, solution[: len(settings)], spread


def _corrected(ps: Mapping[Any, float]) -> dict[Any, float]:
    """Holm's correction (1979): the smallest of m is multiplied by m, the next by m - 1, and so on."""
    found, largest = {}, 0.0
    for rank, (setting, p) in enumerate(sorted(ps.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(ps) - rank)))
        found[setting] = largest
    return found
