"""Resizing as networks were evaluated with it: two small matrix products, one for each axis of the image.

A product with a constant matrix is exact up to rounding on every device, runs where matrix products run, and
is sharded with the images.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def tf1_bilinear(
    images: Float[Array, "n height width channels"], size: int
) -> Float[Array, "n size size channels"]:
    """TensorFlow 1's `resize_bilinear` to a square: output i is at i * length / size of the input.

    It has neither half-pixel centres nor antialiasing, and repeats the last row and column beyond the edge.
    Inception's graph does it inside (Parmar et al. 2022, arXiv 2104.11222, compare it with others).
    """
    rows, columns = (_tf1_weights(length, size) for length in images.shape[1:3])
    highest = jax.lax.Precision.HIGHEST
    images = jnp.einsum("ih,nhwc->niwc", rows, images, precision=highest)
    return jnp.einsum("jw,niwc->nijc", columns, images, precision=highest)


def _tf1_weights(length: int, size: int) -> Float[np.ndarray, "size length"]:
    position = np.arange(size) * length / size
    below = np.floor(position).astype(int)
    above = np.minimum(below + 1, length - 1)
    weights = np.zeros((size, length), np.float32)
    np.add.at(weights, (np.arange(size), below), 1 - (position - below))
    np.add.at(weights, (np.arange(size), above), position - below)
    return weights
