r"""Ancestral sampling (Ho et al. 2020, arXiv 2006.11239), in x0 form, for any (alpha, sigma) frame.

With r = SNR_t / SNR_s, from level t to level s, the posterior q(x_s | x_t, x0) has

    (1)  mean  = alpha_s (1 - r) x0 + r (alpha_s / alpha_t) x_t
               = alpha_s x0 + r (alpha_s / alpha_t) sigma_t eps       [x_t = alpha_t x0 + sigma_t eps]
               = alpha_s x0 + sigma_s sqrt(r) eps
    (2)  small variance = sigma_s^2 (1 - r)         the posterior's own
         large variance = sigma_t^2 (1 - r)         the forward transition's, "beta"

The last line of (1) divides by nothing, so zero SNR (r = 0) and clean data (sigma_s = 0) are
ordinary values. It is the published update for x0, eps that agree, as they do after thresholding.
"""

import dataclasses

import jax.numpy as jnp

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import check_choice, require
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import OneStep, State, landing, snr_ratio


@register_pytree
@dataclasses.dataclass(frozen=True)
class ddpm(OneStep):
    """Ancestral sampling, equations (1) and (2).

    Attributes:
      variance: "large" (the published default) or "small".
      last_noise: whether the step to clean data adds its noise to the image that is returned. Published:
        no. Diffusers' DDPM does from every last level but its first (t = 0), and the large variance to
        clean data is sigma_t^2; the small one is 0.
    """

    variance: str = dataclasses.field(default="large", metadata={"static": True})
    last_noise: bool = dataclasses.field(default=False, metadata={"static": True})
    stochastic = True

    def __post_init__(self):
        check_choice("ddpm(variance)", self.variance, ("large", "small"))
        require(
            isinstance(self.last_noise, bool),
            f"ddpm(last_noise) must be True or False, got {self.last_noise!r}; published False.",
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
        level, next_level = level.expand_to(state.x), next_level.expand_to(state.x)
        ratio = snr_ratio(level, next_level)
        kept = next_level.sigma * jnp.sqrt(ratio)
        mean = next_level.alpha * prediction.x0 + kept * prediction.eps
        std = level.sigma if self.variance == "large" else next_level.sigma
        x = mean + std * jnp.sqrt(1.0 - ratio) * noise
        if self.last_noise:
            prediction = landing(prediction, x, next_level)
        return State(x, memory, state.history), prediction
