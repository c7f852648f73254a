import numpy as np
import pytest

from noise_sched.data import open_source, photo_crops


def test_crops_are_of_their_photograph_and_always_the_same():
    for index in (0, 7, 23):
        image, label = photo_crops.crop(index)
        assert image.shape == (64, 64, 3) and label == index % 10
        np.testing.assert_array_equal(image, photo_crops.crop(index)[0])
        whole = np.asarray(photo_crops.photograph(photo_crops.NAMES[label]))
        # Averages of its pixels.
        assert whole.min() <= image.min() and image.max() <= whole.max()
    assert (photo_crops.crop(0)[0] != photo_crops.crop(10)[0]).mean() > 0.5


def test_it_is_prepared_on_first_use(tmp_path, monkeypatch):
    monkeypatch.setattr(photo_crops, "OF_EACH", 1)
    source = open_source("photo_crops", image_size=32, data_dir=tmp_path)
    assert len(source) == 10 and source.image_shape == (32, 32, 3)
    assert source.class_names == photo_crops.NAMES


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(photo_crops.PHOTOGRAPHS, "moon", ("no_such_package", "moon.png"))
    with pytest.raises(ValueError, match=r"(?s)no_such_package.*pip install 'noise_sched\[data\]'"):
        photo_crops.photograph("moon")
