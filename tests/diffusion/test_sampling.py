"""Solvers against closed forms: for Gaussian data the exact denoiser is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixtures import mixture

from noise_sched.diffusion import (
    grids,
    guidance,
    parametrization,
    process,
    schedules,
    solvers,
    specs,
    thresholding,
)
from noise_sched.diffusion.inversion import invert
from noise_sched.diffusion.parametrization import Prediction, from_x0
from noise_sched.diffusion.sampling import draw, example_keys, initial_noise, sample
from noise_sched.diffusion.solvers.base import State, draws

SOLVERS = ["ddim()", "ddim(eta=0.5)", "ddim(eta=1)", "ddpm('large')", "ddpm('small')"]
MEAN, STD = 0.3, 0.5


def gaussian(x, level, memory):
    """The exact denoiser of N(MEAN, STD^2), in any frame; finite at both ends."""
    level = level.expand_to(x)
    variance = level.alpha**2 * STD**2 + level.sigma**2
    x0 = MEAN + level.alpha * STD**2 / variance * (x - level.alpha * MEAN)
    eps = level.sigma / variance * (x - level.alpha * MEAN)
    return Prediction(x0=x0, eps=eps), memory


def path(steps, b=1.0, schedule="cosine()"):
    return process.vp(b).level(specs.build(schedule).logsnr(grids.uniform()(steps)))


@pytest.mark.parametrize("spec", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("b", [1.0, 0.4])
def test_finite_from_zero_snr_to_clean_data(spec, steps, b):
    x_T = jax.random.normal(jax.random.key(0), (4, 3))
    levels = path(steps, b)
    assert float(levels.alpha[0]) == 0 and float(levels.sigma[-1]) == 0
    x0 = sample(jax.random.key(1), gaussian, specs.build(spec), levels, x_T)
    assert jnp.isfinite(x0).all()


def test_at_zero_snr_the_first_x0_does_not_depend_on_the_noise():
    def first_x0(seed):
        x_T = jax.random.normal(jax.random.key(seed), (4, 3))
        _, kept = sample(jax.random.key(0), gaussian, solvers.ddim(), path(5), x_T, trajectory=True)
        return kept.x0[0]

    np.testing.assert_array_equal(first_x0(0), first_x0(1))


@pytest.mark.parametrize("spec", SOLVERS)
def test_marginal_mean_and_variance(spec):
    """100,000 draws at 200 steps; the bound is sampling error plus the solver's own bias."""
    count = 100_000
    x_T = jax.random.normal(jax.random.key(0), (count, 1))
    run = jax.jit(lambda key: sample(key, gaussian, specs.build(spec), path(200, 0.7), x_T))
    x0 = np.asarray(run(jax.random.key(1)))
    bias = 0.03 if "large" in spec else 0.01  # the large variance is not the posterior's
    assert abs(x0.mean() - MEAN) < 4 * STD / np.sqrt(count) + 0.001
    assert abs(x0.std() - STD) < 4 * STD / np.sqrt(2 * count) + bias


def test_ddim_is_first_order():
    with jax.enable_x64(True):
        x_T = jnp.linspace(-2, 2, 9).reshape(9, 1)
        exact = MEAN + STD * x_T  # the ODE's solution for Gaussian data
        counts = [32, 64, 128]
        errors = [
            float(
                jnp.abs(
                    sample(jax.random.key(0), gaussian, solvers.ddim(), path(n), x_T) - exact
                ).max()
            )
            for n in counts
        ]
        order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
        assert 0.9 < order < 1.1, (order, errors)


def test_ddim_does_not_depend_on_the_frame():
    """(alpha, sigma) -> (c alpha, c sigma) is a change of units of x_t only."""
    with jax.enable_x64(True):
        levels = path(10, schedule="plain_cosine()")
        stretch = jnp.linspace(1.0, 5.0, 11)
        stretched = process.NoiseLevel(levels.alpha * stretch, levels.sigma * stretch)
        x_T = jax.random.normal(jax.random.key(0), (4, 3))
        key = jax.random.key(0)
        plain = sample(key, gaussian, solvers.ddim(), levels, x_T)
        framed = sample(key, gaussian, solvers.ddim(), stretched, x_T * stretch[0])
        np.testing.assert_allclose(plain, framed, atol=1e-12)


def test_ddim_with_eta_one_is_ddpm_with_the_small_variance():
    with jax.enable_x64(True):
        x_T = jax.random.normal(jax.random.key(0), (4, 3))
        ancestral, ddim = (
            sample(jax.random.key(1), gaussian, specs.build(s), path(9), x_T)
            for s in ("ddpm('small')", "ddim(eta=1)")
        )
        np.testing.assert_allclose(ancestral, ddim, atol=1e-12)


def test_replayed_noise_equals_drawn_noise():
    x_T, keys = jnp.zeros((4, 3)), example_keys(jax.random.key(3), jnp.arange(4))
    fold = jax.vmap(jax.random.fold_in, (0, None))
    noise = jnp.stack([draw(fold(keys, k + 1), (3,), jnp.float32) for k in range(6)])
    solver = solvers.ddpm()
    drawn = sample(keys, gaussian, solver, path(6), x_T)
    replayed = sample(keys, gaussian, solver, path(6), x_T, noise=noise)
    np.testing.assert_allclose(drawn, replayed, atol=1e-6)


def test_an_image_is_a_function_of_its_key_alone():
    root, levels = jax.random.key(7), path(6)

    def images(indices):
        keys = example_keys(root, jnp.asarray(indices))
        x_T = initial_noise(keys, jax.tree.map(lambda f: f[0], levels), (3,))
        return sample(keys, gaussian, solvers.ddpm(), levels, x_T)

    # Up to the rounding of differently vectorized loops.
    np.testing.assert_allclose(images([0, 1, 2, 3])[2], images([2])[0], atol=1e-6)
    np.testing.assert_allclose(images([5, 2, 9])[1], images([2])[0], atol=1e-6)


def test_first_noise_is_independent_of_the_steps_noise():
    keys = example_keys(jax.random.key(0), jnp.arange(20_000))
    x_T = initial_noise(keys, process.NoiseLevel(jnp.asarray(0.0), jnp.asarray(1.0)), (1,))
    z = draw(jax.vmap(lambda k: jax.random.fold_in(k, 1))(keys), (1,), jnp.float32)
    assert abs(float(jnp.mean(x_T * z))) < 4 / np.sqrt(20_000)


@pytest.mark.parametrize("name", list(specs.choices("parametrization")))
def test_guidance_is_the_same_in_every_parametrization(name):
    kind = specs.build(name, "parametrization")
    x, cond, uncond = jax.random.normal(jax.random.key(0), (3, 2, 5))
    level = process.vp(0.6).level(jnp.asarray([-1.0, 2.0]))

    def denoise(out):
        return lambda x, level, memory: (kind.to_prediction(level, x, out), memory)

    guided, memory = guidance.cfg(3.0)(denoise(cond), denoise(uncond))(x, level, "kept")
    direct = kind.to_prediction(level, x, uncond + 3.0 * (cond - uncond))
    np.testing.assert_allclose(guided.x0, direct.x0, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(guided.eps, direct.eps, rtol=1e-4, atol=1e-4)
    assert memory == "kept"


def test_guidance_of_one_makes_one_pass():
    def never(x, level, memory):
        raise AssertionError("the unconditional pass was made")

    assert guidance.cfg(1.0)(gaussian, never) is gaussian
    assert guidance.none()(gaussian, never) is gaussian


def test_threshold_recomputes_eps():
    level = process.vp().level(jnp.asarray([-2.0]))
    x = jnp.asarray([[3.0, -0.1]])
    wide = lambda x, level, memory: (from_x0(level, x, 9 * x), memory)  # noqa: E731
    prediction, _ = thresholding.static()(wide)(x, level, ())
    np.testing.assert_allclose(prediction.x0, [[1.0, -0.9]], rtol=1e-6)
    np.testing.assert_allclose(process.diffuse(level, prediction.x0, prediction.eps), x, rtol=1e-6)


WIDE = lambda x, level, memory: (from_x0(level, x, 3 * x), memory)  # noqa: E731


@pytest.mark.parametrize("threshold", ["static(0.5)", "dynamic(0.9, 0.5)"])
def test_threshold_that_keeps_eps(threshold):
    """x0 is bounded as without, and eps is the denoiser's own."""
    level, x = process.vp().level(jnp.asarray([-2.0])), jnp.asarray([[3.0, -0.1, 0.2]])
    usual = specs.build(threshold, "threshold")
    keeping = dataclasses.replace(usual, keep_eps=True)
    assert specs.build(repr(keeping), "threshold") == keeping != usual
    own, recomputed, kept = (f(WIDE)(x, level, ())[0] for f in (lambda d: d, usual, keeping))
    np.testing.assert_array_equal(kept.x0, recomputed.x0)
    np.testing.assert_array_equal(kept.eps, own.eps)
    assert np.abs(kept.eps - recomputed.eps).max() > 0.1


@pytest.mark.parametrize(
    ("spec", "differs"),
    [
        *(
            (spec, True)
            for spec in ("ddim()", "ddim(eta=0.5)", "ddpm()", "deis()", "lms()", "tcd()")
        ),
        *(
            (spec, False)
            for spec in ("euler()", "heun()", "dpmpp()", "unipc()", "dpmpp_sde()", "lcm()")
        ),
    ],
)
def test_who_looks_at_the_eps_that_is_kept(spec, differs):
    """Methods that step from x_t and x0 do not."""
    levels = process.vp().level(jnp.asarray([-3.0, 0.0]))
    now, after = (levels.map(lambda f, i=i: f[i : i + 1]) for i in (0, 1))
    x, solver = jnp.asarray([[3.0, -0.1, 0.2]]), specs.build(spec, "solver")
    noise = jnp.zeros((draws(solver), *x.shape)) if draws(solver) > 1 else jnp.zeros_like(x)

    def stepped(keep_eps):
        state = State(x, history=solver.init(x, levels))
        denoise = thresholding.static(0.5, keep_eps)(WIDE)
        return solver.step(denoise, state, now, after, noise)[0].x

    assert (np.abs(stepped(True) - stepped(False)).max() > 0.01) == differs


def test_ddpm_returns_its_last_noise_if_asked():
    """Diffusers does at every last level but number 0: sigma_t z for the large variance, 0 for the small."""
    levels = process.vp().level(jnp.asarray([1.0, jnp.inf]))
    noise = jnp.asarray([[[1.0, -2.0]]])
    run = lambda solver: sample(  # noqa: E731
        jax.random.key(0), gaussian, solver, levels, jnp.zeros((1, 2)), noise=noise
    )
    usual = run(solvers.ddpm())
    expected = usual + levels.sigma[0] * noise[0]
    np.testing.assert_allclose(run(solvers.ddpm(last_noise=True)), expected, rtol=1e-6)
    np.testing.assert_array_equal(run(solvers.ddpm("small", last_noise=True)), usual)


def test_sampling_is_one_compiled_scan():
    levels = path(50)
    text = (
        jax.jit(lambda x: sample(jax.random.key(0), gaussian, solvers.ddim(), levels, x))
        .lower(jnp.zeros((2, 3)))
        .as_text()
    )
    assert text.count("stablehlo.while") == 1


@pytest.mark.parametrize("spec", ["ddim()", "unipc(3)"])
def test_unrolling_keeps_the_images(spec):
    """Also where it does not divide the number of steps."""
    x_T = jax.random.normal(jax.random.key(1), (3, 2))
    run = lambda unroll: sample(  # noqa: E731
        jax.random.key(0), gaussian, specs.build(spec), path(7), x_T, unroll=unroll
    )
    np.testing.assert_allclose(run(3), run(1), rtol=1e-5, atol=1e-6)


def test_returned_is_the_last_prediction():
    """Also where the path does not end at clean data, so that the last state is another thing."""
    levels = path(7).map(lambda field: field[:-2])
    x_T = jax.random.normal(jax.random.key(1), (3, 2))
    x0, kept = sample(jax.random.key(0), gaussian, solvers.ddim(), levels, x_T, trajectory=True)
    np.testing.assert_array_equal(x0, kept.x0[-1])
    assert np.abs(kept.x[-1] - x0).max() > 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(unroll=0), "unroll must be at least 1, got 0"),
        (dict(levels=process.NoiseLevel(jnp.ones(1), jnp.ones(1))), r"\[steps \+ 1\], got \(1,\)"),
        (dict(noise=jnp.zeros((3, 2, 3))), r"\(5, 2, 3\), got \(3, 2, 3\)"),
        (
            dict(noise=jnp.zeros((5, 2, 3)), solver=solvers.dpmpp_sde()),
            r"\[steps, draws, \*x_T.shape\] = \(5, 2, 2, 3\), got \(5, 2, 3\)",
        ),
    ],
)
def test_wrong_shapes_are_refused(change, message):
    given = dict(levels=path(5), noise=None, unroll=1, solver=solvers.ddim()) | change
    with pytest.raises(ValueError, match=message):
        sample(
            jax.random.key(0),
            gaussian,
            given["solver"],
            given["levels"],
            jnp.zeros((2, 3)),
            noise=given["noise"],
            unroll=given["unroll"],
        )


def test_grid_stays_within_its_ends_when_compiled():
    for steps in (7, 49, 300):
        t = jax.jit(lambda n=steps: grids.uniform()(n))()
        assert float(t[0]) == 1 and float(t[-1]) == 0 and bool((jnp.diff(t) < 0).all())


def test_grid_needs_a_step():
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        grids.uniform()(0)


def test_eps_prediction_is_finite_from_the_plain_cosine():
    """The published combination: gamma(1) = 6e-9 and clipping make eps-prediction sampleable."""

    def network(x, level, memory):
        prediction, _ = gaussian(x, level, memory)
        return parametrization.eps().to_prediction(level, x, prediction.eps), memory

    x_T = jax.random.normal(jax.random.key(0), (64, 3))
    levels = path(50, schedule="plain_cosine()")
    x0 = sample(jax.random.key(1), thresholding.static()(network), solvers.ddim(), levels, x_T)
    assert jnp.isfinite(x0).all() and jnp.abs(x0).max() <= 1
    assert schedules.plain_cosine().gamma(1.0) > 0


def round_trip(solver, levels, iterations=1):
    """The largest difference between images and what is drawn from their own noise."""
    x = jnp.linspace(-1.5, 2, 9).reshape(9, 1)
    denoise = mixture(jnp.asarray([[-0.4], [0.6]]), [0.4, 0.3])

    @jax.jit
    def there_and_back(x):
        x_T = invert(denoise, solver, levels, x, iterations=iterations)
        _, kept = sample(jax.random.key(0), denoise, solver, levels, x_T, trajectory=True)
        return kept.x[-1]

    return float(jnp.abs(there_and_back(x) - x).max())


@pytest.mark.parametrize(("spec", "low", "high"), [("ddim()", 0.9, 1.1), ("dpmpp(2)", 1.8, 2.3)])
def test_round_trip_of_inversion_has_the_methods_order(spec, low, high):
    """Between two levels that are neither clean data nor zero SNR."""
    with jax.enable_x64(True):
        counts = [80, 160]
        paths = [process.vp().level(jnp.linspace(-4, 6, n + 1)) for n in counts]
        errors = [round_trip(specs.build(spec), levels) for levels in paths]
        order = np.log2(errors[0] / errors[1])
        assert low < order < high, (order, errors)


def test_iterated_inversion_is_exact_from_clean_data_to_zero_snr():
    with jax.enable_x64(True):
        levels = path(20)
        assert levels.alpha[0] == 0 and levels.sigma[-1] == 0
        once, often = (round_trip(solvers.ddim(), levels, iterations=n) for n in (1, 60))
        assert often < 1e-9 < 0.01 < once


def test_higher_order_inversion_begins_at_clean_data():
    with jax.enable_x64(True):
        first, second = (round_trip(solvers.dpmpp(order), path(40)) for order in (1, 2))
        assert second < first < 0.2


@pytest.mark.parametrize(
    ("solver", "iterations", "message"),
    [
        (solvers.ddim(eta=1.0), 1, "deterministic solver, got ddim.eta=1.0."),
        (solvers.ddim(), 0, "iterations must be at least 1, got 0"),
    ],
)
def test_wrong_inversions_are_refused(solver, iterations, message):
    with pytest.raises(ValueError, match=message):
        invert(gaussian, solver, path(3), jnp.zeros((2, 1)), iterations=iterations)
