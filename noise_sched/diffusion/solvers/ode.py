r"""What Euler and Heun share: the probability-flow ODE in a clock u and a frame, and churn.

Along x = alpha x0 + sigma eps the probability flow moves x by

    (1)  dx/du = alpha'(u) x0 + sigma'(u) eps

where x0, eps is the denoiser's prediction: Karras et al. 2022 (arXiv 2206.00364), equation (4), without
its divisions. Two choices make it a method's own ODE (the same paper, section 3): the clock u, and the
frame in which x is measured,

    (2)  "ve":  (alpha, sigma) = (1, tan phi)           alpha' = 0             sigma' = phi' / cos^2 phi
    (3)  "vp":  (alpha, sigma) = (cos phi, sin phi)     alpha' = -sin phi phi'   sigma' = cos phi phi'
         "flow":  (alpha, sigma) = (cos phi, sin phi) / (cos phi + sin phi)      alpha' = -sigma'
                  sigma' = phi' / (cos phi + sin phi)^2

The state is taken into that frame and back; the denoiser always sees it in the path's frame, which is
the one the network was trained in. Between the path's levels, where a solver looks too, that frame is

    (4)  A alpha^2 + B sigma^2 = 1     through the step's two levels,

which is exact for VP paths (A = 1 / b^2, B = 1) and for VE paths (A = 1, B = 0); and alpha + sigma = 1 where
both levels have it, the frame of flow matching.

As eps = (x - alpha x0) / sigma where a slope is taken, never at clean data, a step is a sum of x and x0

    (5)  x_next = (1 + h sigma' / sigma) x + h (alpha' - sigma' alpha / sigma) x0

Churn (Algorithm 2): before a step from a noise level r = sigma / alpha within [s_tmin, s_tmax],
fresh noise raises it to r (1 + g), g = min(churn / steps, sqrt(2) - 1):

    (6)  x^ = k x + k sigma sqrt((1 + g)^2 - 1) s_noise z,     (alpha, sigma)^ = k (alpha, (1 + g) sigma)

with k from (4). In the paper's own frame, alpha = 1, k is 1.
"""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from noise_sched.diffusion.clocks import Clock, by_sigma
from noise_sched.diffusion.numbers import (
    Leaf,
    check_choice,
    check_not_negative,
    check_positive,
    is_plain,
    is_zero,
    require,
)
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import combination, expand

Value = Float[Array, "batch"]


@register_pytree
@dataclasses.dataclass(frozen=True)
class OdeSolver:
    """The fields of an ODE solver with churn.

    Attributes:
      churn: S_churn >= 0, spread over the run's steps; 0 is deterministic.
      s_tmin: no churn below this sigma / alpha.
      s_tmax: no churn above this sigma / alpha; None is no limit.
      s_noise: standard deviation of the fresh noise; published values 1.003 to 1.007.
      clock: the variable in which steps are straight lines, one of `noise_sched.diffusion.clocks`.
      frame: "ve", "vp", "flow", or None for the clock's usual one.
    """

    churn: Leaf = 0.0
    s_tmin: Leaf = 0.0
    s_tmax: Leaf = None
    s_noise: Leaf = 1.0
    clock: Clock = dataclasses.field(default=by_sigma(), metadata={"kind": "clock"})
    frame: str | None = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self):
        name = type(self).__name__
        note = "0 adds no noise, the paper searches 0 to 100"
        check_not_negative(f"{name}(churn)", self.churn, note)
        if is_plain(self.s_tmin, self.s_tmax):
            require(
                self.s_tmin <= self.s_tmax,
                f"{name} needs s_tmin <= s_tmax, got s_tmin={self.s_tmin}, s_tmax={self.s_tmax}. "
                "They are noise levels sigma / alpha; swap them if they are reversed.",
            )
        check_positive(f"{name}(s_noise)", self.s_noise, "1 adds as much noise as the level says")
        frames = ("ve", "vp", "flow", None)
        check_choice(f"{name}(frame)", self.frame, frames, "None is the clock's own")

    @property
    def stochastic(self) -> bool:
        """Whether noise is used: everywhere but at a plain churn = 0."""
        return not is_zero(self.churn)

    def init(self, x: Images, levels: NoiseLevel) -> tuple[()] | Float[Array, ""]:
        """Churn per step, which needs the number of steps; () without churn."""
        if not self.stochastic:
            return ()
        steps, dtype = levels.alpha.shape[0] - 1, levels.alpha.dtype
        return jnp.minimum(jnp.asarray(self.churn, dtype) / steps, math.sqrt(2.0) - 1.0)

    def churned(
        self,
        x: Images,
        level: NoiseLevel,
        next_level: NoiseLevel,
        noise: Images,
        limit: Leaf,
    ) -> tuple[Images, NoiseLevel]:
        """Equation (6): the state and level that the step starts from."""
        if not self.stochastic:
            return x, level
        ratio = level.sigma / level.alpha
        inside = ratio >= jnp.asarray(self.s_tmin, ratio.dtype)
        if self.s_tmax is not None:
            inside = inside & (ratio <= jnp.asarray(self.s_tmax, ratio.dtype))
        factor = 1.0 + jnp.where(inside, limit, 0.0)
        added = jnp.square(factor) - 1.0
        # A frame whose alpha grows with the noise (B < 0) cannot be followed outside the step.
        bend = jnp.maximum(_conic(level, next_level)[1], 0.0)
        scale = 1.0 / jnp.sqrt(1.0 + bend * jnp.square(level.sigma) * added)
        fresh = scale * level.sigma * jnp.sqrt(added) * jnp.asarray(self.s_noise, ratio.dtype)
        x = expand(scale, x) * x + expand(fresh, x) * noise
        return x, NoiseLevel(scale * level.alpha, scale * factor * level.sigma, level.input_scale)

    def step_size(self, level: NoiseLevel, next_level: NoiseLevel) -> tuple[Value, Array]:
        """(u_next - u, whether the step can be taken at all in this clock and frame)."""
        size = self.time(next_level) - self.time(level)
        return size, jnp.isfinite(size) & jnp.isfinite(self.scale(level))

    def euler_step(
        self, level: NoiseLevel, target: NoiseLevel, size: Value, regular: Array
    ) -> "EulerStep":
        """Euler's step of `size` from `level` to `target`; DDIM's where it is not regular."""
        scale = 1.0 / self.scale(target)
        signal, noise = self.rates(level)
        eps = jnp.where(regular, size * noise * scale, target.sigma)
        return EulerStep(
            start=jnp.where(regular, self.scale(level) * scale, 0.0),
            x=eps / level.sigma,
            x0=jnp.where(regular, size * signal * scale, target.alpha)
            - eps * level.alpha / level.sigma,
        )

    def time(self, level: NoiseLevel) -> Value:
        """The clock's reading at a level."""
        return self.clock.time(*direction_of(level))

    def level_between(self, level: NoiseLevel, next_level: NoiseLevel, time: Value) -> NoiseLevel:
        """The level at a clock reading, in the path's frame: equation (4)."""
        return level_towards(level, next_level, *self.clock.direction(time))

    def scale(self, level: NoiseLevel) -> Value:
        """What takes a state at `level` into the solver's frame; infinite for "ve" at zero SNR."""
        if self._frame == "ve":
            return 1.0 / level.alpha
        if self._frame == "flow":
            return 1.0 / (level.alpha + level.sigma)
        return 1.0 / jnp.sqrt(jnp.square(level.alpha) + jnp.square(level.sigma))

    def rates(self, level: NoiseLevel) -> tuple[Value, Value]:
        """(alpha', sigma') of the solver's frame, equations (2) and (3)."""
        cos, sin = direction_of(level)
        rate = self.clock.rate(cos, sin)
        if self._frame == "ve":
            return jnp.zeros_like(cos), rate / (cos * cos)
        if self._frame == "flow":
            slope = rate / jnp.square(cos + sin)
            return -slope, slope
        return -sin * rate, cos * rate

    @property
    def _frame(self) -> str:
        return self.frame or self.clock.frame


@dataclasses.dataclass(frozen=True)
class EulerStep:
    """A step as [batch] coefficients, equation (5) taken into the path's frame.

    Attributes:
      start: of the state where the step starts.
      x: of the state where the slope is taken, which may be another.
      x0: of the prediction there.
    """

    start: Value
    x: Value
    x0: Value

    def __call__(self, x: Images, prediction: Prediction) -> Images:
        """The state at the step's end, the slope taken at its start."""
        return combination((self.start + self.x, self.x0), (x, prediction.x0))

    def slope(self, x: Images, prediction: Prediction) -> Images:
        """What a slope taken at `x` contributes."""
        return combination((self.x, self.x0), (x, prediction.x0))


def level_towards(level: NoiseLevel, next_level: NoiseLevel, cos: Value, sin: Value) -> NoiseLevel:
    """The level of a direction (cos, sin), up to a factor, in the path's frame: equation (4)."""
    A, B = _conic(level, next_level)
    size = jnp.sqrt(A * jnp.square(cos) + B * jnp.square(sin))
    totals = jnp.stack([each.alpha + each.sigma for each in (level, next_level)])
    # Rounding of two numbers that add up to 1; no other step has both its ends there.
    straight = jnp.all(jnp.abs(totals - 1.0) <= 4 * jnp.finfo(totals.dtype).eps, axis=0)
    scale = 1.0 / jnp.where(straight, cos + sin, size)
    return NoiseLevel(scale * cos, scale * sin, level.input_scale)


def direction_of(level: NoiseLevel) -> tuple[Value, Value]:
    """(cos phi, sin phi) of a level."""
    norm = jnp.sqrt(jnp.square(level.alpha) + jnp.square(level.sigma))
    return level.alpha / norm, level.sigma / norm


def _conic(level: NoiseLevel, next_level: NoiseLevel) -> tuple[Value, Value]:
    """(A, B) of equation (4)."""
    (a0, s0), (a1, s1) = (
        (jnp.square(each.alpha), jnp.square(each.sigma)) for each in (level, next_level)
    )
    determinant = a0 * s1 - a1 * s0
    return (s1 - s0) / determinant, (a0 - a1) / determinant
