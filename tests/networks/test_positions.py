"""Sinusoidal codes against the reference.

goldens/positions.npz: google-research/pix2seq eabd4e9 run with TF 2.15.1.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.networks.magnitude import mp_fourier
from noise_sched.networks.positions import grid_code, sinusoid

GOLDENS = np.load(pathlib.Path(__file__).parent / "goldens" / "positions.npz")


def test_sinusoid_matches_the_reference():
    got = sinusoid(jnp.asarray(GOLDENS["positional_encoding_in"]), 16)
    # An angle of 1000 radians has a float32 rounding of 6e-5.
    np.testing.assert_allclose(got, GOLDENS["positional_encoding_dim16"], atol=1e-4)


def test_a_line_of_positions_matches_the_reference():
    got = sinusoid(jnp.linspace(0.0, 1000.0, 7), 16)
    np.testing.assert_allclose(got, GOLDENS["sincos1d_7_dim16_max1000"][0], atol=2e-4)


def test_grid_code_matches_the_reference():
    expected = GOLDENS["sincos2d_4x6_dim16_max1000"][0].reshape(24, 16)
    np.testing.assert_allclose(grid_code(4, 6, 16), expected, atol=2e-4)


def test_sinusoid_lies_on_circles():
    code = sinusoid(jnp.asarray([[0.0, 3.0], [250.0, 999.0]]), 10)
    assert code.shape == (2, 2, 10)
    np.testing.assert_allclose(code[..., :5] ** 2 + code[..., 5:] ** 2, 1.0, atol=1e-5)


def test_grid_of_one_row_is_finite():
    code = grid_code(1, 3, 8)
    assert code.shape == (3, 8)
    assert np.isfinite(code).all()
    np.testing.assert_array_equal(code[:, :4], np.broadcast_to([0.0, 0.0, 1.0, 1.0], (3, 4)))


def test_dimensions_that_do_not_split_into_pairs_are_refused():
    with pytest.raises(ValueError, match="dim=7: use an even number"):
        sinusoid(jnp.zeros(2), 7)
    with pytest.raises(ValueError, match="dim=6: use a multiple of 4"):
        grid_code(2, 2, 6)


@pytest.mark.parametrize("code", ["sinusoid", "grid", "fourier"])
def test_no_angle_is_a_matrix_product(code):
    """An accelerator multiplies matrices in bfloat16: an angle of 1000 would be off by 4 radians."""
    made = {
        "sinusoid": lambda x: sinusoid(x, 16),
        "grid": lambda x: grid_code(4, 6, 16),
        "fourier": lambda x: mp_fourier(x, jnp.ones(8), jnp.zeros(8)),
    }[code]
    assert "dot_general" not in str(jax.make_jaxpr(made)(jnp.ones(3)))
