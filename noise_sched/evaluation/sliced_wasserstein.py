"""Sliced Wasserstein distance of patches: do images have the details of real ones, octave by octave?

Karras et al. 2018 (arXiv 1710.10196), section 5, on `patches/*`: patches are projected onto random
directions, and for each direction the Wasserstein distance of the two sets of numbers is the area between
their quantile functions. The mean over 4 x 128 directions, times 1000.

There each set is brought to mean 0 and standard deviation 1, channel by channel, by its own numbers, so that
images of half the contrast score 0. Here both sets are scaled by the numbers of the real one. A distance is
comparable with others of the same size of images, not with the paper's.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from noise_sched.evaluation.features import Features
from noise_sched.evaluation.laplacian_patches import PATCHES, SIDE

DIRECTIONS = 512
_AT_A_TIME = 64  # directions whose projections are held in memory
_KEPT = (
    2**28
)  # bytes up to which all projections of a level of the real images are kept for the next model


@dataclasses.dataclass(frozen=True)
class SlicedWasserstein:
    """Sliced Wasserstein distances, times 1000.

    Attributes:
      distance: the mean over the levels of the pyramid.
      levels: of each level, finest first.
    """

    distance: float
    levels: tuple[float, ...]


def sliced_wasserstein(
    generated: Sequence[Features], real: Sequence[Features], seed: int = 0
) -> SlicedWasserstein:
    """Compares the patches of each level of the pyramid.

    Args:
      generated: one set of `patches/SIZE` per level.
      real: the same of the real images; of any other number.
      seed: of the directions.
    """
    levels = tuple(
        1000 * _of_level(x, _real_level(y, seed, level))
        for level, (x, y) in enumerate(zip(generated, real, strict=True))
    )
    return SlicedWasserstein(float(np.mean(levels)), levels)


def _of_level(x: Features, real: "_RealLevel") -> float:
    distances = []
    for start in range(0, DIRECTIONS, _AT_A_TIME):
        own = _projected(x, real.mean, real.directions[:, start : start + _AT_A_TIME])
        distances.append(_areas(own, real.projected(start)))
    return float(np.mean(np.concatenate(distances)))


@functools.lru_cache(maxsize=3)  # training and grids judge many models by the same real images
def _real_level(y: Features, seed: int, level: int) -> "_RealLevel":
    return _RealLevel(y, np.random.default_rng([seed, level]))


class _RealLevel:
    """One level of the real images: the directions, scaled by them, and their projections.

    Attributes:
      mean: of each number of a patch.
      directions: [length, DIRECTIONS], each divided by the standard deviations.
    """

    def __init__(self, y: Features, rng: np.random.Generator):
        length = y.length // PATCHES
        mean, std = _scale(y, length // SIDE**2)
        directions = rng.standard_normal((length, DIRECTIONS))
        directions /= np.linalg.norm(directions, axis=0)
        self.mean = np.tile(mean, SIDE**2)
        self.directions = directions * (1 / np.tile(std, SIDE**2))[:, None]
        self._features = y
        self._keeps = len(y) * PATCHES * DIRECTIONS * 4 <= _KEPT
        self._kept: dict[int, np.ndarray] = {}

    def projected(self, start: int) -> np.ndarray:
        """Sorted projections on `_AT_A_TIME` directions from `start` on."""
        if start in self._kept:
            return self._kept[start]
        found = _projected(
            self._features, self.mean, self.directions[:, start : start + _AT_A_TIME]
        )
        if self._keeps:
            self._kept[start] = found
        return found


def _scale(y: Features, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel; a channel without any spread is left as it is."""
    count, total, squares = 0, np.zeros(channels), np.zeros(channels)
    for block in y.blocks():
        pixels = block.reshape(-1, channels)
        count += len(pixels)
        total += pixels.sum(axis=0)
        squares += (pixels**2).sum(axis=0)
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    return mean, np.sqrt(np.where(variance > 0, variance, 1))


def _projected(features: Features, mean: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Sorted projections of all patches, [directions, patches]."""
    found = np.empty((directions.shape[1], len(features) * PATCHES), np.float32)
    start = 0
    for block in features.blocks():
        patches = block.reshape(-1, len(mean))
        found[:, start : start + len(patches)] = directions.T @ (patches - mean).T
        start += len(patches)
    found.sort(axis=1)
    return found


def _areas(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The areas between the quantile functions of sorted rows, [directions]; exact for any two counts."""
    counts = x.shape[1], y.shape[1]
    ends = np.unique(np.concatenate([np.arange(1, count + 1) / count for count in counts]))
    widths = np.diff(ends, prepend=0)
    middle = ends - widths / 2
    at_x, at_y = (np.minimum((middle * count).astype(int), count - 1) for count in counts)
    gaps = (
        np.abs(one[at_x].astype(np.float64) - other[at_y].astype(np.float64))
        for one, other in zip(x, y, strict=True)
    )
    return np.array([widths @ gap for gap in gaps])
