r"""Ranges of EDM's sigma (= sigma / alpha) between two finite ends, sigma(t -> 0) and sigma(1).

Each is meant for sampling, where t = 0 is clean data: N steps of Karras et al. 2022 (arXiv 2206.00364,
Table 1) are `grids.edm()(N)` on one of these.
"""

import dataclasses

import jax.numpy as jnp

from noise_sched.diffusion.numbers import Leaf, check_positive, require
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.schedules.base import SigmaSchedule, Value, check_sigmas


@register_pytree
@dataclasses.dataclass(frozen=True)
class karras(SigmaSchedule):
    r"""EDM's sampling steps (Karras et al. 2022, equation 5), linear in sigma^(1 / rho).

        sigma(t) = (sigma_min^(1/rho) + t (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho

    Attributes:
      sigma_min: sigma just above t = 0.
      sigma_max: sigma at t = 1.
      rho: published 7; larger spends more steps at small sigma.
    """

    sigma_min: Leaf = 0.002
    sigma_max: Leaf = 80.0
    rho: Leaf = 7.0

    def __post_init__(self):
        check_sigmas("karras", self.sigma_min, self.sigma_max)
        check_positive("karras(rho)", self.rho, "EDM uses 7")

    def log_sigma(self, t: Value) -> Value:
        """Rho times the logarithm of the interpolated root."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return self.rho * jnp.log(low * (1.0 - t) + high * t)


@register_pytree
@dataclasses.dataclass(frozen=True)
class geometric(SigmaSchedule):
    r"""Song's VE diffusion (arXiv 2011.13456), linear in ln sigma: column VE of EDM's Table 1.

        sigma(t) = sigma_min (sigma_max / sigma_min)^t

    t uniform in training is EDM's p(sigma) of that column, ln sigma ~ U(ln sigma_min, ln sigma_max).

    Attributes:
      sigma_min: sigma just above t = 0.
      sigma_max: sigma at t = 1.
    """

    sigma_min: Leaf = 0.02
    sigma_max: Leaf = 100.0

    def __post_init__(self):
        check_sigmas("geometric", self.sigma_min, self.sigma_max)

    def log_sigma(self, t: Value) -> Value:
        low, high = jnp.asarray(self.sigma_min, t.dtype), jnp.asarray(self.sigma_max, t.dtype)
        return jnp.log(low) * (1.0 - t) + jnp.log(high) * t


# Noisiest first; Sabour et al. 2024 (arXiv 2404.14507), Table 3.
_ALIGNED = {
    "sd15": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    "svd": (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002),
}


@register_pytree
@dataclasses.dataclass(frozen=True)
class align_your_steps(SigmaSchedule):
    """Align Your Steps (Sabour et al. 2024, arXiv 2404.14507): sigmas optimized for one model.

    Their eleven sigmas lie at t = 1, 0.9, ..., 0, and ln sigma is linear between, as published for
    other numbers of steps. With `grids.uniform()` and 10 steps the first ten are used and the last step
    goes to clean data.

    Attributes:
      model: "sd15", "sdxl" or "svd".
    """

    model: str = dataclasses.field(default="sd15", metadata={"static": True})

    def __post_init__(self):
        require(
            self.model in _ALIGNED,
            f"align_your_steps(model) must be one of {', '.join(map(repr, _ALIGNED))}, "
            f"got {self.model!r}.",
        )

    def log_sigma(self, t: Value) -> Value:
        """Piecewise linear."""
        sigmas = jnp.asarray(_ALIGNED[self.model][::-1], t.dtype)
        return jnp.interp(t, jnp.linspace(0, 1, len(sigmas), dtype=t.dtype), jnp.log(sigmas))
