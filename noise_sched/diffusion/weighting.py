r"""Loss weights: a function of the noise level, the same objective in whatever space it is measured.

Errors in two spaces differ by a factor that depends on the level only, `error_scale` k (equation (7) of
`parametrization`). So a weight w that is meant for errors in one space is, in another,

    (1)  w_other = w_own (k_own / k_other)^2

Each weight below names its own space, the one in which it is finite at zero SNR, and (1) is the only
conversion. With SNR = (alpha / sigma)^2:

    uniform()         1 in the space of the loss; uniform(v()): what is uniform in v
    edm(s_d)          1 in edm(s_d):  lambda(sigma) = (sigma^2 + s_d^2) / (sigma s_d)^2 in x0
    min_snr(g)        eps: min(1, g / SNR)     x0: min(SNR, g)          v: min(SNR, g) / (SNR + 1)
    soft_min_snr(g)   eps: g / (SNR + g)       x0: SNR g / (SNR + g)
    p2(k, g)          eps: (k + SNR)^-g
    sigmoid(b)        eps: S(b - logSNR), per unit of logSNR instead of t

Nothing is divided by an SNR that may be zero; a weight that is truly infinite in the space of the
loss (edm or x0's own, measured in eps at zero SNR) comes out infinite.
"""

import dataclasses
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from noise_sched.diffusion import parametrization
from noise_sched.diffusion.numbers import Leaf, is_plain, require
from noise_sched.diffusion.parametrization import Parametrization, check_sigma_data
from noise_sched.diffusion.process import NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree

Value = Float[Array, "batch"]


@runtime_checkable
class Weighting(Protocol):
    """Weights the squared error of each example.

    Attributes:
      per_logsnr: whether `rate` is used.
    """

    per_logsnr: ClassVar[bool]

    def __call__(self, level: NoiseLevel, space: Parametrization, rate: Value) -> Value:
        """Non-negative weights of errors in `space`.

        Args:
          level: fields of shape [batch].
          space: where the error is measured.
          rate: -d logsnr / dt of the training schedule, what turns a weight per unit of logSNR into
            one per unit of t.
        """
        ...


def convert(
    weight: Value, level: NoiseLevel, own: Parametrization, space: Parametrization
) -> Value:
    """Equation (1): a weight of errors in `own`, as the weight of errors in `space`."""
    if type(own) is type(space) and not vars(own):
        return weight
    return weight * jnp.square(own.error_scale(level) / space.error_scale(level))


@register_pytree
@dataclasses.dataclass(frozen=True)
class uniform:
    """Weight 1 at every level, in the space of the loss (Chen 2023: eps) or in another.

    Attributes:
      space: where the weight is 1; None is wherever the loss is measured.
    """

    space: Any = dataclasses.field(default=None, metadata={"kind": "parametrization"})
    per_logsnr: ClassVar[bool] = False

    def __call__(self, level: NoiseLevel, space: Parametrization, rate: Value) -> Value:
        """Ones, in their own space."""
        ones = jnp.ones_like(level.alpha)
        return ones if self.space is None else convert(ones, level, self.space, space)


@register_pytree
@dataclasses.dataclass(frozen=True)
class edm:
    """EDM's lambda(sigma) (Karras et al. 2022, arXiv 2206.00364, Table 1): uniform in `edm(sigma_data)`.

    Attributes:
      sigma_data: the parametrization's, > 0; published 0.5.
    """

    sigma_data: Leaf = 0.5
    per_logsnr: ClassVar[bool] = False

    def __post_init__(self):
        check_sigma_data("edm", self.sigma_data)

    def __call__(self, level: NoiseLevel, space: Parametrization, rate: Value) -> Value:
        """(sigma^2 + s_d^2) / (sigma s_d)^2 in x0."""
        own = parametrization.edm(self.sigma_data)
        return convert(jnp.ones_like(level.alpha), level, own, space)


@register_pytree
@dataclasses.dataclass(frozen=True)
class min_snr:
    """Min-SNR (Hang et al. 2023, arXiv 2303.09556): min(SNR, gamma) in x0.

    Attributes:
      gamma: published 5, > 0.
    """

    gamma: Leaf = 5.0
    per_logsnr: ClassVar[bool] = False

    def __post_init__(self):
        _check_positive("min_snr(gamma)", self.gamma)

    def __call__(self, level: NoiseLevel, space: Parametrization, rate: Value) -> Value:
        """Returns min(1, gamma / SNR), in eps."""
        weight = jnp.minimum(self.gamma * jnp.square(level.ratio), 1.0)
        return convert(weight, level, parametrization.eps(), space)


@register_pytree
@dataclasses.dataclass(frozen=True)
class soft_min_snr:
    """Soft min-SNR (Crowson et al. 2024, arXiv 2401.11605): SNR gamma / (SNR + gamma) in x0.

    Attributes:
      gamma: published 4 (1 / sigma_data^2 with sigma_data = 0.5), > 0.
    """

    gamma: Leaf = 4.0
    per_logsnr: ClassVar[bool] = False

    def __post_init__(self):
        _check_positive("soft_min_snr(gamma)", self.gamma)

    def __call__(self, level: NoiseLevel, space: Parametrization, rate: Value) -> Value:
        """Returns gamma / (SNR + gamma), in eps."""
        noise = self.gamma * jnp.square(level.sigma)
        weight = noise / (jnp.square(level.alpha) + noise)
        return convert(weight, level, parametrization.eps(), space)


@register_pytree
@dataclasses.dataclass(frozen=True)
class p2:
    """P2 (Choi et al. 2022, arXiv 2204.00227): (k + SNR)^-gamma in eps.

    Attributes:
      k: published 1, > 0.
      gamma: published 1 (0 is uniform in eps).
    """

    k: Leaf = 1.0
    gamma: Leaf = 1.0
    per_logsnr: ClassVar[bool] = False

    def __post_init__(self):
        _check_positive("p2(k)", self.k)

    def __call__(self, level: NoiseLevel, space: Parametrization, rate: Value) -> Value:
        """(k + SNR)^-gamma in eps."""
        snr = jnp.square(level.alpha / level.sigma)
        return convert((self.k + snr) ** -self.gamma, level, parametrization.eps(), space)


@register_pytree
@dataclasses.dataclass(frozen=True)
class sigmoid:
    """S(bias - logSNR) per unit of logSNR (Kingma & Gao 2023, arXiv 2303.00848; SiD2, arXiv 2410.19324).

    Unlike the others it does not depend on the training schedule, which only decides how often a
    level is drawn: the weight is divided by the density of logSNR that uniform t gives. In x0 it
    is e^bias S(logSNR - bias). At zero SNR drawn exactly (a discrete zero-terminal table) the density of
    logSNR is zero and the weight has no value; continuous schedules never draw it.

    Attributes:
      bias: larger weighs small noise more; published 2 (Kingma & Gao), -3 .. 1 (SiD2).
    """

    bias: Leaf = 2.0
    per_logsnr: ClassVar[bool] = True

    def __call__(self, level: NoiseLevel, space: Parametrization, rate: Value) -> Value:
        """S(bias - logSNR) * rate in eps."""
        weight = jax.nn.sigmoid(self.bias - level.logsnr) * rate
        return convert(weight, level, parametrization.eps(), space)


def _check_positive(name: str, value: Leaf) -> None:
    if is_plain(value):
        require(value > 0, f"{name} must be positive, got {value}.")
