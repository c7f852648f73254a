"""Initial values, dropout and drop path of the shared layers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import keystr

from noise_sched.networks import RIN
from noise_sched.networks.layers import MLP, NoiseEmbedding, TransformerLayer


def init_params(module, *args):
    return jax.jit(module.init)(jax.random.key(0), *args)["params"]


def test_attention_kernels_have_keras_fans():
    # heads h = 4 of k = 16 features; queries of d = 48 features, context of 40.
    layer = TransformerLayer(heads=4, inner_dim=64, mlp_ratio=2)
    params = init_params(layer, jnp.zeros((1, 3, 48)), jnp.zeros((1, 5, 40)))["attention"]
    limits = {
        "query": math.sqrt(6 / (48 * (4 + 16))),
        "key": math.sqrt(6 / (40 * (4 + 16))),
        "value": math.sqrt(6 / (40 * (4 + 16))),
        "out": math.sqrt(6 / (4 * (16 + 48))),
    }
    for name, limit in limits.items():
        assert_uniform(params[name]["kernel"], limit)
        assert not params[name]["bias"].any()


def test_dense_kernels_are_glorot_uniform():
    params = init_params(MLP(ratio=4), jnp.zeros((1, 2, 32)))
    for name in ("hidden", "out"):
        assert_uniform(params[name]["kernel"], math.sqrt(6 / (32 + 128)))
        assert not params[name]["bias"].any()


def test_rin_starts_as_published():
    rin = RIN(
        image_size=16,
        num_classes=10,
        patch_size=2,
        num_layers=(1,),
        latent_slots=34,
        latent_dim=64,
        latent_heads=4,
        tape_dim=32,
        tape_mlp_ratio=2,
        rw_heads=2,
    )
    inputs = jnp.zeros((1, 16, 16, 3)), jnp.zeros(1), jnp.zeros(1, jnp.int32)
    params = init_params(rin, *inputs, rin.initial_memory(1))
    # The stem is a convolution: both fans count the patch's area.
    assert_uniform(params["stem"]["kernel"], math.sqrt(6 / (4 * 3 + 4 * 32)))
    assert_uniform(params["class_embedding"]["kernel"], math.sqrt(6 / (10 + 64)))
    assert_uniform(params["noise_embedding"]["out"]["kernel"], math.sqrt(6 / (64 + 64)))
    assert_uniform(params["output"]["kernel"], math.sqrt(6 / (32 + 12)))
    for name in ("latents", "tape_position"):
        # A normal cut at two deviations keeps 0.8796 of its deviation.
        assert np.abs(params[name]).max() <= 0.04
        np.testing.assert_allclose(np.std(params[name]), 0.02 * 0.8796, rtol=0.05)
    for path, leaf in jax.tree.leaves_with_path(params):
        name = keystr(path)
        if name.endswith("['bias']") or "memory_norm" in name:
            assert not leaf.any(), name
        elif name.endswith("['scale']"):
            assert (leaf == 1).all(), name


def assert_uniform(kernel, limit):
    kernel = np.asarray(kernel)
    assert np.abs(kernel).max() <= limit
    np.testing.assert_allclose(np.abs(kernel).max(), limit, rtol=0.02)
    np.testing.assert_allclose(kernel.std(), limit / math.sqrt(3), rtol=0.08)


def test_noise_embedding_does_not_depend_on_the_scale_of_the_code():
    # The code is standardised, so at init two noise levels give tokens of like size.
    embed = NoiseEmbedding(64)
    levels = jnp.asarray([0.0, 1e-6, 500.0, 1000.0])
    tokens = embed.apply({"params": init_params(embed, levels)}, levels)
    assert tokens.shape == (4, 64)
    assert np.isfinite(tokens).all()
    norms = np.linalg.norm(tokens, axis=-1)
    assert norms.max() < 2 * norms.min()


@pytest.fixture(scope="module")
def mlp():
    module = MLP(ratio=4, drop_units=0.5)
    x = jax.random.normal(jax.random.key(1), (2, 3, 32))
    return module, init_params(module, x), x


def test_units_are_dropped_in_training_only(mlp):
    module, params, x = mlp
    plain = module.apply({"params": params}, x)
    dropped = module.apply({"params": params}, x, True, rngs={"dropout": jax.random.key(2)})
    np.testing.assert_array_equal(plain, MLP(ratio=4).apply({"params": params}, x, True))
    assert not np.allclose(plain, dropped)


def test_drop_path_leaves_out_whole_examples_and_keeps_the_mean():
    layer = TransformerLayer(heads=2, inner_dim=16, mlp_ratio=0, drop_path=0.25)
    x = jnp.broadcast_to(jax.random.normal(jax.random.key(1), (1, 5, 16)), (400, 5, 16))
    params = init_params(layer, x)
    branch = layer.apply({"params": params}, x[:1]) - x[:1]
    got = layer.apply({"params": params}, x, None, True, rngs={"dropout": jax.random.key(2)}) - x
    left_out = ~np.asarray(got).any(axis=(1, 2))
    assert 0.15 < left_out.mean() < 0.35
    kept = np.asarray(got)[~left_out]
    np.testing.assert_allclose(kept, np.broadcast_to(branch / 0.75, kept.shape), atol=1e-5)


def test_no_mlp_when_its_ratio_is_zero():
    layer = TransformerLayer(heads=2, inner_dim=16, mlp_ratio=0)
    assert set(init_params(layer, jnp.zeros((1, 2, 16)))) == {"attention", "attention_norm"}
