r"""What the network's output means, and its one translation to (x0, eps).

With x_t = alpha x0 + sigma eps, b the input scale and a = alpha / b:

    (1)  eps:  out = eps                   x0 = (x_t - sigma out) / alpha
    (2)  x0:   out = x0                    eps = (x_t - alpha out) / sigma
    (3)  v:    out = a eps - sigma b x0    b x0 = (a x_t - sigma out) / (a^2 + sigma^2)
                                           eps  = (sigma x_t + a out) / (a^2 + sigma^2)

v is the velocity dx_t/d(angle) on the circle x_t = cos(angle) b x0 + sin(angle) eps (Salimans & Ho
2022, arXiv 2202.00512); with b = 1 it is the familiar alpha eps - sigma x0. Losses, guidance and
solvers only ever see a `Prediction`, so these six lines are the only conversions in the library.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from jax.tree_util import register_dataclass
from jaxtyping import Array

from noise_sched.diffusion.numbers import Leaf
from noise_sched.diffusion.process import Images, NoiseLevel

Clip = Callable[[Array], Array]


def _keep(x0: Array) -> Array:
    return x0


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is believed of x_t: its clean data and its noise, x_t = alpha x0 + sigma eps.

    Attributes:
      x0: clean data in [-1, 1] units (never multiplied by the input scale), [batch, ...].
      eps: unit noise, [batch, ...].
    """

    x0: Leaf
    eps: Leaf


@runtime_checkable
class Parametrization(Protocol):
    """A meaning of the network's output."""

    supports_zero_snr: ClassVar[bool]

    def target(self, level: NoiseLevel, x0: Images, eps: Images) -> Images:
        """The output of a perfect network."""
        ...

    def to_prediction(
        self, level: NoiseLevel, x: Images, out: Images, clip: Clip = _keep
    ) -> Prediction:
        """(x0, eps) of an output; x0 goes through `clip`, and so does what is derived from it."""
        ...


@register_dataclass
@dataclasses.dataclass(frozen=True)
class eps:
    """The network predicts the noise, equation (1) (Ho et al. 2020). Undefined at zero SNR."""

    supports_zero_snr: ClassVar[bool] = False

    def target(self, level: NoiseLevel, x0: Images, eps: Images) -> Images:
        """Eps itself."""
        return eps

    def to_prediction(
        self, level: NoiseLevel, x: Images, out: Images, clip: Clip = _keep
    ) -> Prediction:
        """x0 = (x_t - sigma out) / alpha: infinite where alpha = 0."""
        level = level.expand_to(x)
        return Prediction(x0=clip((x - level.sigma * out) / level.alpha), eps=out)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class x0:
    """The network predicts the clean data in [-1, 1], equation (2).

    The reference implementation predicts b x0 instead: the same up to the last layer's scale.
    """

    supports_zero_snr: ClassVar[bool] = True

    def target(self, level: NoiseLevel, x0: Images, eps: Images) -> Images:
        """x0 itself."""
        return x0

    def to_prediction(
        self, level: NoiseLevel, x: Images, out: Images, clip: Clip = _keep
    ) -> Prediction:
        """Eps = (x_t - alpha x0) / sigma: undefined only where nothing is noise."""
        return from_x0(level, x, clip(out))


@register_dataclass
@dataclasses.dataclass(frozen=True)
class v:
    """The network predicts the velocity, equation (3). Defined at every level, zero SNR included."""

    supports_zero_snr: ClassVar[bool] = True

    def target(self, level: NoiseLevel, x0: Images, eps: Images) -> Images:
        """A eps - sigma b x0."""
        level = level.expand_to(x0)
        b = level.input_scale
        return level.alpha / b * eps - level.sigma * b * x0

    def to_prediction(
        self, level: NoiseLevel, x: Images, out: Images, clip: Clip = _keep
    ) -> Prediction:
        """Equation (3), solved for x0 and eps."""
        level = level.expand_to(x)
        a, b, s = level.alpha / level.input_scale, level.input_scale, level.sigma
        norm = jnp.square(a) + jnp.square(s)
        return Prediction(
            x0=clip((a * x - s * out) / (norm * b)),
            eps=(s * x + a * out) / norm,
        )


def from_x0(level: NoiseLevel, x: Images, x0: Images) -> Prediction:
    """The prediction whose clean data is `x0`: eps is what remains of x_t."""
    level = level.expand_to(x)
    return Prediction(x0=x0, eps=(x - level.alpha * x0) / level.sigma)
