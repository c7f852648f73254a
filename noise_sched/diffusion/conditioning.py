"""What the network is conditioned on: always a function of the level, never of t.

That is what makes the sampling schedule free (Chen 2023 and RIN, as published: gamma * 1000). A network
that was trained on numbered levels is conditioned on the number of the nearest level, `index`.
"""

import dataclasses
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from noise_sched.diffusion import schedules
from noise_sched.diffusion.numbers import Leaf, is_plain, require
from noise_sched.diffusion.process import NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree


@runtime_checkable
class Conditioning(Protocol):
    """Maps a noise level of shape [batch] to one number per example."""

    supports_zero_snr: ClassVar[bool]

    def __call__(self, level: NoiseLevel) -> Float[Array, "batch"]:
        """The network's `noise_cond`."""
        ...


@register_pytree
@dataclasses.dataclass(frozen=True)
class gamma:
    """scale * gamma, with gamma in the unscaled frame (so b does not move it).

    Attributes:
      scale: published value 1000: a sinusoidal embedding expects numbers of that size.
    """

    scale: Leaf = 1000.0
    supports_zero_snr: ClassVar[bool] = True

    def __call__(self, level: NoiseLevel) -> Float[Array, "batch"]:
        return self.scale * level.gamma


@register_pytree
@dataclasses.dataclass(frozen=True)
class angle:
    """scale * arccos sqrt(gamma), the signal's angle in [0, pi/2]: finite and smooth at both ends.

    Attributes:
      scale: the default makes the range [0, 1000], as gamma's.
    """

    scale: Leaf = 636.6197723675814  # 1000 / (pi / 2)
    supports_zero_snr: ClassVar[bool] = True

    def __call__(self, level: NoiseLevel) -> Float[Array, "batch"]:
        return self.scale * level.angle


@register_pytree
@dataclasses.dataclass(frozen=True)
class log_sigma:
    """scale * ln(sigma / (unit alpha)): EDM's c_noise (Karras et al. 2022, arXiv 2206.00364, Table 1).

    Of the data as it is diffused: input scaling moves it. -inf at clean data, +inf at zero SNR.

    Attributes:
      scale: EDM 0.25; column VE 1.
      unit: EDM 1; column VE 2, for ln(sigma / 2).
    """

    scale: Leaf = 0.25
    unit: Leaf = 1.0
    supports_zero_snr: ClassVar[bool] = False

    def __post_init__(self):
        if is_plain(self.unit):
            require(self.unit > 0, f"log_sigma(unit) must be positive, got {self.unit}.")

    def __call__(self, level: NoiseLevel) -> Float[Array, "batch"]:
        """Returns scale * ln(sigma / (unit alpha))."""
        unit = jnp.asarray(self.unit, level.alpha.dtype)
        return self.scale * (-0.5 * level.logsnr - jnp.log(unit))


@register_pytree
@dataclasses.dataclass(frozen=True)
class index:
    """The number 0 .. T-1 of the table's level that is nearest in sigma / alpha.

    What networks with T time steps are conditioned on (Stable Diffusion; EDM's Table 1, column iDDPM), as a
    function of the level: exact on the table's own levels, whatever schedule they were reached by.
    Input scaling does not move it.

    Attributes:
      schedule: the table that the network was trained with.
    """

    schedule: Any = dataclasses.field(
        default=schedules.scaled_linear(), metadata={"kind": "schedule"}
    )
    supports_zero_snr: ClassVar[bool] = True

    def __call__(self, level: NoiseLevel) -> Float[Array, "batch"]:
        """Returns the number of the nearest level; the last one at zero SNR."""
        found = schedules.nearest_in(self.schedule.table(), level.schedule_logsnr)
        return found.astype(level.alpha.dtype)


@register_pytree
@dataclasses.dataclass(frozen=True)
class vp_time:
    """scale * t of `vp_diffusion`, as a function of the level: EDM's Table 1, column VP.

    With sigma / alpha = s, t = (sqrt(beta_min^2 + 2 beta_d ln(1 + s^2)) - beta_min) / beta_d. Input
    scaling does not move it.

    Attributes:
      beta_d, beta_min: of `vp_diffusion`.
      scale: published 999 (M - 1).
    """

    beta_d: Leaf = 19.9
    beta_min: Leaf = 0.1
    scale: Leaf = 999.0
    supports_zero_snr: ClassVar[bool] = False

    def __call__(self, level: NoiseLevel) -> Float[Array, "batch"]:
        """Returns scale * t, without the cancellation of the formula near t = 0."""
        integral = jax.nn.softplus(-level.schedule_logsnr)  # ln(1 + s^2)
        root = jnp.sqrt(self.beta_min**2 + 2 * self.beta_d * integral)
        return self.scale * 2 * integral / (root + self.beta_min)
