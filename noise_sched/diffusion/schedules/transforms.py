r"""Schedules made of other schedules.

zero_terminal   the same schedule, its last level moved to zero SNR exactly
shift           the same for another resolution: logSNR plus a constant
nearest         the levels of a table that are nearest to another schedule's
interpolated_shift, crop, discrete
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from noise_sched.diffusion.numbers import Leaf, as_float, check_positive, is_plain, require
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.schedules.base import (
    GammaSchedule,
    LogSnrSchedule,
    Schedule,
    Time,
    Value,
)
from noise_sched.diffusion.schedules.tables import (
    Table,
    TableSchedule,
    log_gamma,
    nearest_in,
    nearest_level,
    num_levels,
    numpy_of,
)

# A field that holds a schedule; `kind` tells `specs` what a nested name means there.
_SCHEDULE: dict[str, Any] = {"kind": "schedule"}


@register_pytree
@dataclasses.dataclass(frozen=True)
class zero_terminal(TableSchedule):
    r"""Zero terminal SNR (Lin et al. 2024, arXiv 2305.08891, Algorithm 1), for any schedule.

    With s = sqrt(gamma), s_first its value at the first level (at t = 0 for a continuous schedule):

        (1)  s'(t) = (s(t) - s(1)) s_first / (s_first - s(1))

    The first level keeps its SNR, the last has none: (alpha, sigma) = (0, 1) exactly. A schedule that
    ends at zero SNR already is unchanged. Made of a table this is a table, else continuous.

    Attributes:
      schedule: the schedule that is moved.
    """

    schedule: Any = dataclasses.field(metadata=_SCHEDULE)

    @property
    def num_levels(self) -> int:
        """T of the table that it is made of, 0 for a continuous schedule."""
        return num_levels(self.schedule)

    def table(self) -> Table:
        """Equation (1) of every level, without cancellation at either end."""
        require(self.num_levels > 0, f"{self.schedule} is continuous: it has no table of levels.")
        logsnr = self.schedule.table()
        xp = numpy_of(logsnr)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_s = log_gamma(logsnr) / 2
            s = xp.exp(log_s)
            first, last = s[0], s[-1]
            moved = (s - last) * (first / (first - last))
            # 1 - s' = (1 - s_first) + (s_first - s'), each an expm1.
            below_first = -first * xp.expm1(log_s - log_s[0]) * (first / (first - last))
            below_one = -xp.expm1(log_s[0]) + below_first
            return 2 * xp.log(moved) - xp.log(below_one) - xp.log1p(moved)

    def logsnr(self, t: Time) -> Value:
        """The moved schedule's."""
        return super().logsnr(t) if self.num_levels else _continuous(self.schedule).logsnr(t)

    def gamma(self, t: Time) -> Value:
        """The moved schedule's."""
        return super().gamma(t) if self.num_levels else _continuous(self.schedule).gamma(t)


@dataclasses.dataclass(frozen=True)
class _continuous(GammaSchedule):
    """Equation (1) of `zero_terminal`, with the level at t = 0 as the first."""

    schedule: Any

    def powers(self, t: Value) -> tuple[Value, Value]:
        """s'^2 and (1 - s') (1 + s')."""
        s, below_one = self._root(t)
        first, first_below_one = self._root(jnp.zeros((), t.dtype))
        last, last_below_one = self._root(jnp.ones((), t.dtype))
        stretch = first / (last_below_one - first_below_one)
        moved = (s - last) * stretch
        # 1 - s' = (1 - s_first) + (s_first - s')
        moved_below_one = first_below_one + (below_one - first_below_one) * stretch
        return moved**2, moved_below_one * (1.0 + moved)

    def _root(self, t: Value) -> tuple[Value, Value]:
        """Returns s and 1 - s = (1 - gamma) / (1 + s), with 1 - gamma from its own power."""
        gamma = self.schedule.gamma(t)
        positive = gamma > 0  # keeps the root's infinite slope out of the gradient
        s = jnp.where(positive, jnp.sqrt(jnp.where(positive, gamma, 1.0)), 0.0)
        if isinstance(self.schedule, GammaSchedule):
            signal, noise = self.schedule.powers(t)
            noise = jnp.minimum(noise / (signal + noise), 1.0 - self.schedule.clip_min)
        else:
            noise = jax.nn.sigmoid(-self.schedule.logsnr(t))
        return s, noise / (1.0 + s)


@register_pytree
@dataclasses.dataclass(frozen=True)
class shift(TableSchedule):
    r"""The schedule for another image size (Hoogeboom et al. 2023, arXiv 2301.11093, section 3.1).

        logsnr'(t) = logsnr(t) + 2 ln(noise_size / image_size)

    Neighbouring pixels of a large image repeat each other, so the same noise hides less of it. It is
    also the resolution shift of rectified flow (Esser et al. 2024, arXiv 2403.03206): their t' =
    a t / (1 + (a - 1) t) is `shift(rectified_flow(), a, 1)`, published a = 3.

    Attributes:
      schedule: the schedule of images of `noise_size` pixels a side.
      image_size: pixels a side of the images at hand.
      noise_size: pixels a side for which `schedule` was found; published 64 (and 32).
    """

    schedule: Any = dataclasses.field(metadata=_SCHEDULE)
    image_size: Leaf = 256
    noise_size: Leaf = 64

    def __post_init__(self):
        _check_sizes("shift", image_size=self.image_size, noise_size=self.noise_size)

    @property
    def num_levels(self) -> int:
        """T of the table that it is made of, 0 for a continuous schedule."""
        return num_levels(self.schedule)

    def table(self) -> Table:
        """The table, shifted."""
        return self.schedule.table() + 2 * _log_ratio(self.noise_size, self.image_size)

    def logsnr(self, t: Time) -> Value:
        """The schedule's plus the constant."""
        t = as_float(t)
        return self.schedule.logsnr(t) + jnp.asarray(
            2 * _log_ratio(self.noise_size, self.image_size), t.dtype
        )

    def gamma(self, t: Time) -> Value:
        """Returns gamma r^2 / (gamma r^2 + 1 - gamma), with r the ratio of sizes."""
        t = as_float(t)
        gain = jnp.asarray(jnp.exp(2.0 * _log_ratio(self.noise_size, self.image_size)), t.dtype)
        return _scale_odds(self.schedule.gamma(t), gain)


@register_pytree
@dataclasses.dataclass(frozen=True)
class interpolated_shift:
    r"""A shift that changes along t (Hoogeboom et al. 2023, arXiv 2301.11093, section 3.1).

        logsnr'(t) = logsnr(t) + 2 t ln(low / image_size) + 2 (1 - t) ln(high / image_size)

    More noise for the large shapes than the unshifted schedule, less for the fine detail than `shift`.

    Attributes:
      schedule: the schedule that is shifted.
      image_size: pixels a side of the images at hand.
      low: noise_size at t = 1; published 32.
      high: noise_size at t = 0; published the image size.
    """

    schedule: Any = dataclasses.field(metadata=_SCHEDULE)
    image_size: Leaf = 256
    low: Leaf = 32
    high: Leaf = 256

    def __post_init__(self):
        _check_sizes("interpolated_shift", image_size=self.image_size, low=self.low, high=self.high)
        if is_plain(self.low, self.high):
            require(
                self.low <= self.high,
                f"interpolated_shift needs low <= high, got {self.low} and {self.high}: logSNR must "
                "fall with t.",
            )

    def _shift(self, t: Value) -> Value:
        low = jnp.asarray(2 * _log_ratio(self.low, self.image_size), t.dtype)
        high = jnp.asarray(2 * _log_ratio(self.high, self.image_size), t.dtype)
        return low * t + high * (1.0 - t)

    def logsnr(self, t: Time) -> Value:
        """The schedule's plus the interpolated shift."""
        t = as_float(t)
        return self.schedule.logsnr(t) + self._shift(t)

    def gamma(self, t: Time) -> Value:
        """Returns gamma r^2 / (gamma r^2 + 1 - gamma), with r the ratio of sizes."""
        t = as_float(t)
        return _scale_odds(self.schedule.gamma(t), jnp.exp(self._shift(t)))


@register_pytree
@dataclasses.dataclass(frozen=True)
class crop:
    """Only t in [start, end] of a schedule, stretched to [0, 1]: finite ends for an infinite schedule.

    Attributes:
      schedule: the whole schedule.
      start: its t at our t = 0.
      end: its t at our t = 1.
    """

    schedule: Any = dataclasses.field(metadata=_SCHEDULE)
    start: Leaf = 0.0
    end: Leaf = 1.0

    def __post_init__(self):
        if is_plain(self.start, self.end):
            require(
                0 <= self.start < self.end <= 1,
                f"crop needs 0 <= start < end <= 1, got start={self.start}, end={self.end}.",
            )

    def _inner(self, t: Time) -> Value:
        t = as_float(t)
        return self.start * (1.0 - t) + self.end * t

    def logsnr(self, t: Time) -> Value:
        """The schedule's, at the inner t."""
        return self.schedule.logsnr(self._inner(t))

    def gamma(self, t: Time) -> Value:
        """The schedule's, at the inner t."""
        return self.schedule.gamma(self._inner(t))


@register_pytree
@dataclasses.dataclass(frozen=True)
class discrete(TableSchedule):
    """Only T levels of a schedule: t in ((k - 1) / T, k / T] is level k, so that uniform t is uniform k.

    What a network with T time steps is trained on; level 0, clean data, is t = 0 alone. d logsnr / dt is the
    schedule's own there, which is what weights per unit of logSNR need.

    Attributes:
      schedule: a table, or a continuous schedule.
      levels: T; None takes the table's own.
    """

    schedule: Any = dataclasses.field(metadata=_SCHEDULE)
    levels: int | None = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self):
        if self.levels is None:
            require(
                isinstance(self.schedule, Schedule) is False or num_levels(self.schedule) > 0,
                f"discrete({self.schedule}) needs levels: the schedule is continuous. 1000 is usual.",
            )
        else:
            require(self.levels >= 1, f"discrete(levels) must be at least 1, got {self.levels}.")

    @property
    def num_levels(self) -> int:
        return self.levels or num_levels(self.schedule)

    def table(self) -> Table:
        """The logSNR of level k = 1 .. T."""
        if self.num_levels == num_levels(self.schedule):
            return self.schedule.table()
        k = jnp.arange(1, self.num_levels + 1, dtype=float)
        return self.schedule.logsnr(k / self.num_levels)

    def logsnr(self, t: Time) -> Value:
        """The schedule's, at level ceil(t T)."""
        return self.schedule.logsnr(self._level_time(t))

    def gamma(self, t: Time) -> Value:
        """The schedule's, at level ceil(t T)."""
        return self.schedule.gamma(self._level_time(t))

    def _level_time(self, t: Time) -> Value:
        t = as_float(t)
        # A float32 t = k / T is off by up to 1e-7, which must not reach the next level; nor may the
        # margin reach the level before: level 0 is t = 0 alone.
        margin = min(1e-6 * self.num_levels, 0.5)
        level = jnp.ceil(nearest_level(t, self.num_levels) - margin)
        level = jnp.where(t > 0, jnp.maximum(level, 1), level)
        return t + jax.lax.stop_gradient(level / self.num_levels - t)


@register_pytree
@dataclasses.dataclass(frozen=True)
class nearest(LogSnrSchedule):
    """A schedule's levels, each rounded to the nearest one of a table in sigma / alpha.

    For sampling a network of T numbered levels on steps made for another: EDM rounds `karras` steps to its
    iDDPM networks' levels (arXiv 2206.00364, its released generate.py). Clean data, logSNR = inf, stays
    clean; all else becomes one of the levels 1 .. T. d logsnr / dt is the schedule's own.

    Attributes:
      schedule: the schedule whose levels are rounded.
      table: what they are rounded to, a schedule of T levels.
    """

    schedule: Any = dataclasses.field(metadata=_SCHEDULE)
    table: Any = dataclasses.field(metadata=_SCHEDULE)

    def __post_init__(self):
        if isinstance(self.table, Schedule):  # no stand-in of JAX's
            require(
                num_levels(self.table) > 0,
                f"nearest(schedule, table) needs a table of levels, but {self.table} is continuous. "
                "Write discrete(..., levels=1000), or a table such as cosine_betas().",
            )

    def logsnr(self, t: Time) -> Value:
        """The table's at the level that is nearest to the schedule's."""
        own = self.schedule.logsnr(t)
        levels = self.table.table()
        rounded = jnp.asarray(levels, own.dtype)[nearest_in(levels, own)]
        slope = jnp.where(jnp.isfinite(own), own, 0.0)
        return jnp.where(own == jnp.inf, own, rounded + (slope - jax.lax.stop_gradient(slope)))


def _scale_odds(gamma: Value, gain: jax.Array) -> Value:
    signal = gamma * gain
    return signal / (signal + (1.0 - gamma))


def _log_ratio(a: Leaf, b: Leaf) -> Leaf:
    return math.log(a / b) if is_plain(a, b) else jnp.log(a) - jnp.log(b)


def _check_sizes(name: str, **sizes: Leaf) -> None:
    for field, size in sizes.items():
        check_positive(f"{name}({field})", size, "it is in pixels")
