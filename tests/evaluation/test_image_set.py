"""Images in memory: what is accepted, and what is said otherwise."""

import numpy as np
import pytest

from noise_sched.evaluation.image_set import EvaluationInputError, image_set

COUNT = 6


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, size=(COUNT, 8, 8, 1)).astype(np.uint8)


def test_uint8_and_float_images_are_the_same_set(pixels):
    floats = pixels.astype(np.float32) / 127.5 - 1
    from_uint8, from_float = image_set("a", pixels), image_set("b", floats)
    np.testing.assert_array_equal(from_float.images, from_uint8.images)
    assert from_uint8.fingerprint() == from_float.fingerprint()
    assert from_uint8.fingerprint() != image_set("a", pixels[::-1]).fingerprint()


def test_images_without_a_channel_axis_have_one_channel(pixels):
    np.testing.assert_array_equal(
        image_set("a", pixels[..., 0]).images, image_set("b", pixels).images
    )


def test_rounding_beyond_the_range_is_clipped():
    images = image_set("a", np.full((1, 8, 8, 1), 1.0005, np.float32)).images
    assert images.max() == 255


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8), np.uint8), r"expected images of shape .* got \(2, 8\)"),
        (np.zeros((0, 8, 8, 1), np.uint8), r"none of them 0, .*; got \(0, 8, 8, 1\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"with 1 \(grey\) or 3 \(RGB\) channels last; got"),
        (np.zeros((2, 8, 8, 1), np.int32), "must be uint8 .* or float .* got int32"),
        (np.full((2, 8, 8, 1), 255.0), r"must lie in \[-1, 1\]; got 255 to 255"),
    ],
)
def test_images_of_another_kind_are_refused(images, message):
    with pytest.raises(EvaluationInputError, match=message):
        image_set("a", images)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite_are_refused(value):
    images = np.zeros((4, 8, 8, 1), np.float32)
    images[2, 3, 3] = value
    with pytest.raises(EvaluationInputError, match="1 of 4 images hold NaN or infinity, image 2"):
        image_set("a", images)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(COUNT - 1), "one label per image, 6 in all; got labels of shape"),
        (np.zeros(COUNT), "labels must be integers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(pixels, labels, message):
    with pytest.raises(EvaluationInputError, match=message):
        image_set("a", pixels, labels)
