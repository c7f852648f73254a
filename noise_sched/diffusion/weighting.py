"""Loss weights: a function of the noise level, one number per example."""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float

from noise_sched.diffusion.process import NoiseLevel


@runtime_checkable
class Weighting(Protocol):
    """Maps a noise level of shape [batch] to the weight of each example's loss."""

    def __call__(self, level: NoiseLevel) -> Float[Array, "batch"]:
        """Non-negative weights."""
        ...


@register_dataclass
@dataclasses.dataclass(frozen=True)
class uniform:
    """Weight 1 at every level, in whatever space the loss is measured (Chen 2023: eps)."""

    def __call__(self, level: NoiseLevel) -> Float[Array, "batch"]:
        """Returns ones."""
        return jnp.ones_like(level.alpha)
