"""KID: the kernel distance of Inception features, unbiased at any number of images.

Binkowski et al. 2018 (arXiv 1801.01401): the squared maximum mean discrepancy with the kernel of
`kernel_distance`, estimated without bias on 100 random subsets of 1,000 images of each side, and averaged.
"""

import dataclasses

import numpy as np

from noise_sched.evaluation.features import Features
from noise_sched.evaluation.kernel_distance import discrepancy

SUBSETS, SUBSET = 100, 1000


@dataclasses.dataclass(frozen=True)
class Kid:
    """A kernel distance over random subsets.

    Attributes:
      distance: the mean over the subsets; 0 on average for a perfect model.
      error: its standard error; see `_standard_error`.
      subset: images of each side in a subset: 1,000, or half of what there is.
    """

    distance: float
    error: float
    subset: int


def kid(generated: Features, real: Features, seed: int = 0) -> Kid:
    """Measures KID, on `inception/2048`; `seed` is that of the subsets."""
    rng = np.random.default_rng(seed)
    fewest = min(len(generated), len(real))
    subset = min(SUBSET, fewest // 2)
    found = [
        discrepancy(_some(generated, subset, rng), _some(real, subset, rng)) for _ in range(SUBSETS)
    ]
    return Kid(float(np.mean(found)), _standard_error(found, subset / fewest), subset)


def _standard_error(found: list[float], share: float) -> float:
    """Of the mean over subsets, each of which holds a share q of the images.

    If the estimate from one subset has the variance v, that from all images has q v. Subsets of the same
    images differ from each other by s^2 = v - q v only, and the mean of B of them has the variance
    q v + s^2 / B = s^2 (q / (1 - q) + 1 / B). The usual s^2 / B leaves the images themselves out. (Near a
    distance of 0 the variance falls with the square of q, and this is too large.)
    """
    return float(np.std(found, ddof=1) * np.sqrt(share / (1 - share) + 1 / len(found)))


def _some(features: Features, count: int, rng: np.random.Generator) -> Features:
    chosen = np.sort(rng.choice(len(features), count, replace=False))
    return Features(features.name, features.take(chosen))
