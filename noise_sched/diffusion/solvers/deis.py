r"""DEIS (Zhang & Chen 2023, arXiv 2204.13902), exponential Adams-Bashforth in log rho, orders 1 to 3.

With rho = sigma / alpha the probability flow is d(x / alpha) / d rho = eps. DEIS takes eps as the polynomial
through this and the earlier predictions; the variant that the paper calls rhoAB with ln rho = -lambda for its
variable is the one here. From level t to level s, h the step in lambda:

    (1)  x_s = alpha_s x0 + sigma_s [eps_0 + sum_i w_i (eps_i - eps_0) / r_i]
    (2)  sum_i w_i r_i^(k-1) = k! psi_k(-h) = -int_0^1 h exp(h (1 - s)) s^k ds

with psi from `exponential` and r_i, w_i as in `multistep`. It is DDIM and a correction, so zero SNR and
clean data, where the correction is left out, are ordinary values.
"""

import dataclasses
import math

import jax.numpy as jnp

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import check_choice
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import State, signal_ratio
from noise_sched.diffusion.solvers.exponential import psi
from noise_sched.diffusion.solvers.multistep import (
    Earlier,
    ddim_with,
    extrapolation,
    is_short,
    nodes_of,
    nothing_earlier,
    reachable_order,
)


@register_pytree
@dataclasses.dataclass(frozen=True)
class deis:
    """DEIS, equation (1); one network evaluation per step.

    Attributes:
      order: 1 (DDIM), 2 or 3.
      lower_order_final: let the order fall to 1 towards the end of runs of fewer than 15 steps, as in
        diffusers. The step to clean data is of first order in any case.
    """

    order: int = dataclasses.field(default=2, metadata={"static": True})
    lower_order_final: bool = dataclasses.field(default=True, metadata={"static": True})
    stochastic = False

    def __post_init__(self):
        check_choice("deis(order)", self.order, (1, 2, 3), "1 is ddim()")

    def init(self, x: Images, levels: NoiseLevel) -> Earlier:
        """No earlier predictions, `order` - 1 of them."""
        return nothing_earlier(
            self.order - 1, x, levels, self.lower_order_final and is_short(levels)
        )

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
        length = -jnp.log(signal_ratio(level, next_level))
        order = reachable_order(self.order, length, history)
        h = jnp.where(jnp.isfinite(length), length, 1.0)  # of no account: there the order is 1
        moments = [math.factorial(k) * psi(k, -h) for k in range(1, self.order)]
        weights = extrapolation(order, nodes_of(h, history.steps), moments)
        weights = [next_level.sigma * weight for weight in weights]
        x = ddim_with(prediction, next_level, weights, history.values)
        return State(x, memory, history.extended(prediction.eps, length)), prediction
