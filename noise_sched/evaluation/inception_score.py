"""Inception Score: are images of clear classes, and of many?

Salimans et al. 2016 (arXiv 1606.03498): exp of the mean over images of KL(p(class | image) || p(class)),
where p is the softmax of Inception's logits without their bias and p(class) the mean over the images; of ten
splits, each by itself. It never sees a real image and was made for ImageNet's classes.
"""

import dataclasses

import numpy as np
from scipy import special

from noise_sched.evaluation.features import Features

SPLITS = 10


@dataclasses.dataclass(frozen=True)
class InceptionScore:
    """Inception Scores.

    Attributes:
      score: the mean over the splits, between 1 and the number of classes.
      std: the standard deviation over them.
      real: the score of the real images.
    """

    score: float
    std: float
    real: float


def inception_score(generated: Features, real: Features, seed: int = 0) -> InceptionScore:
    """Measures the score, on `inception/logits`; `seed` is that of the order before splitting."""
    scores = _scores(generated, seed)
    return InceptionScore(
        float(np.mean(scores)), float(np.std(scores)), float(np.mean(_scores(real, seed)))
    )


def _scores(features: Features, seed: int) -> list[float]:
    order = np.random.default_rng(seed).permutation(len(features))
    return [_score(features.part(split)) for split in np.array_split(order, SPLITS)]


def _score(logits: Features) -> float:
    """Of one split: exp(mean of sum p log p - sum q log q), q the mean of p."""
    negative_entropy, total = 0.0, np.zeros(logits.length)
    for block in logits.blocks():
        p = special.softmax(block, axis=1)
        negative_entropy += special.xlogy(p, p).sum()
        total += p.sum(axis=0)
    q = total / len(logits)
    return float(np.exp(negative_entropy / len(logits) - special.xlogy(q, q).sum()))
