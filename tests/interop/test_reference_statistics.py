"""Published statistics, as each project writes them."""

import pickle

import numpy as np
import pytest

from noise_sched.interop import reference_statistics


def statistics(length, seed=0):
    features = np.random.default_rng(seed).standard_normal((8, length))
    return features.mean(0), np.cov(features, rowvar=False)


MEAN, COVARIANCE = statistics(64)
SPATIAL = statistics(2023)
DINO = statistics(1024)
EDM2 = {
    "num_images": 8,
    "fid": {"mu": MEAN, "sigma": COVARIANCE},
    "fd_dinov2": {"mu": DINO[0], "sigma": DINO[1]},
}


def write(path, content):
    if isinstance(content, dict) and "mu" in content:
        np.savez(path / "file.npz", **content)
        return path / "file.npz"
    (path / "file.pkl").write_bytes(pickle.dumps(content))
    return path / "file.pkl"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"mu": MEAN, "sigma": COVARIANCE}, {"inception/64": (MEAN, COVARIANCE, None)}),
        (
            {
                "mu": MEAN,
                "sigma": COVARIANCE,
                "mu_s": SPATIAL[0],
                "sigma_s": SPATIAL[1],
                "arr_0": np.zeros((3, 2, 2, 3), np.uint8),
            },
            {"inception/64": (MEAN, COVARIANCE, None), "inception/spatial": (*SPATIAL, None)},
        ),
        (EDM2, {"inception/64": (MEAN, COVARIANCE, 8), "dinov2": (*DINO, 8)}),
        (
            {"fid": {"mu": MEAN.astype("f4"), "sigma": COVARIANCE.astype("f4")}},
            {"inception/64": (MEAN.astype("f4"), COVARIANCE.astype("f4"), None)},
        ),
    ],
    ids=["EDM and pytorch-fid", "ADM", "EDM2", "float32"],
)
def test_statistics_are_read(tmp_path, content, expected):
    found = reference_statistics.read(write(tmp_path, content))
    assert found.keys() == expected.keys()
    for kind, (mean, covariance, count) in expected.items():
        assert found[kind][0].dtype == found[kind][1].dtype == np.float64
        np.testing.assert_array_equal(found[kind][0], mean)
        np.testing.assert_array_equal(found[kind][1], covariance)
        assert found[kind][2] == count


class Command:
    def __reduce__(self):
        return eval, ("open('marker', 'w')",)


def changed(where, value):
    array = COVARIANCE.copy()
    array[where] = value
    return {"mu": MEAN, "sigma": array}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"mu": np.zeros(7), "sigma": np.eye(7)},
            r"mean `mu` of shape \[7\]; known lengths are 64",
        ),
        ({"mu": MEAN, "sigma": np.eye(3)}, r"covariance is \[3, 3\]"),
        ({"mu": MEAN}, "covariance is none"),
        (changed((1, 0), np.nan), "not finite"),
        (changed((1, 0), 9.0), "not symmetric"),
        (changed((1, 1), -9.0), "negative variances"),
        ({"mu": np.full(64, None), "sigma": COVARIANCE}, "Python objects"),
        ({"mu": MEAN.astype(str), "sigma": COVARIANCE}, "not numbers"),
        ([1], "a pickle of a list"),
        ({"fid": {"mu": MEAN}}, "'fid' without arrays"),
        ({"images": 3}, "expected 'fid' or 'fd_dinov2'.*It holds 'images'"),
        (EDM2 | {"num_images": "many"}, "'many' as its number of images"),
        (EDM2 | {"fid": {"mu": np.full(64, None), "sigma": COVARIANCE}}, "not plain numbers"),
        (EDM2 | {"note": Command()}, "asks for 'builtins.eval'.*nothing was run"),
    ],
)
def test_what_is_no_statistics_is_refused_in_one_message(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=message) as error:
        reference_statistics.read(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    assert not (tmp_path / "marker").exists()


def test_an_npz_of_images_is_told_what_is_missing(tmp_path):
    np.savez(tmp_path / "images.npz", images=np.zeros((2, 4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="no array `mu`; it has: images. Expected `mu`, the mean"):
        reference_statistics.read(tmp_path / "images.npz")


def test_a_truncated_file_is_refused(tmp_path):
    for content in (EDM2, {"mu": MEAN, "sigma": COVARIANCE}):
        path = write(tmp_path, content)
        path.write_bytes(path.read_bytes()[:-99])
        with pytest.raises(ValueError, match=f"^{path}"):
            reference_statistics.read(path)
