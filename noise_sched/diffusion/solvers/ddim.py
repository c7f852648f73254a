r"""DDIM (Song et al. 2021, arXiv 2010.02502), for any (alpha, sigma) frame.

With r = SNR_t / SNR_s, from level t to level s:

    (1)  x_s = alpha_s x0 + sigma_s sqrt(1 - eta^2 (1 - r)) eps + sigma_s eta sqrt(1 - r) z

The variance-preserving form of the paper has 1 - abar_s - sigma^2 under the root, which rounding can
make negative; 1 - eta^2 (1 - r) cannot be. From zero SNR r = 0, to clean data sigma_s = 0: both are
ordinary values.
"""

import dataclasses

import jax.numpy as jnp

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import Leaf, check_share
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import FreshNoise, OneStep, State, snr_ratio


@register_pytree
@dataclasses.dataclass(frozen=True)
class ddim(OneStep, FreshNoise):
    """DDIM, equation (1).

    Attributes:
      eta: 0 is deterministic; 1 has the variance of `ddpm("small")`.
    """

    eta: Leaf = 0.0

    def __post_init__(self):
        check_share(f"{type(self).__name__}(eta)", self.eta, "0 is deterministic, 1 ancestral")

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
        level, next_level = level.expand_to(state.x), next_level.expand_to(state.x)
        x = next_level.alpha * prediction.x0
        if not self.stochastic:
            x = x + next_level.sigma * prediction.eps
        else:
            eta = jnp.asarray(self.eta, x.dtype)
            fresh = jnp.square(eta) * (1.0 - snr_ratio(level, next_level))
            x = x + next_level.sigma * (
                jnp.sqrt(1.0 - fresh) * prediction.eps + jnp.sqrt(fresh) * noise
            )
        return State(x, memory, state.history), prediction
