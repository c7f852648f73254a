"""The seam between `sample` and a solver, and what solvers share."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from noise_sched.diffusion.denoiser import Denoise, Memory
from noise_sched.diffusion.numbers import Leaf, is_zero
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree


@register_pytree
@dataclasses.dataclass(frozen=True)
class State:
    """What travels from step to step.

    Attributes:
      x: the noisy images x_t, [batch, ...].
      memory: the network's own memory.
      history: what a multistep solver keeps of earlier steps; () for one-step solvers.
    """

    x: Leaf
    memory: Memory = ()
    history: Any = ()


@runtime_checkable
class Solver(Protocol):
    """One step of a sampler. It calls the denoiser as often as its order asks.

    `level` and `next_level` have shape [batch] and are never both the same level; clean data
    (sigma = 0) is only ever the last level of a path.
    """

    @property
    def stochastic(self) -> bool:
        """Whether `step` uses its noise."""
        ...

    def init(self, x: Images, levels: NoiseLevel) -> Any:
        """The first history, before any step along `levels` (fields [steps + 1]).

        A pytree of fixed shapes and types, for it is carried through a scan.
        """
        ...

    def step(
        self,
        denoise: Denoise,
        state: State,
        level: NoiseLevel,
        next_level: NoiseLevel,
        noise: Images,
    ) -> tuple[State, Prediction]:
        """Returns the state at `next_level` and the step's first prediction.

        Where that is clean data, the prediction's x0 is what the run returns (see `landing`).
        `noise` is unit normal of x's shape, or [draws, *x.shape] for a solver with `draws` above 1;
        solvers that are not stochastic ignore it.
        """
        ...


class OneStep:
    """A solver that keeps nothing of earlier steps."""

    def init(self, x: Images, levels: NoiseLevel) -> tuple[()]:
        return ()


class FreshNoise:
    """A solver whose `eta` says how much of the noise is fresh."""

    eta: Leaf

    @property
    def stochastic(self) -> bool:
        """Whether noise is used: everywhere but at a plain eta = 0."""
        return not is_zero(self.eta)


def draws(solver: Solver) -> int:
    """How many independent unit normal draws a step needs: 1, unless the solver has `draws`."""
    return getattr(solver, "draws", 1)


def landing(prediction: Prediction, x: Images, next_level: NoiseLevel) -> Prediction:
    """The prediction, with the state itself as x0 where the step ends at clean data.

    For methods whose step to clean data is not of first order, so that it does not land on x0.
    """
    next_level = next_level.expand_to(x)
    clean = next_level.sigma == 0
    x0 = jnp.where(clean, x / jnp.where(clean, next_level.alpha, 1.0), prediction.x0)
    return Prediction(x0, prediction.eps)


def snr_ratio(level: NoiseLevel, next_level: NoiseLevel) -> Leaf:
    """SNR(level) / SNR(next_level) in [0, 1): 0 from zero SNR and 0 to clean data, both exactly."""
    return jnp.square(signal_ratio(level, next_level))


def signal_ratio(level: NoiseLevel, next_level: NoiseLevel) -> Leaf:
    """exp(-h) in [0, 1), with h the step in ln(alpha / sigma); the root of `snr_ratio`."""
    return (level.alpha * next_level.sigma) / (next_level.alpha * level.sigma)


def expand(coefficient: Float[Array, "batch"], x: Images) -> Float[Array, "batch *ones"]:
    """A [batch] coefficient, ready to multiply x [batch, ...] in x's dtype."""
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - 1)).astype(x.dtype)


def select(condition: Bool[Array, "batch"], one: Images, other: Images) -> Images:
    """`one` for the examples that meet a condition, `other` for the rest."""
    return jnp.where(condition.reshape(condition.shape + (1,) * (one.ndim - 1)), one, other)


def combination(coefficients: Sequence[Float[Array, "batch"]], images: Sequence[Images]) -> Images:
    """The sum of images, each times its [batch] coefficient.

    A step written as one such sum reads x and each prediction once.
    """
    first, *others = (
        expand(coefficient, each) * each
        for coefficient, each in zip(coefficients, images, strict=True)
    )
    return sum(others, start=first)
