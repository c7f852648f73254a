"""Pixels as features: images averaged down to at most 32 x 32, for distances between images.

The kind `pixels`: the image in [0, 1], 0 is black and 1 white, each side divided by the smallest whole factor
that leaves no more than 32 pixels (rows and columns that do not fill a block are left out), flat.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from noise_sched.evaluation.features import Extractor

MOST = 32  # pixels along a side


def extractor(shape: tuple[int, int, int]) -> Extractor:
    """Of images of one shape (height, width, channels)."""
    height, width, channels = shape
    factor = -(-max(height, width) // MOST)
    rows, columns = max(1, height // factor), max(1, width // factor)

    def apply(params: None, images: Array, numbers: Array) -> dict[str, Float[Array, "n length"]]:
        whole = images[:, : rows * factor, : columns * factor].astype(jnp.float32) / 255
        blocks = whole.reshape(len(images), rows, factor, columns, factor, channels)
        return {"pixels": blocks.mean(axis=(2, 4)).reshape(len(images), -1)}

    return Extractor(
        "pixels",
        {"pixels": rows * columns * channels},
        apply,
        settings={"most": MOST},
        batch=256,
    )
