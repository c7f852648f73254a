r"""Asymmetric time intervals (Chen et al. 2022, "Analog Bits", arXiv 2208.04202, section 3.2).

Each step leads further than to the next time of the grid, by a time difference td in units of steps, and
the network is conditioned on the next time all the same:

    (1)  told: t_i = 1 - i / N        led to: max(t_{i+1} - td / N, 0)

With few steps the state then has less noise than the network believes, for which it draws cleaner images.
Published for DDIM and DDPM, on the uniform grid.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from noise_sched.diffusion.numbers import require
from noise_sched.diffusion.pytrees import register_pytree


@register_pytree
@dataclasses.dataclass(frozen=True)
class asymmetric:
    """Equation (1) on any grid: the times at which the network is called are the grid's.

    Attributes:
      grid: the grid.
      td: the time difference, in steps; 0 is the grid itself.
    """

    grid: Any = dataclasses.field(metadata={"kind": "grid"})
    td: int | float = dataclasses.field(default=1.0, metadata={"static": True})

    def __post_init__(self):
        require(
            0 <= self.td < float("inf"),
            f"asymmetric(grid, td) needs a finite td >= 0, got {self.td}: each step leads td steps "
            "further than the next time of the grid.",
        )

    @property
    def levels(self) -> int | None:
        """T of a grid for a network of T numbered levels."""
        return getattr(self.grid, "levels", None)

    def __call__(self, steps: int) -> Float[Array, "times"]:
        """Returns the grid's times, which the network is conditioned on; the last is 0."""
        return self.grid(steps)

    def targets(self, steps: int) -> Float[Array, "steps"]:
        """Returns the time to which each step leads."""
        times = np.asarray(self.grid(steps), np.float64)
        return jnp.asarray(np.maximum(times[1:] - self.td / steps, 0.0), float)
