r"""DPM-Solver-2 in sigma / alpha, and its ancestral form, as k-diffusion made them known ("KDPM2").

The midpoint method with the geometric mean of the noise levels as its middle (Lu et al. 2022, arXiv
2206.00927, with r = 1 / 2, which is half-way in lambda; Karras et al. 2022, arXiv 2206.00364).
With rho = sigma / alpha, from level t to level s and down <= rho_s,

    (1)  down^2 = rho_s^2 (1 - eta^2 (1 - rho_s^2 / rho_t^2)),     up^2 = rho_s^2 - down^2
    (2)  rho_m = sqrt(rho_t down),    eps_m predicted at m from DDIM's step to it
    (3)  x_s / alpha_s = x_t / alpha_t + (down - rho_t) eps_m + up z

A step from zero SNR or to clean data has no middle: there it is `ddim(eta)`'s.
"""

import dataclasses

import jax
import jax.numpy as jnp

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import Leaf, check_share
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import (
    FreshNoise,
    OneStep,
    State,
    combination,
    expand,
    select,
    snr_ratio,
)
from noise_sched.diffusion.solvers.multistep import ddim_with
from noise_sched.diffusion.solvers.ode import level_towards


@register_pytree
@dataclasses.dataclass(frozen=True)
class dpm2(OneStep, FreshNoise):
    """DPM-Solver-2, equation (3): second order for eta = 0.

    Attributes:
      eta: 0 is the ODE; 1 is ancestral.
    """

    eta: Leaf = 0.0

    def __post_init__(self):
        check_share("dpm2(eta)", self.eta, "0 is deterministic, 1 ancestral")

    def step(
        self,
        denoise: Denoise,
        state: State,
        level: NoiseLevel,
        next_level: NoiseLevel,
        noise: Images,
    ) -> tuple[State, Prediction]:
        """One step, two network evaluations; one from zero SNR and to clean data."""
        prediction, memory = denoise(state.x, level, state.memory)
        fresh = jnp.square(jnp.asarray(self.eta, level.alpha.dtype))
        fresh = fresh * (1.0 - snr_ratio(level, next_level))
        share = jnp.sqrt(1.0 - fresh)  # down / rho_s
        down = NoiseLevel(next_level.alpha, next_level.sigma * share, next_level.input_scale)
        has_middle = (level.alpha > 0) & (next_level.sigma > 0)

        def first_order():
            return ddim_with(prediction, down, [], []), memory

        def second_order():
            # The middle is in the path's frame, which `down` need not be.
            middle = jnp.sqrt(level.ratio * down.ratio)
            middle = level_towards(level, next_level, jnp.ones_like(middle), middle)
            halfway = combination((middle.alpha, middle.sigma), (prediction.x0, prediction.eps))
            second, next_memory = denoise(halfway, middle, memory)
            slope = down.sigma - next_level.alpha * level.ratio
            x = ddim_with(prediction, down, [slope], [second.eps])
            plain, _ = first_order()
            return select(has_middle, x, plain), next_memory

        x, memory = jax.lax.cond(jnp.any(has_middle), second_order, first_order)
        if self.stochastic:
            x = x + expand(next_level.sigma * jnp.sqrt(fresh), x) * noise
        return State(x, memory, state.history), prediction
