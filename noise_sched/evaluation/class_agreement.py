"""Class agreement: does a classifier of real digits see the digit that was asked for?

The classifier is scikit-learn's SVC(C=10, gamma=0.001) on pixels of 0..16, the digits' own scale.
Its accuracy on real digits that it was not trained on says how far it can be trusted: a set of
real digits would score about that. The classifier that judges is then trained on all real digits.

What it does not see: a model that draws one perfect image for each class scores 1. Look at
`nearest` and `kernel_distance`, too.
"""

import dataclasses

import numpy as np
from sklearn import model_selection, svm

from noise_sched.evaluation.image_set import EvaluationInputError, ImageSet, image_set
from noise_sched.evaluation.references import check_same_shape, digits

NUM_CLASSES = 10

# The split for the classifier's own accuracy: a quarter is held out, the classes in proportion.
HELD_OUT_SHARE = 0.25
SPLIT_SEED = 0


@dataclasses.dataclass(frozen=True)
class ClassAgreement:
    """How far a classifier of real digits agrees with the labels of generated ones.

    Attributes:
      agreement: the share of images in which it sees the requested class.
      agreeing: their number.
      images: the number of images judged.
      per_class: for each class, the share of its images in which it is seen; None where the class
        was never requested.
      requested: for each class, how many images were asked to show it.
      seen: for each class, in how many images the classifier sees it.
      classes_seen: the number of classes that it sees at all.
      held_out_accuracy: the accuracy on real digits of the same classifier, trained without them.
      held_out_images: how many digits that is.
    """

    agreement: float
    agreeing: int
    images: int
    per_class: tuple[float | None, ...]
    requested: tuple[int, ...]
    seen: tuple[int, ...]
    classes_seen: int
    held_out_accuracy: float
    held_out_images: int


def class_agreement(images: np.ndarray, labels: np.ndarray) -> ClassAgreement:
    """Judges digits by a classifier trained on real ones.

    Args:
      images: [count, 8, 8, 1], uint8 in 0..255 or float in [-1, 1].
      labels: [count], the digits 0..9 that were asked for.

    Raises:
      EvaluationInputError: images of another size or scale, or labels that are no digits.
    """
    return class_agreement_of(image_set("images", images, labels))


def class_agreement_of(generated: ImageSet) -> ClassAgreement:
    """`class_agreement` of an `ImageSet`."""
    real = digits()
    check_same_shape(generated, real)
    labels = _digit_labels(generated)
    predicted = _classifier().fit(_features(real), real.labels).predict(_features(generated))
    agrees = predicted == labels
    requested = np.bincount(labels, minlength=NUM_CLASSES)
    agreeing = np.bincount(labels[agrees], minlength=NUM_CLASSES)
    seen = np.bincount(predicted, minlength=NUM_CLASSES)
    accuracy, held_out = _held_out_accuracy(real)
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
        held_out_accuracy=accuracy,
        held_out_images=held_out,
    )


def _classifier() -> svm.SVC:
    return svm.SVC(C=10, gamma=0.001)


def _features(images: ImageSet) -> np.ndarray:
    return images.images.reshape(len(images), -1) * 16


def _held_out_accuracy(real: ImageSet) -> tuple[float, int]:
    """The accuracy of the classifier on real digits that it has not seen, and their number."""
    train_x, test_x, train_y, test_y = model_selection.train_test_split(
        _features(real),
        real.labels,
        test_size=HELD_OUT_SHARE,
        random_state=SPLIT_SEED,
        stratify=real.labels,
    )
    return float(_classifier().fit(train_x, train_y).score(test_x, test_y)), len(test_y)


def _digit_labels(generated: ImageSet) -> np.ndarray:
    labels = generated.labels
    if labels is None:
        raise EvaluationInputError(
            f"{generated.name} has no labels, and class agreement compares with them. Expected "
            "`labels` in the .npz; for a folder, names like 000000_label3.png or a labels.json "
            '({"000000.png": 3, ...}).'
        )
    wrong = (labels < 0) | (labels >= NUM_CLASSES)
    if wrong.any():
        raise EvaluationInputError(
            f"{generated.name}: {np.sum(wrong)} of {len(labels)} labels are no digit 0..9 (such as "
            f"{labels[wrong][0]}; -1 means that no class was asked for). Class agreement needs "
            "images sampled for a class."
        )
    return labels
