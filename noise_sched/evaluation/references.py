"""The real images that others are compared with, by name."""

from collections.abc import Callable

import numpy as np
from sklearn import datasets

from noise_sched.evaluation.image_set import EvaluationInputError, ImageSet
from noise_sched.messages import did_you_mean


def digits() -> ImageSet:
    """scikit-learn's digits: 1,797 real handwritten digits, 8x8 pixels of 0..16, ten classes."""
    data = datasets.load_digits()
    return ImageSet(
        "digits", data.images[..., np.newaxis].astype(np.float64) / 16, data.target.astype(np.int64)
    )


REFERENCES: dict[str, Callable[[], ImageSet]] = {"digits": digits}


def reference(name: str) -> ImageSet:
    """The reference set called `name`.

    Raises:
      EvaluationInputError: there is none of that name; the message has the nearest.
    """
    if name not in REFERENCES:
        raise EvaluationInputError(
            f"There is no reference {name!r}. {did_you_mean(name, REFERENCES)}"
        )
    return REFERENCES[name]()


def check_same_shape(images: ImageSet, real: ImageSet) -> None:
    """Refuses images that have not the size of the real ones: nothing is resized silently.

    Raises:
      EvaluationInputError: height, width or channels differ.
    """
    if images.shape != real.shape:
        raise EvaluationInputError(
            f"{images.name}: images of {_size(images)} cannot be compared with {real.name}, which "
            f"has {_size(real)} (height x width x channels). Give samples of a model of "
            f"{real.name}, or another reference."
        )


def _size(images: ImageSet) -> str:
    return "x".join(map(str, images.shape))
