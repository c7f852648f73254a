r"""Sampling with distilled networks, whose x0 is good from every level: consistency models, LCM and TCD.

From level t to level s, with the prediction x0, eps at t, rho = sigma / alpha and m a level between s and clean
data,

    (1)  x_s = alpha_s x0 + alpha_s rho_m eps + alpha_s sqrt(rho_s^2 - rho_m^2) z

is DDIM's step to m and fresh noise from there to s. `lcm` goes all the way, m = clean data (Luo et al. 2023,
arXiv 2310.04378, Algorithm 3; multistep consistency sampling, Song et al. 2023, arXiv 2303.01469, Algorithm 1).
`tcd` takes m at (1 - gamma) u_s in a clock u, published in the schedule's t ("strategic stochastic sampling",
Zheng et al. 2024, arXiv 2402.19159, Algorithm 4). A latent consistency model's network does not keep to x0 = x at
clean data by itself; what it is distilled to say is

    (2)  f = c_skip x_t + c_out x0,     c_skip = s_d^2 / (k^2 + s_d^2),     c_out = k / sqrt(k^2 + s_d^2)

with k = scale times the level's number (2310.04378, appendix). It matters at the first few levels only.
"""

import dataclasses

import jax.numpy as jnp

from noise_sched.diffusion.clocks import Clock, by_schedule
from noise_sched.diffusion.conditioning import Conditioning
from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import Leaf, is_plain, require
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import State, check_share, combination, spread
from noise_sched.diffusion.solvers.ode import direction_of


@register_pytree
@dataclasses.dataclass(frozen=True)
class lcm:
    """Multistep consistency sampling, equation (1) with rho_m = 0.

    Attributes:
      time: the level's number in equation (2), `index(...)` of the table; None leaves x0 as it is.
      scale: of that number; published 10.
      sigma_data: s_d of equation (2); published 0.5.
    """

    time: Conditioning | None = None
    scale: Leaf = 10.0
    sigma_data: Leaf = 0.5

    def __post_init__(self):
        require(
            self.time is None or callable(self.time),
            f"lcm(time) must be None or a conditioning such as index(scaled_linear()), got {self.time!r}.",
        )
        if is_plain(self.scale):
            require(self.scale > 0, f"lcm(scale) must be positive, got {self.scale}; published 10.")
        if is_plain(self.sigma_data):
            require(
                self.sigma_data > 0,
                f"lcm(sigma_data) must be positive, got {self.sigma_data}; published 0.5.",
            )

    @property
    def stochastic(self) -> bool:
        """Always."""
        return True

    def init(self, x: Images, levels: NoiseLevel) -> tuple[()]:
        """No history."""
        return ()

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
class tcd:
    """Trajectory consistency distillation's sampler, equation (1).

    Attributes:
      gamma: 0 is `ddim()`, 1 is `lcm()`; published 0.3 for few steps.
      clock: what gamma is a share of, one of `noise_sched.diffusion.clocks`.
    """

    gamma: Leaf = 0.3
    clock: Clock = by_schedule()

    def __post_init__(self):
        check_share("tcd(gamma)", self.gamma, "0 is deterministic, 1 is lcm()")

    @property
    def stochastic(self) -> bool:
        """Whether noise is used: everywhere but at a plain gamma = 0."""
        return not (is_plain(self.gamma) and self.gamma == 0)

    def init(self, x: Images, levels: NoiseLevel) -> tuple[()]:
        """No history."""
        return ()

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
        time = self.clock.time(*direction_of(next_level))
        cos, sin = self.clock.direction((1.0 - jnp.asarray(self.gamma, time.dtype)) * time)
        # rho_m <= rho_s in exact numbers; a clock that is inverted numerically may round it up.
        kept = jnp.minimum(next_level.alpha * sin / cos, next_level.sigma)
        x = combination((next_level.alpha, kept), (prediction.x0, prediction.eps))
        fresh = jnp.sqrt(jnp.square(next_level.sigma) - jnp.square(kept))
        return State(x + spread(fresh, x) * noise, memory, state.history), prediction
