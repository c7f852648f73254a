r"""Families of gamma(t), each given by its two powers (equations (3) and (4) of `base`).

Sources: Chen 2023 (arXiv 2301.10972), section 2 and Algorithm 1, and the published default values;
the flow of Liu et al. 2023 (arXiv 2209.03003); the VP diffusion of Song et al. 2021 (arXiv 2011.13456)
as Karras et al. 2022 (arXiv 2206.00364) write it.
"""

import dataclasses

import jax
import jax.numpy as jnp

from noise_sched.diffusion.numbers import Leaf, as_float, check_positive, is_plain, require
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.schedules.base import GammaSchedule, Time, Value


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


@register_pytree
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


@register_pytree
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
        check_positive("cosine(tau)", self.tau, "the papers use 0.3 to 3")
        _check_clip_min(self.clip_min)

    def powers(self, t: Value) -> tuple[Value, Value]:
        """c(u) - c(end) and c(start) - c(u), each free of cancellation."""
        (a, kept), (b, lost) = self._factors(t)
        power = 2.0 * self.tau
        return a**power * kept, b**power * lost

    def log_powers(self, t: Value) -> tuple[Value, Value]:
        """Their logarithms: cos^6 underflows in float32 where training still draws (tau = 3)."""
        (a, kept), (b, lost) = self._factors(t)
        power = 2.0 * self.tau
        return power * jnp.log(a) + jnp.log(kept), power * jnp.log(b) + jnp.log(lost)

    def _factors(self, t: Value) -> tuple[tuple[jax.Array, jax.Array], ...]:
        """Each power as (larger cosine, what the difference leaves of its power)."""
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
            (cos_u, _power_drop(cos_u, cos_end, above_end, power)),
            (cos_start, _power_drop(cos_start, cos_u, below_start, power)),
        )


def _power_drop(a, b, a_minus_b, power):
    """1 - (b / a)^p for a >= b >= 0, accurate where a and b are close, given their exact difference."""
    # Where b is small beside a, their difference does not tell b, and its logarithm has no slope.
    small = b < a / 2
    b_is_zero = b == 0
    safe_a = jnp.where(b_is_zero, jnp.ones_like(a), a)  # keeps 0 / 0 out of the gradient
    ratio = jnp.where(small & ~b_is_zero, b / safe_a, jnp.ones_like(a))
    gap = jnp.where(small | b_is_zero, jnp.zeros_like(a), a_minus_b / safe_a)
    far = jnp.where(b_is_zero, jnp.ones_like(a), 1.0 - ratio**power)
    return jnp.where(small | b_is_zero, far, -jnp.expm1(power * jnp.log1p(-gap)))


@register_pytree
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


@register_pytree
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
        check_positive("sigmoid(tau)", self.tau, "the papers use 0.3 to 3")
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


@register_pytree
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


@register_pytree
@dataclasses.dataclass(frozen=True)
class crash(GammaSchedule):
    r"""The "crash" schedule of v-diffusion (Crowson 2021), for sampling: sigma = sin^2(pi t / 2).

    gamma(t) = 1 - sin^4(pi t / 2): many steps near clean data, and exactly zero SNR at t = 1.
    """

    def powers(self, t: Value) -> tuple[Value, Value]:
        """cos^2 (1 + sin^2) and sin^4, the cosine as the sine of the co-angle."""
        cos, sin = jnp.sin(jnp.pi / 2 * (1.0 - t)), jnp.sin(jnp.pi / 2 * t)
        return jnp.square(cos) * (1.0 + jnp.square(sin)), jnp.square(jnp.square(sin))

    def logsnr(self, t: Time) -> Value:
        """The powers' logarithms, without their underflow."""
        t = as_float(t)
        cos, sin = jnp.sin(jnp.pi / 2 * (1.0 - t)), jnp.sin(jnp.pi / 2 * t)
        return 2.0 * jnp.log(cos) + jnp.log1p(jnp.square(sin)) - 4.0 * jnp.log(sin)


@register_pytree
@dataclasses.dataclass(frozen=True)
class rectified_flow(GammaSchedule):
    r"""The straight path x_t = (1 - t) x0 + t eps, as a noise level: logsnr = 2 ln((1 - t) / t).

    With the process `flow()`, t is that path's own time. In training, t uniform; for another density
    of t use `logit_normal`, for another resolution `shift(rectified_flow(), ...)`.
    """

    def powers(self, t: Value) -> tuple[Value, Value]:
        """(1 - t)^2 and t^2."""
        return (1.0 - t) ** 2, t**2

    def logsnr(self, t: Time) -> Value:
        """2 ln((1 - t) / t), without the squares' underflow."""
        t = as_float(t)
        return 2.0 * (jnp.log(1.0 - t) - jnp.log(t))


@register_pytree
@dataclasses.dataclass(frozen=True)
class vp_diffusion(GammaSchedule):
    r"""Song's VP diffusion, whose beta grows linearly with t (column VP of EDM's Table 1).

        gamma(t) = exp(-(beta_d t^2 / 2 + beta_min t)),     sigma / alpha = sqrt(1 / gamma - 1)

    EDM trains it on t in [1e-5, 1], `crop(vp_diffusion(), 1e-5, 1)`, and samples it with
    `grids.edm(last=1e-3)`. gamma(1) = 4.3e-5 is not zero.

    Attributes:
      beta_d: growth of beta; published 19.9.
      beta_min: beta at t = 0; published 0.1.
    """

    beta_d: Leaf = 19.9
    beta_min: Leaf = 0.1

    def __post_init__(self):
        if is_plain(self.beta_d, self.beta_min):
            require(
                self.beta_d >= 0 and self.beta_d / 2 + self.beta_min > 0,
                "vp_diffusion needs beta_d >= 0 and beta_d / 2 + beta_min > 0, got "
                f"beta_d={self.beta_d}, beta_min={self.beta_min}: gamma must fall.",
            )

    def powers(self, t: Value) -> tuple[Value, Value]:
        """exp(-integral of beta) and one minus it."""
        integral = t * (self.beta_d / 2 * t + self.beta_min)
        return jnp.exp(-integral), -jnp.expm1(-integral)

    def logsnr(self, t: Time) -> Value:
        """-ln(exp(integral of beta) - 1)."""
        t = as_float(t)
        return -jnp.log(jnp.expm1(t * (self.beta_d / 2 * t + self.beta_min)))
