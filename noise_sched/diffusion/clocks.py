r"""Clocks: the time variable u of the derivative dx/du that an ODE solver follows.

The probability flow does not care how its time is counted, but Euler and Heun do: their error constants
are those of the solution as a function of the clock u (Karras et al. 2022, arXiv 2206.00364, section 3
and Table 1, "sigma(t)"). A level's direction is an angle phi with tan(phi) = sigma / alpha, so with
(cos, sin) = (alpha, sigma) / sqrt(alpha^2 + sigma^2) a clock is three functions,

    (1)  time(cos, sin)   the clock's reading u
    (2)  direction(u)     (cos, sin) up to a common positive factor
    (3)  rate(cos, sin)   d phi / d u

and no level is ever divided by its own signal. Only the angle is finite and smooth at both zero SNR and
clean data; a solver whose clock is infinite at one end of a step takes DDIM's step there.
"""

import dataclasses
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from noise_sched.diffusion import schedules
from noise_sched.diffusion.numbers import Leaf, check_positive
from noise_sched.diffusion.pytrees import register_pytree

Value = Float[Array, "*shape"]


@runtime_checkable
class Clock(Protocol):
    """A variable that orders noise levels; elementwise and smooth.

    `frame` is the frame in which its ODE is usually written: "ve" (alpha = 1), "vp" or "flow".
    """

    frame: ClassVar[str]

    def time(self, cos: Value, sin: Value) -> Value:
        """Equation (1)."""
        ...

    def direction(self, time: Value) -> tuple[Value, Value]:
        """Equation (2), the inverse of `time`."""
        ...

    def rate(self, cos: Value, sin: Value) -> Any:
        """Equation (3), d phi / d u."""
        ...


@register_pytree
@dataclasses.dataclass(frozen=True)
class by_sigma:
    """u = sigma / alpha: EDM's choice, sigma(t) = t. Infinite at zero SNR."""

    frame: ClassVar[str] = "ve"

    def time(self, cos: Value, sin: Value) -> Value:
        return sin / cos

    def direction(self, time: Value) -> tuple[Value, Value]:
        """(1, u)."""
        return jnp.ones_like(time), time

    def rate(self, cos: Value, sin: Value) -> Value:
        return cos * cos


@register_pytree
@dataclasses.dataclass(frozen=True)
class by_variance:
    """u = (sigma / alpha)^2: the VE process of Song et al. 2021, sigma(t) = sqrt(t)."""

    frame: ClassVar[str] = "ve"

    def time(self, cos: Value, sin: Value) -> Value:
        """Returns tan(phi)^2."""
        return jnp.square(sin / cos)

    def direction(self, time: Value) -> tuple[Value, Value]:
        """(1, sqrt(u))."""
        return jnp.ones_like(time), jnp.sqrt(time)

    def rate(self, cos: Value, sin: Value) -> Value:
        """Cos^3 / (2 sin): infinite at clean data."""
        return cos * cos * cos / (2.0 * sin)


@register_pytree
@dataclasses.dataclass(frozen=True)
class by_logsnr:
    """u = 2 ln(alpha / sigma), the logSNR. Infinite at both ends."""

    frame: ClassVar[str] = "ve"

    def time(self, cos: Value, sin: Value) -> Value:
        """Returns 2 ln(cos / sin)."""
        return 2.0 * (jnp.log(cos) - jnp.log(sin))

    def direction(self, time: Value) -> tuple[Value, Value]:
        """(sqrt(sigmoid(u)), sqrt(sigmoid(-u)))."""
        return jnp.sqrt(jax.nn.sigmoid(time)), jnp.sqrt(jax.nn.sigmoid(-time))

    def rate(self, cos: Value, sin: Value) -> Value:
        """Returns -sin cos / 2."""
        return -0.5 * sin * cos


@register_pytree
@dataclasses.dataclass(frozen=True)
class by_angle:
    """u = phi = arctan(sigma / alpha), from pi/2 at zero SNR to 0 at clean data: finite at both ends.

    In the VP frame dx/du is then the velocity v (Salimans & Ho 2022, arXiv 2202.00512).
    """

    frame: ClassVar[str] = "vp"

    def time(self, cos: Value, sin: Value) -> Value:
        """Phi."""
        return jnp.arctan2(sin, cos)

    def direction(self, time: Value) -> tuple[Value, Value]:
        """(cos(u), sin(u))."""
        return jnp.cos(time), jnp.sin(time)

    def rate(self, cos: Value, sin: Value) -> Value:
        """1."""
        return jnp.ones_like(cos)


@register_pytree
@dataclasses.dataclass(frozen=True)
class by_flow:
    """u = sigma / (alpha + sigma), from 1 at zero SNR to 0 at clean data: the time of flow matching.

    In the flow frame dx/du is then the velocity eps - x0 (Liu et al. 2023, arXiv 2209.03003). Its Euler is
    DDIM; its Heun is of second order from zero SNR on.
    """

    frame: ClassVar[str] = "flow"

    def time(self, cos: Value, sin: Value) -> Value:
        """Returns sin / (cos + sin)."""
        return sin / (cos + sin)

    def direction(self, time: Value) -> tuple[Value, Value]:
        """(1 - u, u)."""
        return 1.0 - time, time

    def rate(self, cos: Value, sin: Value) -> Value:
        """(cos + sin)^2."""
        return jnp.square(cos + sin)


@register_pytree
@dataclasses.dataclass(frozen=True)
class by_schedule:
    """The t of a schedule, found by bisection: steps are straight in what the schedule counts.

    On a table of levels u T is the level's number, whole or between two.

    Attributes:
      schedule: strictly decreasing in logSNR where it is used.
    """

    frame: ClassVar[str] = "vp"
    schedule: Any = dataclasses.field(
        default=schedules.scaled_linear(), metadata={"kind": "schedule"}
    )

    def time(self, cos: Value, sin: Value) -> Value:
        """The t at which the schedule has this direction; 1 or 0 beyond its ends."""
        logsnr = 2.0 * (jnp.log(cos) - jnp.log(sin))

        def halve(_, ends):
            low, high = ends
            middle = 0.5 * (low + high)
            noisier = self.schedule.logsnr(middle) < logsnr
            return jnp.where(noisier, low, middle), jnp.where(noisier, middle, high)

        # One halving per binary digit; both ends stay where they are if all of t lies on one side.
        digits = jnp.finfo(logsnr.dtype).nmant + 1
        ends = jnp.zeros_like(logsnr), jnp.ones_like(logsnr)
        low, high = jax.lax.fori_loop(0, digits, halve, ends)
        return 0.5 * (low + high)

    def direction(self, time: Value) -> tuple[Value, Value]:
        """(sqrt(sigmoid(l)), sqrt(sigmoid(-l))) with l the schedule's logSNR."""
        logsnr = self.schedule.logsnr(time)
        return jnp.sqrt(jax.nn.sigmoid(logsnr)), jnp.sqrt(jax.nn.sigmoid(-logsnr))

    def rate(self, cos: Value, sin: Value) -> Value:
        """-sin cos / 2 times the slope of the logSNR."""
        time = self.time(cos, sin)
        _, slope = jax.jvp(self.schedule.logsnr, (time,), (jnp.ones_like(time),))
        return -0.5 * sin * cos * slope


@register_pytree
@dataclasses.dataclass(frozen=True)
class by_beta:
    """The t of the VP process with a linear beta(t) (Song et al. 2021, arXiv 2011.13456).

    1 / cos^2 = exp(beta_d t^2 / 2 + beta_min t): Karras et al. 2022, Table 1, "VP".

    Attributes:
      beta_d: slope of beta(t), > 0.
      beta_min: beta(0). Fitted to a range of sigma it may come out slightly negative.
    """

    frame: ClassVar[str] = "vp"
    beta_d: Leaf = 19.9
    beta_min: Leaf = 0.1

    def __post_init__(self):
        check_positive("by_beta(beta_d)", self.beta_d, "published value 19.9")

    def time(self, cos: Value, sin: Value) -> Value:
        """The t at which the process has this direction."""
        log = jnp.log1p(jnp.square(sin / cos))
        root = jnp.sqrt(jnp.square(self.beta_min) + 2.0 * self.beta_d * log)
        # With a negative beta_min there are two times without noise; the first is meant.
        return jnp.where(sin == 0, 0.0, (root - self.beta_min) / self.beta_d)

    def direction(self, time: Value) -> tuple[Value, Value]:
        """(exp(-B / 2), sqrt(1 - exp(-B))) with B = beta_d t^2 / 2 + beta_min t."""
        integral = (0.5 * self.beta_d * time + self.beta_min) * time
        return jnp.exp(-0.5 * integral), jnp.sqrt(-jnp.expm1(-integral))

    def rate(self, cos: Value, sin: Value) -> Value:
        """beta(t) cos / (2 sin): infinite at clean data."""
        beta = self.beta_min + self.beta_d * self.time(cos, sin)
        return 0.5 * beta * cos / sin
