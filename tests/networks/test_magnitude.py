"""Magnitude-preserving layers: unit in, unit out; blind to the filters' lengths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.networks import magnitude
from noise_sched.networks.magnitude import MPConv


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def rms(x, **kwargs):
    return np.sqrt(np.mean(np.square(np.asarray(x, np.float64)), **kwargs))


@pytest.mark.parametrize("window, spatial", [((), ()), ((1, 1), (8, 8)), ((3, 3), (8, 8))])
def test_linear_layers_keep_the_magnitude(window, spatial):
    layer, x = MPConv(64, window), normal(0, 64, *spatial, 96)
    out, _ = jax.jit(layer.init_with_output)(jax.random.key(1), x)
    if window == (3, 3):
        out = out[:, 1:-1, 1:-1]  # at the border a part of the filter sees zeros
    # Over inputs, so for every output filter by itself.
    np.testing.assert_allclose(rms(out.reshape(-1, 64)), 1.0, rtol=0.02)
    assert np.all(np.abs(rms(out.reshape(-1, 64), axis=0) - 1) < (0.1 if spatial else 0.5))


def test_mp_silu_constant_is_that_of_normal_inputs():
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    silu = np.asarray(magnitude.mp_silu(jnp.asarray(nodes, jnp.float32)), np.float64)
    second_moment = np.sum(weights * silu**2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(np.sqrt(second_moment), 1.0, atol=1e-3)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_mp_sum_keeps_the_magnitude_and_the_ratio(t):
    a, b = np.eye(2)  # uncorrelated, of equal magnitude
    out = magnitude.mp_sum(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32), t)
    np.testing.assert_allclose(rms(out), rms(a), rtol=1e-6)
    np.testing.assert_allclose(out[1] * (1 - t), out[0] * t, atol=1e-7)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_mp_cat_keeps_the_magnitude_and_balances_the_parts(t):
    out = np.asarray(magnitude.mp_cat(jnp.ones((2, 5)), -jnp.ones((2, 3)), t))
    np.testing.assert_allclose(rms(out), 1.0, rtol=1e-6)
    # What a part contributes to the next layer is the norm of its channels.
    norms = np.linalg.norm(out[0, :5]), np.linalg.norm(out[0, 5:])
    np.testing.assert_allclose(norms[1] * (1 - t), norms[0] * t, atol=1e-6)


def test_fourier_features_have_unit_magnitude():
    frequencies, phases = (
        3.0 * normal(0, 4096),
        6.2832 * jax.random.uniform(jax.random.key(1), (4096,)),
    )
    out = magnitude.mp_fourier(jnp.asarray([-1.0, 0.0, 2.0]), frequencies, phases)
    np.testing.assert_allclose(rms(out, axis=1), 1.0, rtol=0.03)


def test_normalized_vectors_have_unit_magnitude_and_zero_stays_zero():
    x = jnp.concatenate([30.0 * normal(0, 4, 7), jnp.zeros((1, 7))])
    out = magnitude.normalize(x, -1)
    np.testing.assert_allclose(rms(out[:4], axis=-1), 1.0, rtol=1e-4)
    np.testing.assert_array_equal(out[4], 0)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(magnitude.normalize(x, -1)))))(x)
    assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("window", [(), (3, 3)])
def test_only_the_directions_of_the_filters_count(window):
    layer, x = MPConv(5, window), normal(0, 2, *(4,) * len(window), 6)
    kernel = normal(1, *window, 6, 5)
    lengths = jnp.asarray([0.5, 1.0, 2.0, 30.0, 0.9]).reshape((1,) * (kernel.ndim - 1) + (5,))
    run = jax.jit(lambda kernel: layer.apply({"params": {"kernel": kernel}}, x))
    np.testing.assert_allclose(run(kernel * lengths), run(kernel), rtol=5e-4, atol=1e-5)
    # So the gradient has no part along a filter.
    slope = jax.jit(jax.grad(lambda kernel: jnp.sum(jnp.sin(run(kernel)))))(kernel)
    axes = tuple(range(kernel.ndim - 1))
    along = np.sum(slope * kernel, axes)
    lengths = np.sqrt(np.sum(slope**2, axes) * np.sum(kernel**2, axes))
    assert np.all(np.abs(along) < 1e-3 * lengths)


def test_gain_multiplies_the_output():
    layer, x = MPConv(5), normal(0, 2, 6)
    variables = {"params": {"kernel": normal(1, 6, 5)}}
    np.testing.assert_allclose(
        layer.apply(variables, x, jnp.float32(-3.0)), -3.0 * layer.apply(variables, x), rtol=1e-5
    )


def test_initial_filters_are_normalized():
    kernel = jax.jit(magnitude.unit_normal, static_argnums=1)(jax.random.key(0), (3, 3, 4, 6))
    np.testing.assert_allclose(rms(kernel, axis=(0, 1, 2)), 1.0, rtol=1e-3)
