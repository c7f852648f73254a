"""A weight is the same objective in every space, and finite at zero SNR where it can be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.diffusion import parametrization, process, specs, weighting

SPACES = ["eps()", "x0()", "v()", "edm(0.5)", "flow()", "score()"]
WEIGHTS = [
    "uniform(v())",
    "uniform(x0())",
    "edm(0.5)",
    "min_snr(5)",
    "soft_min_snr(4)",
    "p2()",
    "p2(0.5, 2)",
    "sigmoid(2)",
]
PROCESSES = ["vp()", "vp(input_scale=0.4)", "ve()", "flow()"]


def test_every_weight_and_space_has_a_row():
    assert {w.split("(")[0] for w in WEIGHTS} == set(specs.choices("weight"))
    assert {s.split("(")[0] for s in SPACES} == set(specs.choices("parametrization"))


@pytest.mark.parametrize("frame", PROCESSES)
@pytest.mark.parametrize("spec", SPACES)
def test_error_scale(spec, frame):
    """k of equation (7): what an error of the output does to x0 and to eps at a given x_t."""
    with jax.enable_x64(True):
        space = specs.build(spec, "parametrization")
        level = specs.build(frame, "process").level(jnp.linspace(-6.0, 6.0, 7))
        x = jax.random.normal(jax.random.key(0), (7, 3))
        out = lambda v: space.to_prediction(level, x, jnp.full((7, 3), v))  # noqa: E731
        error = jax.tree.map(lambda a, b: jnp.abs(a - b)[:, 0], out(1.0), out(0.0))
        scale = space.error_scale(level)
        np.testing.assert_allclose(scale * error.x0 / level.sigma, 1, rtol=1e-9)
        np.testing.assert_allclose(scale * error.eps / level.alpha, 1, rtol=1e-9)


@pytest.mark.parametrize("frame", PROCESSES)
@pytest.mark.parametrize("spec", WEIGHTS)
def test_the_weighted_error_does_not_depend_on_the_space(spec, frame):
    with jax.enable_x64(True):
        weight = specs.build(spec, "weight")
        level = specs.build(frame, "process").level(jnp.linspace(-8.0, 8.0, 9))
        rate = jnp.linspace(1.0, 2.0, 9)
        x0, eps, wrong = jax.random.normal(jax.random.key(0), (3, 9, 5))
        x = process.diffuse(level, x0, eps)
        guess = parametrization.from_x0(level, x, wrong)

        def loss(space):
            space = specs.build(space, "parametrization")
            error = space.target(level, x0, eps) - space.target(level, guess.x0, guess.eps)
            return weight(level, space, rate) * jnp.mean(error**2, axis=1)

        for space in SPACES[1:]:
            np.testing.assert_allclose(loss(space), loss(SPACES[0]), rtol=1e-8)


def test_published_forms():
    with jax.enable_x64(True):
        logsnr = jnp.linspace(-8.0, 8.0, 17)
        level, snr, rate = process.vp().level(logsnr), jnp.exp(logsnr), jnp.full(17, 3.0)
        in_space = lambda weight, space: weight(  # noqa: E731
            level, specs.build(space, "parametrization"), rate
        )
        close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12)  # noqa: E731
        capped = jnp.minimum(snr, 5.0)
        close(in_space(weighting.min_snr(5), "eps()"), capped / snr)
        close(in_space(weighting.min_snr(5), "x0()"), capped)
        close(in_space(weighting.min_snr(5), "v()"), capped / (snr + 1))
        # Soft min-SNR of the EDM loss: (s s_d)^2 / (s^2 + s_d^2)^2, up to its s_d^2 = 1 / gamma.
        s2 = 1 / snr
        soft = s2 * 0.25 / (s2 + 0.25) ** 2
        close(in_space(weighting.soft_min_snr(4), "edm(0.5)"), soft)
        close(in_space(weighting.p2(), "eps()"), 1 / (1 + snr))
        close(in_space(weighting.sigmoid(2.0), "eps()"), 3 * jax.nn.sigmoid(2 - logsnr))
        close(in_space(weighting.sigmoid(2.0), "x0()"), 3 * np.exp(2) * jax.nn.sigmoid(logsnr - 2))
        close(in_space(weighting.edm(0.5), "x0()"), (s2 + 0.25) / (s2 * 0.25))
        close(in_space(weighting.edm(0.5), "edm(0.5)"), 1.0)


@pytest.mark.parametrize("spec", ["min_snr()", "soft_min_snr()", "p2()", "uniform(v())", "edm()"])
@pytest.mark.parametrize("space", ["v()", "x0()", "edm()", "flow()"])
def test_finite_at_zero_snr(spec, space):
    level = process.vp().level(jnp.asarray([-jnp.inf, -1.0]))
    space = specs.build(space, "parametrization")
    assert jnp.isfinite(specs.build(spec, "weight")(level, space, jnp.ones(2))).all()


def test_min_snr_at_zero_snr_in_its_own_space():
    level = process.vp().level(jnp.asarray([-jnp.inf]))
    assert weighting.min_snr()(level, parametrization.eps(), jnp.ones(1)).tolist() == [1.0]
    assert weighting.min_snr()(level, parametrization.v(), jnp.ones(1)).tolist() == [0.0]


@pytest.mark.parametrize("spec", ["cosine()", "lognormal()", "sigmoid()", "rectified_flow()"])
def test_sigmoid_weight_does_not_depend_on_the_schedule(spec):
    """Weighting an error S(logSNR) in eps gives the integral of S(2 - l) S(l) dl, whatever the schedule."""
    with jax.enable_x64(True):
        t = (jnp.arange(400_000.0) + 0.5) / 400_000
        schedule = specs.build(spec, "schedule")
        logsnr, slope = jax.jvp(schedule.logsnr, (t,), (jnp.ones_like(t),))
        level = process.vp().level(logsnr)
        weight = weighting.sigmoid(2.0)(level, parametrization.eps(), -slope)
        found = float(jnp.mean(weight * jax.nn.sigmoid(logsnr)))
        assert found == pytest.approx(2 / (1 - np.exp(-2)), rel=2e-3)
