r"""Euler's method on the probability flow, in any clock and frame, with churn.

    (1)  x_next = x + (u_next - u) dx/du

With the clock sigma / alpha and the VE frame, the default, this is DDIM and what other libraries call
"Euler"; with the clocks and frames of Karras et al. 2022 (arXiv 2206.00364), Table 1, it is the
deterministic sampler of each earlier paper.
"""

import dataclasses

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import State
from noise_sched.diffusion.solvers.ode import OdeSolver


@register_pytree
@dataclasses.dataclass(frozen=True)
class euler(OdeSolver):
    """Euler's method, equation (1): first order. The fields are `OdeSolver`'s."""

    def step(
        self,
        denoise: Denoise,
        state: State,
        level: NoiseLevel,
        next_level: NoiseLevel,
        noise: Images,
    ) -> tuple[State, Prediction]:
        """One step, one network evaluation."""
        x, level = self.churned(state.x, level, next_level, noise, state.history)
        prediction, memory = denoise(x, level, state.memory)
        euler_step = self.euler_step(level, next_level, *self.step_size(level, next_level))
        return State(euler_step(x, prediction), memory, state.history), prediction
