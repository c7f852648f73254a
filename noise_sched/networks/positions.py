"""Sinusoidal features of scalars and of positions (arXiv 1706.03762, section 3.5)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Positions are spread over [0, 1000], the same range as the noise level, so that one set of
# frequencies serves both.
MAX_COORDINATE = 1000.0


def sinusoid(values: Float[Array, "*shape"], dim: int) -> Float[Array, "*shape {dim}"]:
    """Sines, then cosines, of `values` at `dim / 2` frequencies from 1 down to almost 1e-4.

    With r_j = 10000^(-2j / dim):  [sin(r_0 x), sin(r_1 x), ..., cos(r_0 x), cos(r_1 x), ...].

    Args:
      values: any shape; useful between 0 and about 1000.
      dim: number of features, even.

    Raises:
      ValueError: `dim` is odd or not positive.
    """
    if dim < 2 or dim % 2:
        raise ValueError(
            f"A sinusoidal code holds sine-cosine pairs, but got dim={dim}: use an even number."
        )
    return sines_and_cosines(values, 10_000.0 ** (-np.arange(0, dim, 2) / dim))


def sines_and_cosines(
    values: Float[Array, "*shape"], rates: np.ndarray, cosines_first: bool = False
) -> Float[Array, "*shape dim"]:
    """Sines, then cosines, of every value times every rate, in float32.

    Args:
      values: any shape.
      rates: angle per unit of value, [dim / 2].
      cosines_first: cosines, then sines.
    """
    # `outer` flattens: it states the product of every value with every rate without broadcasting.
    angles = jnp.outer(values, jnp.asarray(rates, jnp.float32)).reshape(*values.shape, len(rates))
    parts = [jnp.sin(angles), jnp.cos(angles)]
    return jnp.concatenate(parts[::-1] if cosines_first else parts, axis=-1)


def grid_code(height: int, width: int, dim: int) -> Float[Array, "tokens {dim}"]:
    """Fixed code of the cells of a grid, row by row: `[height * width, dim]`.

    The first half of the channels is the sinusoid of the row, the second half of the column; the
    coordinates of each axis run from 0 to 1000 inclusive.

    Args:
      height: rows.
      width: columns.
      dim: number of features, a multiple of 4.

    Raises:
      ValueError: `dim` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(
            f"A 2-D sinusoidal code needs sine-cosine pairs for rows and for columns, but got "
            f"dim={dim}: use a multiple of 4."
        )
    rows = sinusoid(_coordinates(height), dim // 2)
    columns = sinusoid(_coordinates(width), dim // 2)
    shape = (height, width, dim // 2)
    code = jnp.concatenate(
        [
            jnp.broadcast_to(rows[:, None, :], shape),
            jnp.broadcast_to(columns[None, :, :], shape),
        ],
        axis=-1,
    )
    return code.reshape(height * width, dim)


def _coordinates(n: int) -> Float[Array, " n"]:
    return jnp.arange(n, dtype=jnp.float32) * (MAX_COORDINATE / max(n - 1, 1))
