"""Guidance and thresholding; rescaled guidance against diffusers' own numbers (goldens/README.md)."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.diffusion import guidance, parametrization, process, specs, thresholding
from noise_sched.diffusion.parametrization import from_x0

GOLDENS = np.load(pathlib.Path(__file__).parent / "goldens" / "diffusers_choices.npz")
SPACES = ["eps()", "x0()", "v()", "edm()", "flow()"]


def constant(kind, out):
    """A denoiser whose network says `out` whatever it sees."""
    return lambda x, level, memory: (kind.to_prediction(level, x, out), memory)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("w", ["1.5", "7.5", "15"])
@pytest.mark.parametrize("phi", ["0", "0.3", "0.7", "1"])
def test_rescaled_guidance(w, phi, space):
    with jax.enable_x64(True):
        kind = specs.build(space, "parametrization")
        cond, uncond = (jnp.asarray(GOLDENS[f"d/f64/{name}"]) for name in ("cond", "uncond"))
        level = process.vp().level(jnp.asarray([-2.0, 1.0]))
        x = jax.random.normal(jax.random.key(0), cond.shape)
        guide = guidance.cfg(float(w), rescale=float(phi), space=kind)
        found, _ = guide(constant(kind, cond), constant(kind, uncond))(x, level, ())
        out = kind.target(level, found.x0, found.eps)
        np.testing.assert_allclose(out, GOLDENS[f"d/f64/w{w}/phi{phi}"], rtol=1e-10, atol=1e-12)
        again = process.diffuse(level, found.x0, found.eps)
        np.testing.assert_allclose(again, x, rtol=1e-9, atol=1e-9)


def test_full_rescaling_keeps_the_spread_of_the_conditional_output_at_zero_snr():
    cond, uncond, x = jax.random.normal(jax.random.key(0), (3, 2, 4, 4, 1))
    level, kind = process.vp().level(jnp.full(2, -jnp.inf)), parametrization.v()
    guide = guidance.cfg(7.5, rescale=1.0)
    found, _ = guide(constant(kind, cond), constant(kind, uncond))(x, level, ())
    spread = lambda a: jnp.std(a, axis=(1, 2, 3))  # noqa: E731
    np.testing.assert_allclose(spread(found.x0), spread(cond), rtol=1e-5)


def test_rescaling_a_network_that_says_nothing_is_finite():
    """A fresh network's last layer is zero."""
    zero, level = jnp.zeros((2, 3)), process.vp().level(jnp.zeros(2))
    denoise = constant(parametrization.v(), zero)
    found, _ = guidance.cfg(3.0, rescale=0.7)(denoise, denoise)(zero, level, ())
    assert jnp.isfinite(found.x0).all()


def test_rescale_may_be_traced():
    cond, uncond, x = jax.random.normal(jax.random.key(0), (3, 2, 8))
    level, kind = process.vp().level(jnp.zeros(2)), parametrization.v()

    def x0(phi):
        guide = guidance.cfg(3.0, rescale=phi)
        return guide(constant(kind, cond), constant(kind, uncond))(x, level, ())[0].x0

    np.testing.assert_allclose(jax.jit(x0)(jnp.asarray(0.0)), x0(0.0), atol=1e-6)


def test_interval_guides_inside_only():
    cond, uncond, x = jax.random.normal(jax.random.key(0), (3, 4, 5))
    sigma = jnp.asarray([0.1, 0.2, 1.0, 5.1])  # (low, high]: only the third is inside
    level, kind = process.ve().level(-2 * jnp.log(sigma)), parametrization.x0()
    guide = guidance.interval(guidance.cfg(3.0), 0.21, 5.0)
    found, memory = guide(constant(kind, cond), constant(kind, uncond))(x, level, "kept")
    expected = cond.at[2].set(uncond[2] + 3.0 * (cond[2] - uncond[2]))
    np.testing.assert_allclose(found.x0, expected, rtol=1e-5)
    assert memory == "kept"


def test_interval_counts_zero_snr_as_infinite_noise():
    cond, uncond, x = jax.random.normal(jax.random.key(0), (3, 1, 5))
    level, kind = process.vp().level(jnp.asarray([-jnp.inf])), parametrization.x0()
    two = (constant(kind, cond), constant(kind, uncond))
    closed = guidance.interval(guidance.cfg(3.0), 0.2, 5.0)(*two)(x, level, ())[0]
    np.testing.assert_array_equal(closed.x0, cond)
    opened = guidance.interval(guidance.cfg(3.0), 0.2)(*two)(x, level, ())[0]
    np.testing.assert_allclose(opened.x0, uncond + 3.0 * (cond - uncond), rtol=1e-5)


def test_interval_does_not_run_the_other_network_outside():
    runs = []

    def other(x, level, memory):
        jax.debug.callback(lambda: runs.append(1))
        return from_x0(level, x, x), memory

    guide = jax.jit(
        lambda x, logsnr: guidance.interval(guidance.cfg(3.0), 0.2, 5.0)(other_free, other)(
            x, process.vp().level(logsnr), ()
        )[0]
    )
    other_free = lambda x, level, memory: (from_x0(level, x, 2 * x), memory)  # noqa: E731
    guide(jnp.ones((2, 3)), jnp.full(2, 9.0))
    jax.effects_barrier()
    assert not runs
    guide(jnp.ones((2, 3)), jnp.full(2, 0.0))
    jax.effects_barrier()
    assert runs


def test_what_the_other_denoiser_is():
    assert guidance.cfg().other == "unlabelled"
    assert guidance.autoguide().other == "weights"
    assert guidance.interval(guidance.autoguide(), 0.1).other == "weights"
    assert guidance.none().other == "none"


def test_autoguidance_pushes_away_from_the_worse_network():
    good, bad, x = jax.random.normal(jax.random.key(0), (3, 2, 5))
    level, kind = process.ve().level(jnp.zeros(2)), parametrization.x0()
    found, _ = guidance.autoguide(2.0)(constant(kind, good), constant(kind, bad))(x, level, ())
    np.testing.assert_allclose(found.x0, bad + 2 * (good - bad), rtol=1e-5)


def test_dynamic_thresholding():
    level = process.vp().level(jnp.zeros(2))
    x = jnp.ones((2, 4))
    x0 = jnp.asarray([[0.1, -0.4, 0.8, 0.9], [1.0, -2.0, 3.0, 4.0]])
    denoise = constant(parametrization.x0(), x0)
    found, _ = thresholding.dynamic(1.0)(denoise)(x, level, ())
    np.testing.assert_allclose(found.x0, x0 / jnp.asarray([[1.0], [4.0]]), rtol=1e-6)
    np.testing.assert_allclose(process.diffuse(level, found.x0, found.eps), x, rtol=1e-5)
    median, _ = thresholding.dynamic(0.5)(denoise)(x, level, ())
    np.testing.assert_allclose(median.x0[1], [0.4, -0.8, 1.0, 1.0], rtol=1e-6)
    limited, _ = thresholding.dynamic(1.0, maximum=1.0)(denoise)(x, level, ())
    static, _ = thresholding.static()(denoise)(x, level, ())
    np.testing.assert_allclose(limited.x0, static.x0, rtol=1e-6)
