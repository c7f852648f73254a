r"""Singlestep DPM-Solver++ for the SDE with a stage in between, as k-diffusion made it known ("DPM++ SDE").

With rho = sigma / alpha, lambda = -ln rho, a stage m at lambda_t + stage h and, for a level s to be reached,

    (1)  down_s^2 = rho_s^2 (1 - eta^2 (1 - rho_s^2 / rho_t^2)),     up_s^2 = rho_s^2 - down_s^2
    (2)  x_m / alpha_m = (down_m / rho_t) x_t / alpha_t + (1 - down_m / rho_t) D_t + up_m z_m
    (3)  x_s / alpha_s = (down_s / rho_t) x_t / alpha_t + (1 - down_s / rho_t) D   + up_s z_s,
         D = D_t + (D_m - D_t) / (2 stage)

D_t and D_m the x0 predicted at t and m (Lu et al. 2022, arXiv 2211.01095; for eta = 1 (1) is its exact SDE).
z_m and z_s are one Brownian path's increments in rho over [m, t] and [s, t], over the roots of their lengths:

    (4)  z_m = z_1,   z_s = c z_1 + sqrt(1 - c^2) z_2,   c^2 = (rho_t - rho_m) / (rho_t - rho_s)

with independent z_1, z_2: in law what k-diffusion's Brownian tree draws. A step from zero SNR or to clean
data has no stage: there it is `dpmpp(1, eta)`'s with z_1 for noise.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import Leaf, check_fraction, check_share
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
    signal_ratio,
)
from noise_sched.diffusion.solvers.ode import level_towards


@register_pytree
@dataclasses.dataclass(frozen=True)
class dpmpp_sde(OneStep, FreshNoise):
    """Singlestep DPM-Solver++ for the SDE, equation (3).

    Attributes:
      eta: 1 is the SDE, 0 the ODE, of second order.
      stage: where within the step x0 is predicted again, in lambda, in (0, 1]; published 1 / 2.
    """

    eta: Leaf = 1.0
    stage: Leaf = 0.5

    def __post_init__(self):
        check_share("dpmpp_sde(eta)", self.eta, "1 is the SDE, 0 the ODE")
        check_fraction("dpmpp_sde(stage)", self.stage, "published 0.5")

    @property
    def draws(self) -> int:
        """z_1 and z_2 of equation (4)."""
        return 2 if self.stochastic else 1

    def step(
        self,
        denoise: Denoise,
        state: State,
        level: NoiseLevel,
        next_level: NoiseLevel,
        noise: Float[Array, "..."],
    ) -> tuple[State, Prediction]:
        """One step, two network evaluations; one from zero SNR and to clean data."""
        prediction, memory = denoise(state.x, level, state.memory)
        first, second = noise if self.stochastic else (noise, noise)
        has_stage = (level.alpha > 0) & (next_level.sigma > 0)

        def one_stage():
            return self._step_to(next_level, level, state.x, prediction.x0, first), memory

        def two_stages():
            stage = jnp.asarray(self.stage, level.alpha.dtype)
            ratio = level.ratio * jnp.power(signal_ratio(level, next_level), stage)
            middle = level_towards(level, next_level, jnp.ones_like(ratio), ratio)
            halfway = self._step_to(middle, level, state.x, prediction.x0, first)
            again, next_memory = denoise(halfway, middle, memory)
            share = expand(jnp.broadcast_to(0.5 / stage, ratio.shape), state.x)
            x0 = prediction.x0 + share * (again.x0 - prediction.x0)
            common = (level.ratio - ratio) / (level.ratio - next_level.ratio)
            z = combination((jnp.sqrt(common), jnp.sqrt(1.0 - common)), (first, second))
            x = self._step_to(next_level, level, state.x, x0, z)
            plain, _ = one_stage()
            return select(has_stage, x, plain), next_memory

        x, memory = jax.lax.cond(jnp.any(has_stage), two_stages, one_stage)
        return State(x, memory, state.history), prediction

    def _step_to(
        self, target: NoiseLevel, level: NoiseLevel, x: Images, x0: Images, z: Images
    ) -> Images:
        """Equations (2) and (3), in the path's frame."""
        ratio = signal_ratio(level, target)  # rho_target / rho
        eta = jnp.asarray(self.eta, ratio.dtype)
        fresh = jnp.square(eta) * (1.0 - jnp.square(ratio))
        down = jnp.sqrt(1.0 - fresh)
        x = combination(
            (target.sigma / level.sigma * down, target.alpha * (1.0 - ratio * down)), (x, x0)
        )
        return x + expand(target.sigma * jnp.sqrt(fresh), x) * z if self.stochastic else x
