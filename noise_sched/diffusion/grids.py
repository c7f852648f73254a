"""Where the sampling steps fall: times from 1 (noise) to 0 (clean), one more than there are steps."""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float

from noise_sched.diffusion.numbers import require


@runtime_checkable
class Grid(Protocol):
    """Chooses the times of a sampling run."""

    def __call__(self, steps: int) -> Float[Array, "times"]:
        """Returns `steps` + 1 decreasing times; the last is 0, clean data."""
        ...


@register_dataclass
@dataclasses.dataclass(frozen=True)
class uniform:
    """t_i = 1 - i / steps, as published: the first step starts from pure noise, t = 1."""

    def __call__(self, steps: int) -> Float[Array, "times"]:
        """Returns [1, 1 - 1 / steps, ..., 0]; both ends exact."""
        require(steps >= 1, f"a sampling run needs at least 1 step, got {steps}.")
        # In NumPy: compiled, a division by a constant may become a product, and the first t exceed 1.
        return jnp.asarray(np.arange(steps, -1, -1) / steps, float)
