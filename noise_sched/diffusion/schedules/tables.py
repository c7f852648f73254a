r"""Schedules of T discrete levels, given by a table of betas.

    (1)  abar_k = prod_{i <= k} (1 - beta_i),      k = 1 .. T;   level 0 is clean data, abar_0 = 1
    (2)  logsnr_k = ln abar_k - ln(1 - abar_k)

Computed as sum log1p(-beta) and ln(-expm1(.)), in float64 on the host where the numbers are plain, so
that no digit is lost at either end; beta_T = 1 gives logsnr_T = -inf exactly. Level k is t = k / T. A
t within rounding of it is that level exactly, but for the two ends, which are t = 0 and t = 1 and have no
rounding; between two levels logSNR is linear in t, and next to an infinite one

    (3)  logsnr(t) = logsnr_1 - ln(t T)                      0 < t < 1/T        (noise power ~ t)
    (4)  logsnr(t) = logsnr_{T-1} + 2 ln(T - t T)            where logsnr_T = -inf

so that a table is a continuous schedule, may be sampled at any t and ends exactly. `discrete(table)`
draws only the T levels in training.

Sources: Ho et al. 2020 (arXiv 2006.11239), Nichol & Dhariwal 2021 (arXiv 2102.09672), Rombach et al.
2022 (arXiv 2112.10752); Lin et al. 2024 (arXiv 2305.08891), Table 1, compares their ends.
"""

import dataclasses
import itertools
import math
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from noise_sched.diffusion.numbers import Leaf, as_float, is_plain, require
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.schedules.base import Schedule, Time, Value

# [levels]: numpy float64 on the host, or a JAX array where a hyper-parameter is traced.
Table = Any

MAX_LEVELS = 1_000_000  # a table of more is refused before memory is taken for it


class TableSchedule:
    """A schedule given by T levels: frozen dataclasses with a static field `levels` and `beta_table`."""

    levels: int | None

    def beta_table(self) -> Table:
        """beta_1 .. beta_T."""
        raise NotImplementedError

    def table(self) -> Table:
        """Equation (2): the logSNR of levels 1 .. T, non-increasing."""
        return _from_betas(self.beta_table())

    @property
    def num_levels(self) -> int:
        """T, known without computing anything."""
        return self.levels or 0

    def level(self, k: int | jax.Array) -> jax.Array:
        """The logSNR of level k in 0 .. T (0 is clean data, +inf)."""
        return jnp.take(_with_clean(self.table(), jnp.result_type(float)), k, mode="clip")

    def logsnr(self, t: Time) -> Value:
        """The level k = t T, equations (3) and (4) between an infinite one and its neighbour."""
        base, signal, noise = _between_levels(self.table(), as_float(t))
        return base + jnp.log(signal) - jnp.log(noise)

    def gamma(self, t: Time) -> Value:
        """sigmoid(logsnr(t)), exact and with finite slope at both ends."""
        base, signal, noise = _between_levels(self.table(), as_float(t))
        signal, noise = jax.nn.sigmoid(base) * signal, jax.nn.sigmoid(-base) * noise
        return signal / (signal + noise)


def num_levels(schedule: Schedule) -> int:
    """T of a schedule that is a table (or was made of one), 0 of a continuous one."""
    return getattr(schedule, "num_levels", 0)


def numpy_of(*values: Any) -> ModuleType:
    """Numpy, where everything is known now, else jax.numpy."""
    known = all(isinstance(v, np.ndarray) or is_plain(v) for v in values)
    return np if known else jnp


def log_gamma(logsnr: Table) -> Table:
    """Returns ln sigmoid(logsnr), for numpy or JAX arrays."""
    return -numpy_of(logsnr).logaddexp(0.0, -logsnr)


def nearest_level(t: Value, levels: int) -> Value:
    """Returns t T, and exactly the whole number that it is within rounding of; slope T everywhere.

    Levels 0 and T are t = 0 and t = 1, which are floats: the draws of training (`times`) lie within
    rounding of them, but strictly between, where logSNR is finite.
    """
    position = t * levels
    whole = jnp.round(position)
    inner = (whole > 0) & (whole < levels)
    snapped = inner & (jnp.abs(position - whole) <= 2 * levels * jnp.finfo(t.dtype).eps)
    return position + jax.lax.stop_gradient(jnp.where(snapped, whole - position, 0.0))


def nearest_in(table: Table, logsnr: Value) -> jax.Array:
    """The number, 0 .. T-1, of the table's level that is nearest in sigma / alpha.

    Args:
      table: the logSNR of levels 1 .. T, non-increasing.
      logsnr: of any shape; above the first level's, towards clean data, it counts as the first.
    """
    log_sigmas = -0.5 * table
    xp = numpy_of(table)
    between = xp.logaddexp(log_sigmas[:-1], log_sigmas[1:]) - math.log(2.0)  # of the mean sigma
    return jnp.searchsorted(jnp.asarray(between, logsnr.dtype), -0.5 * logsnr, side="right")


def _from_betas(betas: Table) -> Table:
    xp = numpy_of(betas)
    with np.errstate(divide="ignore"):  # beta = 1 is ln 0 = -inf, as meant
        log_abar = xp.cumsum(xp.log1p(-betas))
        return log_abar - xp.log(-xp.expm1(log_abar))


def _with_clean(table: Table, dtype) -> jax.Array:
    return jnp.concatenate([jnp.full((1,), jnp.inf, dtype), jnp.asarray(table, dtype)])


def _between_levels(table: Table, t: Value) -> tuple[Value, Value, Value]:
    """(base, signal, noise) at t, with logsnr = base + ln signal - ln noise."""
    levels = _with_clean(table, t.dtype)
    last = levels.shape[0] - 1
    position = nearest_level(t, last)
    above = jnp.clip(jnp.floor(jax.lax.stop_gradient(position)), 0, last - 1)
    fraction = position - above
    high, low = levels[above.astype(int)], levels[above.astype(int) + 1]
    clean = (high == jnp.inf) & (low < jnp.inf)  # from clean data into a level, equation (3)
    silent = low == -jnp.inf  # from a level to zero SNR, equation (4)
    start = jnp.where(clean, jnp.where(silent, 0.0, low), high)
    slope = jnp.where(clean | silent | (low == jnp.inf), 0.0, low - high)
    return (
        start + fraction * jnp.where(jnp.isnan(slope), 0.0, slope),
        jnp.where(silent, (1.0 - fraction) ** 2, 1.0),
        jnp.where(clean, fraction, 1.0),
    )


def _check_levels(name: str, levels: int) -> None:
    require(
        1 <= levels <= MAX_LEVELS,
        f"{name}(levels) must be at least 1 and at most {MAX_LEVELS:,}, got {levels}; 1000 is usual.",
    )


def _ramp(start: Leaf, end: Leaf, levels: int) -> Table:
    xp = numpy_of(start, end)
    i = np.arange(levels) / max(levels - 1, 1)
    i = i if xp is np else jnp.asarray(i, jnp.result_type(float))
    return start * (1.0 - i) + end * i


@dataclasses.dataclass(frozen=True)
class _BetaRange(TableSchedule):
    """A table of betas between two, with the defaults of Ho et al. 2020."""

    start: Leaf = 1e-4
    end: Leaf = 0.02
    levels: int = dataclasses.field(default=1000, metadata={"static": True})

    def __post_init__(self):
        name = type(self).__name__
        _check_levels(name, self.levels)
        if is_plain(self.start, self.end):
            require(
                0 <= self.start < 1 and 0 < self.end <= 1,
                f"{name}(start, end) are the first and the last beta, in [0, 1), got start={self.start}, "
                f"end={self.end}.",
            )


@register_pytree
@dataclasses.dataclass(frozen=True)
class linear_betas(_BetaRange):
    """beta linear in k (Ho et al. 2020). sqrt(abar_T) = 0.00635: not zero.

    Attributes:
      start, end: beta_1 and beta_T.
      levels: T.
    """

    def beta_table(self) -> Table:
        return _ramp(self.start, self.end, self.levels)


@register_pytree
@dataclasses.dataclass(frozen=True)
class scaled_linear(_BetaRange):
    """sqrt(beta) linear in k: Stable Diffusion (Rombach et al. 2022). sqrt(abar_T) = 0.0683.

    Attributes:
      start, end: beta_1 and beta_T.
      levels: T.
    """

    start: Leaf = 0.00085
    end: Leaf = 0.012

    def beta_table(self) -> Table:
        return _ramp(self.start**0.5, self.end**0.5, self.levels) ** 2


@register_pytree
@dataclasses.dataclass(frozen=True)
class sigmoid_betas(_BetaRange):
    """beta a logistic curve in k, from S(-6) to S(6) (GeoDiff). Not the gamma of `sigmoid`.

    Attributes:
      start, end: the betas at the curve's two asymptotes.
      levels: T.
    """

    def beta_table(self) -> Table:
        """Returns start + (end - start) S(-6 .. 6)."""
        curve = 1.0 / (1.0 + np.exp(-np.linspace(-6, 6, self.levels)))
        if numpy_of(self.start, self.end) is not np:
            curve = jnp.asarray(curve, jnp.result_type(float))
        return self.start + (self.end - self.start) * curve


@register_pytree
@dataclasses.dataclass(frozen=True)
class cosine_betas(TableSchedule):
    r"""The cosine table of Nichol & Dhariwal 2021; EDM's iDDPM column has the same levels.

        f(k) = cos^2( (k/T + offset) / (1 + offset) * pi / 2 ),   beta_k = min(1 - f(k)/f(k-1), max_beta)

    Attributes:
      offset: published 0.008 (EDM's C_2).
      max_beta: published 0.999 (1 - EDM's C_1). 1 is no clip: then beta_T = 1 and the last level has
        zero SNR exactly, which is all that this table needs (Lin et al. 2024, section 3.1).
      levels: T.
    """

    offset: Leaf = 0.008
    max_beta: Leaf = 0.999
    levels: int = dataclasses.field(default=1000, metadata={"static": True})

    def __post_init__(self):
        _check_levels("cosine_betas", self.levels)
        if is_plain(self.offset, self.max_beta):
            require(
                self.offset >= 0 and 0 < self.max_beta <= 1,
                "cosine_betas needs offset >= 0 and max_beta in (0, 1], got "
                f"offset={self.offset}, max_beta={self.max_beta}; the published clip is 0.999, and 1 "
                "is none.",
            )

    def beta_table(self) -> Table:
        """beta_k, from the co-angle: f(T) is exactly 0 and no beta is a difference of cosines."""
        xp = numpy_of(self.offset, self.max_beta)
        width = math.pi / 2 / (1.0 + self.offset)
        to_end = np.arange(self.levels, -1, -1) / self.levels  # 1 - k / T
        to_end = to_end if xp is np else jnp.asarray(to_end, jnp.result_type(float))
        # sin^2 a - sin^2 b = sin(a - b) sin(a + b)
        drop = xp.sin(width / self.levels) * xp.sin(width * (to_end[:-1] + to_end[1:]))
        return xp.minimum(drop / xp.sin(width * to_end[:-1]) ** 2, self.max_beta)


@register_pytree
@dataclasses.dataclass(frozen=True)
class from_betas(TableSchedule):
    """Anyone's table of betas.

    Attributes:
      betas: beta_1 .. beta_T in [0, 1); the last may be 1 (zero terminal SNR). Plain numbers: a table
        is part of what a program is, not a knob of it.
    """

    betas: Leaf = dataclasses.field(metadata={"static": True})

    def __post_init__(self):
        object.__setattr__(self, "betas", _plain("from_betas(betas)", self.betas))
        for k, beta in enumerate(self.betas, start=1):
            last = k == len(self.betas)
            require(
                0 <= beta < 1 or (last and beta == 1),
                f"from_betas: beta_{k} = {beta} is outside [0, 1). Each beta is the share of the "
                "variance that one level replaces by noise; only the last may be 1. A negative one "
                "would make abar grow again.",
            )

    @property
    def num_levels(self) -> int:
        return len(self.betas)

    def beta_table(self) -> Table:
        return np.asarray(self.betas)


@register_pytree
@dataclasses.dataclass(frozen=True)
class from_alpha_bars(TableSchedule):
    """Anyone's table of abar (the "alphas_cumprod" of a checkpoint).

    Attributes:
      alpha_bars: abar_1 .. abar_T in (0, 1], never increasing; the last may be 0.
    """

    alpha_bars: Leaf = dataclasses.field(metadata={"static": True})

    def __post_init__(self):
        object.__setattr__(
            self, "alpha_bars", _plain("from_alpha_bars(alpha_bars)", self.alpha_bars)
        )
        before = 1.0
        for k, abar in enumerate(self.alpha_bars, start=1):
            last = k == len(self.alpha_bars)
            require(
                0 < abar <= before or (last and abar == 0),
                f"from_alpha_bars: abar_{k} = {abar} after {before}. abar is what is left of the "
                "signal's power: it starts below 1, never increases, and only the last may be 0.",
            )
            before = abar

    @property
    def num_levels(self) -> int:
        return len(self.alpha_bars)

    def table(self) -> Table:
        """Equation (2)."""
        abar = np.asarray(self.alpha_bars)
        with np.errstate(divide="ignore"):
            return np.log(abar) - np.log1p(-abar)


@register_pytree
@dataclasses.dataclass(frozen=True)
class from_levels(TableSchedule):
    """A sampling path, level by level, such as `python -m noise_sched.fit_steps` writes.

    With `grid='uniform()'` and as many steps as there are levels, these are the levels that are visited, and
    clean data after them; with another number of steps logSNR is interpolated.

    Attributes:
      logsnr_path: of each level, noisiest first, increasing.
      zero_snr: whether a level of pure noise comes before them.
    """

    logsnr_path: Leaf = dataclasses.field(metadata={"static": True})
    zero_snr: bool = dataclasses.field(default=False, metadata={"static": True})

    def __post_init__(self):
        object.__setattr__(
            self, "logsnr_path", _plain("from_levels(logsnr_path)", self.logsnr_path)
        )
        for k, (one, other) in enumerate(itertools.pairwise(self.logsnr_path), start=1):
            require(
                one < other,
                f"from_levels: logSNR {other} of level {k + 1} after {one}: noise comes first, so the "
                "numbers have to increase.",
            )

    @property
    def num_levels(self) -> int:
        return len(self.logsnr_path) + self.zero_snr

    def table(self) -> Table:
        """The levels, cleanest first."""
        return np.asarray([*self.logsnr_path[::-1], *([-np.inf] if self.zero_snr else [])])


def _plain(name: str, values: Any) -> tuple[float, ...]:
    require(
        not isinstance(values, jax.core.Tracer),
        f"{name} must be plain numbers, got a traced array. Use scaled_linear or linear_betas, whose "
        "ends may be traced.",
    )
    plain = tuple(float(v) for v in np.asarray(values, np.float64).ravel())
    require(len(plain) >= 1, f"{name} is empty; it needs one number per level.")
    return plain
