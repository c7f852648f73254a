"""Properties of every schedule. A new schedule is tested by adding one row to SCHEDULES."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.diffusion import schedules, specs

# Both ends infinite, and exactly so.
EXACT = [
    "linear()",
    "cosine()",
    "cosine(0.2, 1)",
    "cosine(0.2, 1, tau=3)",
    "cosine(0, 0.5)",
    "sigmoid()",
    "sigmoid(-3, 3, tau=0.9)",
    "sigmoid(0, 3, tau=0.3)",
    "sigmoid(-3, 3, tau=0.05)",
    "logarithmic()",
    "logarithmic(100, 1)",
    "rectified_flow()",
    "crash()",
    "cosine_betas(max_beta=1.0)",
    "from_betas((0.1, 0.2, 1.0))",
    "from_alpha_bars((0.9, 0.5, 0.5, 0.0))",
    "from_levels((-3.0, 0.5, 2.0), zero_snr=True)",
    "zero_terminal(scaled_linear())",
    "zero_terminal(linear_betas(levels=20))",
    "zero_terminal(cosine())",
    "zero_terminal(vp_diffusion())",
    "shift(cosine(), 256, 64)",
    "shift(zero_terminal(scaled_linear()), 256)",
    "interpolated_shift(cosine(), 256)",
    "discrete(zero_terminal(scaled_linear()))",
    "discrete(cosine(), levels=1000)",
]
# The same, but gamma's slope is truly infinite or undefined at the ends.
QUANTILES = ["lognormal()", "logit_normal()", "laplace()", "lognormal(p_mean=0.4, p_std=2)"]
# Clean at t = 0 exactly, a finite level at t = 1.
FINITE_NOISE = [
    "vp_diffusion()",
    "linear_betas()",
    "scaled_linear()",
    "sigmoid_betas()",
    "cosine_betas()",
    "from_betas((0.1, 0.0, 0.3))",
    "karras()",
    "geometric()",
    "align_your_steps()",
    "align_your_steps('sdxl')",
    "align_your_steps('svd')",
    "discrete(scaled_linear())",
    "nearest(karras(), cosine_betas(levels=50))",
    "linear(clip_min=1e-9)",
]
FINITE = ["plain_cosine()", "crop(vp_diffusion(), 1e-5, 1)", "crop(lognormal(), 0.001, 0.999)"]
ZERO_SNR_ONLY = ["zero_terminal(plain_cosine())", "zero_terminal(crop(lognormal(), 0.001, 0.999))"]
SCHEDULES = EXACT + QUANTILES + FINITE_NOISE + FINITE + ZERO_SNR_ONLY
TIMES = np.linspace(0, 1, 201)


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    return specs.build(request.param, "schedule")


def test_every_schedule_has_a_row():
    rows = {row.split("(")[0] for row in SCHEDULES}
    assert rows == set(specs.choices("schedule"))


def test_protocol(schedule):
    assert isinstance(schedule, schedules.Schedule)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_finite_ordered_and_consistent(schedule, dtype):
    with jax.enable_x64(dtype == np.float64):
        t = jnp.asarray(TIMES, dtype)
        gamma, logsnr = schedule.gamma(t), schedule.logsnr(t)
        assert gamma.dtype == logsnr.dtype == dtype
        assert not jnp.isnan(logsnr).any() and jnp.isfinite(logsnr[1:-1]).all()
        eps = jnp.finfo(dtype).eps
        assert (jnp.diff(gamma) <= 4 * eps).all() and (gamma >= 0).all() and (gamma <= 1).all()
        assert (logsnr[1:] <= logsnr[:-1] + 40 * eps * (1 + jnp.abs(logsnr[1:]))).all()
        np.testing.assert_allclose(jax.nn.sigmoid(logsnr), gamma, rtol=200 * eps, atol=2 * eps)


def test_float32_keeps_the_digits_of_float64(schedule):
    """logSNR near both ends, where 1 - gamma and gamma would have lost them."""
    t = np.concatenate([np.geomspace(1e-6, 0.5, 60), 1 - np.geomspace(1e-3, 0.5, 60)])
    single = schedule.logsnr(jnp.asarray(t, jnp.float32))
    with jax.enable_x64(True):
        double = schedule.logsnr(jnp.asarray(t.astype(np.float32), jnp.float64))
    np.testing.assert_allclose(single, double, rtol=2e-5, atol=5e-5)


@pytest.mark.parametrize("spec", EXACT + QUANTILES)
@pytest.mark.parametrize("x64", [False, True])
def test_ends_are_exact(spec, x64):
    with jax.enable_x64(x64):
        schedule = specs.build(spec, "schedule")
        ends = jnp.asarray([0.0, 1.0])
        assert schedule.gamma(ends).tolist() == [1.0, 0.0]
        assert schedule.logsnr(ends).tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize("spec", ZERO_SNR_ONLY)
def test_zero_terminal_keeps_the_first_level(spec):
    with jax.enable_x64(True):
        moved = specs.build(spec, "schedule")
        np.testing.assert_allclose(moved.logsnr(0.0), moved.schedule.logsnr(0.0), rtol=1e-12)
        assert moved.gamma(1.0) == 0 and moved.logsnr(1.0) == -np.inf


@pytest.mark.parametrize("spec", FINITE_NOISE + FINITE)
def test_ends_that_are_not_zero_snr(spec):
    schedule = specs.build(spec, "schedule")
    assert schedule.logsnr(0.0).tolist() == np.inf or spec in FINITE
    assert float(schedule.gamma(0.0)) == 1 or spec in FINITE
    assert jnp.isfinite(schedule.logsnr(1.0)) and float(schedule.gamma(1.0)) > 0


@pytest.mark.parametrize("spec", SCHEDULES)
def test_gradients_are_never_nan(spec):
    schedule, t = specs.build(spec, "schedule"), jnp.asarray(TIMES)
    at_ends = spec not in QUANTILES
    slope = jax.vmap(jax.grad(schedule.gamma))(t)
    assert jnp.isfinite(slope if at_ends else slope[1:-1]).all()
    slope = jax.vmap(jax.grad(schedule.logsnr))(t)
    assert not jnp.isnan(slope[1:-1]).any() and (slope[1:-1] <= 0).all()


def test_jit_and_vmap_over_hyper_parameters(schedule):
    t = jnp.asarray(TIMES)
    np.testing.assert_allclose(
        jax.jit(type(schedule).gamma)(schedule, t), schedule.gamma(t), atol=2e-6
    )
    if not jax.tree.leaves(schedule):
        return
    stacked = jax.tree.map(lambda x: jnp.asarray([x, x], float), schedule)
    both = jax.vmap(lambda s: s.gamma(t))(stacked)
    np.testing.assert_allclose(both, jnp.stack([schedule.gamma(t)] * 2), atol=2e-6)


def test_clip_min_is_the_floor_of_both_forms():
    clipped = schedules.linear(clip_min=1e-3)
    assert float(clipped.gamma(1.0)) == pytest.approx(1e-3)
    assert float(clipped.logsnr(1.0)) == pytest.approx(np.log(1e-3 / (1 - 1e-3)), rel=1e-6)
    assert float(clipped.gamma(0.5)) == 0.5


def test_closed_forms():
    """Against the formulas of the module's docstring, evaluated the plain way in float64."""
    t = np.linspace(0.01, 0.99, 99)
    logistic = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    u = 0.2 + 0.8 * t
    c = lambda u: np.cos(np.pi * u / 2) ** 4  # noqa: E731
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            schedules.cosine(0.2, 1, 2).gamma(t), (c(u) - c(1)) / (c(0.2) - c(1)), rtol=1e-12
        )
        u = (-3 + 6 * t) / 0.9
        expected = (logistic(3 / 0.9) - logistic(u)) / (logistic(3 / 0.9) - logistic(-3 / 0.9))
        np.testing.assert_allclose(schedules.sigmoid(-3, 3, 0.9).gamma(t), expected, rtol=1e-12)
        np.testing.assert_allclose(
            schedules.plain_cosine().gamma(t),
            np.cos((t + 0.0002) / 1.00025 * np.pi / 2) ** 2,
            rtol=1e-12,
        )
