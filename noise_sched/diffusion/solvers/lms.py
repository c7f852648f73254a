r"""Linear multistep in sigma / alpha (Adams-Bashforth with unequal steps), as k-diffusion made it known.

With rho = sigma / alpha the probability flow is d(x / alpha) / d rho = eps (Karras et al. 2022, arXiv
2206.00364, equation 1), and eps is taken as the polynomial in rho through this and the earlier
predictions:

    (1)  x_s / alpha_s = x0 + rho_s eps_0 + (rho_s - rho_t) sum_i w_i (eps_i - eps_0) / r_i
    (2)  sum_i w_i r_i^(k-1) = 1 / (k + 1)

with r_i, w_i as in `multistep`. rho is finite at clean data: the step there has the full order, and lands
beside x0. From zero SNR, where it is infinite, the step is DDIM's.
"""

import dataclasses

import jax.numpy as jnp

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import check_choice
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import State, landing
from noise_sched.diffusion.solvers.multistep import (
    Earlier,
    ddim_with,
    extrapolation,
    nodes_of,
    nothing_earlier,
    reachable_order,
)


@register_pytree
@dataclasses.dataclass(frozen=True)
class lms:
    """Linear multistep, equation (1); one network evaluation per step.

    Attributes:
      order: 1 (DDIM) to 4, the usual choice.
    """

    order: int = dataclasses.field(default=4, metadata={"static": True})
    stochastic = False

    def __post_init__(self):
        note = "4 is the usual choice, 1 is ddim()"
        check_choice("lms(order)", self.order, (1, 2, 3, 4), note)

    def init(self, x: Images, levels: NoiseLevel) -> Earlier:
        """No earlier predictions, `order` - 1 of them."""
        return nothing_earlier(self.order - 1, x, levels, False)

    def step(
        self,
        denoise: Denoise,
        state: State,
        level: NoiseLevel,
        next_level: NoiseLevel,
        noise: Images,
    ) -> tuple[State, Prediction]:
        """One step, one network evaluation."""
        prediction, memory = denoise(state.x, level, state.memory)
        history: Earlier = state.history
        length = level.ratio - next_level.ratio
        order = reachable_order(self.order, length, history)
        size = jnp.where(jnp.isfinite(length), length, 1.0)  # of no account: there the order is 1
        moments = [jnp.full_like(size, 1.0 / (k + 1)) for k in range(1, self.order)]
        weights = extrapolation(order, nodes_of(size, history.steps), moments)
        weights = [-next_level.alpha * size * weight for weight in weights]
        x = ddim_with(prediction, next_level, weights, history.values)
        history = history.extended(prediction.eps, length)
        return State(x, memory, history), landing(prediction, x, next_level)
