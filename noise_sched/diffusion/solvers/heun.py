r"""Heun's method and the general second-order Runge-Kutta family, in any clock and frame, with churn.

With f = dx/du, h = u_next - u and the stage s in (0, 1],

    (1)  x' = x + s h f(x, u)
    (2)  x_next = x + h [(1 - 1 / (2 s)) f(x, u) + 1 / (2 s) f(x', u + s h)]

(Karras et al. 2022, arXiv 2206.00364, Algorithms 1 and 2 and appendix D.3, where s is called alpha):
s = 1 is Heun, 1/2 the midpoint method, 2/3 Ralston's. A step to clean data is Euler's, as published:
there is no noise left to predict there. So N steps cost 2 N - 1 network evaluations.

`heun(clock=by_angle())` is second order from zero SNR on, where EDM's own clock is infinite: there the
default's first step is DDIM's.
"""

import dataclasses

import jax
import jax.numpy as jnp

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import Leaf, check_fraction, is_plain
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import State, expand, select
from noise_sched.diffusion.solvers.ode import OdeSolver


@register_pytree
@dataclasses.dataclass(frozen=True)
class heun(OdeSolver):
    """Equation (2): second order. The other fields are `OdeSolver`'s.

    Attributes:
      stage: where within the step the slope is taken again, in (0, 1].
    """

    stage: Leaf = 1.0

    def __post_init__(self):
        super().__post_init__()
        check_fraction("heun(stage)", self.stage, "1 is Heun, 0.5 midpoint, 2/3 Ralston")

    def step(
        self,
        denoise: Denoise,
        state: State,
        level: NoiseLevel,
        next_level: NoiseLevel,
        noise: Images,
    ) -> tuple[State, Prediction]:
        """One step, two network evaluations; one where the next level is clean data."""
        x, level = self.churned(state.x, level, next_level, noise, state.history)
        prediction, memory = denoise(x, level, state.memory)
        size, regular = self.step_size(level, next_level)
        euler_step = self.euler_step(level, next_level, size, regular)
        corrects = regular & (next_level.sigma > 0)

        # Both branches take the first step themselves: x and the prediction are all that is kept.
        def predicted():
            return euler_step(x, prediction), memory

        def corrected():
            first, _ = predicted()
            stage = jnp.asarray(self.stage, size.dtype)
            if is_plain(self.stage) and self.stage == 1:
                middle, halfway = next_level, first
            else:
                middle = self.level_between(level, next_level, self.time(level) + stage * size)
                halfway = self.euler_step(level, middle, stage * size, regular)(x, prediction)
            second, next_memory = denoise(halfway, middle, memory)
            slope = first - expand(euler_step.start, x) * x
            second_slope = self.euler_step(middle, next_level, size, regular).slope(halfway, second)
            share = expand(jnp.broadcast_to(0.5 / stage, size.shape), x)
            better = first + share * (second_slope - slope)
            return select(corrects, better, first), next_memory

        x, memory = jax.lax.cond(jnp.any(corrects), corrected, predicted)
        return State(x, memory, state.history), prediction
