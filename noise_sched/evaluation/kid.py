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
      error: its standard error: the standard deviation over the subsets, divided by the root of how many
        there could be without sharing images. (Often divided by the root of 100, which claims too much.)
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
    apart = min(SUBSETS, fewest / subset)
    return Kid(float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(apart)), subset)


def _some(features: Features, count: int, rng: np.random.Generator) -> Features:
    chosen = np.sort(rng.choice(len(features), count, replace=False))
    return Features(features.name, features.take(chosen))
