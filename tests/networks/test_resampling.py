"""Halving and doubling: closed forms of the box, and the equations of the module's head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.networks import resampling
from noise_sched.networks.resampling import border

downsample = jax.jit(resampling.downsample, static_argnums=(1, 2))
upsample = jax.jit(resampling.upsample, static_argnums=1)

FILTERS = [(1, 1), (1, 3, 3, 1), (1, 2, 3, 5, 7, 11)]  # the last is not symmetric, on purpose


def images(seed=0, height=8, width=6):
    return jax.random.normal(jax.random.key(seed), (2, height, width, 3))


def test_box_takes_means_and_repeats():
    x = np.asarray(images())
    np.testing.assert_allclose(
        downsample(x, (1, 1)), x.reshape(2, 4, 2, 3, 2, 3).mean((2, 4)), atol=1e-6
    )
    np.testing.assert_array_equal(upsample(x, (1, 1)), x.repeat(2, axis=1).repeat(2, axis=2))


@pytest.mark.parametrize("taps", FILTERS)
def test_a_constant_stays_what_it_is_away_from_the_border(taps):
    x = jnp.full((1, 16, 16, 1), 3.0)
    p = len(taps)
    np.testing.assert_allclose(downsample(x, taps)[:, p:-p, p:-p], 3.0, rtol=1e-6)
    # Doubling splits the taps between even and odd pixels: only their mean is kept by any filter.
    pairs = upsample(x, taps)[:, 2 * p : -2 * p, 2 * p : -2 * p]
    np.testing.assert_allclose(downsample(pairs, (1, 1)), 3.0, rtol=1e-6)


@pytest.mark.parametrize("taps", FILTERS)
def test_doubling_is_the_transpose_of_halving(taps):
    """<down x, y> = <x, up y> / 4: the same taps meet the same pixels, borders included."""
    x, y = images(height=8, width=12), images(seed=1, height=4, width=6)
    left, right = jnp.sum(downsample(x, taps) * y), jnp.sum(x * upsample(y, taps)) / 4
    np.testing.assert_allclose(left, right, rtol=1e-5)


def test_halving_follows_its_equation():
    x, taps = np.asarray(images(width=2))[:, :, :1], (1, 3, 3, 1)
    pixels = np.pad(x[:, :, 0], ((0, 0), (1, 1), (0, 0)))
    rows = [(pixels[:, 2 * i : 2 * i + 4].swapaxes(1, 2) @ np.array(taps)) / 8 for i in range(4)]
    # One column: the middle taps of the other axis see it once.
    x = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0)))
    got = downsample(x, taps)
    assert got.shape == (2, 4, 1, 3)
    np.testing.assert_allclose(got[:, :, 0], np.stack(rows, axis=1) * 3 / 8, atol=1e-6)


def test_a_border_of_ones_own_replaces_the_zeros():
    x, taps = images(), (1, 3, 3, 1)
    p = border(taps)
    padded = jnp.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    np.testing.assert_allclose(downsample(padded, taps, False), downsample(x, taps), atol=1e-6)
