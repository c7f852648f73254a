"""The data sets of our own, each prepared on first use. A new one is one row."""

import numpy as np
import pytest

from noise_sched.data import offline, open_source

# Images, the shape of one, classes.
OFFLINE = {"brightness": (4096, (32, 32, 1), 4), "digits": (1797, (8, 8, 1), 10)}


def test_every_data_set_has_a_row():
    assert set(OFFLINE) == set(offline.MODULES)


@pytest.mark.parametrize("name", OFFLINE)
def test_it_is_prepared_and_holds_what_it_should(name, digits_dir):
    count, shape, classes = OFFLINE[name]
    source = open_source(name, image_size=shape[0], data_dir=digits_dir)
    assert (len(source), source.image_shape, source.num_classes) == (count, shape, classes)
    few = source.gather(np.array([0, count - 1]))
    assert np.abs(few["image"]).max() <= 1 and (few["label"] < classes).all()
