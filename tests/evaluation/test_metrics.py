"""The metrics on images whose judgement is known: real digits, grey ones, noise, copies."""

import numpy as np
import pytest

from noise_sched.evaluation import references
from noise_sched.evaluation.class_agreement import class_agreement, class_agreement_of
from noise_sched.evaluation.contrast import contrast
from noise_sched.evaluation.image_set import EvaluationInputError, ImageSet
from noise_sched.evaluation.kernel_distance import kernel_distance
from noise_sched.evaluation.nearest import nearest


@pytest.fixture(scope="module")
def real():
    return references.digits()


@pytest.fixture(scope="module")
def halves(real):
    """Two halves of the real digits: the one is what a perfect model of the other would draw."""
    order = np.random.default_rng(1).permutation(len(real))
    return tuple(
        ImageSet(name, real.images[rows], real.labels[rows])
        for name, rows in [("drawn", order[:900]), ("real", order[900:])]
    )


def grey(images):
    """The same digits with a quarter of their contrast."""
    return ImageSet("grey", 0.5 + 0.25 * (images.images - 0.5), images.labels)


def noise(images):
    uniform = np.random.default_rng(0).uniform(size=images.images.shape)
    return ImageSet("noise", np.round(uniform), images.labels)


def constant(images):
    return ImageSet("constant", np.full_like(images.images, 0.3), images.labels)


def as_uint8(images):
    return np.round(images.images * 255).astype(np.uint8)


def test_the_reference_is_the_digits_in_zero_to_one(real):
    assert real.images.shape == (1797, 8, 8, 1)
    assert real.images.min() == 0 and real.images.max() == 1
    assert set(real.labels.tolist()) == set(range(10))


# Class agreement.


def test_real_digits_agree_with_their_classes(real):
    report = class_agreement(as_uint8(real), real.labels)
    assert report.agreement > 0.995
    assert report.held_out_accuracy > 0.98 and report.held_out_images == 450
    assert report.classes_seen == 10
    assert report.requested == tuple(np.bincount(real.labels).tolist())
    assert report.images == sum(report.seen) == len(real)


def test_uint8_and_float_images_agree_alike(halves):
    drawn = halves[0]
    floats = (drawn.images * 2 - 1).astype(np.float32)
    assert class_agreement(floats, drawn.labels) == class_agreement(as_uint8(drawn), drawn.labels)


def test_agreement_is_of_each_image_with_its_own_label(halves):
    drawn = halves[0]
    shifted = ImageSet("shifted", drawn.images, (drawn.labels + 1) % 10)
    assert class_agreement_of(shifted).agreement < 0.02
    order = np.random.default_rng(2).permutation(len(drawn))
    reordered = ImageSet("reordered", drawn.images[order], drawn.labels[order])
    assert class_agreement_of(reordered) == class_agreement_of(drawn)


def test_per_class_figures_add_up_to_the_whole(halves):
    drawn = halves[0]
    labels = np.where(drawn.labels == 4, 9, drawn.labels)  # no 4 is requested, many 9s are wrong
    report = class_agreement_of(ImageSet("mislabelled", drawn.images, labels))
    assert report.requested[4] == 0 and report.per_class[4] is None
    assert report.per_class[9] < 0.7 and min(report.per_class[:4]) > 0.95
    hits = sum(
        share * count
        for share, count in zip(report.per_class, report.requested, strict=True)
        if share is not None
    )
    assert hits == pytest.approx(report.agreeing)
    assert report.agreement == pytest.approx(report.agreeing / report.images)


def test_one_class_only_is_seen_as_one_class(real):
    ones = real.labels == 1
    report = class_agreement_of(ImageSet("ones", real.images[ones], real.labels[ones]))
    assert report.classes_seen == 1 and report.agreement == 1


def test_class_agreement_does_not_mistake_noise_for_digits(halves):
    assert class_agreement_of(noise(halves[0])).agreement < 0.3


def test_images_without_labels_have_no_class_agreement(halves):
    with pytest.raises(EvaluationInputError, match="no labels.*labels.json"):
        class_agreement_of(ImageSet("unlabelled", halves[0].images))


@pytest.mark.parametrize("label", [-1, 10])
def test_labels_that_are_no_digit_are_refused(halves, label):
    drawn = halves[0]
    labels = np.where(drawn.labels == 3, label, drawn.labels)
    with pytest.raises(EvaluationInputError, match=rf"are no digit 0..9 .such as {label};"):
        class_agreement_of(ImageSet("drawn", drawn.images, labels))


def test_images_of_another_size_are_refused(real):
    images = np.zeros((2, 32, 32, 3), np.uint8)
    with pytest.raises(EvaluationInputError, match="32x32x3 cannot be compared with digits.*8x8x1"):
        class_agreement(images, np.array([0, 1]))


# Contrast.


def test_real_digits_are_not_washed_out(halves):
    drawn, real = halves
    report = contrast(drawn, real)
    assert report.washed_out < 0.03
    assert report.generated.contrast_mean == pytest.approx(report.real.contrast_mean, rel=0.02)


@pytest.mark.parametrize("faded", [grey, constant])
def test_grey_digits_are_washed_out(halves, faded):
    drawn, real = halves
    assert contrast(faded(drawn), real).washed_out == 1


def test_the_figures_of_contrast_scale_with_it(halves):
    drawn, real = halves
    plain, faded = contrast(drawn, real).generated, contrast(grey(drawn), real).generated
    for figure in ("contrast_mean", "contrast_std", "range_mean", "range_std"):
        assert getattr(faded, figure) == pytest.approx(getattr(plain, figure) / 4)


def test_one_per_cent_of_the_reference_is_washed_out_by_definition(real):
    assert contrast(real, real).washed_out == pytest.approx(0.01, abs=1e-3)


# Nearest.


def test_real_digits_are_near_and_no_copies(halves):
    drawn, real = halves
    report = nearest(drawn, real)
    assert report.far < 0.04 and report.copies < 0.04
    assert report.mean == pytest.approx(report.real_mean, rel=0.05)


@pytest.mark.parametrize("broken", [noise, grey, constant])
def test_noise_and_grey_are_far(halves, broken):
    drawn, real = halves
    assert nearest(broken(drawn), real).far > 0.99


def test_copies_are_found(halves):
    report = nearest(halves[1], halves[1])
    assert report.copies == 1 and report.mean == pytest.approx(0, abs=1e-6)


def test_the_distance_is_the_root_mean_square_to_the_nearest():
    real = ImageSet("real", np.stack([np.zeros((2, 2, 1)), np.full((2, 2, 1), 0.8)]))
    image = np.zeros((1, 2, 2, 1))
    image[0, 0, 0, 0] = 0.5
    report = nearest(ImageSet("drawn", image), real)
    assert report.mean == pytest.approx(0.25)
    assert report.real_mean == pytest.approx(0.8)


def test_distances_do_not_depend_on_the_chunk(halves, monkeypatch):
    drawn, real = halves
    whole = nearest(drawn, real), kernel_distance(drawn, real)
    monkeypatch.setattr("noise_sched.evaluation.nearest._CHUNK", 70)
    monkeypatch.setattr("noise_sched.evaluation.kernel_distance._CHUNK", 70)
    chunked = nearest(drawn, real), kernel_distance(drawn, real)
    for one, other in zip(whole, chunked, strict=True):
        assert vars(other) == pytest.approx(vars(one))


def test_one_real_image_has_no_neighbour(halves):
    alone = ImageSet("real", halves[1].images[:1])
    with pytest.raises(EvaluationInputError, match="needs two of them; got 1"):
        nearest(halves[0], alone)


# Kernel distance.


def test_the_kernel_distance_of_real_digits_is_about_zero(halves):
    drawn, real = halves
    report = kernel_distance(drawn, real)
    assert abs(report.distance) < 0.01 and abs(report.real_halves) < 0.01


@pytest.mark.parametrize("broken", [noise, grey, constant])
def test_the_kernel_distance_of_noise_and_grey_is_large(halves, broken):
    drawn, real = halves
    assert kernel_distance(broken(drawn), real).distance > 0.2


def test_the_kernel_distance_sees_missing_classes(halves):
    drawn, real = halves
    ones = ImageSet("ones", drawn.images[drawn.labels == 1])
    assert kernel_distance(ones, real).distance > 0.1


def test_the_kernel_distance_is_its_definition(halves):
    x, y = (half.images[:5].reshape(5, -1) * 2 - 1 for half in halves)

    def k(a, b):
        return (np.dot(a, b) / 64 + 1) ** 3

    others = [(i, j) for i in range(5) for j in range(5) if i != j]
    expected = np.mean([k(x[i], x[j]) + k(y[i], y[j]) for i, j in others])
    expected -= 2 * np.mean([k(a, b) for a in x for b in y])
    drawn, real = (ImageSet(half.name, half.images[:5]) for half in halves)
    assert kernel_distance(drawn, real).distance == pytest.approx(expected)


def test_the_kernel_distance_needs_more_than_one_image(halves):
    alone = ImageSet("drawn", halves[0].images[:1])
    with pytest.raises(EvaluationInputError, match="needs two images and four real ones; got 1"):
        kernel_distance(alone, halves[1])


COMPARISONS = [contrast, nearest, kernel_distance]


@pytest.mark.parametrize("metric", COMPARISONS)
def test_every_comparison_refuses_another_size(metric, real):
    larger = ImageSet("larger", np.zeros((4, 9, 8, 1)))
    with pytest.raises(EvaluationInputError, match="9x8x1 cannot be compared with digits"):
        metric(larger, real)
