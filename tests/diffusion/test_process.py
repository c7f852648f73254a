"""Levels, parametrizations, input scales and conditionings over the whole list of choices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.diffusion import (
    conditioning,
    input_scale,
    parametrization,
    process,
    schedules,
    specs,
)

PARAMETRIZATIONS = list(specs.choices("parametrization"))
SCALES = [1.0, 0.4, 2.0]


def draw(seed=0, batch=8):
    x0, eps = jax.random.normal(jax.random.key(seed), (2, batch, 4, 4, 3))
    return x0, eps


@pytest.mark.parametrize("b", SCALES)
def test_vp_level(b):
    logsnr = jnp.linspace(-20, 20, 41)
    level = process.vp(b).level(logsnr)
    np.testing.assert_allclose((level.alpha / b) ** 2 + level.sigma**2, 1, rtol=1e-6)
    np.testing.assert_allclose(level.logsnr, logsnr + 2 * np.log(b), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(level.gamma, jax.nn.sigmoid(logsnr), rtol=1e-5)
    np.testing.assert_allclose(jnp.cos(level.angle) ** 2, level.gamma, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("b", SCALES)
def test_ends_are_ordinary_values(b):
    level = process.vp(b).level(jnp.asarray([jnp.inf, -jnp.inf]))
    assert level.alpha.tolist() == [np.float32(b), 0.0]
    assert level.sigma.tolist() == [0.0, 1.0]
    assert level.gamma.tolist() == [1.0, 0.0]
    assert level.logsnr.tolist() == [np.inf, -np.inf]
    np.testing.assert_allclose(level.angle, [0, np.pi / 2])


def test_ve_level():
    level = process.ve().level(jnp.asarray([jnp.inf, 2 * jnp.log(4.0), -2 * jnp.log(80.0)]))
    np.testing.assert_allclose(level.sigma, [0, 0.25, 80], rtol=1e-6)
    np.testing.assert_allclose(level.ratio, level.sigma)
    assert level.alpha.tolist() == [1, 1, 1]
    assert process.ve().level(jnp.asarray(-jnp.inf)).sigma == jnp.inf


def test_flow_level():
    level = process.flow().level(jnp.asarray([jnp.inf, 0.0, -jnp.inf]))
    assert level.alpha.tolist() == [1, 0.5, 0] and level.sigma.tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("name", list(specs.choices("process")))
def test_every_process_is_a_frame_of_one_logsnr(name):
    logsnr = jnp.linspace(-12, 12, 25)
    made = specs.build(name, "process")
    assert isinstance(made, process.Process)
    level = made.level(logsnr)
    np.testing.assert_allclose(level.logsnr, logsnr, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(level.gamma, jax.nn.sigmoid(logsnr), rtol=1e-5)
    np.testing.assert_allclose(level.schedule_logsnr, logsnr, rtol=1e-5, atol=1e-5)
    finite = bool(jnp.isfinite(made.level(jnp.asarray(-jnp.inf)).sigma))
    assert finite == made.supports_zero_snr


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_an_output_means_the_same_in_every_frame(name):
    """One network output, one noise level, x_t in other units: the same x0 and eps."""
    with jax.enable_x64(True):
        kind = specs.build(name, "parametrization")
        x0, eps = draw()
        logsnr = jnp.linspace(-8.0, 8.0, 8)
        levels = [specs.build(p, "process").level(logsnr) for p in ("vp", "ve", "flow")]
        targets = [kind.target(level, x0, eps) for level in levels]
        for level, target in zip(levels, targets, strict=True):
            np.testing.assert_allclose(target, targets[0], rtol=1e-9, atol=1e-12)
            found = kind.to_prediction(level, process.diffuse(level, x0, eps), target)
            np.testing.assert_allclose(found.x0, x0, rtol=1e-9, atol=1e-10)
            np.testing.assert_allclose(found.eps, eps, rtol=1e-9, atol=1e-10)


def test_diffuse_has_the_marginal_variance():
    level = process.vp(0.5).level(jnp.asarray([0.3]))
    eps = jax.random.normal(jax.random.key(1), (1, 200_000))
    x = process.diffuse(level, jnp.full((1, 200_000), 0.7), eps)
    np.testing.assert_allclose(x.mean(), level.alpha[0] * 0.7, atol=0.01)
    np.testing.assert_allclose(x.std(), level.sigma[0], rtol=0.01)


def test_a_level_that_is_not_expanded_is_an_error():
    level = process.vp().level(jnp.zeros(8))
    x0, eps = draw()
    with pytest.raises(ValueError, match="rank_promotion|Incompatible"):
        _ = level.alpha * x0


@pytest.mark.parametrize("b", SCALES)
@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_target_and_to_prediction_are_inverse(name, b):
    with jax.enable_x64(True):
        kind = specs.build(name, "parametrization")
        x0, eps = draw()
        level = process.vp(b).level(jnp.linspace(-8.0, 8.0, 8))
        x = process.diffuse(level, x0, eps)
        found = kind.to_prediction(level, x, kind.target(level, x0, eps))
        np.testing.assert_allclose(found.x0, x0, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(found.eps, eps, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", PARAMETRIZATIONS)
def test_zero_snr_is_supported_or_said_not_to_be(name):
    kind = specs.build(name, "parametrization")
    x0, eps = draw()
    level = process.vp().level(jnp.full(8, -jnp.inf))
    x = process.diffuse(level, x0, eps)
    found = kind.to_prediction(level, x, kind.target(level, x0, eps))
    finite = bool(jnp.isfinite(found.x0).all())
    assert finite == kind.supports_zero_snr
    if finite:
        np.testing.assert_allclose(found.x0, x0, atol=1e-6)
        np.testing.assert_allclose(found.eps, eps, atol=1e-6)


@pytest.mark.parametrize("b", SCALES)
def test_v_is_the_velocity_on_the_circle(b):
    """v = d x_t / d angle, at every input scale."""
    x0, eps = draw(batch=1)
    angle = jnp.asarray([0.7])

    def x_at(angle):
        level = process.NoiseLevel(b * jnp.cos(angle), jnp.sin(angle), b)
        return process.diffuse(level, x0, eps)

    _, velocity = jax.jvp(x_at, (angle,), (jnp.ones(1),))
    level = process.NoiseLevel(b * jnp.cos(angle), jnp.sin(angle), b)
    np.testing.assert_allclose(parametrization.v().target(level, x0, eps), velocity, atol=1e-5)


def test_input_scaling_only_shifts_the_logsnr():
    """vp(b) on x0 is vp(1) on b x0: same x_t, same gamma, logSNR + 2 ln b."""
    x0, eps = draw()
    logsnr = jnp.linspace(-5.0, 5.0, 8)
    plain, scaled = process.vp().level(logsnr), process.vp(0.3).level(logsnr)
    np.testing.assert_allclose(
        process.diffuse(scaled, x0, eps), process.diffuse(plain, 0.3 * x0, eps), atol=1e-6
    )
    np.testing.assert_allclose(scaled.gamma, plain.gamma, rtol=1e-5)


def test_input_scales():
    x0, eps = draw(batch=64)
    level = process.vp(0.5).level(jnp.linspace(-6.0, 6.0, 64))
    x = process.diffuse(level, x0, eps)
    assert input_scale.none()(level, x) is x
    scaled = input_scale.per_example_std()(level, x + 3.0)
    np.testing.assert_allclose(jnp.std(scaled, axis=(1, 2, 3)), 1, rtol=1e-5)
    assert float(jnp.abs(scaled.mean())) > 1, "the mean is not removed"
    unit = input_scale.analytic()(level, x)
    np.testing.assert_allclose(unit.std(), 1, rtol=0.05)
    expected = x / jnp.sqrt((0.5**2 - 1) * level.gamma + 1).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(unit, expected, rtol=1e-5)


def test_conditioning_is_a_function_of_the_level_not_of_b():
    logsnr = schedules.cosine().logsnr(jnp.linspace(0, 1, 11))
    for kind in (conditioning.gamma(), conditioning.angle()):
        plain, scaled = (kind(process.vp(b).level(logsnr)) for b in (1.0, 0.3))
        np.testing.assert_allclose(plain, scaled, rtol=1e-4, atol=1e-3)
        assert jnp.isfinite(plain).all() and plain.min() >= 0
        np.testing.assert_allclose(plain.max(), 1000, rtol=1e-6)
