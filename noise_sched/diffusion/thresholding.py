"""Keeping the predicted x0 within the data's range: transforms of a denoiser, used in sampling.

Whatever changes x0 also changes eps, which is recomputed so that x_t = alpha x0 + sigma eps still
holds. The published sampler relies on it: at t = 1 an eps-prediction's raw x0 is of order 1e4.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jax.tree_util import register_dataclass

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import Leaf, is_plain, require
from noise_sched.diffusion.parametrization import from_x0


@runtime_checkable
class Threshold(Protocol):
    """Turns a denoiser into one whose x0 is bounded."""

    def __call__(self, denoise: Denoise) -> Denoise:
        """Returns the bounded denoiser."""
        ...


@register_dataclass
@dataclasses.dataclass(frozen=True)
class none:
    """x0 is left as predicted."""

    def __call__(self, denoise: Denoise) -> Denoise:
        """Returns `denoise`."""
        return denoise


@register_dataclass
@dataclasses.dataclass(frozen=True)
class static:
    """x0 is clipped to [-bound, bound] (in the reference, b x0 to [-b, b]: the same thing).

    Attributes:
      bound: 1 for images in [-1, 1].
    """

    bound: Leaf = 1.0

    def __post_init__(self):
        if is_plain(self.bound):
            require(
                self.bound > 0,
                f"static(bound) must be positive, got {self.bound}; images in [-1, 1] need 1, "
                "and 'none()' turns clipping off.",
            )

    def __call__(self, denoise: Denoise) -> Denoise:
        """Returns the denoiser with x0 clipped and eps recomputed."""

        def clipped(x, level, memory):
            prediction, memory = denoise(x, level, memory)
            bound = jnp.asarray(self.bound, x.dtype)
            return from_x0(level, x, jnp.clip(prediction.x0, -bound, bound)), memory

        return clipped
