r"""Sampling with distilled networks, whose x0 is good from every level: consistency models, LCM and TCD.

From level t to level s, with the prediction x0, eps at t, rho = sigma / alpha and m a level between s and
clean data,

    (1)  x_s = alpha_s x0 + alpha_s rho_m eps + alpha_s sqrt(rho_s^2 - rho_m^2) z

is DDIM's step to m and fresh noise from there to s. `lcm` goes all the way, m = clean data (Luo et al.
2023, arXiv 2310.04378; multistep consistency sampling, Song et al. 2023, arXiv 2303.01469,
Algorithm 1). `tcd` takes the level of a table whose number, from 0, is that of s times 1 - gamma, rounded
down ("strategic stochastic sampling", Zheng et al. 2024, arXiv 2402.19159). A latent
consistency model's network does not keep to x0 = x at clean data by itself; what it is distilled to say is

    (2)  f = c_skip x_t + c_out x0,     c_skip = s_d^2 / (k^2 + s_d^2),     c_out = k / sqrt(k^2 + s_d^2)

with k = scale times the level's number (diffusers' LCMScheduler). It matters at the first few levels only.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from noise_sched.diffusion import schedules
from noise_sched.diffusion.conditioning import Conditioning, index
from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import Leaf, check_positive, check_share, is_zero, require
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.schedules.tables import num_levels
from noise_sched.diffusion.solvers.base import OneStep, State, combination, expand


@register_pytree
@dataclasses.dataclass(frozen=True)
class lcm(OneStep):
    """Multistep consistency sampling, equation (1) with rho_m = 0.

    Attributes:
      time: the level's number in equation (2), `index(...)` of the table; None leaves x0 as it is.
      scale: of that number; published 10.
      sigma_data: s_d of equation (2); published 0.5.
    """

    time: Conditioning | None = dataclasses.field(default=None, metadata={"kind": "conditioning"})
    scale: Leaf = 10.0
    sigma_data: Leaf = 0.5
    stochastic = True

    def __post_init__(self):
        require(
            self.time is None or callable(self.time),
            f"lcm(time) must be None or a conditioning such as index(scaled_linear()), got {self.time!r}.",
        )
        check_positive("lcm(scale)", self.scale, "published 10")
        check_positive("lcm(sigma_data)", self.sigma_data, "published 0.5")

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
        x0 = prediction.x0
        if self.time is not None:
            k = jnp.asarray(self.scale, level.alpha.dtype) * self.time(level)
            total = jnp.square(k) + jnp.square(jnp.asarray(self.sigma_data, k.dtype))
            skip = jnp.square(jnp.asarray(self.sigma_data, k.dtype)) / total
            x0 = combination((skip, k / jnp.sqrt(total)), (state.x, x0))
        x = combination((next_level.alpha, next_level.sigma), (x0, noise))
        return State(x, memory, state.history), Prediction(x0, prediction.eps)


@register_pytree
@dataclasses.dataclass(frozen=True)
class tcd(OneStep):
    """Trajectory consistency distillation's sampler, equation (1).

    Attributes:
      gamma: 0 is `ddim()`; 1 keeps only the noise of the table's first level, and is `lcm()` but for
        that; published 0.3.
      schedule: the table that the network was trained with; its levels are what gamma is a share of.
    """

    gamma: Leaf = 0.3
    schedule: Any = dataclasses.field(
        default=schedules.scaled_linear(), metadata={"kind": "schedule"}
    )

    def __post_init__(self):
        check_share("tcd(gamma)", self.gamma, "0 is deterministic, 1 renews all noise")
        require(
            num_levels(self.schedule) > 0,
            f"tcd(schedule) must be a table of levels, such as scaled_linear(), got {self.schedule!r}; "
            "'discrete(...)' makes one of any schedule.",
        )

    @property
    def stochastic(self) -> bool:
        """Whether noise is used: everywhere but at a plain gamma = 0."""
        return not is_zero(self.gamma)

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
        if not self.stochastic:
            images = (prediction.x0, prediction.eps)
            x = combination((next_level.alpha, next_level.sigma), images)
            return State(x, memory, state.history), prediction
        number = index(self.schedule)(next_level)
        cleaner = jnp.floor((1.0 - jnp.asarray(self.gamma, number.dtype)) * number)
        ratio = jnp.exp(-0.5 * self.schedule.level(cleaner.astype(int) + 1)).astype(number.dtype)
        kept = jnp.minimum(next_level.alpha * ratio, next_level.sigma)
        kept = jnp.where(cleaner == number, next_level.sigma, kept)
        x = combination((next_level.alpha, kept), (prediction.x0, prediction.eps))
        # Not a difference of squares: fused into one operation it may come out below 0.
        fresh = jnp.sqrt((next_level.sigma - kept) * (next_level.sigma + kept))
        return State(x + expand(fresh, x) * noise, memory, state.history), prediction
