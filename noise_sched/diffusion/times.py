r"""The times of a training batch: each t uniform on (0, 1), alone or spread evenly over the batch.

A schedule may be infinite at t = 0 and at t = 1, so neither is drawn: t lies on the grid

    (1)  t = (2 k + 1) / 2^(p + 1),     k uniform in 0 .. 2^p - 1,     p the mantissa's bits (float32: 23)

the middles of 2^p equal cells. Each is a floating-point number exactly, as is 1 - t; their mean is 1/2.
`ends` are the first and the last, 2^-24 and 1 - 2^-24 in float32. Counting cells is exact where t itself
is not: (u + i / B) mod 1 of `stratified`, in floats, rounds to 0 once in a while.
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt

from noise_sched.diffusion.pytrees import register_pytree


@runtime_checkable
class Times(Protocol):
    """Draws the times of a batch."""

    def __call__(self, key: Key[Array, ""], count: int, dtype: Any) -> Float[Array, "count"]:
        """`count` times on the grid (1), each of them uniform."""
        ...


@register_pytree
@dataclasses.dataclass(frozen=True)
class uniform:
    """Independent times."""

    def __call__(self, key: Key[Array, ""], count: int, dtype: Any) -> Float[Array, "count"]:
        """Equation (1) with a k for each example."""
        return _middles(_cells(key, (count,), dtype), dtype)


@register_pytree
@dataclasses.dataclass(frozen=True)
class stratified:
    r"""One draw per batch, its times evenly spaced (Kingma et al. 2021, arXiv 2107.00630, appendix I.1).

        t_i = (u + i / B) mod 1,     i = 0 .. B - 1,     u ~ U(0, 1)

    Each t_i is uniform by itself, so the expected loss is the same, but a batch's mean over t has less
    variance. B is the global batch, whatever devices share it; with microbatches each part is a batch
    of its own, with its own u. Neighbouring rows get neighbouring times, which does no harm where the
    data is shuffled.
    """

    def __call__(self, key: Key[Array, ""], count: int, dtype: Any) -> Float[Array, "count"]:
        """Equation (1) with k_i = k + floor(2^p i / B) mod 2^p, and one k for all."""
        bits = jnp.finfo(dtype).nmant
        first = _cells(key, (), dtype)
        offsets = np.array([(i << bits) // count for i in range(count)], first.dtype)
        return _middles((first + offsets) & ((1 << bits) - 1), dtype)


def ends(dtype: Any) -> Float[Array, "2"]:
    """The smallest and the largest t of the grid (1), the cleanest and the noisiest draw."""
    first = jnp.asarray(jnp.finfo(dtype).eps / 2, dtype)
    return jnp.stack([first, 1 - first])


def _cells(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any) -> UInt[Array, "*shape"]:
    """The k of equation (1): the leading p bits of as many as the type has."""
    info = jnp.finfo(dtype)
    return jax.random.bits(key, shape, f"uint{info.bits}") >> (info.bits - info.nmant)


def _middles(cells: UInt[Array, "*shape"], dtype: Any) -> Float[Array, "*shape"]:
    eps = jnp.asarray(jnp.finfo(dtype).eps, dtype)  # 2^-p
    return cells.astype(dtype) * eps + eps / 2
