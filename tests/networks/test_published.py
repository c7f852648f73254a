"""Published parameters find their places."""

import jax
import numpy as np
import pytest

from noise_sched.networks.published import params_from_state_dict


def test_names_and_layouts():
    rng = np.random.default_rng(0)
    conv, matrix = rng.standard_normal((5, 4, 3, 2)), rng.standard_normal((6, 7))
    norm, gain = rng.standard_normal(8), np.float32(0.25)
    tree = params_from_state_dict(
        {
            "enc.16x16_block0.conv0.weight": conv,
            "enc.16x16_block0.norm0.weight": norm,
            "enc.16x16_block0.norm0.bias": -norm,
            "dec.8x8_in0.emb_gain": gain,
            "map_layer0.weight": matrix,
            "out_gain": gain,
        }
    )
    block = tree["enc_16x16_block0"]
    np.testing.assert_allclose(block["conv0"]["kernel"][2, 1, 3, 4], conv[4, 3, 2, 1], rtol=1e-6)
    assert block["conv0"]["kernel"].shape == (3, 2, 4, 5)
    np.testing.assert_allclose(block["norm0"]["scale"], norm, rtol=1e-6)
    np.testing.assert_allclose(block["norm0"]["bias"], -norm, rtol=1e-6)
    np.testing.assert_allclose(tree["map_layer0"]["kernel"], matrix.T, rtol=1e-6)
    assert tree["dec_8x8_in0"]["emb_gain"] == tree["out_gain"] == gain
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {np.dtype("float32")}


@pytest.mark.parametrize("wrapper", ["", "model.", "unet."])
def test_wrappers_and_constants_are_left_out(wrapper):
    weight = np.ones((2, 3))
    state = {
        f"{wrapper}map_noise.freqs": np.ones(4),
        f"{wrapper}emb_fourier.phases": np.ones(4),
        f"{wrapper}enc.8x8_down.conv0.resample_filter": np.ones((1, 1, 2, 2)),
        f"{wrapper}map_layer1.weight": weight,
    }
    assert jax.tree.map(np.shape, params_from_state_dict(state)) == {
        "map_layer1": {"kernel": (3, 2)}
    }


def test_a_weight_that_no_layer_has_is_refused():
    with pytest.raises(ValueError, match="conv.weight has 5 dimensions.*another architecture"):
        params_from_state_dict({"conv.weight": np.ones((1, 1, 1, 1, 1))})
