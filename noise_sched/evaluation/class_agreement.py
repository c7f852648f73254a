"""Class agreement: does a classifier of the reference see the class that was asked for?

The classifier is `classifier`'s, trained on a part of the real images. Its accuracy on those that were held
out says how far it can be trusted: a perfect model would score about that. It stands in the settings of
the classifier's extractor; the agreement on the real images themselves is higher, for most of them
were trained on.

What it does not see: a model that draws one perfect image for each class scores 1. Look at the
nearest-neighbour distances and the kernel distance, too.
"""

import dataclasses

import numpy as np

from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.features import Features


@dataclasses.dataclass(frozen=True)
class ClassAgreement:
    """How far a classifier of the real images agrees with the labels of generated ones.

    Attributes:
      agreement: the share of images in which it sees the requested class.
      agreeing: their number.
      images: the number of images judged.
      per_class: for each class, the share of its images in which it is seen; None where the class
        was never requested.
      requested: for each class, how many images were asked to show it.
      seen: for each class, in how many images the classifier sees it.
      classes_seen: the number of classes that it sees at all.
    """

    agreement: float
    agreeing: int
    images: int
    per_class: tuple[float | None, ...]
    requested: tuple[int, ...]
    seen: tuple[int, ...]
    classes_seen: int


def class_agreement(generated: Features, real: Features) -> ClassAgreement:
    """Compares the classes that a classifier sees with the requested ones.

    Args:
      generated: `classifier/logits` with the requested classes as labels.
      real: those of the reference, whose labels are the classes that may be requested.

    Raises:
      EvaluationInputError: no images, no labels, or labels of classes that the reference does not have.
    """
    classes = generated.length
    labels = _requested(generated, real)
    predicted = np.concatenate([np.argmax(block, 1) for block in generated.blocks()])
    agrees = predicted == labels
    requested, agreeing, seen = (
        np.bincount(found, minlength=classes) for found in (labels, labels[agrees], predicted)
    )
    return ClassAgreement(
        agreement=float(np.mean(agrees)),
        agreeing=int(np.sum(agrees)),
        images=len(generated),
        per_class=tuple(
            float(hits / count) if count else None
            for hits, count in zip(agreeing, requested, strict=True)
        ),
        requested=tuple(requested.tolist()),
        seen=tuple(seen.tolist()),
        classes_seen=int(np.sum(seen > 0)),
    )


def _requested(generated: Features, real: Features) -> np.ndarray:
    if len(generated) == 0:
        raise EvaluationInputError(f"{generated.name} has no images to judge.")
    for features in (generated, real):
        if features.labels is None:
            raise EvaluationInputError(
                f"{features.name} has no labels, and class agreement compares with them. Expected "
                "`labels` in the .npz; for a folder, one folder per class, names like "
                '000000_label3.png, or a labels.json ({"000000.png": 3, ...}).'
            )
    known = np.unique(np.asarray(real.labels))
    if generated.length != real.length or known[-1] >= real.length:
        raise EvaluationInputError(
            f"{real.name}: the classifier of {generated.length} classes was not trained on this reference, "
            f"whose largest label is {known[-1]}. Train it on the reference."
        )
    if len(known) < 2:
        raise EvaluationInputError(
            f"{real.name} has one class only ({known[0]}): there is nothing to agree upon."
        )
    labels = np.asarray(generated.labels)
    wrong = ~np.isin(labels, known)
    if wrong.any():
        raise EvaluationInputError(
            f"{generated.name}: {np.sum(wrong)} of {len(labels)} labels are no class of {real.name}, such as "
            f"{labels[wrong][0]} (-1 means that no class was asked for). Class agreement needs images "
            "sampled for a class of the reference."
        )
    return labels
