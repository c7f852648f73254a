import numpy as np
import pytest

from noise_sched.data import dead_leaves, open_source


def mean_of_squares(images, side):
    count, size = images.shape[:2]
    parts = images.reshape(count, side, size // side, side, size // side, 3)
    return parts.mean(axis=(2, 4))


def test_a_resolution_is_the_mean_of_the_next():
    scenes = {s: np.stack([dead_leaves.scene(i, s) for i in range(8)]) for s in (8, 16, 32)}
    for small, large in ((8, 16), (16, 32), (8, 32)):
        gap = mean_of_squares(scenes[large].astype(float), small) - scenes[small]
        assert np.abs(gap).max() < 1, "bytes are rounded, and nothing else"
    # Beyond, the rendering is finer: the same scene, with its edges better resolved.
    large = np.stack([dead_leaves.scene(i, 64) for i in range(2)]).astype(float)
    gap = mean_of_squares(large, 32) - scenes[32][:2]
    assert np.abs(gap).mean() < 4 and np.abs(mean_of_squares(large, 8) - scenes[8][:2]).max() < 12


def test_a_scene_is_a_function_of_its_number():
    np.testing.assert_array_equal(dead_leaves.scene(3, 16), dead_leaves.scene(3, 16))
    assert (dead_leaves.scene(3, 16) != dead_leaves.scene(11, 16)).mean() > 0.9


def test_classes_are_shapes_and_palettes():
    for index in range(8):
        name = dead_leaves.NAMES[dead_leaves.label_of(index)]
        red, _, blue = dead_leaves.scene(index, 8).mean(axis=(0, 1))
        assert (red > blue) == name.startswith("warm")
    assert sorted({name.split()[1] for name in dead_leaves.NAMES}) == sorted(dead_leaves.SHAPES)


@pytest.mark.parametrize("shape", dead_leaves.SHAPES)
def test_a_leaf_has_the_area_of_its_disc_and_no_more_reach(shape):
    axis = (np.arange(400) + 0.5) / 100 - 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    for angle in (0.0, 0.7, 2.0):
        inside = dead_leaves._inside(shape, y, x, 1.0, angle)
        assert inside.sum() / 1e4 == pytest.approx(np.pi, rel=0.01)
        assert np.hypot(y, x)[inside].max() <= dead_leaves._REACH[shape] + 1e-9


def test_the_spectrum_falls_as_that_of_photographs():
    grey = np.stack([dead_leaves.scene(i, 64) for i in range(24)]).mean(axis=-1)
    power = np.mean(np.abs(np.fft.fft2(grey - grey.mean(axis=(1, 2), keepdims=True))) ** 2, axis=0)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(64) * 64] * 2))
    rings = np.arange(2, 24)
    mean = [power[np.abs(frequency - ring) < 0.5].mean() for ring in rings]
    slope = np.polyfit(np.log(rings), np.log(mean), 1)[0]
    assert -3 < slope < -1.8


def test_it_is_rendered_at_the_wanted_size(tmp_path, monkeypatch):
    monkeypatch.setattr(dead_leaves, "COUNT", 10)
    for size in (8, 16):
        source = open_source("dead_leaves", image_size=size, data_dir=tmp_path)
        assert source.image_shape == (size, size, 3) and source.num_classes == 8
        images = source.gather(np.arange(10))["image"]
        expected = np.stack([dead_leaves.scene(i, size) for i in range(10)]) / 127.5 - 1
        np.testing.assert_allclose(images, expected, atol=1e-6)
    named = open_source("dead_leaves/16x16", image_size=8, data_dir=tmp_path)
    assert named.image_shape == (8, 8, 3)
    with pytest.raises(ValueError, match="comes in sizes 8, 16, 32, 64"):
        open_source("dead_leaves", image_size=128, data_dir=tmp_path)
