r"""Dead leaves: opaque shapes of all sizes that hide each other, the same scene at any resolution.

The model of Matheron (1968), with the law of sizes under which images look alike at every scale (Lee, Mumford
and Huang 2001, "Occlusion models for natural images"):

    p(r) ~ r^-3     between r_min and r_max

Such images have what makes photographs: objects with sharp edges, occlusion, a power spectrum that falls with
about the square of the frequency. And unlike photographs they can be had at every resolution from the
same scene, so that nothing but the resolution differs: the data for questions such as "which schedule does
a higher resolution need?".

4,096 scenes in eight classes: a shape (disc, square, triangle, bar) and a palette (warm, cool). Scene i
is a function of i alone. Its image at a size is the mean over squares of a rendering with at least four times
as many pixels a side; for sizes up to 32 that rendering is one and the same, so the image at 8 is exactly
(before rounding to bytes) the image at 32 averaged over 4 x 4 pixels.

A config for each size, "dead_leaves/16x16"; without one, that of the wanted size. In [-1, 1] they have

    size        8      16      32      64
    mean    -0.38   -0.38   -0.38   -0.38
    std      0.42    0.45    0.47    0.48

This module imports TFDS when it is imported: `noise_sched.data.offline` imports it only on use.
"""

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, UInt8
from PIL import Image

COUNT = 4096
SIZES = (8, 16, 32, 64)
SHAPES, PALETTES = ("disc", "square", "triangle", "bar"), ("warm", "cool")
NAMES = tuple(f"{palette} {shape}" for shape in SHAPES for palette in PALETTES)

LEAVES = 350  # enough to cover a scene: of each point one in a thousand shows the ground
R_MIN, R_MAX = 1 / 32, 1 / 2  # of the scene's side
_FINEST = 128  # pixels a side of a rendering, at least
_COLOURS = {  # between which two a leaf's colour lies, before its brightness
    "warm": ((1.0, 0.15, 0.1), (1.0, 0.85, 0.3)),
    "cool": ((0.1, 0.25, 1.0), (0.35, 1.0, 0.7)),
}


def label_of(index: int) -> int:
    """The class of a scene, a number of `NAMES`."""
    return index % len(NAMES)


def scene(index: int, size: int, r_min: float = R_MIN) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """The image of a scene at a size, which has to be a power of two."""
    fine = max(_FINEST, 4 * size)
    image = _rendered(index, fine, r_min)
    parts = image.reshape(size, fine // size, size, fine // size, 3)
    return np.round(255 * parts.mean(axis=(1, 3), dtype=np.float64)).astype(np.uint8)


def _rendered(index: int, side: int, r_min: float) -> Float[np.ndarray, "{side} {side} 3"]:
    """A scene without antialiasing, in [0, 1]: leaves from the farthest to the nearest."""
    shape, palette = NAMES[label_of(index)].split()[::-1]
    # Raw words of Philox never change between versions of NumPy; six uniform numbers for each leaf.
    words = np.random.Philox(key=np.array([index, 0x1EAF], np.uint64)).random_raw(6 * LEAVES + 6)
    u = ((words >> np.uint64(11)) * 2.0**-53).reshape(-1, 6)
    # The inverse of the distribution function of p(r) ~ r^-3.
    radius = (r_min**-2 - u[:, 0] * (r_min**-2 - R_MAX**-2)) ** -0.5
    x, y, angle = u[:, 1] * (1 + 2 * R_MAX) - R_MAX, u[:, 2] * (1 + 2 * R_MAX) - R_MAX, u[:, 3]
    first, second = np.array(_COLOURS[palette])
    colour = (first + u[:, 4:5] * (second - first)) * (0.1 + 0.9 * u[:, 5:6])

    image = np.empty((side, side, 3), np.float32)
    image[:] = colour[-1]
    centre = (np.arange(side) + 0.5) / side
    reach = radius * _REACH[shape]
    low = np.clip(np.ceil((np.stack([y, x]) - reach) * side - 0.5), 0, side).astype(int)
    high = np.clip(np.floor((np.stack([y, x]) + reach) * side + 0.5), 0, side).astype(int)
    for i in range(LEAVES):
        rows, columns = (slice(low[axis, i], high[axis, i]) for axis in (0, 1))
        dy, dx = centre[rows, None] - y[i], centre[None, columns] - x[i]
        inside = _inside(shape, dy, dx, radius[i], 2 * np.pi * angle[i])
        image[rows, columns][inside] = colour[i]
    return image


# How far a shape of the area of a disc of radius 1 reaches from its centre.
_REACH = {"disc": 1.0, "square": (np.pi / 2) ** 0.5, "triangle": 1.5552, "bar": 1.8275}


def _inside(shape, dy, dx, radius, angle):
    """Which points lie in a leaf of the area pi radius^2."""
    if shape == "disc":
        return dy * dy + dx * dx <= radius * radius
    along, across = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    if shape == "square":
        half = radius * np.pi**0.5 / 2
        return (np.abs(along) <= half) & (np.abs(across) <= half)
    if shape == "bar":  # four times as long as wide
        half = radius * np.pi**0.5
        return (np.abs(along) <= half) & (np.abs(across) <= half / 4)
    inner = radius * (np.pi / 27**0.5) ** 0.5  # of the inscribed circle
    slope = 3**0.5 / 2
    return (
        (across >= -inner)
        & (slope * along + across / 2 <= inner)
        & (-slope * along + across / 2 <= inner)
    )


class DeadLeaves(tfds.core.GeneratorBasedBuilder):
    """Builder of the data set "dead_leaves"."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "4,096 scenes, one split."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=f"{size}x{size}", description=f"At {size} x {size} pixels.")
        for size in SIZES
    ]
    # No downloads, hence no checksums; see `noise_sched.data.digits`.
    url_infos = None
    R_MIN = R_MIN

    @property
    def _size(self) -> int:
        return int(self.builder_config.name.split("x")[0])

    def _info(self):
        shape = (self._size, self._size, 3)
        return tfds.core.DatasetInfo(
            builder=self,
            description="Shapes that hide each other, the same scenes at every resolution.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=shape, dtype=np.uint8),
                    "label": tfds.features.ClassLabel(names=NAMES),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # Nothing is downloaded.
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(COUNT):
            # A PIL image, because TFDS can encode an array only with TensorFlow.
            yield (
                i,
                {
                    "image": Image.fromarray(scene(i, self._size, self.R_MIN)),
                    "label": label_of(i),
                },
            )


BUILDER = DeadLeaves
