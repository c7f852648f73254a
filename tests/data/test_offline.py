"""The data sets of our own, each prepared on first use. A new one is one row."""

import numpy as np
import pytest

from noise_sched.data import offline, open_source

# Images, the shape of one, classes.
OFFLINE = {
    "brightness": (4096, (32, 32, 1), 4),
    "dead_leaves": (16, (8, 8, 3), 8),
    "digits": (1797, (8, 8, 1), 10),
    "large_leaves": (16, (8, 8, 3), 8),
    "mnist5k": (5000, (32, 32, 1), 10),
    "photo_crops": (20, (64, 64, 3), 10),
    "random_fields": (16, (8, 8, 1), 0),
}
# Of those that take long to make, so many only.
FEWER = {
    "dead_leaves": ("noise_sched.data.dead_leaves.COUNT", 16),
    "large_leaves": ("noise_sched.data.dead_leaves.COUNT", 16),
    "photo_crops": ("noise_sched.data.photo_crops.OF_EACH", 2),
    "random_fields": ("noise_sched.data.random_fields.COUNT", 16),
}


def test_every_data_set_has_a_row():
    assert set(OFFLINE) == set(offline.MODULES)


@pytest.mark.parametrize("name", OFFLINE)
def test_it_is_prepared_and_holds_what_it_should(name, digits_dir, tmp_path, monkeypatch):
    count, shape, classes = OFFLINE[name]
    if name in FEWER:
        digits_dir = tmp_path
        monkeypatch.setattr(*FEWER[name])
    source = open_source(name, image_size=shape[0], data_dir=digits_dir)
    assert (len(source), source.image_shape, source.num_classes) == (count, shape, classes)
    few = source.gather(np.array([0, count - 1]))
    assert np.abs(few["image"]).max() <= 1 and (few["label"] < classes).all()
