r"""What the network's output means, and its one translation to (x0, eps).

With x_t = alpha x0 + sigma eps, b the input scale, a = alpha / b, h = sqrt(a^2 + sigma^2) (1 in `vp`)
and, for `edm`, S = sqrt(alpha^2 s_d^2 + sigma^2), the standard deviation of x_t:

    (1)  eps:    out = eps                               x0 = (x_t - sigma out) / alpha
    (2)  x0:     out = x0                                eps = (x_t - alpha out) / sigma
    (3)  v:      out = (a eps - sigma b x0) / h          b x0 = (a x_t / h - sigma out) / h
                                                         eps  = (sigma x_t / h + a out) / h
    (4)  edm:    out = (sigma x0 / s_d - alpha s_d eps) / S
                                                         x0  = (alpha s_d^2 x_t / S + sigma s_d out) / S
                                                         eps = (sigma x_t / S - alpha s_d out) / S
    (5)  flow:   out = eps - x0                          x0  = (x_t - sigma out) / (alpha + sigma)
                                                         eps = (x_t + alpha out) / (alpha + sigma)
    (6)  score:  out = -eps

v is the velocity dx_t/d(angle) on the circle x_t = cos(angle) b x0 + sin(angle) eps (Salimans & Ho
2022, arXiv 2202.00512); with b = 1 it is the familiar alpha eps - sigma x0. (4) is EDM's
D = c_skip x + c_out F (Karras et al. 2022, arXiv 2206.00364, Table 1), multiplied out so that it holds in
any frame and at zero SNR; with s_d = 1 it is -v. None depends on the process's frame: (c alpha, c sigma)
and c x_t give the same output. Losses, guidance and solvers only ever see a `Prediction`, so these
are the only conversions in the library.

At a given x_t, an error of the output is an error of x0 and of eps, in a fixed proportion:

    (7)  error(out) = k error(x0) / sigma = k error(eps) / alpha        (up to sign; b = 1)

with k = alpha, sigma, b h, S / s_d, alpha + sigma, alpha for (1) to (6): `error_scale`. It is all that a
loss weight needs to be carried from one space to another.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from noise_sched.diffusion.numbers import Leaf, check_positive
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree

Clip = Callable[[Array], Array]


def _keep(x0: Array) -> Array:
    return x0


@register_pytree
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

    def error_scale(self, level: NoiseLevel) -> Float[Array, "batch"]:
        """Returns k of equation (7)."""
        ...


@register_pytree
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

    def error_scale(self, level: NoiseLevel) -> Float[Array, "batch"]:
        return level.alpha


@register_pytree
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

    def error_scale(self, level: NoiseLevel) -> Float[Array, "batch"]:
        return level.sigma


@register_pytree
@dataclasses.dataclass(frozen=True)
class v:
    """The network predicts the velocity, equation (3). Defined at every level, zero SNR included."""

    supports_zero_snr: ClassVar[bool] = True

    def target(self, level: NoiseLevel, x0: Images, eps: Images) -> Images:
        """(a eps - sigma b x0) / h."""
        level = level.expand_to(x0)
        cos, sin, _ = _circle(level)
        return cos * eps - sin * level.input_scale * x0

    def to_prediction(
        self, level: NoiseLevel, x: Images, out: Images, clip: Clip = _keep
    ) -> Prediction:
        """Equation (3), solved for x0 and eps; coefficients first, for they have one value per image."""
        level = level.expand_to(x)
        cos, sin, h = _circle(level)
        return Prediction(
            x0=clip(cos / (h * level.input_scale) * x - sin / level.input_scale * out),
            eps=sin / h * x + cos * out,
        )

    def error_scale(self, level: NoiseLevel) -> Float[Array, "batch"]:
        return level.input_scale * _circle(level)[2]


def _circle(level: NoiseLevel) -> tuple[Array, Array, Array]:
    """(cos, sin) of the level's angle and its radius h, in any frame."""
    a = level.alpha / level.input_scale
    h = jnp.sqrt(jnp.square(a) + jnp.square(level.sigma))
    return a / h, level.sigma / h, h


@register_pytree
@dataclasses.dataclass(frozen=True)
class edm:
    """EDM's preconditioned output F, equation (4). Defined at every level, zero SNR included.

    c_in is `input_scale.analytic(sigma_data)`, with the same sigma_data.

    Attributes:
      sigma_data: s_d, the standard deviation of the data in [-1, 1] units, > 0; published 0.5.
    """

    sigma_data: Leaf = 0.5
    supports_zero_snr: ClassVar[bool] = True

    def __post_init__(self):
        check_sigma_data("edm", self.sigma_data)

    def target(self, level: NoiseLevel, x0: Images, eps: Images) -> Images:
        """(sigma x0 / s_d - alpha s_d eps) / S."""
        level = level.expand_to(x0)
        sigma_data = jnp.asarray(self.sigma_data, x0.dtype)
        std = self._std(level)
        return level.sigma / std * (x0 / sigma_data) - level.alpha / std * sigma_data * eps

    def to_prediction(
        self, level: NoiseLevel, x: Images, out: Images, clip: Clip = _keep
    ) -> Prediction:
        """Equation (4), solved for x0 and eps."""
        level = level.expand_to(x)
        sigma_data = jnp.asarray(self.sigma_data, x.dtype)
        std = self._std(level)
        skip, kept = level.alpha * sigma_data / std, level.sigma / std
        return Prediction(
            x0=clip(sigma_data * skip / std * x + sigma_data * kept * out),
            eps=kept / std * x - skip * out,
        )

    def error_scale(self, level: NoiseLevel) -> Float[Array, "batch"]:
        """Returns S / s_d."""
        return self._std(level) / jnp.asarray(self.sigma_data, level.alpha.dtype)

    def _std(self, level: NoiseLevel) -> Array:
        """S, of the noisy images."""
        sigma_data = jnp.asarray(self.sigma_data, level.alpha.dtype)
        return jnp.sqrt(jnp.square(level.alpha * sigma_data) + jnp.square(level.sigma))


@register_pytree
@dataclasses.dataclass(frozen=True)
class flow:
    """Rectified flow's velocity eps - x0, equation (5) (Liu et al. 2023, arXiv 2209.03003)."""

    supports_zero_snr: ClassVar[bool] = True

    def target(self, level: NoiseLevel, x0: Images, eps: Images) -> Images:
        """Eps - x0, at every level."""
        return eps - x0

    def to_prediction(
        self, level: NoiseLevel, x: Images, out: Images, clip: Clip = _keep
    ) -> Prediction:
        """Equation (5), solved for x0 and eps."""
        level = level.expand_to(x)
        total = level.alpha + level.sigma
        return Prediction(
            x0=clip((x - level.sigma * out) / total),
            eps=(x + level.alpha * out) / total,
        )

    def error_scale(self, level: NoiseLevel) -> Float[Array, "batch"]:
        """Returns alpha + sigma."""
        return level.alpha + level.sigma


@register_pytree
@dataclasses.dataclass(frozen=True)
class score:
    """The network predicts -eps, equation (6): the score times sigma (EDM's Table 1, column VE)."""

    supports_zero_snr: ClassVar[bool] = False

    def target(self, level: NoiseLevel, x0: Images, eps: Images) -> Images:
        """-eps."""
        return -eps

    def to_prediction(
        self, level: NoiseLevel, x: Images, out: Images, clip: Clip = _keep
    ) -> Prediction:
        """x0 = (x_t + sigma out) / alpha: infinite where alpha = 0."""
        level = level.expand_to(x)
        return Prediction(x0=clip((x + level.sigma * out) / level.alpha), eps=-out)

    def error_scale(self, level: NoiseLevel) -> Float[Array, "batch"]:
        return level.alpha


def check_sigma_data(name: str, sigma_data: Leaf) -> None:
    """Refuses a standard deviation of the data that is not positive."""
    note = "measure the standard deviation of the images in [-1, 1]; EDM uses 0.5"
    check_positive(f"{name}(sigma_data)", sigma_data, note)


def from_x0(level: NoiseLevel, x: Images, x0: Images) -> Prediction:
    """The prediction whose clean data is `x0`: eps is what remains of x_t."""
    level = level.expand_to(x)
    return Prediction(x0=x0, eps=(x - level.alpha * x0) / level.sigma)
