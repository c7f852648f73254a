"""Distance to the nearest real image: noise lies far from all of them, a copy on top of one.

The distance of two images is the root of their mean squared difference over the numbers of `pixels`, with 0
black and 1 white. The real images themselves say what counts as near and far: the distance of each to
the nearest other one. An image is far (noise, or a thing that the data does not have) beyond the 99th
percentile of those distances, and a copy (memorized) below the 1st: each holds for 1 % of the real images,
by definition. Where more than 1 % of the real images are there twice, that percentile is 0; `copies` counts
images at distance 0 as well.
"""

import dataclasses
import functools

import numpy as np

from noise_sched.evaluation.features import BLOCK, Features
from noise_sched.evaluation.precision_recall import squared_distances

FAR_PERCENTILE = 99.0
COPY_PERCENTILE = 1.0
MOST_TO_COMPARE = 10_000  # real images whose own nearest neighbours are looked for


@dataclasses.dataclass(frozen=True)
class Nearest:
    """Distances to the nearest real image.

    Attributes:
      far: the share of images farther than `far_beyond` from every real one; of real ones 0.01.
      copies: the share nearer than `copy_below` to some real one, or equal to one; of real ones 0.01.
      mean: the mean distance of the images to the nearest real one.
      real_mean: the mean distance of the real ones to the nearest other real one.
      far_beyond: the 99th percentile of the real ones' distances.
      copy_below: the first.
    """

    far: float
    copies: float
    mean: float
    real_mean: float
    far_beyond: float
    copy_below: float


def nearest(generated: Features, real: Features, seed: int = 0) -> Nearest:
    """Measures each image's distance to the nearest real one, on `pixels`.

    Of more than 10,000 real images that many, drawn by the seed, say what is near: percentiles need no more.
    """
    among_real = _among_real(real, seed)
    _, distances = neighbours(generated, real)
    copy_below, far_beyond = np.percentile(among_real, [COPY_PERCENTILE, FAR_PERCENTILE])
    return Nearest(
        far=float(np.mean(distances > far_beyond)),
        copies=float(np.mean((distances < copy_below) | (distances == 0))),
        mean=float(distances.mean()),
        real_mean=float(among_real.mean()),
        far_beyond=float(far_beyond),
        copy_below=float(copy_below),
    )


@functools.lru_cache(maxsize=4)  # training and grids judge many models by the same real images
def _among_real(real: Features, seed: int) -> np.ndarray:
    """The distances of some real images, or all, to the nearest other one."""
    some = np.sort(np.random.default_rng(seed).permutation(len(real))[:MOST_TO_COMPARE])
    return neighbours(real.part(some), real, own=some)[1]


def neighbours(
    generated: Features, real: Features, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For each row the number of the nearest real one, and the distance to it.

    Args:
      generated: [n, length].
      real: [m, length].
      own: where the first are some of the real ones, their numbers: none is its own neighbour.
    """
    count = len(generated)
    indices, squares = np.zeros(count, np.int64), np.full(count, np.inf)
    for column, others in enumerate(real.blocks()):
        for row, rows in enumerate(generated.blocks()):
            gap = squared_distances(rows, others)
            here = slice(row * BLOCK, row * BLOCK + len(rows))
            if own is not None:
                within = own[here] - column * BLOCK
                itself = np.flatnonzero((within >= 0) & (within < len(others)))
                gap[itself, within[itself]] = np.inf
            best = gap.argmin(axis=1)
            found = np.take_along_axis(gap, best[:, None], axis=1)[:, 0]
            indices[here] = np.where(found < squares[here], column * BLOCK + best, indices[here])
            squares[here] = np.minimum(squares[here], found)
    return indices, np.sqrt(squares / generated.length)
