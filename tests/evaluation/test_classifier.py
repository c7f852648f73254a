"""The classifier of the reference on problems whose answer is known, and agreement counted by hand."""

import dataclasses

import jax
import numpy as np
import pytest

from noise_sched.evaluation import class_agreement, classifier
from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.features import Features
from noise_sched.evaluation.images import Batch

STEPS = 80


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory:
    """Images of an array."""

    images: np.ndarray
    labels: np.ndarray
    labelled: bool = True
    name: str = "memory"

    def __len__(self):
        return len(self.images)

    @property
    def shape(self):
        return self.images.shape[1:]

    def read(self, start, stop):
        return Batch(self.images[start:stop], self.labels[start:stop])

    def fingerprint(self):
        return "memory"


def squares(shuffled=False, count=300):
    """Noise with a bright square in the upper left, upper right or lower left corner: class 0, 1, 2."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (count, 8, 8, 1), np.uint8)
    labels = np.arange(count) % 3
    for image, (row, column) in zip(
        images, np.array([(0, 0), (0, 4), (4, 0)])[labels], strict=True
    ):
        image[row : row + 4, column : column + 4] += 120
    return InMemory(images, rng.permutation(labels) if shuffled else labels)


def trained(real, seed=0):
    return classifier.train(real, seed, STEPS)


@pytest.fixture(scope="module")
def of_squares():
    return trained(squares())


def features(labels, logits=None, name="images"):
    labels = None if labels is None else np.asarray(labels, np.int64)
    logits = np.zeros((len(labels), 3)) if logits is None else np.asarray(logits)
    return Features(name, logits, labels)


def test_what_can_be_learned_is_learned(of_squares):
    assert of_squares.held_out_accuracy == 1
    assert (of_squares.held_out_images, of_squares.trained_images) == (75, 225)


def test_the_held_out_accuracy_of_labels_without_meaning_is_that_of_chance():
    accuracy = trained(squares(shuffled=True)).held_out_accuracy
    assert abs(accuracy - 1 / 3) < 4 * np.sqrt(2 / 9 / 75)


def test_a_seed_gives_the_same_network_and_another_seed_another(of_squares):
    digest = lambda network: classifier.extractor(network).settings["sha256"]
    assert digest(trained(squares())) == digest(of_squares)
    assert digest(trained(squares(), seed=1)) != digest(of_squares)


def test_features_and_logits_of_an_image_depend_on_it_alone(of_squares):
    extractor, images = classifier.extractor(of_squares), squares().images
    apply = jax.jit(extractor.apply)
    found = apply(extractor.params, images[:6], np.arange(6, dtype=np.int32))
    assert {kind: value.shape for kind, value in found.items()} == {
        kind: (6, length) for kind, length in extractor.outputs.items()
    }
    np.testing.assert_array_equal(np.argmax(found["classifier/logits"], 1), [0, 1, 2, 0, 1, 2])
    again = apply(extractor.params, images[[5, 0, 0, 0, 0, 0]], np.zeros(6, np.int32))
    for kind, value in found.items():
        np.testing.assert_allclose(again[kind][0], value[5], rtol=1e-5, atol=1e-5)
    assert extractor.settings["held_out_accuracy"] == of_squares.held_out_accuracy
    assert extractor.settings["held_out_images"] == 75


def test_large_images_are_averaged_over_squares():
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), np.uint8)
    means = images.reshape(2, 32, 2, 24, 2, 3).mean((2, 4))
    np.testing.assert_array_equal(classifier.shrink(images), np.round(means))
    small = images[:, :32, :32]
    np.testing.assert_array_equal(classifier.shrink(small), small)


def test_a_large_reference_is_sampled_evenly_and_read_in_order(monkeypatch):
    monkeypatch.setattr(classifier, "MOST", 100)
    real = squares(count=1000)
    images, labels = classifier._sample(real, 0)
    at = [int(np.flatnonzero((real.images == image).all((1, 2, 3)))[0]) for image in images]
    assert len(at) == 100 and at == sorted(set(at)) and at[0] < 100 and at[-1] >= 900
    np.testing.assert_array_equal(labels, real.labels[at])
    monkeypatch.setattr(classifier, "MOST", 1000)
    np.testing.assert_array_equal(classifier._sample(real, 0)[0], real.images)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "memory has no labels"),
        ([0, 0, 0, 0, 1, 1, 1, -1], "1 of 8 labels are negative"),
        ([2] * 8, "has one class only"),
        ([0] * 5 + [1] * 3, "class 1 has 3 images among the 8 .* needs 4"),
    ],
)
def test_a_reference_that_cannot_be_learned_is_refused(labels, message):
    images = np.zeros((8, 8, 8, 1), np.uint8)
    real = InMemory(images, np.array(labels or [-1] * 8), labelled=labels is not None)
    with pytest.raises(EvaluationInputError, match=message):
        classifier.train(real)


def test_agreement_counted_by_hand():
    seen = [0, 0, 1, 1, 1]
    generated = features([0, 0, 1, 0, 0], np.eye(3)[seen])
    assert class_agreement.class_agreement(
        generated, features([0, 1, 2])
    ) == class_agreement.ClassAgreement(
        agreement=0.6,
        agreeing=3,
        images=5,
        per_class=(0.5, 1.0, None),
        requested=(4, 1, 0),
        seen=(2, 3, 0),
        classes_seen=2,
    )


@pytest.mark.parametrize(
    ("generated", "real", "message"),
    [
        (
            features(None, np.zeros((2, 3))),
            features([0, 1, 2]),
            "images has no labels.*labels.json",
        ),
        (features([0, 1]), features(None, np.zeros((2, 3)), "real"), "real has no labels"),
        (
            features([0, -1]),
            features([0, 1, 2]),
            "1 of 2 labels are no class of images, such as -1",
        ),
        (features([0, 3]), features([0, 1, 2]), "such as 3"),
        (features([1, 0]), features([1, 2]), "such as 0"),
        (features([0]), features([0, 0]), "has one class only"),
        (features([0]), features([0, 5]), "was not trained on this reference.*largest label is 5"),
        (features([]), features([0, 1]), "no images"),
    ],
)
def test_features_that_cannot_agree_are_refused(generated, real, message):
    with pytest.raises(EvaluationInputError, match=message):
        class_agreement.class_agreement(generated, real)
