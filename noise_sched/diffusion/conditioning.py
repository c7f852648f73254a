"""What the network is told of the noise level: always a function of the level, never of t.

That is what makes the sampling schedule free (Chen 2023 and RIN, as published: gamma * 1000).
"""

import dataclasses
from typing import ClassVar, Protocol, runtime_checkable

from jax.tree_util import register_dataclass
from jaxtyping import Array, Float

from noise_sched.diffusion.numbers import Leaf
from noise_sched.diffusion.process import NoiseLevel


@runtime_checkable
class Conditioning(Protocol):
    """Maps a noise level of shape [batch] to one number per example."""

    supports_zero_snr: ClassVar[bool]

    def __call__(self, level: NoiseLevel) -> Float[Array, "batch"]:
        """The network's `noise_cond`."""
        ...


@register_dataclass
@dataclasses.dataclass(frozen=True)
class gamma:
    """scale * gamma, with gamma in the unscaled frame (so b does not move it).

    Attributes:
      scale: published value 1000: a sinusoidal embedding expects numbers of that size.
    """

    scale: Leaf = 1000.0
    supports_zero_snr: ClassVar[bool] = True

    def __call__(self, level: NoiseLevel) -> Float[Array, "batch"]:
        """Returns scale * gamma."""
        return self.scale * level.gamma


@register_dataclass
@dataclasses.dataclass(frozen=True)
class angle:
    """scale * arccos sqrt(gamma), the signal's angle in [0, pi/2]: finite and smooth at both ends.

    Attributes:
      scale: the default makes the range [0, 1000], as gamma's.
    """

    scale: Leaf = 636.6197723675814  # 1000 / (pi / 2)
    supports_zero_snr: ClassVar[bool] = True

    def __call__(self, level: NoiseLevel) -> Float[Array, "batch"]:
        """Returns scale * angle."""
        return self.scale * level.angle
