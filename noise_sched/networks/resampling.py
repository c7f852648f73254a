r"""Twice as small and twice as large, with a short separable low-pass filter.

With taps f_0 .. f_{L-1} (L even, their sum made 1), p = (L - 1) // 2 and zeros outside the image, along
each axis:

    (1)  down:  y_i = sum_k f_k x_{2i + k - p}
    (2)  up:    y_j = 2 sum_i f_{j - 2i + p} x_i

(1, 1) is the box: the mean of two, and each value twice. (1, 3, 3, 1) is the smoother filter that NCSN++
uses (Song et al. 2021, arXiv 2011.13456, appendix H, after StyleGAN2). Written as sums of strided slices,
which compilers fuse, rather than as convolutions of one channel each, which they run slowly.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Their size and channels change from layer to layer.
Images = Float[Array, "batch _ _ _"]


def downsample(x: Images, taps: Sequence[int], padded: bool = True) -> Images:
    """Half the height and width, equation (1).

    Args:
      x: images of even height and width.
      taps: the filter, of even length.
      padded: False where x has its border of p cells on each side already.
    """
    return functools.reduce(lambda x, axis: _down(x, axis, taps, padded), (1, 2), x)


def upsample(x: Images, taps: Sequence[int]) -> Images:
    """Twice the height and width, equation (2)."""
    return functools.reduce(lambda x, axis: _up(x, axis, taps), (1, 2), x)


def resample(x: Images, direction: str, taps: Sequence[int]) -> Images:
    """`downsample` for "down", `upsample` for "up", x itself for ""."""
    if direction == "down":
        return downsample(x, taps)
    return upsample(x, taps) if direction == "up" else x


def border(taps: Sequence[int]) -> int:
    """p: the cells beyond the image that the filter looks at, on each side."""
    return (len(taps) - 1) // 2


def _down(x: Array, axis: int, taps: Sequence[int], padded: bool) -> Array:
    p, total = border(taps), sum(taps)
    x = _with_zeros(x, axis, p) if padded else x
    size = (x.shape[axis] - len(taps)) // 2 + 1
    cut = functools.partial(jax.lax.slice_in_dim, x, stride=2, axis=axis)
    parts = [f / total * cut(k, k + 2 * size - 1) for k, f in enumerate(taps)]
    return functools.reduce(jnp.add, parts)


def _up(x: Array, axis: int, taps: Sequence[int]) -> Array:
    p, total, size = border(taps), sum(taps), x.shape[axis]
    around = _with_zeros(x, axis, len(taps) // 2)
    phases = []
    for r in range(2):  # y_{2m + r}: the taps k = r + p mod 2, met by x_{m + (r + p - k) / 2}
        parts = []
        for k in range((r + p) % 2, len(taps), 2):
            start = len(taps) // 2 + (r + p - k) // 2
            part = jax.lax.slice_in_dim(around, start, start + size, axis=axis)
            parts.append(2 * taps[k] / total * part)
        phases.append(functools.reduce(jnp.add, parts))
    shape = (*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
    return jnp.stack(phases, axis=axis + 1).reshape(shape)


def _with_zeros(x: Array, axis: int, count: int) -> Array:
    return jnp.pad(x, [(count, count) if a == axis else (0, 0) for a in range(x.ndim)])
