r"""UniPC (Zhao et al. 2023, arXiv 2302.04867), data prediction, orders 1 to 3, variants bh1 and bh2.

A predictor and a corrector that share their network evaluations. With lambda = ln(alpha / sigma), from
level t to level s, the step h in lambda and psi from `exponential`:

    (1)  first order:  base = (sigma_s / sigma_t) x + alpha_s psi_0(h) m_0,         m_0 = x0 at t
    (2)  predictor:    x_s = base + alpha_s sum_i w_i (m_i - m_0) / r_i
    (3)  corrector:    the same with the node r = 1 as well, m = x0 predicted at (2)'s x_s

m_i are earlier predictions at t + r_i h in lambda, r_i < 0, and the weights w solve the Vandermonde system

    (4)  sum_i w_i r_i^(k-1) = k! psi_k(h),     k = 1 ... number of nodes

which makes (2) and (3) exact for polynomials. With a single node the authors take B / 2 instead, with
B = psi_0(h) (bh2) or h (bh1): in (4) the B(h) of the paper cancels, so that is the only difference
between the variants. The corrected state is what the next step starts from. The corrector's first order
is the trapezoidal rule in exp(lambda), for which a start at zero SNR is an ordinary point.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import Leaf, check_choice
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import State, combination, signal_ratio
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
class unipc:
    """UniPC, equations (2) and (3); one network evaluation per step, deterministic.

    Attributes:
      order: 1, 2 or 3, of the predictor; the corrector's is one higher.
      variant: "bh2" (the published default) or "bh1".
      lower_order_final: let the order fall to 1 towards the end, as published. The step to clean
        data is of first order in any case.
    """

    order: int = dataclasses.field(default=2, metadata={"static": True})
    variant: str = dataclasses.field(default="bh2", metadata={"static": True})
    lower_order_final: bool = dataclasses.field(default=True, metadata={"static": True})
    stochastic = False

    def __post_init__(self):
        note = "2 is the published choice for guided sampling, 3 without guidance"
        check_choice("unipc(order)", self.order, (1, 2, 3), note)
        check_choice("unipc(variant)", self.variant, ("bh1", "bh2"))

    def init(self, x: Images, levels: NoiseLevel) -> Any:
        """No step to correct."""
        return Corrected(
            earlier=nothing_earlier(self.order, x, levels, self.lower_order_final),
            base=x,  # with weights of zero: the first state needs no correction
            order=jnp.zeros(x.shape[:1], jnp.int32),
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
        now, last = prediction.x0, state.history
        earlier = last.earlier

        # The corrector, over the step that led here: from earlier.values[0], with this prediction at r = 1.
        m0, past, step = earlier.values[0], earlier.values[1:], earlier.steps[0]
        nodes, end = nodes_of(step, earlier.steps[1:]), [jnp.ones_like(step)]
        weights = self._weights(step, last.order, nodes, end)
        x = _add(last.base, level, weights, (*past, now), m0)

        ratio = signal_ratio(level, next_level)
        step = -jnp.log(ratio)
        kept, gained = next_level.sigma / level.sigma, next_level.alpha * (1.0 - ratio)
        base = combination((kept, gained), (x, now))
        order = reachable_order(self.order, step, earlier)
        nodes = nodes_of(step, earlier.steps[: self.order - 1])
        weights = self._weights(step, order, nodes)
        x = _add(base, next_level, weights, earlier.values[: self.order - 1], now)
        return State(x, memory, Corrected(earlier.extended(now, step), base, order)), prediction

    def _weights(
        self, step: Leaf, order: Leaf, nodes: list[Leaf], end: Sequence[Leaf] = ()
    ) -> list[Leaf]:
        """Equation (4): weights [batch] of m_i - m_0, for `nodes` and `end`."""
        half = 0.5 * psi(0, step)
        if self.variant == "bh1":
            half = jnp.where(jnp.isfinite(step), 0.5 * step, half)
        count = len(nodes) + len(end)
        moments = [math.factorial(k) * psi(k, step) for k in range(1, count + 1)]
        return extrapolation(order, nodes, moments, end, half)


def _add(
    base: Images, level: NoiseLevel, weights: Sequence[Leaf], m: Sequence[Images], m0: Images
) -> Images:
    """Equations (2) and (3): base + alpha sum_i w_i (m_i - m_0), the weights already over r_i."""
    if not weights:
        return base
    coefficients = [level.alpha * weight for weight in (*weights, -sum(weights))]
    return base + combination(coefficients, (*m, m0))
