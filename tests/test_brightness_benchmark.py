"""The figures and the picture of docs/results/brightness.md, on numbers that are known."""

import matplotlib
import numpy as np
import pytest
from PIL import Image

from benchmarks import brightness

matplotlib.use("Agg")


def test_figures_of_a_narrower_distribution():
    real = np.linspace(-0.8, 0.8, 4001)
    same, narrow = (brightness.figures(scale * real, real) for scale in (1.0, 0.5))
    assert same["distance to the data"] == 0
    assert same["dark or bright"] == pytest.approx(0.25, abs=1e-3)
    assert narrow["dark or bright"] == 0
    assert narrow["standard deviation"] == pytest.approx(0.4 / np.sqrt(3), abs=1e-3)
    # Half of the mean of |x|: every quantile moves half-way to the middle.
    assert narrow["distance to the data"] == pytest.approx(0.2, abs=1e-3)


def test_the_distance_does_not_need_equal_numbers():
    few, many = np.linspace(0, 1, 500), np.linspace(0.25, 1.25, 3000)
    assert brightness.wasserstein(few, many) == pytest.approx(0.25, abs=0.002)


def test_the_table_and_the_picture(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.uniform(-0.8, 0.8, (1200, 1, 1, 1)) + np.zeros((1, 4, 4, 1))
    sets = {"data": images, "run": images[:100] / 2}
    table = brightness.table({name: brightness.brightness(each) for name, each in sets.items()})
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "data",
        "1,000 of the data",
        "run",
    ]
    brightness.draw(sets, tmp_path / "picture.png")
    assert np.asarray(Image.open(tmp_path / "picture.png").convert("L")).std() > 0
