r"""Layers that keep the magnitude of their inputs.

Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv
2312.02696 (EDM2). The magnitude of a vector is its root mean square; "unit" below means 1. If the
inputs of each of these have unit magnitude and are uncorrelated, so has the output:

    convolution     w <- normalize(w) gain / sqrt(fan_in), each output filter by itself     (eq. 47)
    Fourier         sqrt(2) cos(f x + phase)                                                (eq. 75)
    mp_silu         silu(x) / 0.596                                                         (eq. 81)
    mp_sum          ((1 - t) a + t b) / sqrt((1 - t)^2 + t^2)                               (eq. 88)
    mp_cat          concatenation of N_a and N_b channels, where part i is multiplied by   (eq. 103)
                    t_i sqrt((N_a + N_b) / N_i) / sqrt((1 - t)^2 + t^2)

There is no bias anywhere and no norm with learned scales. As only the direction of a filter counts,
the gradient is orthogonal to it, so that updates make it longer and longer, which is a decay of the
learning rate by another name: hence the stored filters are to be normalised after each update too
(eq. 66), see `noise_sched.training.optimizers.normalize_weights`.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from noise_sched.networks.layers import convolve

# Published. It is added to a root mean square which is about 1 in all uses: it keeps a vector of
# zeros at zero and takes 1e-4 of the length of any other. Without it published weights are off by that.
EPS = 1e-4


def normalize(x: Float[Array, "..."], axis: int | tuple[int, ...]) -> Float[Array, "..."]:
    """The vectors along `axis`, scaled to unit magnitude: x / (rms(x) + 1e-4), float32 inside."""
    square = jnp.mean(jnp.square(x.astype(jnp.float32)), axis, keepdims=True)
    # The root has no slope at zero; a vector of zeros stays zero, and so does its gradient.
    zero = square == 0
    rms = jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))
    return x / (rms + EPS).astype(x.dtype)


def normalize_kernel(kernel: Float[Array, "... filters"]) -> Float[Array, "... filters"]:
    """Each output filter (all axes but the last) with unit magnitude."""
    return normalize(kernel, tuple(range(kernel.ndim - 1)))


def mp_silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """SiLU with unit output for x ~ N(0, 1)."""
    return jax.nn.silu(x) / 0.596


def mp_sum(a: Float[Array, "..."], b: Float[Array, "..."], t: float) -> Float[Array, "..."]:
    """The sum of a and b in which b has the share t."""
    return ((1 - t) * a + t * b) / math.hypot(1 - t, t)


def mp_cat(a: Float[Array, "..."], b: Float[Array, "..."], t: float = 0.5) -> Float[Array, "..."]:
    """Both side by side in the last axis; t is the influence of b, however many channels it has."""
    total = (a.shape[-1] + b.shape[-1]) ** 0.5 / math.hypot(1 - t, t)
    weights = (1 - t) * total / a.shape[-1] ** 0.5, t * total / b.shape[-1] ** 0.5
    return jnp.concatenate([weights[0] * a, weights[1] * b], axis=-1)


def mp_fourier(
    x: Float[Array, " batch"],
    frequencies: Float[Array, " features"],
    phases: Float[Array, " features"],
) -> Float[Array, "batch features"]:
    """Features of a scalar, of unit magnitude in the mean over random phases.

    Args:
      x: scalars.
      frequencies: angular, per unit of x; published 2 pi N(0, 1).
      phases: in radians; published uniform over the circle.
    """
    return math.sqrt(2) * jnp.cos(jnp.outer(x, frequencies) + phases[None])


def unit_normal(key, shape, dtype=jnp.float32):
    """Initial kernels: N(0, 1), each filter normalised, as the first training step would."""
    return normalize_kernel(jax.random.normal(key, shape, dtype))


class MPConv(nn.Module):
    """Convolution ("same", stride 1) or matrix product without bias, blind to its filters' lengths.

    Parameters are float32; the product is taken in the input's type.

    Attributes:
      features: channels out.
      window: (height, width) of the kernel, both odd; () for a matrix.
      pad_channels: as of `layers.convolve`. Filters are normalised before they are filled up, so that
        the result is the same.
    """

    features: int
    window: tuple[int, ...] = ()
    pad_channels: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "... c"], gain: Float[Array, ""] | float = 1.0
    ) -> Float[Array, "... {self.features}"]:
        """The layer, its output multiplied by `gain`."""
        shape = (*self.window, x.shape[-1], self.features)
        kernel = self.param("kernel", unit_normal, shape, jnp.float32)
        fan_in = math.prod(shape[:-1])
        weight = (normalize_kernel(kernel) * (gain / math.sqrt(fan_in))).astype(x.dtype)
        if not self.window:
            return x @ weight
        return convolve(x, weight, [side // 2 for side in self.window], self.pad_channels)
