r"""Noise schedules: t in [0, 1] -> logSNR, exact at both ends.

With t = 0 clean and t = 1 noise, a schedule says how much of the signal's power is left,

    (1)  gamma(t) in [0, 1],      x_t = sqrt(gamma) x0 + sqrt(1 - gamma) eps      (Chen 2023, Alg. 1)
    (2)  logsnr(t) = log gamma(t) - log(1 - gamma(t))

Everything behind the schedule is written in logSNR; gamma is how this family of papers defines it.
Computing (2) from gamma loses all digits of 1 - gamma near t = 0 and, with gamma(1) = 0, invites an
epsilon. Instead each gamma-schedule gives two powers, each exactly 0 at its own end,

    (3)  signal(t), noise(t) >= 0   with   gamma = signal / (signal + noise)
    (4)  logsnr(t) = log signal(t) - log noise(t)      (+inf at t = 0, -inf at t = 1, both exact)

and nothing is ever subtracted from 1. `clip_min` (the reference implementation's 1e-9) is an option.

To add a schedule, add one frozen dataclass here: either a `GammaSchedule` with `powers(t)`, or a
`LogSnrSchedule` with `logsnr(t)`. Its lower-case name is what configs say.

Sources: Chen 2023 (arXiv 2301.10972), section 2 and Algorithm 1; the published default values.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.tree_util import register_dataclass
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from noise_sched.diffusion.numbers import Leaf, as_float, is_plain, require

Time = Float[ArrayLike, "*shape"]
Value = Float[Array, "*shape"]


@runtime_checkable
class Schedule(Protocol):
    """Maps t in [0, 1] (0 = clean, 1 = noise), elementwise, to a noise level."""

    def logsnr(self, t: Time) -> Value:
        """Log signal-to-noise ratio (nats, of power), non-increasing in t."""
        ...

    def gamma(self, t: Time) -> Value:
        """Signal power of the variance-preserving frame, sigmoid(logsnr), in [0, 1]."""
        ...


class GammaSchedule:
    """A schedule given by its signal and noise powers, equations (3) and (4).

    Subclasses are frozen dataclasses that define `powers` and carry a field `clip_min`.
    """

    clip_min: Leaf

    def powers(self, t: Value) -> tuple[Value, Value]:
        """Returns (signal, noise), up to one common positive factor."""
        raise NotImplementedError

    def gamma(self, t: Time) -> Value:
        """Equation (3): signal power in [max(0, clip_min), 1]; exact at both ends."""
        signal, noise = self.powers(as_float(t))
        return jnp.maximum(signal / (signal + noise), self.clip_min)

    def logsnr(self, t: Time) -> Value:
        """Equation (4): exactly +inf where nothing is noise, -inf where nothing is signal."""
        signal, noise = self.powers(as_float(t))
        clip_min = jnp.asarray(self.clip_min, signal.dtype)
        return jnp.maximum(
            jnp.log(signal) - jnp.log(noise), jnp.log(clip_min) - jnp.log1p(-clip_min)
        )


class LogSnrSchedule:
    """A schedule given by its logSNR; gamma follows."""

    def logsnr(self, t: Time) -> Value:
        """Log signal-to-noise ratio."""
        raise NotImplementedError

    def gamma(self, t: Time) -> Value:
        """sigmoid(logsnr(t)): signal power of the variance-preserving frame."""
        return jax.nn.sigmoid(self.logsnr(t))


def _check_clip_min(clip_min) -> None:
    if is_plain(clip_min):
        require(
            0 <= clip_min < 1,
            f"clip_min must lie in [0, 1), got {clip_min}. It is the smallest gamma allowed: "
            "0 keeps the end exact, 1e-9 is the published value.",
        )


def _check_interval(name, start, end, low=-float("inf"), high=float("inf")) -> None:
    if is_plain(start, end):
        require(
            low <= start < end <= high,
            f"{name}(start, end) needs {low} <= start < end <= {high}, got start={start}, "
            f"end={end}. Noise grows from start to end; swap them if they are reversed.",
        )


def _check_tau(name, tau) -> None:
    if is_plain(tau):
        require(tau > 0, f"{name}(tau) must be positive, got {tau}. The papers use 0.3 to 3.")


@register_dataclass
@dataclasses.dataclass(frozen=True)
class linear(GammaSchedule):
    """gamma(t) = 1 - t (Chen 2023, "simple linear").

    Attributes:
      clip_min: smallest gamma; 0 is exact, the published code clips at 1e-9.
    """

    clip_min: Leaf = 0.0

    def __post_init__(self):
        _check_clip_min(self.clip_min)

    def powers(self, t: Value) -> tuple[Value, Value]:
        """Signal 1 - t, noise t."""
        return 1.0 - t, t


@register_dataclass
@dataclasses.dataclass(frozen=True)
class cosine(GammaSchedule):
    r"""The cosine family of Chen 2023.

    With u = start + t (end - start) and c(u) = cos(pi u / 2)^(2 tau),

        gamma(t) = (c(u) - c(end)) / (c(start) - c(end)).

    `cosine()` is cos^2(pi t / 2) (Nichol & Dhariwal 2021 without their offsets); the reference's
    cosine with offsets is `plain_cosine`.

    Attributes:
      start: in [0, end). The paper's ablation uses 0, 0.2 and 0.5.
      end: in (start, 1].
      tau: temperature, > 0; larger means noisier sooner.
      clip_min: smallest gamma; 0 is exact, the published code clips at 1e-9.
    """

    start: Leaf = 0.0
    end: Leaf = 1.0
    tau: Leaf = 1.0
    clip_min: Leaf = 0.0

    def __post_init__(self):
        _check_interval("cosine", self.start, self.end, 0, 1)
        _check_tau("cosine", self.tau)
        _check_clip_min(self.clip_min)

    def powers(self, t: Value) -> tuple[Value, Value]:
        """c(u) - c(end) and c(start) - c(u), each free of cancellation."""
        span = self.end - self.start
        u = self.start + t * span
        # cos(pi u / 2) as the sine of the co-angle, which is exactly 0 at u = 1 (a float cosine of
        # pi/2 is not, and may be negative, which a power turns into NaN).
        co_angle = (1.0 - t) * (1.0 - self.start) + t * (1.0 - self.end)
        cos_u = jnp.sin(jnp.pi / 2 * co_angle)
        cos_start = jnp.sin(jnp.pi / 2 * (1.0 - jnp.asarray(self.start, t.dtype)))
        cos_end = jnp.sin(jnp.pi / 2 * (1.0 - jnp.asarray(self.end, t.dtype)))
        # cos a - cos b = 2 sin((a + b) / 2) sin((b - a) / 2), with b - a known exactly.
        to_end = span * (1.0 - t)
        to_start = span * t
        above_end = 2 * jnp.sin(jnp.pi / 4 * (u + self.end)) * jnp.sin(jnp.pi / 4 * to_end)
        below_start = 2 * jnp.sin(jnp.pi / 4 * (u + self.start)) * jnp.sin(jnp.pi / 4 * to_start)
        power = 2.0 * self.tau
        return (
            _power_difference(cos_u, cos_end, above_end, power),
            _power_difference(cos_start, cos_u, below_start, power),
        )


def _power_difference(a, b, a_minus_b, power):
    """a^p - b^p for a >= b >= 0, accurate where a and b are close, given their exact difference."""
    b_is_zero = b == 0
    safe_a = jnp.where(b_is_zero, jnp.ones_like(a), a)  # keeps 0 / 0 out of the gradient
    gap = jnp.where(b_is_zero, jnp.zeros_like(a), a_minus_b / safe_a)
    shrink = jnp.where(b_is_zero, jnp.ones_like(a), -jnp.expm1(power * jnp.log1p(-gap)))
    return a**power * shrink


@register_dataclass
@dataclasses.dataclass(frozen=True)
class plain_cosine(GammaSchedule):
    r"""The reference implementation's default cosine, with its two offsets.

        gamma(t) = cos^2( (t + ns) / (1 + ds) * pi / 2 )

    This is what `cosine` (without arguments) means in the published configs and the usual sampling
    schedule. gamma(1) = 6.165e-9 is not zero: eps-prediction can be sampled from it.

    Attributes:
      ns: offset at the clean end.
      ds: stretch at the noisy end, >= ns.
      clip_min: smallest gamma.
    """

    ns: Leaf = 0.0002
    ds: Leaf = 0.00025
    clip_min: Leaf = 0.0

    def __post_init__(self):
        if is_plain(self.ns, self.ds):
            require(
                0 <= self.ns <= self.ds,
                f"plain_cosine needs 0 <= ns <= ds, got ns={self.ns}, ds={self.ds}: beyond it the "
                "angle passes pi/2 and gamma grows again.",
            )
        _check_clip_min(self.clip_min)

    def powers(self, t: Value) -> tuple[Value, Value]:
        """cos^2 and sin^2 of the angle."""
        angle = jnp.pi / 2 * (t + self.ns) / (1.0 + self.ds)
        co_angle = jnp.pi / 2 * ((1.0 - t) + (self.ds - self.ns)) / (1.0 + self.ds)
        return jnp.sin(co_angle) ** 2, jnp.sin(angle) ** 2


@register_dataclass
@dataclasses.dataclass(frozen=True)
class sigmoid(GammaSchedule):
    r"""The sigmoid family (Jabri et al. 2022; Chen 2023).

    With u = start + t (end - start) and S the logistic function,

        gamma(t) = (S(end/tau) - S(u/tau)) / (S(end/tau) - S(start/tau)).

    Attributes:
      start, end: the part of the logistic curve that is used, start < end (published: -3, 3 and 0, 3).
      tau: temperature, > 0.
      clip_min: smallest gamma; 0 is exact, the published code clips at 1e-9.
    """

    start: Leaf = -3.0
    end: Leaf = 3.0
    tau: Leaf = 1.0
    clip_min: Leaf = 0.0

    def __post_init__(self):
        _check_interval("sigmoid", self.start, self.end)
        _check_tau("sigmoid", self.tau)
        _check_clip_min(self.clip_min)

    def powers(self, t: Value) -> tuple[Value, Value]:
        """S(end) - S(u) and S(u) - S(start), by S(a) - S(b) = S(a) S(-b) (1 - e^(b - a))."""
        span = (self.end - self.start) / self.tau
        start = jnp.asarray(self.start / self.tau, t.dtype)
        end = jnp.asarray(self.end / self.tau, t.dtype)
        u = start * (1.0 - t) + end * t
        logistic = jax.nn.sigmoid
        signal = logistic(end) * logistic(-u) * -jnp.expm1(-span * (1.0 - t))
        noise = logistic(u) * logistic(-start) * -jnp.expm1(-span * t)
        return signal, noise


@register_dataclass
@dataclasses.dataclass(frozen=True)
class logarithmic(GammaSchedule):
    r"""The reference implementation's `log` schedule.

        gamma(t) = (ln end - ln u) / (ln end - ln start),   u = start + t (end - start)

    Attributes:
      start, end: positive and different; start > end is the reference's "reverse".
      clip_min: smallest gamma.
    """

    start: Leaf = 1.0
    end: Leaf = 100.0
    clip_min: Leaf = 0.0

    def __post_init__(self):
        if is_plain(self.start, self.end):
            require(
                self.start > 0 and self.end > 0 and self.start != self.end,
                "logarithmic(start, end) needs two different positive numbers, got "
                f"start={self.start}, end={self.end}.",
            )
        _check_clip_min(self.clip_min)

    def powers(self, t: Value) -> tuple[Value, Value]:
        """|ln(end / u)| and |ln(u / start)|."""
        span = self.end - self.start
        u = self.start * (1.0 - t) + self.end * t
        signal = jnp.abs(jnp.log1p(span * (1.0 - t) / u))
        noise = jnp.abs(jnp.log1p(span * t / self.start))
        return signal, noise
