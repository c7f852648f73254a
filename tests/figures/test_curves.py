"""The figures show what the objects say; nothing is compared pixel by pixel."""

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import noise_sched as ns
from noise_sched.figures import curves

matplotlib.use("Agg")


@pytest.fixture
def axes():
    import matplotlib.pyplot as plt

    (axes,) = curves.panels(1)
    yield axes
    axes.figure.canvas.draw()  # whatever was drawn can be rendered
    plt.close(axes.figure)


def lines(axes) -> dict[str, np.ndarray]:
    return {line.get_label(): np.asarray(line.get_data()) for line in axes.get_lines()}


def test_panels_are_laid_out_row_by_row():
    import matplotlib.pyplot as plt

    found = curves.panels(3, 2, width=2.0, height=1.0)
    assert len(found) == 6
    assert tuple(found[0].figure.get_size_inches()) == (6, 2)
    assert found[3].get_subplotspec().rowspan.start == 1
    plt.close(found[0].figure)


def test_gamma(axes):
    assert curves.gamma(axes, {"a": ns.linear(), "b": ns.cosine()}) is axes
    found = lines(axes)
    np.testing.assert_allclose(found["a"][1], 1 - found["a"][0], atol=1e-6)
    np.testing.assert_allclose(found["b"][1], np.cos(np.pi / 2 * found["b"][0]) ** 2, atol=1e-6)


def test_logsnr_of_an_infinite_schedule_and_an_input_scale(axes):
    assert curves.logsnr(axes, {"a": ns.linear()}, ns.vp(input_scale=0.5)) is axes
    t, values = lines(axes)["a"]
    assert np.isfinite(values).all() and values[0] > 20 and values[-1] < -20
    inside = (t > 0.01) & (t < 0.99)
    expected = np.log1p(-t[inside]) - np.log(t[inside]) + 2 * np.log(0.5)
    np.testing.assert_allclose(values[inside], expected, atol=1e-4)


def test_density_of_edms_lognormal(axes):
    curves.density(axes, {"a": ns.lognormal(-1.2, 1.2)}, ns.ve(), per="sigma")
    sigma, height = lines(axes)["a"]
    z = (np.log(sigma) + 1.2) / 1.2
    np.testing.assert_allclose(height, np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) / 1.2, rtol=1e-3)
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize("spec", ["linear()", "zero_terminal(scaled_linear())", "laplace()"])
def test_a_density_integrates_to_one(axes, spec):
    schedule = ns.build(spec)
    curves.density(axes, {"a": schedule}, limit=30.0)
    logsnr, height = lines(axes)["a"]
    assert -np.trapezoid(height, logsnr) == pytest.approx(1, abs=0.01)


def test_density_of_a_schedule_that_stands_still(axes):
    logsnr, height = curves.training_density(ns.plain_cosine(clip_min=0.5))
    assert np.isinf(height).any()
    curves.density(axes, {"a": ns.plain_cosine(clip_min=0.5)})
    assert np.isfinite(lines(axes)["a"]).all()


@pytest.mark.parametrize("per", ["logsnr", "sigma"])
def test_steps_marks_the_ends_that_are_infinite(axes, per):
    level = ns.vp().level
    paths = {
        "zero SNR": level(ns.cosine().logsnr(ns.grids.uniform()(4))),
        "finite": level(ns.scaled_linear().logsnr(ns.grids.leading()(5))),
    }
    assert curves.steps(axes, paths, per=per) is axes
    marks = [(line.get_marker(), len(line.get_xdata())) for line in axes.get_lines()]
    assert marks == [("|", 3), (">", 1), ("<", 1), ("|", 5), ("<", 1)]
    left, right = axes.get_xlim()
    assert left > right if per == "logsnr" else left < right  # noise is at the right
    assert [label.get_text() for label in axes.get_yticklabels()] == ["zero SNR", "finite"]


@pytest.mark.parametrize("draw", [curves.density, curves.steps])
def test_an_unknown_axis_is_refused(draw):
    with pytest.raises(ValueError, match="'logsnr' or 'sigma', got 'snr'"):
        draw(None, {}, per="snr")


def test_noised_goes_from_the_image_to_noise(axes):
    rng = np.random.default_rng(0)
    small = rng.uniform(-1, 1, (4, 4, 1)).astype(np.float32)
    large = rng.uniform(-1, 1, (8, 8, 3)).astype(np.float32)
    rows = {"small": (small, ns.vp()), "large": (large, ns.vp(input_scale=0.1))}
    key = jax.random.key(0)
    assert curves.noised(axes, rows, ns.cosine(), (0.0, 0.5, 1.0), key) is axes
    shown = axes.get_images()[0].get_array()
    assert shown.shape == (16, 24, 3)
    np.testing.assert_allclose(shown[:8:2, :8:2, 0], small[..., 0] / 2 + 0.5, atol=1e-5)
    np.testing.assert_allclose(shown[8:, :8], large / 2 + 0.5, atol=1e-5)
    eps = jax.random.normal(jax.random.fold_in(key, 1), (3, 8, 8, 3))[2]
    noise = np.clip(eps, -1, 1) / 2 + 0.5
    np.testing.assert_allclose(shown[8:, 16:], noise, atol=1e-5)
    assert jnp.isfinite(jnp.asarray(np.asarray(shown))).all()
