r"""EDM's non-leaky augmentation: six geometric distortions that the network is told about.

Each image is distorted at random, and the network is given a label of what was done to it; with a label of
zeros, as when sampling, it draws undistorted images (Karras et al. 2022, arXiv 2206.00364, appendix F.2;
the pipeline is that of Karras et al. 2020, arXiv 2006.06676). With R(a) a rotation, S(x, y) a scaling
and T(x, y) a shift, in pixels from the image's centre, x to the right and y down:

    distortion      operation G                                     label
    x-flip          S(1 - 2 a0, 1)                                  a0
    y-flip          S(1, 1 - 2 a1)                                  a1
    scaling         S(2^(a2 / 5), 2^(a2 / 5))                       a2
    rotation        R(-a3)                                          cos a3 - 1, sin a3
    stretch         R(-a4) S(2^(a5 / 5), 2^(-a5 / 5)) R(a4)         a5 cos a4, a5 sin a4
    shift           T(a6 W / 8, a7 H / 8)                           a6, a7

    (1)  a0, a1 ~ U{0, 1}     a2, a5, a6, a7 ~ N(0, 1)     a3, a4 ~ U(-pi, pi)
    (2)  each distortion is off (its a = 0) but with `probability`, independently; the x-flip is always on,
         and the angle a4 is kept with probability 1/2

The flips move pixels. The rest is one affine map of the image, mirrored beyond its edges: at twice the
resolution, by the symlet of 12 taps and bilinear interpolation, then down again by the same filter:

    (3)  out = D bilinear(U image, G^-1 (output pixel))

U and D are linear and separable, so each is one small matrix per axis, and mirroring is part of U. It
goes W - 1 pixels beyond each edge, further than which the reference does not look either. An image that
no distortion moves is returned as it was: there D U = 1 but for rounding.

The draws are values, apart from their use: `apply` gives the same images for the same draws, and an image
depends on its own draws alone.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Key

LABELS = 9  # entries of a label: `augment_dim` of a network that is to be told
_GATES = 7  # of x-flip, y-flip, scaling, rotation, stretch, the stretch's angle, shift
_OCTAVES = 0.2  # standard deviation of log2 of a scaling or stretch
_SHIFT = 0.125  # of a shift, in image sizes

# The symlet with six vanishing moments (Daubechies 1992, Ten Lectures on Wavelets, section 8.1).
SYMLET = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
_TAPS = len(SYMLET)
_RIM = _TAPS // 4  # pixels by which the filter spreads the sampled image, cut off at the end

Images = Float[Array, "batch height width channels"]
Value = Float[Array, "batch"]


class Draws(NamedTuple):
    """The random numbers of a batch, equation (1), as they are before `probability` says which count.

    Attributes:
      flip_x, flip_y: a0, a1, each 0 or 1.
      scale: a2.
      rotation: a3, radians.
      stretch, stretch_angle: a5, and a4 in radians.
      shift_x, shift_y: a6, a7, in eighths of the image.
      gates: uniform in [0, 1), one per distortion of the table in order, the stretch's angle after the
        stretch; a distortion is on where its gate is below its probability.
    """

    flip_x: Value
    flip_y: Value
    scale: Value
    rotation: Value
    stretch: Value
    stretch_angle: Value
    shift_x: Value
    shift_y: Value
    gates: Float[Array, "batch {_GATES}"]


def draw(key: Key[Array, ""], batch: int) -> Draws:
    """Draws for a batch; those of image i depend on the key and i alone, whatever the batch's size."""

    def one(index):
        flips, normals, angles, gates = jax.random.split(jax.random.fold_in(key, index), 4)
        flip_x, flip_y = jax.random.bernoulli(flips, 0.5, (2,)).astype(jnp.result_type(float))
        scale, stretch, shift_x, shift_y = jax.random.normal(normals, (4,))
        rotation, angle = jax.random.uniform(angles, (2,), minval=-math.pi, maxval=math.pi)
        uniform = jax.random.uniform(gates, (_GATES,))
        return Draws(flip_x, flip_y, scale, rotation, stretch, angle, shift_x, shift_y, uniform)

    return jax.vmap(one)(jnp.arange(batch))


@jax.jit
def apply(
    images: Images, draws: Draws, probability: jax.typing.ArrayLike
) -> tuple[Images, Float[Array, "batch 9"]]:
    """Distorted images, equation (3), and the labels that say how.

    Args:
      images: of any range.
      draws: one of each number per image.
      probability: of each distortion but the x-flip, in [0, 1]; at 0 the x-flip is off too.

    Returns:
      The images, of the same shape, and their labels, float32.
    """
    done, moved = _gated(draws, jnp.asarray(probability, images.dtype))
    flipped = _flip(images, done)
    warped = jax.vmap(_warp)(flipped, done)
    return jnp.where(moved[:, None, None, None], warped, flipped), _labels(done)


def _gated(draws: Draws, probability: Float[Array, ""]) -> tuple[Draws, Array]:
    """The draws with those that do not count set to 0, equation (2), and which images need (3)."""
    always, half = jnp.sign(probability), jnp.full_like(probability, 0.5)
    each = [always, probability, probability, probability, probability, half, probability]
    on = draws.gates < jnp.stack(each)[None, :]
    flip_x, flip_y, scale, rotation, stretch, angle, shift = on.T
    counts = (flip_x, flip_y, scale, rotation, stretch, angle, shift, shift)
    parameters = (jnp.where(on, a, jnp.zeros_like(a)) for on, a in zip(counts, draws, strict=False))
    done = Draws(*parameters, gates=draws.gates)
    return done, scale | rotation | stretch | shift


def _labels(done: Draws) -> Float[Array, "batch 9"]:
    """The table's last column."""
    label = [
        done.flip_x,
        done.flip_y,
        done.scale,
        jnp.cos(done.rotation) - 1,
        jnp.sin(done.rotation),
        done.stretch * jnp.cos(done.stretch_angle),
        done.stretch * jnp.sin(done.stretch_angle),
        done.shift_x,
        done.shift_y,
    ]
    return jnp.stack(label, axis=1).astype(jnp.float32)


def _flip(images: Images, done: Draws) -> Images:
    where = lambda flips: (flips > 0.5)[:, None, None, None]
    images = jnp.where(where(done.flip_x), images[:, :, ::-1], images)
    return jnp.where(where(done.flip_y), images[:, ::-1], images)


def _warp(
    image: Float[Array, "height width channels"], done: Draws
) -> Float[Array, "height width channels"]:
    """Equation (3), of one image and its own draws."""
    height, width, _ = image.shape
    up = functools.partial(_product, _upsampling)
    down = functools.partial(_product, _downsampling)
    fine = up(up(image, 0), 1)
    at = _sources(done, height, width)
    sample = lambda channel: map_coordinates(channel, list(at), order=1, mode="constant")
    fine = jax.vmap(sample, in_axes=-1, out_axes=-1)(fine)
    return down(down(fine, 0), 1)


def _sources(done: Draws, height: int, width: int) -> Float[Array, "2 rows columns"]:
    """Where in the image of twice the size, in pixels (row, column), each output pixel comes from."""
    angle, shrink = done.stretch_angle, jnp.exp2(-_OCTAVES * done.stretch)
    # An accelerator's default products keep eight bits: half a pixel at the corner of 64 x 64.
    times = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    stretched = times(_rotation(-angle), jnp.diag(jnp.stack([shrink, 1 / shrink])))
    inverse = jnp.exp2(-_OCTAVES * done.scale) * _rotation(done.rotation)
    inverse = times(inverse, times(stretched, _rotation(angle)))
    shift = _SHIFT * jnp.stack([width * done.shift_x, height * done.shift_y])
    # From the centre, in pixels of the image; the filters' grids lie a quarter of a pixel off it.
    rows, columns = (
        0.5 * (jnp.arange(2 * (size + 2 * _RIM), dtype=shift.dtype) - (size + 2 * _RIM)) + 0.5
        for size in (height, width)
    )
    x, y = jnp.meshgrid(columns - shift[0], rows - shift[1])
    x, y = (inverse[i, 0] * x + inverse[i, 1] * y for i in (0, 1))
    last = lambda size: len(_upsampling(size)) - 1
    return jnp.stack([2 * y - 0.5 + last(height) / 2, 2 * x - 0.5 + last(width) / 2])


def _rotation(angle: Float[Array, ""]) -> Float[Array, "2 2"]:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])])


def _product(matrix, image: Array, axis: int) -> Array:
    """`matrix(size)` times an image along an axis, in full precision on every device."""
    factor = jnp.asarray(matrix(_size(matrix, image.shape[axis])), image.dtype)
    out = jnp.tensordot(factor, image, axes=(1, axis), precision=jax.lax.Precision.HIGHEST)
    return jnp.moveaxis(out, 0, axis)


def _size(matrix, length: int) -> int:
    """The image's size, given that of the axis that `matrix` is for."""
    return length if matrix is _upsampling else length // 2 - 2 * _RIM


@functools.lru_cache
def _upsampling(size: int) -> np.ndarray:
    """U of one axis, [2 (size + 2 (size - 1)), size]: mirror, put zeros between, filter."""
    mirrored = np.pad(np.eye(size), ((size - 1, size - 1), (0, 0)), mode="reflect")
    rows = 2 * len(mirrored)
    matrix = np.zeros((rows, size))
    for tap, weight in enumerate(SYMLET):
        # out[j] = sum_tap h[tap] z[j + 5 - tap], where z[2 i] is the mirrored image's pixel i.
        z = np.arange(rows) + _TAPS // 2 - 1 - tap
        j = np.flatnonzero((z % 2 == 0) & (z >= 0) & (z < rows))
        matrix[j] += weight * mirrored[z[j] // 2]
    return matrix


@functools.lru_cache
def _downsampling(size: int) -> np.ndarray:
    """D of one axis, [size, 2 (size + 2 rim)]: filter, keep every second pixel, cut off the rim."""
    matrix = np.zeros((size, 2 * (size + 2 * _RIM)))
    for tap, weight in enumerate(SYMLET):
        pixel = np.arange(size)
        matrix[pixel, 2 * (pixel + _RIM) + tap - _TAPS // 2 + 1] = weight
    return matrix
