"""The variances of the images' modes: of the coefficients of their orthonormal cosine transform (DCT-II).

The cosines are near to the principal components of any images whose statistics are the same everywhere.
Modes of different channels are taken as modes of their own.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Float64
from scipy import fft

_GROUPS = (8, 32)  # of images, which a bootstrap draws from: at least and at most
_MEMORY = 2**28  # bytes of the sums of all groups, if that leaves enough of them


def groups_for(*shapes: tuple[int, ...]) -> int:
    """Into how many groups to put the images of the largest of some shapes."""
    fewest, most = _GROUPS
    return max(fewest, min(most, _MEMORY // (16 * max(map(math.prod, shapes)))))


class Modes:
    """Sums of the modes and of their squares, over groups of images; images are added as they come."""

    def __init__(self, shape: tuple[int, int, int], groups: int):
        """`shape` is that of one image: height, width, channels."""
        self.shape, self.groups, self.count = shape, groups, 0
        size = math.prod(shape)
        self._counts = np.zeros(groups, np.int64)
        self._sums = np.zeros((groups, size))
        self._squares = np.zeros((groups, size))

    def add(self, images: Float[np.ndarray, "n height width channels"]) -> None:
        """Takes images in; the next one goes to the next group."""
        found = fft.dctn(np.asarray(images, np.float32), axes=(1, 2), norm="ortho")
        found = found.reshape(len(images), -1)
        group = (self.count + np.arange(len(images))) % self.groups
        for index in np.unique(group):
            mine = found[group == index].astype(np.float64)
            self._counts[index] += len(mine)
            self._sums[index] += mine.sum(axis=0)
            self._squares[index] += np.square(mine).sum(axis=0)
        self.count += len(images)

    def variances(
        self, weights: np.ndarray | None = None
    ) -> Float64[np.ndarray, "height width channels"]:
        """The unbiased variance of each mode; `weights` is how often each group counts, 1 without."""
        weights = np.ones(self.groups) if weights is None else weights
        count = float(weights @ self._counts)
        mean = weights @ self._sums / count
        spread = weights @ self._squares / count - mean**2
        return np.maximum(spread * count / (count - 1), 0.0).reshape(self.shape)


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Variances by spatial frequency.

    Attributes:
      cycles: spatial frequency, in cycles across the image.
      variance: the mean variance of a mode there, over directions and channels.
      exponent: a in variance ~ cycles^-a, from 1 cycle to half of the highest frequency; photographs have
        about 2.
    """

    cycles: Float64[np.ndarray, " rings"]
    variance: Float64[np.ndarray, " rings"]
    exponent: float


def spectrum(variances: Float[np.ndarray, "height width channels"]) -> Spectrum:
    """The mean over directions: mode (i, j) has sqrt(i^2 + j^2) / 2 cycles."""
    height, width, _ = variances.shape
    side = min(height, width)
    radius = np.hypot(
        np.arange(height)[:, None] * side / height, np.arange(width)[None, :] * side / width
    )
    rings = np.arange(1, side)
    mean = variances.mean(axis=2)
    variance = np.asarray([mean[np.round(radius) == ring].mean() for ring in rings])
    fitted = (rings >= min(2, side // 4)) & (rings <= side // 2) & (variance > 0)
    exponent = float("nan")
    if np.sum(fitted) >= 2:
        slope, _ = np.polyfit(np.log(rings[fitted]), np.log(variance[fitted]), 1)
        exponent = float(-slope)
    return Spectrum(rings / 2, variance, exponent)
