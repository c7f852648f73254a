"""Attention between pixels, and where it runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.networks.unet_blocks import Conv, Initial, attend


def written_out(qkv, heads):
    """softmax(q k / sqrt(dim)) v, one image and head at a time."""
    batch, height, width, features = qkv.shape
    parts = qkv.astype(np.float64).reshape(batch, height * width, 3, heads, -1)
    out = np.zeros(parts[:, :, 0].shape)
    for i in range(batch):
        for h in range(heads):
            q, k, v = parts[i, :, 0, h], parts[i, :, 1, h], parts[i, :, 2, h]
            weights = np.exp(q @ k.T / np.sqrt(q.shape[-1]))
            out[i, :, h] = weights / weights.sum(axis=1, keepdims=True) @ v
    return out.reshape(batch, height, width, features // 3)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_is_the_formula(heads):
    qkv = np.random.default_rng(0).standard_normal((2, 2, 3, 24)).astype(np.float32)
    got = jax.jit(attend, static_argnums=1)(jnp.asarray(qkv), heads)
    np.testing.assert_allclose(got, written_out(qkv, heads), atol=1e-5)


def test_parts_of_a_convolution_come_out_in_order():
    conv = Conv(features=6, size=1, parts=3, initial=Initial(jax.nn.initializers.zeros))
    stored = jnp.arange(12.0).reshape(1, 1, 2, 6)
    params = {"kernel": stored, "bias": 100 * jnp.arange(6.0)}
    got = conv.apply({"params": params}, jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2))
    np.testing.assert_array_equal(got.ravel(), [0, 303, 101, 404, 202, 505])


@pytest.mark.gpu
def test_flash_attention_on_a_gpu():
    """cuDNN's kernel is taken, forward and backward, and agrees with the formula."""
    qkv = jax.random.normal(jax.random.key(0), (2, 16, 16, 3 * 128), jnp.bfloat16)

    def loss(qkv):
        out = attend(qkv, 2)
        return jnp.sum(out.astype(jnp.float32) ** 2), out

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    assert "cudnn" in run.lower(qkv).as_text()
    (_, out), grad = run(qkv)
    np.testing.assert_allclose(
        out.astype(jnp.float32), written_out(np.asarray(qkv, np.float32), 2), atol=0.02
    )
    assert np.isfinite(np.asarray(grad, np.float32)).all()
