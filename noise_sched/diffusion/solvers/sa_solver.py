r"""SA-Solver (Xue et al. 2023, arXiv 2309.05019): stochastic Adams predictor and corrector, data prediction.

tau = 0 is the ODE, tau = 1 the SDE that reverses the forward process, more is more noise. With
lambda = ln(alpha / sigma), from level t to level s, h the step in it, q = exp(-h), H = (1 + tau^2) h and psi
from `exponential`:

    (1)  base = (sigma_s / sigma_t) q^(tau^2) x + alpha_s psi_0(H) m_0 + sigma_s sqrt(1 - q^(2 tau^2)) z
    (2)  predictor:  x_s = base + alpha_s sum_i w_i (m_i - m_0) / r_i
    (3)  corrector:  the same, and the same z, with the node r = 1 as well, m = x0 predicted at (2)'s x_s
    (4)  sum_i w_i r_i^(k-1) = k! psi_k(H),   with a single node w = H / 2

m_i are predictions at t + r_i h in lambda, r_i < 0, as in `multistep`. Predictor and corrector share their
network evaluations, and the corrected state is what the next step starts from: sa_solver(p, p + 1, tau=0)
is unipc(p, "bh1").
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import (
    Leaf,
    check_choice,
    check_not_negative,
    is_plain,
    is_zero,
    require,
)
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import State, combination, expand, signal_ratio
from noise_sched.diffusion.solvers.exponential import psi
from noise_sched.diffusion.solvers.multistep import (
    Corrected,
    extrapolation,
    nodes_of,
    nothing_earlier,
    reachable_order,
)


@register_pytree
@dataclasses.dataclass(frozen=True)
class Predicted(Corrected):
    """What the corrector needs of the step before.

    Attributes:
      stretch: that step's 1 + tau^2, [batch].
    """

    stretch: Leaf


@register_pytree
@dataclasses.dataclass(frozen=True)
class sa_solver:
    """SA-Solver, equations (1) to (4); one network evaluation per step.

    Attributes:
      predictor: its order, 1 to 3; published 2 (or 3).
      corrector: its order, 2 to 4, with the prediction at the step's end counted; published 2 (or 4).
      tau: how much noise, >= 0: 0 is the ODE, 1 the SDE.
      s_tmin: no noise in steps from below this sigma / alpha.
      s_tmax: no noise in steps from above this sigma / alpha; None is no limit.
      lower_order_final: let the orders fall towards the end, as published. The step to clean data is of
        first order in any case.
    """

    predictor: int = dataclasses.field(default=2, metadata={"static": True})
    corrector: int = dataclasses.field(default=2, metadata={"static": True})
    tau: Leaf = 1.0
    s_tmin: Leaf = 0.0
    s_tmax: Leaf = None
    lower_order_final: bool = dataclasses.field(default=True, metadata={"static": True})

    def __post_init__(self):
        check_choice("sa_solver(predictor)", self.predictor, (1, 2, 3), "published 2")
        check_choice("sa_solver(corrector)", self.corrector, (2, 3, 4), "published 2")
        check_not_negative("sa_solver(tau)", self.tau, "0 is the ODE, 1 the SDE")
        if is_plain(self.s_tmin, self.s_tmax):
            require(
                self.s_tmin <= self.s_tmax,
                f"sa_solver needs s_tmin <= s_tmax, got s_tmin={self.s_tmin}, s_tmax={self.s_tmax}.",
            )

    @property
    def stochastic(self) -> bool:
        """Whether noise is used: everywhere but at a plain tau = 0."""
        return not is_zero(self.tau)

    def init(self, x: Images, levels: NoiseLevel) -> Any:
        """No step to correct."""
        limit = max(self.predictor, self.corrector - 1)
        return Predicted(
            earlier=nothing_earlier(limit, x, levels, self.lower_order_final),
            base=x,  # with weights of zero: the first state needs no correction
            order=jnp.zeros(x.shape[:1], jnp.int32),
            stretch=jnp.ones(x.shape[:1], levels.alpha.dtype),
        )

    def step(
        self,
        denoise: Denoise,
        state: State,
        level: NoiseLevel,
        next_level: NoiseLevel,
        noise: Images,
    ) -> tuple[State, Prediction]:
        """Corrects the state with this level's prediction, then predicts: one network evaluation."""
        prediction, memory = denoise(state.x, level, state.memory)
        last: Predicted = state.history
        x, now = self._corrected(last, level, prediction.x0), prediction.x0

        earlier, stretch = last.earlier, 1.0 + self._noise_share(level)
        ratio = signal_ratio(level, next_level)
        step = -jnp.log(ratio)
        power = jnp.power(ratio, stretch - 1.0)
        kept, gained = (
            next_level.sigma / level.sigma * power,
            next_level.alpha * (1.0 - ratio * power),
        )
        base = combination((kept, gained), (x, now))
        if self.stochastic:
            fresh = next_level.sigma * jnp.sqrt(1.0 - jnp.square(power))
            base = base + expand(fresh, base) * noise
        reach = reachable_order(len(earlier.steps), step, earlier)
        nodes = nodes_of(step, earlier.steps[: self.predictor - 1])
        weights = _weights(step, stretch, jnp.minimum(self.predictor, reach), nodes)
        x = _add(base, next_level, weights, [now, *earlier.values[: self.predictor - 1]])
        order = jnp.minimum(self.corrector - 1, reach)
        history = Predicted(earlier.extended(now, step), base, order, stretch)
        return State(x, memory, history), prediction

    def _corrected(self, last: Predicted, level: NoiseLevel, now: Images) -> Images:
        """Equation (3), over the step that led to `level`."""
        earlier, others = last.earlier, self.corrector - 2
        step = earlier.steps[0]
        nodes = nodes_of(step, earlier.steps[1 : 1 + others])
        weights = _weights(step, last.stretch, last.order, nodes, [jnp.ones_like(step)])
        return _add(last.base, level, weights, [*earlier.values[: 1 + others], now])

    def _noise_share(self, level: NoiseLevel) -> Leaf:
        """tau^2, [batch]: 0 outside of [s_tmin, s_tmax]."""
        ratio = level.ratio
        inside = ratio >= jnp.asarray(self.s_tmin, ratio.dtype)
        if self.s_tmax is not None:
            inside = inside & (ratio <= jnp.asarray(self.s_tmax, ratio.dtype))
        return jnp.where(inside, jnp.square(jnp.asarray(self.tau, ratio.dtype)), 0.0)


def _weights(
    step: Leaf, stretch: Leaf, order: Leaf, nodes: list[Leaf], end: Sequence[Leaf] = ()
) -> list[Leaf]:
    """Equation (4): weights [batch] of m_i - m_0, for `nodes` and `end`."""
    scaled = stretch * step
    half = jnp.where(jnp.isfinite(step), 0.5 * scaled, 0.5 * psi(0, scaled))
    count = len(nodes) + len(end)
    moments = [math.factorial(k) * psi(k, scaled) for k in range(1, count + 1)]
    return extrapolation(order, nodes, moments, end, half)


def _add(base: Images, level: NoiseLevel, weights: list[Leaf], m: list[Images]) -> Images:
    """Equations (2) and (3): base + alpha sum_i w_i (m_i - m_0), the weights already over r_i."""
    if not weights:
        return base
    coefficients = [level.alpha * weight for weight in (-sum(weights), *weights)]
    return base + combination(coefficients, m)
