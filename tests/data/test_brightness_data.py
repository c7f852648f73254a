import numpy as np

from noise_sched.data import brightness, open_source, prepare


def test_an_images_mean_is_its_brightness_whatever_its_pattern():
    images, labels = brightness.generate(400)
    values = images / 127.5 - 1
    means = values.mean(axis=(1, 2))
    assert np.abs(means).max() < brightness.RANGE + 0.005
    # Uniform: the sorted means are evenly spaced, within Kolmogorov's 1 % bound of 1.63 / sqrt(n).
    expected = (np.arange(400) + 0.5) / 400 * 2 * brightness.RANGE - brightness.RANGE
    assert np.abs(np.sort(means) - expected).max() < 1.63 / 20 * 2 * brightness.RANGE
    away = np.abs(values - means[:, None, None]).max(axis=(1, 2))
    np.testing.assert_allclose(away, brightness.CONTRAST, atol=0.01)
    assert np.abs(np.corrcoef(means, labels)[0, 1]) < 0.15
    np.testing.assert_array_equal(np.bincount(labels), [100] * 4)


def test_the_patterns_of_a_class_differ_and_are_always_the_same():
    images, labels = brightness.generate(40)
    assert len(np.unique(images.reshape(40, -1), axis=0)) == 40
    again, _ = brightness.generate(8)
    np.testing.assert_array_equal(images[:8], again)


def test_it_is_prepared_on_first_use(tmp_path, monkeypatch):
    generate = brightness.generate
    monkeypatch.setattr(brightness, "generate", lambda: generate(12))
    source = open_source("brightness", image_size=None, data_dir=tmp_path)
    assert len(source) == 12 and source.image_shape == (32, 32, 1)
    assert source.class_names == ("disc", "cross", "stripes", "ramp")
    images, labels = generate(12)
    whole = source.gather(np.arange(12))
    np.testing.assert_allclose(whole["image"][..., 0], images / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(whole["label"], labels)
    assert prepare.prepare("brightness", str(tmp_path)).startswith(str(tmp_path)), "found there"
