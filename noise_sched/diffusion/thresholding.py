"""Keeping the predicted x0 within the data's range: transforms of a denoiser, used in sampling.

Whatever changes x0 also changes eps, which is recomputed so that x_t = alpha x0 + sigma eps still
holds. The published sampler relies on it: at t = 1 an eps-prediction's raw x0 is of order 1e4.

With `keep_eps` eps stays the network's own, whatever its parametrization: then alpha x0 + sigma eps is
another x_t. It is what diffusers' DDIM does (use_clipped_model_output=False, its default); its other
samplers step from x_t and x0, which is the same as recomputing eps. The solvers that step from x_t and
x0 (`euler`, `heun`, `dpmpp`, `unipc`, ...) do not look at eps and draw the same images either way.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import Leaf, check_fraction, check_positive, is_plain, require
from noise_sched.diffusion.parametrization import Prediction, from_x0
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree


@runtime_checkable
class Threshold(Protocol):
    """Turns a denoiser into one whose x0 is bounded."""

    def __call__(self, denoise: Denoise) -> Denoise:
        """Returns the bounded denoiser."""
        ...


@register_pytree
@dataclasses.dataclass(frozen=True)
class none:
    """x0 is left as predicted."""

    def __call__(self, denoise: Denoise) -> Denoise:
        """Returns `denoise`."""
        return denoise


@register_pytree
@dataclasses.dataclass(frozen=True)
class static:
    """x0 is clipped to [-bound, bound] (in the reference, b x0 to [-b, b]: the same thing).

    Attributes:
      bound: 1 for images in [-1, 1].
      keep_eps: leave eps as predicted, see above.
    """

    bound: Leaf = 1.0
    keep_eps: bool = dataclasses.field(default=False, metadata={"static": True})

    def __post_init__(self):
        note = "images in [-1, 1] need 1, and 'none()' turns clipping off"
        check_positive("static(bound)", self.bound, note)
        _check_keep_eps("static", self.keep_eps)

    def __call__(self, denoise: Denoise) -> Denoise:
        """Returns the denoiser with x0 clipped, eps recomputed or kept."""

        def clipped(x, level, memory):
            prediction, memory = denoise(x, level, memory)
            bound = jnp.asarray(self.bound, x.dtype)
            x0 = jnp.clip(prediction.x0, -bound, bound)
            return _replaced(level, x, x0, prediction, self.keep_eps), memory

        return clipped


@register_pytree
@dataclasses.dataclass(frozen=True)
class dynamic:
    r"""Dynamic thresholding (Saharia et al. 2022, Imagen, arXiv 2205.11487, section 2.3).

    With s the given quantile of |x0| over each example, but at least `bound`, x0 is clipped to [-s, s]
    and divided by s / bound: saturated images are pulled back in instead of cut off.

    Attributes:
      percentile: the quantile, in (0, 1]; published 0.995.
      bound: 1 for images in [-1, 1].
      maximum: largest s; None is no limit, and `bound` makes it `static`.
      keep_eps: leave eps as predicted, see above.
    """

    percentile: Leaf = 0.995
    bound: Leaf = 1.0
    maximum: Leaf | None = None
    keep_eps: bool = dataclasses.field(default=False, metadata={"static": True})

    def __post_init__(self):
        check_fraction("dynamic(percentile)", self.percentile, "published 0.995")
        check_positive("dynamic(bound)", self.bound, "images in [-1, 1] need 1")
        if is_plain(self.bound, self.maximum):
            require(
                self.maximum >= self.bound,
                f"dynamic(maximum) must not be smaller than bound, got {self.maximum} < {self.bound}.",
            )
        _check_keep_eps("dynamic", self.keep_eps)

    def __call__(self, denoise: Denoise) -> Denoise:
        """Returns the denoiser with x0 thresholded, eps recomputed or kept."""

        def thresholded(x, level, memory):
            prediction, memory = denoise(x, level, memory)
            x0 = prediction.x0
            bound = jnp.asarray(self.bound, x0.dtype)
            size = jnp.quantile(
                jnp.abs(x0),
                jnp.asarray(self.percentile, x0.dtype),
                axis=tuple(range(1, x0.ndim)),
                keepdims=True,
            )
            size = jnp.maximum(size, bound)
            if self.maximum is not None:
                size = jnp.minimum(size, jnp.asarray(self.maximum, x0.dtype))
            x0 = jnp.clip(x0, -size, size) * (bound / size)
            return _replaced(level, x, x0, prediction, self.keep_eps), memory

        return thresholded


def _replaced(
    level: NoiseLevel, x: Images, x0: Images, predicted: Prediction, keep_eps: bool
) -> Prediction:
    """The prediction with another x0, and with eps as predicted or as x_t then asks for."""
    return Prediction(x0, predicted.eps) if keep_eps else from_x0(level, x, x0)


def _check_keep_eps(name: str, keep_eps: bool) -> None:
    require(
        isinstance(keep_eps, bool),
        f"{name}(keep_eps) must be True or False, got {keep_eps!r}; diffusers' DDIM keeps eps, "
        "everything else recomputes it.",
    )
