r"""Guidance: two denoisers -> one.

    (1)  cfg(w):  prediction = uncond + w (cond - uncond)

w = 1 is no guidance, as in Lin et al. 2023 and most of the field; Ho & Salimans 2022 (arXiv
2207.12598) and the RIN code write 1 + w instead. Prediction is an affine function of the network's
output, so (1) is the same in eps, x0 or v. It comes before thresholding, as published.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
from jax.tree_util import register_dataclass

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import Leaf, is_plain, require


@runtime_checkable
class Guidance(Protocol):
    """Combines a conditional and an unconditional denoiser."""

    def __call__(self, conditional: Denoise, unconditional: Denoise) -> Denoise:
        """Returns the guided denoiser."""
        ...


@register_dataclass
@dataclasses.dataclass(frozen=True)
class none:
    """The conditional denoiser alone."""

    def __call__(self, conditional: Denoise, unconditional: Denoise) -> Denoise:
        """Returns `conditional`."""
        return conditional


@register_dataclass
@dataclasses.dataclass(frozen=True)
class cfg:
    """Classifier-free guidance, equation (1).

    The memory (RIN's latents) is the conditional branch's and is given to both, as published.

    Attributes:
      w: guidance scale, >= 0; 1 is none, 0 is unconditional.
    """

    w: Leaf = 1.0

    def __post_init__(self):
        if is_plain(self.w):
            require(
                self.w >= 0,
                f"cfg(w) must be non-negative, got {self.w}; 1 means no guidance, larger follows "
                "the label more.",
            )

    def __call__(self, conditional: Denoise, unconditional: Denoise) -> Denoise:
        """Returns the guided denoiser: two network passes, one where w is plainly 1."""
        if is_plain(self.w) and self.w == 1:
            return conditional

        def guided(x, level, memory):
            towards, next_memory = conditional(x, level, memory)
            away, _ = unconditional(x, level, memory)
            prediction = jax.tree.map(lambda c, u: u + self.w * (c - u), towards, away)
            return prediction, next_memory

        return guided
