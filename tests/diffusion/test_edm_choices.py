"""Every cell of EDM's Table 1 but the solver, against its published code (goldens/README.md)."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import noise_sched as ns
from noise_sched.diffusion import (
    conditioning,
    grids,
    input_scale,
    parametrization,
    schedules,
    weighting,
)
from noise_sched.diffusion.process import flow

SAMPLERS = np.load(pathlib.Path(__file__).parent / "goldens" / "edm_samplers.npz")
GOLDENS = np.load(pathlib.Path(__file__).parent / "goldens" / "edm_choices.npz")
# Column: output, input scale, conditioning.
COLUMNS = {
    "vp": (parametrization.eps(), input_scale.analytic(1.0), conditioning.vp_time()),
    "ve": (parametrization.score(), input_scale.none(), conditioning.log_sigma(1.0, 2.0)),
    "iddpm": (
        parametrization.eps(),
        input_scale.analytic(1.0),
        conditioning.index(schedules.cosine_betas()),
    ),
    "edm": (parametrization.edm(0.5), input_scale.analytic(0.5), conditioning.log_sigma()),
}


pytestmark = pytest.mark.usefixtures("float64")


def sigmas(schedule, times):
    return ns.ve().level(schedule.logsnr(times)).sigma


@pytest.mark.parametrize("column", COLUMNS)
def test_preconditioners(column):
    kind, scale, condition = COLUMNS[column]
    level = ns.ve().level(-2 * jnp.log(jnp.asarray(GOLDENS["d_sigma"])))
    zeros, ones = jnp.zeros((20, 1)), jnp.ones((20, 1))
    golden = {c: GOLDENS[f"d_{column}_{c}"] for c in ("c_skip", "c_out", "c_in", "c_noise")}
    close = lambda ours, name, rtol=5e-7: np.testing.assert_allclose(  # noqa: E731
        np.ravel(ours), golden[name], rtol=rtol
    )
    close(kind.to_prediction(level, ones, zeros).x0, "c_skip")
    close(kind.to_prediction(level, zeros, ones).x0, "c_out")
    close(scale(level, ones), "c_in")
    if column == "iddpm":  # theirs calls sigma < 0.0032 level -1, which no network knows
        np.testing.assert_array_equal(condition(level), np.maximum(golden["c_noise"], 0))
    else:  # 1 + sigma^2 in float32 costs theirs up to 1.3 %
        close(condition(level), "c_noise", 2e-2 if column == "vp" else 5e-7)


def test_vp_time_inverts_the_schedule():
    t = jnp.linspace(1e-5, 1, 50)
    level = ns.vp(0.5).level(schedules.vp_diffusion().logsnr(t))
    np.testing.assert_allclose(conditioning.vp_time()(level), 999 * t, rtol=1e-9)


@pytest.mark.parametrize(
    ("golden", "schedule", "grid"),
    [
        ("a_edm_N18_t", schedules.karras(), grids.edm()),
        ("c_euler_edm_linear_none_sigma", schedules.karras(), grids.edm()),
        ("c_euler_vp_linear_none_sigma", schedules.vp_diffusion(), grids.edm(last=1e-3)),
        ("c_euler_ve_linear_none_sigma", schedules.geometric(), grids.edm()),
        ("c_euler_iddpm_vp_none_sigma", schedules.cosine_betas(), grids.iddpm()),
    ],
)
def test_time_steps(golden, schedule, grid):
    found = sigmas(schedule, grid(18))
    assert found.shape == (19,) and float(found[-1]) == 0
    expected = GOLDENS[golden][:18]
    # Their abar_j are float32 sines, which costs their smallest u_j three digits.
    rtol = 5e-4 if "iddpm" in golden else 1e-12
    np.testing.assert_allclose(found[:18], expected, rtol=rtol)


def test_iddpm_levels_are_the_clipped_cosine_table():
    ours = np.exp(-schedules.cosine_betas().table() / 2)[::-1]
    np.testing.assert_allclose(ours, GOLDENS["d_iddpm_u"][:1000], rtol=5e-4)  # float32 sines
    np.testing.assert_allclose(ours[:900], GOLDENS["d_iddpm_u"][:900], rtol=3e-5)


def test_training_sigma_weight_and_loss():
    """lambda(sigma) |D - y|^2 in each column; uniform draws are t, normal draws its quantile."""
    uniform, normal = GOLDENS["e_rnd_uniform"].ravel(), GOLDENS["e_rnd_normal"].ravel()
    cases = {
        "edm": (schedules.lognormal(), norm.cdf(normal), weighting.edm(0.5)),
        "vp": (
            schedules.crop(schedules.vp_diffusion(), 1e-5, 1.0),
            1 - uniform,
            weighting.uniform(parametrization.eps()),
        ),
        "ve": (schedules.geometric(), uniform, weighting.uniform(parametrization.eps())),
    }
    x0 = parametrization.x0()
    for column, (schedule, t, weight) in cases.items():
        level = ns.ve().level(schedule.logsnr(jnp.asarray(t, float)))
        expected = GOLDENS[f"e_{column}_sigma"].ravel()
        np.testing.assert_allclose(level.sigma, expected, rtol=1e-4)
        found = weight(level, x0, jnp.zeros(16))
        np.testing.assert_allclose(found, GOLDENS[f"e_{column}_weight"].ravel(), rtol=3e-4)


def test_edm_output_is_minus_v_for_unit_data():
    x0, eps = jax.random.normal(jax.random.key(0), (2, 5, 3))
    level = ns.vp().level(jnp.linspace(-4.0, 4.0, 5))
    np.testing.assert_allclose(
        parametrization.edm(1.0).target(level, x0, eps),
        -parametrization.v().target(level, x0, eps),
        rtol=1e-12,
    )


def test_edm_target_has_unit_variance():
    x0 = 0.3 * jax.random.normal(jax.random.key(0), (5, 20_000))
    eps = jax.random.normal(jax.random.key(1), (5, 20_000))
    level = ns.ve().level(jnp.linspace(-9.0, 12.0, 5))
    target = parametrization.edm(0.3).target(level, x0, eps)
    np.testing.assert_allclose(target.std(axis=1), 1, rtol=0.03)


def test_karras_grid_in_single_precision():
    with jax.enable_x64(False):
        found = sigmas(schedules.karras(), grids.edm()(18))
        np.testing.assert_allclose(found, [*GOLDENS["a_edm_N18_t"][:18], 0], rtol=5e-6)
        one = sigmas(schedules.karras(), grids.edm()(1))
        np.testing.assert_allclose(one, [80, 0], rtol=1e-6)


@pytest.mark.parametrize("mean, std", [(-1.2, 1.2), (0.4, 2.0)])
def test_lognormal_is_the_quantile_function(mean, std):
    """Moments of ln sigma under uniform t, and an expectation of a function of it."""
    t = (jnp.arange(200_000.0) + 0.5) / 200_000
    log_sigma = -0.5 * schedules.lognormal(mean, std).logsnr(t)
    assert float(log_sigma.mean()) == pytest.approx(mean, abs=1e-9)
    assert float(log_sigma.std()) == pytest.approx(std, rel=1e-4)
    assert float(jnp.exp(0.1 * log_sigma).mean()) == pytest.approx(
        np.exp(0.1 * mean + 0.005 * std**2), rel=1e-5
    )
    probabilities = norm.cdf(log_sigma[::10_000], mean, std)
    np.testing.assert_allclose(probabilities, t[::10_000], rtol=1e-9)
    single = schedules.lognormal(mean, std).logsnr(jnp.asarray(t[::10_000], jnp.float32))
    np.testing.assert_allclose(single, -2 * log_sigma[::10_000], atol=5e-5)


def test_laplace_is_the_quantile_function():
    t = (jnp.arange(100_000.0) + 0.5) / 100_000
    logsnr = schedules.laplace(0.5, 0.7).logsnr(t)
    assert float(logsnr.mean()) == pytest.approx(0.5, abs=1e-9)
    assert float(jnp.abs(logsnr - 0.5).mean()) == pytest.approx(0.7, rel=1e-4)


def test_logit_normal_time_of_the_flow():
    t = jnp.linspace(0.01, 0.99, 99)
    time = flow().level(schedules.logit_normal(0.3, 0.8).logsnr(t)).sigma
    np.testing.assert_allclose(norm.cdf(np.log(time / (1 - time)), 0.3, 0.8), t, rtol=1e-9)


def test_rectified_flow_time_is_t():
    t = jnp.linspace(0, 1, 101)
    level = flow().level(schedules.rectified_flow().logsnr(t))
    np.testing.assert_allclose(level.sigma, t, atol=1e-15)
    np.testing.assert_allclose(level.alpha, 1 - t, atol=1e-15)


def test_shift_of_the_flow_is_the_published_one():
    t, a = jnp.linspace(0, 1, 101), 3.0
    level = flow().level(schedules.shift(schedules.rectified_flow(), a, 1).logsnr(t))
    np.testing.assert_allclose(level.sigma, a * t / (1 + (a - 1) * t), atol=1e-14)


def test_interpolated_shift_lies_between_its_two():
    t = jnp.linspace(0.01, 0.99, 9)
    low, high = (schedules.shift(schedules.cosine(), 256, s).logsnr(t) for s in (32, 256))
    found = schedules.interpolated_shift(schedules.cosine(), 256, 32, 256).logsnr(t)
    np.testing.assert_allclose(found, t * low + (1 - t) * high, rtol=1e-12)


def test_aligned_steps():
    """Ten steps are the published sigmas; the others lie log-linearly between."""
    found = sigmas(schedules.align_your_steps("sd15"), grids.uniform()(10))
    published = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0]
    np.testing.assert_allclose(found, published, rtol=1e-12)
    twice = sigmas(schedules.align_your_steps("sd15"), grids.uniform()(20))
    np.testing.assert_allclose(twice[:-1:2], published[:-1], rtol=1e-9)
    np.testing.assert_allclose(twice[1], np.sqrt(14.615 * 6.475), rtol=1e-9)
    # Their first and last are the model's own ends.
    model = schedules.scaled_linear().table()
    np.testing.assert_allclose(np.exp(-model[[-1, 0]] / 2), [14.615, 0.029], rtol=1e-2)


@pytest.mark.parametrize("steps", [18, 40])
def test_karras_steps_on_the_levels_of_an_iddpm_network(steps):
    """generate.py's: between sigma_max = 80 and the network's sigma_min, each rounded to the table."""
    published, table = SAMPLERS[f"a_iddpmnet_edm_N{steps}_t"][:-1], GOLDENS["d_iddpm_u"][:1000]
    unrounded = schedules.karras(float(table[999]), 80.0)
    schedule = schedules.nearest(unrounded, schedules.cosine_betas())
    t = grids.edm()(steps)
    assert schedule.logsnr(t)[-1] == np.inf
    level = ns.ve().level(schedule.logsnr(t[:-1]))
    # The same levels, by number; their sigmas up to the float32 sines of the published table.
    number = 999 - np.asarray(conditioning.index(schedules.cosine_betas())(level)).astype(int)
    expected = np.abs(table - published[:, None]).argmin(axis=1)
    # At one of the 58 steps two levels are equally near, to 1e-5, and float32 distances chose the other.
    wanted = np.exp(-0.5 * unrounded.logsnr(t[:-1]))
    ours, theirs = (np.abs(table[n] - wanted) for n in (number, expected))
    tied = np.abs(ours - theirs) < 1e-5
    assert tied.all() and (number != expected).sum() == (steps == 40)
    np.testing.assert_allclose(level.sigma, table[number], rtol=5e-4)


def test_nearest_is_in_sigma_and_never_clean_data():
    table = schedules.from_betas((0.2, 0.5, 0.9))
    sigmas = np.exp(-0.5 * table.table())
    middle = (sigmas[0] + sigmas[1]) / 2
    for sigma, level in ((1e-9, 0), (middle - 1e-6, 0), (middle + 1e-6, 1), (1e9, 2)):
        flat = schedules.geometric(float(sigma), float(sigma * (1 + 1e-12)))
        found = schedules.nearest(flat, table).logsnr(jnp.asarray([0.0, 0.5]))
        np.testing.assert_allclose(found, [np.inf, table.table()[level]], rtol=1e-12)
    with pytest.raises(ValueError, match="needs a table of levels, but cosine"):
        schedules.nearest(schedules.karras(), schedules.cosine())
