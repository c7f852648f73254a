"""The features and metrics of images themselves, held against plain NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from noise_sched.evaluation import laplacian_patches, pixels, spectrum, tones
from noise_sched.evaluation.features import BLOCK, Features
from noise_sched.evaluation.kernel_distance import kernel_distance
from noise_sched.evaluation.nearest import nearest, neighbours
from noise_sched.evaluation.sliced_wasserstein import sliced_wasserstein


def random_images(count=12, shape=(32, 32, 3), seed=0):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(count, *shape)), (0, 1, 1, 0))
    return np.clip(128 + 250 * smooth, 0, 255).astype(np.uint8)


def extracted(extractor, images, first=0):
    numbers = jnp.arange(first, first + len(images), dtype=jnp.int32)
    made = jax.jit(extractor.apply)(None, jnp.asarray(images), numbers)
    assert {kind: values.shape[1] for kind, values in made.items()} == dict(extractor.outputs)
    return {kind: Features("some", np.asarray(values)) for kind, values in made.items()}


def features(values):
    return Features("some", np.asarray(values, np.float32))


def plain_pyramid(image, levels):
    """Burt and Adelson's, of one image [h, w, c] by SciPy."""
    kernel = np.outer(*[np.array([1, 4, 6, 4, 1]) / 16] * 2)[..., None]
    found = []
    for _ in range(levels - 1):
        smaller = ndimage.convolve(image, kernel, mode="mirror")[::2, ::2]
        between = np.zeros_like(image)
        between[::2, ::2] = smaller
        found.append(image - ndimage.convolve(between, 4 * kernel, mode="mirror"))
        image = smaller
    return [*found, image]


def test_the_pyramid():
    images = random_images(3, (64, 32, 3)).astype(np.float32) / 255
    found = laplacian_patches.pyramid(jnp.asarray(images), 2)
    for index, image in enumerate(images):
        for level, expected in zip(found, plain_pyramid(image, 2), strict=True):
            np.testing.assert_allclose(level[index], expected, atol=1e-6)
    np.testing.assert_allclose(found[0] + laplacian_patches.enlarge(found[1]), images, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((8, 8, 1), [(8, 8)]),
        ((31, 64, 3), [(31, 64)]),
        ((64, 64, 3), [(64, 64), (32, 32), (16, 16)]),
        ((48, 96, 3), [(48, 96), (24, 48)]),
    ],
)
def test_the_levels(shape, sizes):
    assert laplacian_patches.level_sizes(shape) == sizes


def test_patches_are_cut_where_the_number_of_the_image_says():
    images = random_images(4)
    extractor = laplacian_patches.extractor((32, 32, 3))
    whole, later = extracted(extractor, images), extracted(extractor, images[2:], first=2)
    for kind in ("patches/32", "patches/16"):
        np.testing.assert_array_equal(whole[kind].values[2:], later[kind].values)
    level = plain_pyramid(images[1] / 255, 2)[1]
    patches = whole["patches/16"].values[1].reshape(-1, 7, 7, 3)
    windows = np.lib.stride_tricks.sliding_window_view(level, (7, 7), (0, 1)).transpose(
        0, 1, 3, 4, 2
    )
    gaps = np.abs(windows.reshape(-1, 1, 7, 7, 3) - patches).max((2, 3, 4))
    assert gaps.min(axis=0).max() < 1e-6  # each is a window of the level,
    assert len(set(gaps.argmin(axis=0))) > 8  # at many places


def test_the_sliced_distance_is_the_mean_over_directions():
    """SciPy's distance in each direction; unequal numbers of images."""
    rng = np.random.default_rng(0)
    length = laplacian_patches.PATCHES * 49
    x, y = rng.normal(size=(5, length)), rng.normal(size=(7, length)) * 1.5 + 0.3
    found = sliced_wasserstein([features(x)], [features(y)])
    directions = np.random.default_rng([0, 0]).standard_normal((49, 512))
    directions /= np.linalg.norm(directions, axis=0)
    a, b = ((v.reshape(-1, 49) - y.mean()) / y.std() @ directions for v in (x, y))
    each = [stats.wasserstein_distance(a[:, i], b[:, i]) for i in range(512)]
    assert found.distance == found.levels[0] == pytest.approx(1000 * np.mean(each), rel=1e-4)


def test_the_sliced_distance_sees_detail_and_contrast():
    images, others = random_images(60), random_images(60, seed=1)
    extractor = laplacian_patches.extractor((32, 32, 3))

    def patches(of):
        made = extracted(extractor, of)
        return [made[f"patches/{size}"] for size in (32, 16)]

    real = patches(images)
    distance = lambda of: sliced_wasserstein(patches(of), real)
    base = distance(others)
    assert sliced_wasserstein(real, real).distance == 0
    blurred = ndimage.gaussian_filter(others, (0, 1, 1, 0))
    assert distance(blurred).levels[0] > 2 * base.levels[0]
    assert distance(64 + others // 2).distance > 2 * base.distance


def test_the_spectrum_of_a_wave():
    """cos(2 pi 3 x / n) has power (n^2 / 2 a)^2 at two of the frequencies of radius 3."""
    n, amplitude = 16, 100
    wave = 128 + amplitude * np.cos(2 * np.pi * 3 * np.arange(n) / n)
    images = np.repeat(np.round(wave)[None, None, :, None], n, axis=1).astype(np.uint8)
    power = extracted(spectrum.extractor((n, n, 1)), images)["spectrum"].values[0]
    members = np.round(np.hypot(*np.meshgrid(*[np.fft.fftfreq(n) * n] * 2))) == 3
    assert power[2] == pytest.approx(
        2 * (amplitude / 255 * n * n / 2) ** 2 / members.sum(), rel=0.02
    )
    assert np.delete(power, 2).max() < 1e-3 * power[2]


def test_the_spectrum_is_numpys_and_sees_blur_and_noise():
    images = random_images(40, (32, 48, 3))
    extractor = spectrum.extractor((32, 48, 3))
    real = extracted(extractor, images)["spectrum"]
    grey = images.mean(-1) / 255
    transformed = np.abs(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True))) ** 2
    radius = np.round(
        np.hypot(*np.meshgrid(np.fft.fftfreq(32) * 32, np.fft.fftfreq(48) * 32, indexing="ij"))
    )
    for ring in (1, 7, 16):
        expected = transformed[:, radius == ring].mean(axis=1)
        np.testing.assert_allclose(real.values[:, ring - 1], expected, rtol=1e-3, atol=1e-4)
    blurred = spectrum.spectrum(
        extracted(extractor, ndimage.gaussian_filter(images, (0, 1, 1, 0)))["spectrum"], real
    )
    noise = np.random.default_rng(0).normal(size=images.shape) * 20
    noised = spectrum.spectrum(
        extracted(extractor, np.clip(images + noise, 0, 255).astype(np.uint8))["spectrum"], real
    )
    assert blurred.largest < -5 and blurred.at > 8 and noised.largest > 3 and noised.at > 10
    assert spectrum.spectrum(real, real).distance == 0
    flat = extracted(extractor, np.full((2, 32, 48, 3), 7, np.uint8))["spectrum"]
    assert np.isfinite(spectrum.spectrum(flat, real).distance)


def test_tones():
    images = random_images(50, (8, 8, 1))
    real = extracted(tones.extractor(), images)["tones"]
    x = images.reshape(50, -1) / 255
    np.testing.assert_allclose(
        real.values, np.stack([x.mean(1), x.std(1), np.ptp(x, axis=1)], 1), atol=1e-6
    )
    faint = extracted(tones.extractor(), 64 + images // 2)["tones"]
    found = tones.contrast(faint, real)
    assert found.distance == pytest.approx(
        stats.wasserstein_distance(x.std(1) / 2, x.std(1)), abs=2e-3
    )
    assert found.washed_out > 0.9 and found.floor == pytest.approx(
        np.percentile(x.std(1), 1), abs=1e-6
    )
    assert tones.contrast(real, real).washed_out == pytest.approx(0.02)  # one of 50 is below
    bright = tones.brightness(features(real.values + [0.1, 0, 0]), real)
    assert bright.distance == pytest.approx(0.1, abs=1e-6)
    assert bright.mean - bright.real_mean == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("shape", "length"), [((8, 8, 1), 64), ((64, 64, 3), 3072), ((40, 70, 3), 13 * 23 * 3)]
)
def test_pixels_are_averaged_down(shape, length):
    images = random_images(3, shape)
    found = extracted(pixels.extractor(shape), images)["pixels"]
    assert found.length == length
    factor = -(-max(shape) // 32)
    rows, columns = shape[0] // factor * factor, shape[1] // factor * factor
    means = (
        ndimage.uniform_filter(
            images[0, :rows, :columns].astype(float),
            (factor, factor, 0),
            origin=(-(factor // 2),) * 2 + (0,),
        )[::factor, ::factor]
        if factor % 2
        else None
    )
    if means is not None:
        np.testing.assert_allclose(found.values[0], means.ravel() / 255, atol=1e-5)
    else:
        assert found.values.mean() == pytest.approx(
            images[:, :rows, :columns].mean() / 255, abs=1e-5
        )


def test_neighbours_in_blocks():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(BLOCK + 30, 5)), rng.normal(size=(2 * BLOCK + 10, 5))
    indices, distances = neighbours(features(x), features(y))
    gaps = np.sqrt(((x[:, None].astype(np.float32) - y[None].astype(np.float32)) ** 2).mean(2))
    np.testing.assert_array_equal(indices, gaps.argmin(1))
    np.testing.assert_allclose(distances, gaps.min(1), atol=1e-6)
    among, _ = neighbours(features(y), features(y), own=np.arange(len(y)))
    assert (among != np.arange(len(y))).all()
    some = np.array([3, BLOCK + 5, 2 * BLOCK + 9])
    np.testing.assert_array_equal(
        neighbours(features(y[some]), features(y), own=some)[0], among[some]
    )


def test_noise_is_far_and_copies_are_copies():
    rng = np.random.default_rng(0)
    real = rng.uniform(0.4, 0.6, (300, 20))
    fresh = rng.uniform(0.4, 0.6, (300, 20))
    found = nearest(features(fresh), features(real))
    assert found.far < 0.05 and found.copies < 0.05
    assert nearest(features(rng.uniform(0, 1, (100, 20))), features(real)).far == 1
    assert nearest(features(np.concatenate([real[:150], fresh[:150]])), features(real)).copies > 0.5
    doubled = np.concatenate([real, real])  # every real image is there twice
    assert nearest(features(fresh), features(doubled)).copies == 0
    assert nearest(features(real), features(doubled)).copies == 1


def test_the_kernel_distance_is_0_on_average_for_the_same_distribution():
    rng = np.random.default_rng(0)
    draw = lambda scale: features(rng.uniform(0.5 - scale, 0.5 + scale, (400, 16)))
    same = [kernel_distance(draw(0.3), draw(0.3)).distance for _ in range(8)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(8)
    assert kernel_distance(draw(0.5), draw(0.3)).distance > 5 * np.std(same)
