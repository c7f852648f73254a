r"""Guidance: two denoisers -> one.

    (1)  guided = other + w (wanted - other)
    (2)  guided' = guided (phi std(wanted) / std(guided) + 1 - phi)

w = 1 is no guidance, as in Lin et al. 2024 and most of the field; Ho & Salimans 2022 (arXiv
2207.12598) and the RIN code write 1 + w instead. Prediction is an affine function of the network's
output, so (1) is the same in eps, x0 or v. It comes before thresholding, as published.

(2) is Lin et al.'s rescaling (arXiv 2305.08891, Algorithm 2; std over each example) and is not the
same in every space: it is done in `space`, which should be what the network predicts (v in the paper).

A network's memory (RIN's latents) means something to that network only. `cfg` asks one network twice: its
memory is the conditional denoiser's, which both read, as published (Jabri et al. 2022, arXiv 2212.11972).
`autoguide` asks two networks: its memory is the pair (the network's own, the guide's), and each advances by
its own passes.
"""

import dataclasses
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from noise_sched.diffusion import parametrization
from noise_sched.diffusion.denoiser import Denoise, Memory
from noise_sched.diffusion.numbers import (
    Leaf,
    check_not_negative,
    check_positive,
    check_share,
    is_plain,
    is_zero,
    require,
)
from noise_sched.diffusion.parametrization import Parametrization, Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree


@runtime_checkable
class Guidance(Protocol):
    """Combines a denoiser with another that it is pushed away from.

    Attributes:
      other: what the other denoiser is: "unlabelled" (the same network without the label), "weights"
        (other weights, with the label), or "none".
    """

    @property
    def other(self) -> str:
        """What the other denoiser is."""
        ...

    def memory(self, conditional: Memory, other: Memory) -> Memory:
        """The guided denoiser's memory, made of its two denoisers' ones."""
        ...

    def __call__(self, conditional: Denoise, other: Denoise) -> Denoise:
        """Returns the guided denoiser."""
        ...


@register_pytree
@dataclasses.dataclass(frozen=True)
class none:
    """The conditional denoiser alone."""

    other: ClassVar[str] = "none"

    def memory(self, conditional: Memory, other: Memory) -> Memory:
        return conditional

    def __call__(self, conditional: Denoise, other: Denoise) -> Denoise:
        return conditional


@dataclasses.dataclass(frozen=True)
class _Guided:
    """What the guidances of two denoisers have in common: when both are called, and their memories.

    `two_networks` says whether the two denoisers have a memory each, or are one network and read one.
    """

    w: Leaf = 1.0
    two_networks: ClassVar[bool] = False

    def __post_init__(self):
        note = "1 means no guidance, larger follows the wanted prediction more"
        check_not_negative(f"{type(self).__name__}(w)", self.w, note)

    @property
    def does_nothing(self) -> bool:
        """Whether one network pass is enough: w is plainly 1."""
        return is_plain(self.w) and self.w == 1

    def memory(self, conditional: Memory, other: Memory) -> Memory:
        """The conditional network's alone, or (the conditional network's, the other's); () for none."""
        if not self._keeps_two or (_is_none(conditional) and _is_none(other)):
            return conditional
        return conditional, other

    def memories(self, memory: Memory) -> tuple[Memory, Memory]:
        """What the conditional denoiser reads, and what the other one does."""
        return memory if self._keeps_two and not _is_none(memory) else (memory, memory)

    @property
    def _keeps_two(self) -> bool:
        return self.two_networks and not self.does_nothing

    def combine(
        self, level: NoiseLevel, x: Images, wanted: Prediction, away: Prediction
    ) -> Prediction:
        """The guided prediction, for `level` of shape [batch]."""
        raise NotImplementedError

    def __call__(self, conditional: Denoise, other: Denoise) -> Denoise:
        """Returns the guided denoiser: two network passes, one where w is plainly 1."""
        if self.does_nothing:
            return conditional

        def guided(x, level, memory):
            own, others = self.memories(memory)
            wanted, own = conditional(x, level, own)
            away, others = other(x, level, others)
            return self.combine(level, x, wanted, away), self.memory(own, others)

        return guided


@dataclasses.dataclass(frozen=True)
class _Extrapolation(_Guided):
    """Equations (1) and (2); the fields are `cfg`'s."""

    rescale: Leaf = 0.0
    space: Any = dataclasses.field(
        default=parametrization.v(), metadata={"kind": "parametrization"}
    )

    def __post_init__(self):
        super().__post_init__()
        name = type(self).__name__
        check_share(f"{name}(rescale)", self.rescale, "0 is none, 0.7 the published value")

    def combine(
        self, level: NoiseLevel, x: Images, wanted: Prediction, away: Prediction
    ) -> Prediction:
        guided = jax.tree.map(lambda c, u: u + self.w * (c - u), wanted, away)
        if is_zero(self.rescale):
            return guided
        space: Parametrization = self.space
        out = space.target(level, guided.x0, guided.eps)
        std = _std(out)
        ratio = _std(space.target(level, wanted.x0, wanted.eps)) / jnp.where(std > 0, std, 1.0)
        factor = self.rescale * jnp.where(std > 0, ratio, 1.0) + (1.0 - self.rescale)
        return space.to_prediction(level, x, out * factor)


def _is_none(memory: Memory) -> bool:
    return isinstance(memory, tuple) and not memory


def _std(out: Images) -> Array:
    """Of each image, [batch, 1, ...]."""
    return jnp.std(out, axis=_within(out), keepdims=True)


def _dot(a: Images, b: Images) -> Array:
    """The inner product of each image with its partner, [batch, 1, ...]."""
    return jnp.sum(a * b, axis=_within(a), keepdims=True)


def _share_along(a: Images, b: Images) -> Array:
    """The s of each image for which s b is nearest to a; 0 where b is 0."""
    square = _dot(b, b)
    return jnp.where(square > 0, _dot(a, b) / jnp.where(square > 0, square, 1.0), 0.0)


def _within(images: Images) -> tuple[int, ...]:
    return tuple(range(1, images.ndim))


@register_pytree
@dataclasses.dataclass(frozen=True)
class cfg(_Extrapolation):
    """Classifier-free guidance: away from the same network without the label.

    Both denoisers read one memory, which the conditional one writes.

    Attributes:
      w: guidance scale, >= 0; 1 is none, 0 is unconditional.
      rescale: phi of equation (2) in [0, 1]; published 0.7 with w = 7.5, 0 is none.
      space: the parametrization in which (2) is done: the network's own.
    """

    other: ClassVar[str] = "unlabelled"
    two_networks: ClassVar[bool] = False


@register_pytree
@dataclasses.dataclass(frozen=True)
class autoguide(_Extrapolation):
    """Autoguidance (Karras et al. 2024, arXiv 2406.02507): away from a worse network, same label.

    The other denoiser is made of a second set of weights: a smaller or less trained network. It keeps a
    memory of its own, and may be another kind of network with another parametrization or input scale:
    all that must agree is what both are called with, x_t at a level, and so the process.

    Attributes:
      w: as in `cfg`; published about 2.
      rescale, space: as in `cfg`.
    """

    w: Leaf = 2.0
    other: ClassVar[str] = "weights"
    two_networks: ClassVar[bool] = True


@register_pytree
@dataclasses.dataclass(frozen=True)
class apg(_Guided):
    """Adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416), without its momentum.

    What is along the wanted image makes large w oversaturate, and is weakened:

    (3)  d = (x0_wanted - x0_other) min(1, norm / |x0_wanted - x0_other|)
    (4)  along = x0_wanted <d, x0_wanted> / |x0_wanted|^2
    (5)  x0 = x0_wanted + (w - 1) (d - along + eta along)

    with inner products over each image. eta = 1 without a bound on the norm is `cfg(w)`. The paper's momentum
    carries d from step to step; it is left out, as a denoiser here knows no step before.

    Attributes:
      w: as in `cfg`.
      eta: what is kept of the part along the wanted image; published 0.
      norm: the largest |d| of an image; None is no bound. It is the sum over an image's pixels: published
        2.5 to 15, for latents of 4 x 64 x 64.
    """

    eta: Leaf = 0.0
    norm: Leaf | None = None
    other: ClassVar[str] = "unlabelled"

    def __post_init__(self):
        super().__post_init__()
        check_not_negative("apg(eta)", self.eta, "0 takes away what is along the image, 1 is cfg")
        if self.norm is not None:
            check_positive("apg(norm)", self.norm, "None is no bound")

    def combine(
        self, level: NoiseLevel, x: Images, wanted: Prediction, away: Prediction
    ) -> Prediction:
        difference = wanted.x0 - away.x0
        if self.norm is not None:
            length = jnp.sqrt(_dot(difference, difference))
            difference *= self.norm / jnp.maximum(length, self.norm)
        along = _share_along(difference, wanted.x0) * wanted.x0
        push = (self.w - 1.0) * (difference - (1.0 - self.eta) * along)
        at = level.expand_to(x)
        return Prediction(x0=wanted.x0 + push, eps=wanted.eps - at.alpha / at.sigma * push)


@register_pytree
@dataclasses.dataclass(frozen=True)
class cfg_zero_star(_Guided):
    """CFG-Zero* (Fan et al. 2025, arXiv 2503.18886): the other output, scaled towards the wanted one.

    (6)  s = <wanted, other> / |other|^2        (of each image, of outputs in `space`)
    (7)  guided = s other + w (wanted - s other)

    Where both outputs agree up to a factor, guidance does nothing. The paper's zero-init, which leaves out
    the first steps, is not part of a denoiser: start `sample.grid` later instead.

    Attributes:
      w: as in `cfg`.
      space: the parametrization in which (6) and (7) are done; published flow(), the straight path's
        velocity.
    """

    space: Any = dataclasses.field(
        default=parametrization.flow(), metadata={"kind": "parametrization"}
    )
    other: ClassVar[str] = "unlabelled"

    def combine(
        self, level: NoiseLevel, x: Images, wanted: Prediction, away: Prediction
    ) -> Prediction:
        space: Parametrization = self.space
        own, others = (space.target(level, each.x0, each.eps) for each in (wanted, away))
        others *= _share_along(own, others)
        return space.to_prediction(level, x, others + self.w * (own - others))


@register_pytree
@dataclasses.dataclass(frozen=True)
class interval:
    """Guidance at middle noise levels only (Kynkaanniemi et al. 2024, arXiv 2404.07724).

    Outside low < sigma / alpha <= high it is the conditional denoiser alone, and the other one is not
    run where no example of the batch is inside. A guide's memory stays as it is outside: it enters the
    interval with its first, empty one, and advances from step to step inside.

    Attributes:
      guidance: what is done inside, `cfg(...)` or `autoguide(...)`.
      low: >= 0.
      high: larger than low; None is no bound.
    """

    guidance: Any = dataclasses.field(metadata={"kind": "guidance"})
    low: Leaf = 0.0
    high: Leaf | None = None

    def __post_init__(self):
        check_not_negative("interval(low)", self.low, "it is a noise level sigma / alpha")
        if is_plain(self.low, self.high):
            require(
                self.low < self.high,
                f"interval needs low < high, got low={self.low}, high={self.high}.",
            )
        require(
            not isinstance(self.guidance, interval),
            "interval(guidance) is cfg(...) or autoguide(...), not another interval: write one "
            "interval with the narrower low and high.",
        )

    @property
    def other(self) -> str:
        return self.guidance.other

    def memory(self, conditional: Memory, other: Memory) -> Memory:
        return self.guidance.memory(conditional, other)

    def __call__(self, conditional: Denoise, other: Denoise) -> Denoise:
        """Returns the denoiser that is guided inside the interval."""
        if self.other == "none" or self.guidance.does_nothing:
            return conditional

        def guided(x, level, memory):
            own, others = self.guidance.memories(memory)
            wanted, next_own = conditional(x, level, own)
            inside = level.ratio > self.low
            if self.high is not None:
                inside = inside & (level.ratio <= self.high)
            # Of two networks only: the memory of one is `next_own`.
            kept = others if self.guidance.two_networks else ()

            def combined():
                away, advanced = other(x, level, others)
                advanced = advanced if self.guidance.two_networks else ()
                pushed = self.guidance.combine(level, x, wanted, away)
                return _where(inside, (pushed, advanced), (wanted, kept))

            result, kept = jax.lax.cond(jnp.any(inside), combined, lambda: (wanted, kept))
            return result, self.guidance.memory(next_own, kept)

        return guided


def _where(inside: Array, yes: Any, no: Any) -> Any:
    """Trees of arrays [batch, ...]: each example's from `yes` where it is `inside` [batch]."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(inside.reshape(inside.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, yes, no)
