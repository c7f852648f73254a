import numpy as np
import pytest

from noise_sched.data import open_source


@pytest.mark.parametrize(("name", "image_size"), [("digits", 8), ("digits", 5), ("digits", None)])
def test_memory_and_files_give_the_same_digits(digits_dir, name, image_size):
    def opened(**options):
        return open_source(name, image_size=image_size, data_dir=digits_dir, **options)

    kept, read = opened(), opened(memory_budget=0)
    assert kept.in_memory and not read.in_memory
    assert kept.image_shape == read.image_shape and len(kept) == len(read)
    indices = np.array([5, 0, 1796, 5])
    for key in ("image", "label"):
        np.testing.assert_array_equal(kept.gather(indices)[key], read.gather(indices)[key])
        np.testing.assert_array_equal(kept[7][key], read[7][key])
        assert kept.gather(indices)[key].dtype == read.gather(indices)[key].dtype


@pytest.mark.parametrize("memory_budget", [0, 2**28])
def test_types_and_range(digits_dir, memory_budget):
    source = open_source("digits", image_size=8, data_dir=digits_dir, memory_budget=memory_budget)
    example = source[3]
    assert example["image"].dtype == np.float32 and example["label"].dtype == np.int32
    images = source.gather(np.arange(9))["image"]
    assert images.min() == -1 and images.max() == 1
    assert example["image"].shape == source.image_shape == (8, 8, 1)


def test_the_end_is_an_index_error(digits_dir):
    source = open_source("digits", image_size=8, data_dir=digits_dir)
    for index in (-1, 1797):
        with pytest.raises(IndexError, match="digits, which has 1797"):
            source[index]


def test_gathered_arrays_are_new(digits_dir):
    source = open_source("digits", image_size=5, data_dir=digits_dir)
    source.gather(np.array([0]))["image"][:] = 7
    source[0]["image"][:] = 7
    assert source[0]["image"].max() < 2


def test_enlarging_warns(digits_dir):
    with pytest.warns(UserWarning, match="side of 8 pixels.*enlarged to 16"):
        open_source("digits", image_size=16, data_dir=digits_dir)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size=0; expected a positive"),
        ({"image_size": 8, "channels": 2}, "channels=2; expected 1"),
        ({"image_size": 8, "split": "test"}, r"no split 'test'.*\(it has train\)"),
    ],
)
def test_bad_arguments(digits_dir, options, message):
    with pytest.raises(ValueError, match=message):
        open_source("digits", data_dir=digits_dir, **options)


def test_home_is_expanded_in_data_dir(digits_dir, monkeypatch):
    monkeypatch.setenv("HOME", digits_dir)
    assert len(open_source("digits", image_size=8, data_dir="~")) == 1797
