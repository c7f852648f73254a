r"""Noising processes: logSNR -> noise level (alpha, sigma), and x_t = alpha x0 + sigma eps.

    (1)  vp(b):  alpha = b sqrt(gamma),       sigma = sqrt(1 - gamma),   gamma = sigmoid(logsnr)
    (2)  x_t = alpha x0 + sigma eps,          eps ~ N(0, I)
    (3)  ve():   alpha = 1,                   sigma = exp(-logsnr / 2)
    (4)  flow(): alpha = sigmoid(logsnr / 2), sigma = 1 - alpha

b is the input scale of Chen 2023 (arXiv 2301.10972, section 2.2): it multiplies the data, and so
shifts the level's logSNR by 2 ln b without touching the schedule. Zero terminal SNR is the ordinary
value (alpha, sigma) = (0, 1), reached exactly from logsnr = -inf.

One logSNR in two processes is the same noising in other units of x_t. EDM (arXiv 2206.00364) writes
x_t = s(t) (x0 + sigma(t) eps): its scaling s = 1 is `ve()`, its s = 1 / sqrt(1 + sigma^2) is `vp()`, and
its sigma is `NoiseLevel.ratio` in every frame.
"""

import dataclasses
from typing import ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from noise_sched.diffusion.numbers import Leaf, check_positive
from noise_sched.diffusion.pytrees import register_pytree

Images = Float[Array, "batch *event"]


@register_pytree
@dataclasses.dataclass(frozen=True)
class NoiseLevel:
    """How much signal and how much noise: x_t = alpha x0 + sigma eps.

    All fields share one shape: [batch] for a denoiser, [steps + 1] for a sampling path.

    Attributes:
      alpha: amplitude of the data x0 (which lies in [-1, 1]).
      sigma: amplitude of the unit noise.
      input_scale: the b that alpha contains, so that the schedule's own gamma is not lost.
    """

    alpha: Leaf
    sigma: Leaf
    input_scale: Leaf = 1.0

    @property
    def logsnr(self) -> Float[Array, "*shape"]:
        """2 ln(alpha / sigma), the logSNR of x_t: the schedule's plus 2 ln b."""
        return 2.0 * (jnp.log(self.alpha) - jnp.log(self.sigma))

    @property
    def schedule_logsnr(self) -> Float[Array, "*shape"]:
        """The schedule's logSNR, without b: what `gamma` and `angle` are functions of."""
        return self.logsnr - 2.0 * jnp.log(jnp.asarray(self.input_scale, self.alpha.dtype))

    @property
    def ratio(self) -> Float[Array, "*shape"]:
        """Noise to signal, sigma / alpha: EDM's sigma, in any frame; 0 for clean data, +inf at zero SNR."""
        return self.sigma / self.alpha

    @property
    def gamma(self) -> Float[Array, "*shape"]:
        """The schedule's gamma: signal power in the unscaled variance-preserving frame."""
        signal = jnp.square(self.alpha)
        return signal / (signal + jnp.square(self.input_scale * self.sigma))

    @property
    def angle(self) -> Float[Array, "*shape"]:
        """Arccos sqrt(gamma) in [0, pi/2]: 0 is clean, pi/2 is zero SNR; finite at both ends."""
        return jnp.arctan2(self.input_scale * self.sigma, self.alpha)

    def expand_to(self, x: Images) -> "NoiseLevel":
        """Appends axes of size 1, so that a [batch] level meets a [batch, ...] array."""
        trailing = (1,) * (x.ndim - self.alpha.ndim)
        return self.map(lambda field: field.reshape(field.shape + trailing).astype(x.dtype))

    def map(self, function) -> "NoiseLevel":
        """Applies `function` to every field, `input_scale` first broadcast to the others' shape."""
        scale = jnp.broadcast_to(jnp.asarray(self.input_scale, self.alpha.dtype), self.alpha.shape)
        return NoiseLevel(function(self.alpha), function(self.sigma), function(scale))


@runtime_checkable
class Process(Protocol):
    """A frame: what a logSNR means for the two amplitudes."""

    supports_zero_snr: ClassVar[bool]

    def level(self, logsnr: Float[Array, "*shape"]) -> NoiseLevel:
        """(alpha, sigma) at the schedule's `logsnr`."""
        ...


@register_pytree
@dataclasses.dataclass(frozen=True)
class vp:
    """The variance-preserving process with input scaling, equation (1).

    Attributes:
      input_scale: b > 0. Chen 2023: 1 at 64 px, 0.6 at 128 px, 0.4 at 256 px.
    """

    input_scale: Leaf = 1.0
    supports_zero_snr: ClassVar[bool] = True

    def __post_init__(self):
        note = "smaller is noisier at every t, 1 leaves the schedule as it is"
        check_positive("vp(input_scale)", self.input_scale, note)

    def level(self, logsnr: Float[Array, "*shape"]) -> NoiseLevel:
        """(alpha, sigma) at the schedule's `logsnr`; exact at +-inf. No value is refused."""
        scale = jnp.asarray(self.input_scale, logsnr.dtype)
        return NoiseLevel(
            alpha=scale * jnp.sqrt(jax.nn.sigmoid(logsnr)),
            sigma=jnp.sqrt(jax.nn.sigmoid(-logsnr)),
            input_scale=jnp.broadcast_to(scale, logsnr.shape),
        )


@register_pytree
@dataclasses.dataclass(frozen=True)
class ve:
    """The variance-exploding process, equation (3): EDM's own frame. Zero SNR is sigma = inf."""

    supports_zero_snr: ClassVar[bool] = False

    def level(self, logsnr: Float[Array, "*shape"]) -> NoiseLevel:
        """(1, sigma) at `logsnr`; (1, 0) at clean data."""
        return NoiseLevel(
            alpha=jnp.ones_like(logsnr),
            sigma=jnp.exp(-0.5 * logsnr),
            input_scale=jnp.ones_like(logsnr),
        )


@register_pytree
@dataclasses.dataclass(frozen=True)
class flow:
    """The straight path of rectified flow, equation (4): alpha + sigma = 1 (arXiv 2209.03003)."""

    supports_zero_snr: ClassVar[bool] = True

    def level(self, logsnr: Float[Array, "*shape"]) -> NoiseLevel:
        """(1 - s, s), with s the flow's time at `logsnr`; exact at +-inf."""
        return NoiseLevel(
            alpha=jax.nn.sigmoid(0.5 * logsnr),
            sigma=jax.nn.sigmoid(-0.5 * logsnr),
            input_scale=jnp.ones_like(logsnr),
        )


def diffuse(level: NoiseLevel, x0: Images, eps: Images) -> Images:
    """Equation (2): x_t = alpha x0 + sigma eps, with `level` fields of shape [batch]."""
    level = level.expand_to(x0)
    return level.alpha * x0 + level.sigma * eps
