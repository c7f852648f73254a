"""Image arithmetic of the published recipe: centre crop, antialiased bicubic resize, flip, range.

The preprocessing of arXiv 2301.10972 and 2212.11972 (as in their released code) is

1. pixels to float in [0, 1],
2. the largest centre square,
3. an antialiased bicubic resize to the training size, which is **not clipped**: next to a sharp
   edge the result may leave [0, 1] by a few percent, and it is left so here,
4. a left-right flip with probability 1/2,
5. x -> 2 x - 1.

The resize is linear and separable, out = W_h @ image @ W_w^T, with two small matrices that depend
only on the sizes. They are computed once per size pair and kept, so an image costs two matrix
products and no compiler. The kernel is Keys' cubic with a = -1/2 (Keys 1981, "Cubic convolution
interpolation for digital image processing"), stretched by in/out when it shrinks:

    k(r) = 1 - 5/2 r^2 + 3/2 r^3            0 <= r < 1
         = 2 - 4 r + 5/2 r^2 - 1/2 r^3      1 <= r < 2                                        (1)
    W[o, i] ∝ k(|c_o - i| / s),  c_o = (o + 1/2) in/out - 1/2,  s = max(1, in/out)            (2)

with each row of W normalised to sum to 1 over the pixels that exist. Pillow's bicubic is another
function: it rounds to bytes between the two passes and at the end, and clips.
"""

import functools

import numpy as np
from jaxtyping import Bool, Float32, UInt8


def centre_square(
    image: UInt8[np.ndarray, "height width channels"],
) -> UInt8[np.ndarray, "side side channels"]:
    """The largest centre square; the odd pixel of an odd difference is lost at the far side."""
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


@functools.lru_cache(maxsize=4096)
def resampling_matrix(size: int, new_size: int) -> Float32[np.ndarray, "{new_size} {size}"]:
    """Rows of weights that turn `size` pixels into `new_size`: equation (2).

    Args:
        size: number of input pixels along the axis, at least 1.
        new_size: number of output pixels, at least 1.

    Returns:
        A read-only matrix, shared by all callers; each row sums to 1.
    """
    ratio = size / new_size
    centre = (np.arange(new_size) + 0.5) * ratio - 0.5
    r = np.abs(centre[:, None] - np.arange(size)[None, :]) / max(1.0, ratio)
    near = 1 - 2.5 * r**2 + 1.5 * r**3
    far = 2 - 4 * r + 2.5 * r**2 - 0.5 * r**3
    weights = np.where(r < 1, near, np.where(r < 2, far, 0.0))
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    weights.flags.writeable = False
    return weights


def resize(
    image: Float32[np.ndarray, "height width channels"], size: int
) -> Float32[np.ndarray, "{size} {size} channels"]:
    """Antialiased bicubic resize to `size` x `size`, not clipped; same sizes: the same image."""
    height, width, _ = image.shape
    if (height, width) == (size, size):
        return image
    rows = np.tensordot(resampling_matrix(height, size), image, axes=1)
    # One large product and a transposed view: a product per row (np.matmul) is 27 times slower.
    columns = np.tensordot(rows, resampling_matrix(width, size), axes=(1, 1))
    return columns.transpose(0, 2, 1)


def to_model_range(
    image: UInt8[np.ndarray, "*batch height width channels"],
) -> Float32[np.ndarray, "*batch height width channels"]:
    """Bytes 0..255 to float32 -1..1: 2 x / 255 - 1."""
    return image.astype(np.float32) * np.float32(2 / 255) - np.float32(1)


def preprocess(
    image: UInt8[np.ndarray, "height width channels"], size: int | None
) -> Float32[np.ndarray, "new_height new_width channels"]:
    """Bytes of any size to the float32 image, about [-1, 1], that training sees (without flip).

    Args:
        image: decoded bytes.
        size: side of the square result; smaller images are enlarged. None keeps the image as it
            is, uncropped.
    """
    if size is None or image.shape[:2] == (size, size):
        return to_model_range(image)
    # The range is changed before the resize, not after: the rows of the matrices sum to 1, so the
    # order does not matter, and this way the large array is touched once.
    return resize(to_model_range(centre_square(image)), size)


def flip_left_right(
    images: Float32[np.ndarray, "batch height width channels"], flips: Bool[np.ndarray, "batch"]
) -> Float32[np.ndarray, "batch height width channels"]:
    """Mirrors the images where `flips` is true, in place, and returns the same array."""
    images[flips] = images[flips, :, ::-1]
    return images
