r"""What multiplies x_t on its way into the network, and nowhere else.

    (1)  none:             1
    (2)  analytic(s_d):    1 / sqrt(alpha^2 s_d^2 + sigma^2)
    (3)  per_example_std:  1 / std(x_t) over the example's own axes

(2) gives unit variance when the data has standard deviation s_d about 0: with s_d = 1 it is Chen
2023's 1 / sqrt((b^2 - 1) gamma + 1), and with alpha = 1 it is EDM's c_in (Karras et al. 2022, Table
1). (3) is what Chen 2023 (arXiv 2301.10972, section 2.3) trains with. The solver's state is never
rescaled: Algorithm 3 of the paper prints it so, the published code does not do it.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from noise_sched.diffusion.numbers import Leaf
from noise_sched.diffusion.parametrization import check_sigma_data
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree


@runtime_checkable
class InputScale(Protocol):
    """Scales the network's input."""

    def __call__(self, level: NoiseLevel, x: Images) -> Images:
        """Returns what the network sees in place of `x`, [batch, ...]."""
        ...


@register_pytree
@dataclasses.dataclass(frozen=True)
class none:
    """The network sees x_t as it is, equation (1)."""

    def __call__(self, level: NoiseLevel, x: Images) -> Images:
        """Returns `x`."""
        return x


@register_pytree
@dataclasses.dataclass(frozen=True)
class analytic:
    """The network sees x_t over its expected standard deviation, equation (2).

    Attributes:
      sigma_data: standard deviation of the data in [-1, 1] units, > 0.
    """

    sigma_data: Leaf = 1.0

    def __post_init__(self):
        check_sigma_data("analytic", self.sigma_data)

    def __call__(self, level: NoiseLevel, x: Images) -> Images:
        """Returns x / sqrt(alpha^2 sigma_data^2 + sigma^2)."""
        level = level.expand_to(x)
        sigma_data = jnp.asarray(self.sigma_data, x.dtype)
        return x * jax.lax.rsqrt(jnp.square(level.alpha * sigma_data) + jnp.square(level.sigma))


@register_pytree
@dataclasses.dataclass(frozen=True)
class per_example_std:
    """The network sees x_t over its own standard deviation, equation (3).

    Population standard deviation over every axis but the first; the mean is not removed and no
    epsilon is added, as published. An x_t that is constant has none: that takes sigma = 0 exactly.
    """

    def __call__(self, level: NoiseLevel, x: Images) -> Images:
        """Returns x / std(x)."""
        return x / jnp.std(x, axis=tuple(range(1, x.ndim)), keepdims=True)
