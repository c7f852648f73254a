import pathlib

import numpy as np
import pytest

from noise_sched.data import transforms

GOLDENS = pathlib.Path(__file__).parent / "goldens"


@pytest.mark.parametrize("case", ["a", "b"])
def test_crop_and_resize_match_tensorflow(case):
    """Goldens: google-research/pix2seq at eabd4e9 run under TensorFlow 2.15: convert to [0, 1],
    largest centre square, tf.image.resize(bicubic, antialias=True) to 16 x 16; one wide and one
    tall image, both with an odd margin or an odd side."""
    goldens = np.load(GOLDENS / "crop_resize.npz")
    image = transforms.preprocess(goldens[f"in_{case}"], 16)
    np.testing.assert_allclose((image + 1) / 2, goldens[f"out_{case}_16"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("size", "new_size"), [(7, 7), (37, 16), (16, 37), (5, 1), (1, 5), (9, 3)])
def test_rows_of_weights_sum_to_one_and_mirror(size, new_size):
    weights = transforms.resampling_matrix(size, new_size)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-6)


def test_same_size_is_the_identity():
    np.testing.assert_array_equal(transforms.resampling_matrix(6, 6), np.eye(6, dtype=np.float32))
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    np.testing.assert_array_equal(transforms.preprocess(image, 4), transforms.to_model_range(image))


def test_constant_images_stay_constant():
    image = np.full((11, 17, 3), 51, np.uint8)
    np.testing.assert_allclose(transforms.preprocess(image, 5), 2 * 51 / 255 - 1, atol=1e-6)


def test_enlarging_interpolates_the_kernel():
    # Keys' kernel with a = -1/2 reproduces quadratics away from the border.
    x = np.arange(12.0)
    values = (0.01 * x**2 + 0.1 * x + 1).astype(np.float32)
    out = transforms.resampling_matrix(12, 24) @ values
    at = (np.arange(24) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(out[6:-6], (0.01 * at**2 + 0.1 * at + 1)[6:-6], rtol=1e-5)


def test_resize_is_not_clipped():
    edge = np.zeros((8, 8, 1), np.uint8)
    edge[:, 4:] = 255
    image = transforms.preprocess(edge, 16)
    assert image.max() > 1.001 and image.min() < -1.001


def test_range_is_exact_at_the_ends():
    image = transforms.to_model_range(np.array([[[0], [255]]], np.uint8))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image.ravel(), [-1, 1])


@pytest.mark.parametrize("shape", [(5, 8), (8, 5), (6, 6)])
def test_centre_square_takes_the_centre(shape):
    rows, columns = np.indices(shape, dtype=np.uint8)
    square = transforms.centre_square(np.stack([rows, columns], axis=-1))
    assert square.shape[:2] == (min(shape), min(shape))
    assert tuple(square[0, 0]) == ((shape[0] - min(shape)) // 2, (shape[1] - min(shape)) // 2)


def test_flip_touches_only_the_chosen():
    images = np.random.default_rng(0).random((3, 2, 4, 1), dtype=np.float32)
    flipped = transforms.flip_left_right(images.copy(), np.array([True, False, True]))
    np.testing.assert_array_equal(flipped[1], images[1])
    np.testing.assert_array_equal(flipped[[0, 2]], images[[0, 2], :, ::-1])
