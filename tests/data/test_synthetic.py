"""Random fields and large leaves: resolutions are means of each other, the spectrum is the one promised."""

import numpy as np
import pytest

from noise_sched.data import large_leaves, open_source, random_fields


def test_a_field_at_a_resolution_is_the_mean_of_the_next():
    scenes = {s: np.stack([random_fields.scene(i, s) for i in range(8)]) for s in (8, 32)}
    mean = scenes[32].astype(float).reshape(8, 8, 4, 8, 4).mean(axis=(2, 4))
    assert np.abs(mean - scenes[8][..., 0]).max() < 1, "bytes are rounded, and nothing else"
    np.testing.assert_array_equal(random_fields.scene(3, 8), scenes[8][3])


def test_fields_have_their_spectrum():
    images = np.stack([random_fields.scene(i, 64)[..., 0] for i in range(200)]) / 255.0 - 0.5
    power = np.mean(np.abs(np.fft.fft2(images)) ** 2, axis=0)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(64) * 64] * 2))
    rings = np.arange(2, 24)
    mean = [power[np.abs(frequency - ring) < 0.5].mean() for ring in rings]
    slope = np.polyfit(np.log(rings), np.log(mean), 1)[0]
    assert slope == pytest.approx(random_fields.EXPONENT, abs=0.05)
    assert images.std() == pytest.approx(0.18, rel=0.03)
    skewness = np.mean(images**3) / np.mean(images**2) ** 1.5
    assert abs(skewness) < 0.1


def test_both_open_at_a_size(tmp_path, monkeypatch):
    monkeypatch.setattr(random_fields, "COUNT", 4)
    monkeypatch.setattr("noise_sched.data.dead_leaves.COUNT", 4)
    fields = open_source("random_fields", image_size=8, data_dir=tmp_path)
    leaves = open_source("large_leaves", image_size=8, data_dir=tmp_path)
    assert fields.gather(np.arange(4))["image"].shape == (4, 8, 8, 1)
    assert leaves.gather(np.arange(4))["image"].shape == (4, 8, 8, 3)
    plain = open_source("dead_leaves", image_size=8, data_dir=tmp_path)
    assert large_leaves.BUILDER.R_MIN == 0.1
    assert np.any(plain.gather(np.arange(4))["image"] != leaves.gather(np.arange(4))["image"])
