"""The input scale from the images alone, held against closed forms and fields of known spectrum."""

import json
import math

import in_process
import numpy as np
import pytest
from scipy import fft, integrate

from noise_sched import calibrate as command
from noise_sched.calibration import calibrate, calibrate_batches, explained, modes
from noise_sched.calibration.calibration import Calibration
from noise_sched.data import transforms


@pytest.mark.parametrize("c", [1e-8, 0.01, 0.5, 0.9995, 1.0, 1.0005, 3.0, 1e4])
def test_the_share_of_a_mode_is_the_mean_of_the_best_linear_denoiser(c):
    expected, _ = integrate.quad(lambda g: g * c / (g * c + 1 - g), 0, 1, epsabs=1e-12)
    assert explained.share_of_mode(np.asarray([c]))[0] == pytest.approx(expected, rel=1e-6)


def test_a_mode_without_variance_explains_nothing():
    assert explained.share_of_mode(np.asarray([0.0]))[0] == 0


def test_explained_at_a_level_averages_to_explained():
    variances = np.asarray([0.1, 2.0, 30.0])
    gamma = (np.arange(20_000) + 0.5) / 20_000
    levels = explained.explained_at(variances, 0.7, np.log(gamma / (1 - gamma)))
    assert levels.mean() == pytest.approx(explained.explained(variances, 0.7), rel=1e-5)


def test_a_scale_is_found_again():
    variances = np.geomspace(1e-3, 1e3, 50)
    share = explained.explained(variances, 0.37)
    assert explained.scale_that_explains(variances, share) == pytest.approx(0.37, rel=1e-5)


def test_photographs_spectrum_gives_the_papers_scales():
    """Variance falls with the frequency to the power 2.3; pixels have the standard deviation 1/2 at 64 px."""

    def of(size):
        k = np.arange(size)
        radius = np.maximum(np.hypot(k[:, None], k[None, :]), 1)
        return (size**2 / radius**2.3).ravel()

    at_64 = of(64)
    amplitude = 0.25 * 64**2 / at_64.sum()
    share = explained.explained(amplitude * at_64, 1.0)
    found = [explained.scale_that_explains(amplitude * of(size), share) for size in (128, 256, 512)]
    assert found == pytest.approx([0.64, 0.40, 0.24], abs=0.005)  # searched: 0.6, 0.4


def random_field(size, count, exponent, seed=0):
    """Gaussian images [count, size, size, 1] whose mode (i, j) has variance S[i, j], and S."""
    k = np.arange(size)
    variances = 30 / (1 + k[:, None] ** 2 + k[None, :] ** 2) ** (exponent / 2)
    z = np.random.default_rng(seed).standard_normal((count, size, size))
    return fft.idctn(z * np.sqrt(variances), axes=(1, 2), norm="ortho")[..., None], variances


def shrunk(images, size):
    return np.stack([transforms.resize(image.astype(np.float32), size) for image in images])


def test_fields_of_known_spectrum_give_the_scale_of_their_spectrum():
    fine, coarse, count = 16, 8, 4000
    images, variances = random_field(fine, count, exponent=2.5)
    found = calibrate_batches([(images, shrunk(images, coarse))], anchor_scale=0.8)

    # The coarse modes are linear in the fine ones: D_8 R D_16^T along each side.
    cosines = {n: fft.dct(np.eye(n), axis=0, norm="ortho") for n in (fine, coarse)}
    along = cosines[coarse] @ transforms.resampling_matrix(fine, coarse) @ cosines[fine].T
    anchor = along**2 @ variances @ (along**2).T
    share = explained.explained(anchor.ravel(), 0.8)
    expected = explained.scale_that_explains(variances.ravel(), share)
    assert found.scale == pytest.approx(expected, rel=0.01)
    assert found.low < expected < found.high
    assert found.high / found.low < 1.1
    assert found.spectrum.exponent == pytest.approx(2.5, abs=0.3)


def test_brighter_images_of_the_same_size_need_a_scale_as_much_smaller():
    images, _ = random_field(8, 64, exponent=2)
    found = calibrate_batches([(4 * images, images)])
    assert (found.scale, found.low, found.high) == pytest.approx((0.25,) * 3, rel=1e-4)


def test_batches_do_not_matter():
    images, _ = random_field(8, 100, exponent=2)
    small = shrunk(images, 4)
    whole = calibrate_batches([(images, small)])
    parts = calibrate_batches([(images[i : i + 7], small[i : i + 7]) for i in range(0, 100, 7)])
    assert parts.scale == pytest.approx(whole.scale, rel=1e-6)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), rel=1e-6)


def test_variances_of_modes_are_unbiased_and_weights_count_images_again():
    images, _ = random_field(4, 40, exponent=2)
    found = modes.Modes((4, 4, 1), 8)
    found.add(images)
    coefficients = fft.dctn(images, axes=(1, 2), norm="ortho")
    np.testing.assert_allclose(found.variances(), coefficients.var(axis=0, ddof=1), rtol=1e-5)
    twice = np.eye(8)[0] * 2 + 1  # the first group three times
    again = np.concatenate([coefficients, *2 * [coefficients[::8]]])
    np.testing.assert_allclose(found.variances(twice), again.var(axis=0, ddof=1), rtol=1e-5)


def scenes(count=32, side=32):
    """Bytes of blurred noise in three colours, which differ."""
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (count, side // 4, side // 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def test_calibrate_takes_bytes_of_any_size():
    found = calibrate(scenes(), 32, anchor_size=16)
    assert isinstance(found, Calibration)
    assert (found.size, found.anchor_size, found.images) == (32, 16, 32)
    assert 0.5 < found.scale < 0.7
    assert found.inverse_size == 0.5
    assert found.low <= found.scale <= found.high
    assert any("few" in warning for warning in found.warnings)
    assert found.config_line == f"--config.process='vp(input_scale={found.scale:.3g})'"
    assert math.prod(found.sweep) == pytest.approx(found.scale**3)


@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        (scenes(), 64, "image 0 has a side of 32 pixels, less than the 64 asked for"),
        (scenes(8), 32, "got 8 images"),
        (scenes(0), 32, "got 0 images"),
        (np.full((20, 32, 32, 3), [[[[9, 8, 7]]]], np.uint8), 32, "all images are equal"),
        (scenes()[..., :1].repeat(3, axis=3), 32, "the images are grey"),
        (scenes(), 1, "got size=1"),
    ],
)
def test_images_that_cannot_be_calibrated_on(images, size, message):
    with pytest.raises(ValueError, match=message):
        calibrate(images, size, anchor_size=16)


def test_the_command(tmp_path, capsys):
    out = tmp_path / "found"
    flags = [
        "--data=dead_leaves",
        "--size=16",
        "--anchor_size=8",
        "--num_images=64",
        f"--out={out}",
    ]
    assert in_process.run(command, flags) == 0
    said = capsys.readouterr().out
    kept = json.loads((out / "calibration.json").read_text())
    assert (kept["size"], kept["images"]) == (16, 64)
    assert 0.3 < kept["low"] < kept["scale"] < kept["high"] < 1
    assert kept["config"] in said and "Experimental" in said
    assert (out / "calibration.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size=16"], "--data is missing"),
        (["--data=digits"], "--size is missing"),
        (["--data=dijits", "--size=8"], "did you mean 'digits'"),
        (["--data=digits", "--size=16", "--anchor_size=8"], "a side of 8 pixels, less than 16"),
        (["--data=digits", "--size=8", "--anchor_size=4", "--num_images=3"], "got 3 images"),
        (["--data=digits", "--size=one"], "size"),
    ],
)
def test_what_the_command_refuses(flags, message, capsys):
    assert in_process.run(command, flags) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert message in said
