"""What a judging shows of the images that it passes on."""

import numpy as np

from noise_sched.judging.model_images import ModelImages
from noise_sched.sweeping import judged


def numbered(start, stop):
    """Images, each of the grey of its number."""
    return np.arange(start, stop, dtype=np.uint8)[:, None, None, None]


def test_the_first_images_are_shown_whatever_was_read_before():
    """A judging that was killed has its features already, all or some, and reads no image of those again."""
    labels = np.arange(150) % 10
    images = ModelImages("numbered", (1, 1, 1), labels, numbered, piece=50, content="")
    for begun in (0, 50, 150):
        first = judged._First(images)
        for start in range(begun, 150, 50):
            first.read(start, start + 50)
        np.testing.assert_array_equal(first.shown().ravel(), np.arange(60))
