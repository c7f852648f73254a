"""Patches of a Laplacian pyramid: what the sliced Wasserstein distance compares.

Karras et al. 2018 (arXiv 1710.10196), section 5. A level of the pyramid (Burt and Adelson 1983) is the image
less what remains of it at half the size; its last level is what remains. So each level holds the details of
one octave. At each level 7 x 7 patches are cut out at random places, which depend on the image's number
alone.

The kinds are `patches/SIZE`, SIZE the shorter side of the level: from the image's own down to 16, halved as
long as both sides are even. 16 patches of each image's level, flat, in [0, 1] (differences: [-1, 1]); of at
most 16,384 images, as there (who take 128 patches: 16 keep the files eight times smaller).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from noise_sched.evaluation.features import Extractor

SIDE = 7  # pixels of a patch
PATCHES = 16  # of each image and level
MOST = 16_384  # images
SMALLEST = 16  # pixels of the last level
SEED = 0  # of the places

_FILTER = np.array([1, 4, 6, 4, 1], np.float32) / 16

Images = Float[Array, "n _ _ channels"]


def extractor(shape: tuple[int, int, int]) -> Extractor:
    """Of images of one shape (height, width, channels), each side 7 or more."""
    sizes, length = level_sizes(shape), PATCHES * SIDE * SIDE * shape[2]

    def apply(params: None, images: Array, numbers: Array) -> dict[str, Float[Array, "n length"]]:
        levels = pyramid(images.astype(jnp.float32) / 255, len(sizes))
        keys = jax.vmap(lambda number: jax.random.fold_in(jax.random.key(SEED), number))(numbers)
        return {
            f"patches/{min(size)}": _cut(level, keys).reshape(len(images), length)
            for size, level in zip(sizes, levels, strict=True)
        }

    outputs = {f"patches/{min(size)}": length for size in sizes}
    settings = {"side": SIDE, "patches": PATCHES, "seed": SEED}
    return Extractor("patches", outputs, apply, settings=settings, most=MOST)


def level_sizes(shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    """The sizes of the levels, the image's own first."""
    sizes = [shape[:2]]
    while all(side % 2 == 0 and side // 2 >= SMALLEST for side in sizes[-1]):
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


def pyramid(images: Images, levels: int) -> list[Images]:
    """The levels, finest first; they add up to the images when each is enlarged."""
    found = []
    for _ in range(levels - 1):
        smaller = _smooth(images)[:, ::2, ::2]
        found.append(images - enlarge(smaller))
        images = smaller
    return [*found, images]


def enlarge(images: Images) -> Images:
    """Twice the size: zeros between the pixels, smoothed, four times as bright."""
    n, height, width, channels = images.shape
    between = jnp.zeros((n, 2 * height, 2 * width, channels), images.dtype)
    return 4 * _smooth(between.at[:, ::2, ::2].set(images))


def _smooth(images: Images) -> Images:
    """Burt and Adelson's 5 x 5 filter, the image mirrored at its border."""
    for axis in (1, 2):
        size = images.shape[axis]
        widths = [(2, 2) if a == axis else (0, 0) for a in range(4)]
        padded = jnp.pad(images, widths, mode="reflect")
        shifted = [jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(5)]
        images = sum((w * x for w, x in zip(_FILTER, shifted, strict=True)), start=jnp.zeros(()))
    return images


def _cut(level: Images, keys: Array) -> Float[Array, "n patches side side channels"]:
    height, width, channels = level.shape[1:]

    def of_image(image: Array, key: Array) -> Array:
        rows, columns = (
            jax.random.randint(key_of_side, (PATCHES,), 0, side - SIDE + 1)
            for key_of_side, side in zip(jax.random.split(key), (height, width), strict=True)
        )
        cut = lambda row, column: jax.lax.dynamic_slice(
            image, (row, column, 0), (SIDE, SIDE, channels)
        )
        return jax.vmap(cut)(rows, columns)

    return jax.vmap(of_image)(level, keys)
