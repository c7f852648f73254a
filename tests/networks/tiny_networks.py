"""Networks that are small enough to compile in a moment, inputs and random parameters for them."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from noise_sched.networks import ADM, EDM2, RIN, UNetSmall

_SHAPE = dict(image_size=(8, 4), channels=1, num_classes=3)
_U_NET = dict(augment_dim=2, model_channels=8, channel_mult=(1, 2), num_blocks=1)
_U_NET |= dict(attention_resolutions=(4,))
_RIN = dict(patch_size=2, num_layers=(1, 0), latent_slots=5, latent_dim=16, latent_mlp_ratio=2)
_RIN |= dict(latent_heads=2, tape_dim=8, tape_mlp_ratio=2, rw_heads=2)


def tiny(made=UNetSmall, **changes):
    """A network of a class, with some fields changed."""
    fields = _SHAPE | (_RIN if made is RIN else _U_NET)
    if issubclass(made, ADM | EDM2):
        fields |= dict(channels_per_head=8)
    if made is EDM2:
        fields |= dict(augment_dim=0)
    return made(**(fields | changes))


def inputs_for(network, batch=3):
    """Images, noise levels, labels and memory."""
    x = jax.random.normal(jax.random.key(1), (batch, *network.image_size, network.channels))
    noise_cond = jnp.linspace(-1.5, 1.0, batch)
    label = jnp.arange(batch, dtype=jnp.int32) if network.num_classes else None
    memory = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(2), leaf.shape), network.initial_memory(batch)
    )
    return x, noise_cond, label, memory


def shapes_of(network):
    """The parameters, without values."""
    inputs = inputs_for(network, 1)
    return jax.eval_shape(lambda: network.init(jax.random.key(0), *inputs))["params"]


def random_params(network, by_fan_in=True):
    """Normal values for all parameters: nothing is left at zero, and no `init` is compiled.

    `by_fan_in` divides them by sqrt(inputs).
    """
    rng = np.random.default_rng(0)

    def draw(leaf):
        fan_in = max(1, np.prod(leaf.shape[:-1])) if by_fan_in else 1
        return jnp.asarray(rng.standard_normal(leaf.shape) / math.sqrt(fan_in), leaf.dtype)

    return jax.tree.map(draw, shapes_of(network))


def assert_float32_whatever_the_default_is(made, **changes):
    """With float64 inputs too, parameters and outputs are float32."""
    with jax.enable_x64(True):
        network = tiny(made, **changes)
        inputs = jax.tree.map(
            lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, inputs_for(network)
        )
        found = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), *inputs))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}


def assert_dropout_acts_in_training_only(network):
    """By its key in training, and not at all otherwise."""
    params, inputs = random_params(network), inputs_for(network)
    run = jax.jit(
        lambda train, seed: network.apply(
            {"params": params}, *inputs, train, rngs={"dropout": jax.random.key(seed)}
        )[0],
        static_argnums=0,
    )
    np.testing.assert_array_equal(run(False, 1), run(False, 2))
    np.testing.assert_array_equal(run(True, 1), run(True, 1))
    assert not np.allclose(run(True, 1), run(True, 2))


def assert_close(got, expected, rtol=1e-4, atol=1e-5):
    """Trees whose leaves are equal but for rounding."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), got, expected)
