"""Images as bytes, and grids of them."""

import numpy as np

from noise_sched.figures.images import labelled_grid, to_uint8


def test_bytes_are_rounded_and_clipped():
    np.testing.assert_array_equal(
        to_uint8(np.array([-1.0, 0.0, 1.0, 5.0, -7.0])), [0, 128, 255, 255, 0]
    )


def test_a_grid_has_a_row_per_label():
    images = (
        np.full((5, 48, 48, 1), 255, np.uint8)
        * np.array([0, 1, 0, 1, 1], np.uint8)[:, None, None, None]
    )
    grid = np.asarray(labelled_grid(images, np.array([3, 7, 3, 7, 7])))
    assert grid.shape == (2 * 50 + 2, 24 + 10 * 50 + 2, 3)
    assert (grid[2:50, 26:74] == 0).all() and (grid[52:100, 26:74] == 255).all()


def test_without_labels_images_are_laid_out_in_rows():
    images = np.zeros((12, 8, 8, 3), np.uint8)
    grid = np.asarray(labelled_grid(images, np.full(12, -1)))
    assert grid.shape[0] == 2 * (8 * 6 + 2) + 2
    assert (
        (grid[2:50, 2:50] == 0).all()
        and (grid[52:100, 2:50] == 0).all()
        and (grid[52:, 102:] == 255).all()
    )
