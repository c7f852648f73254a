"""EDM2: published sizes and names, magnitudes, conditioning, precision, messages."""

import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_networks
from tiny_networks import assert_close, inputs_for, shapes_of

from noise_sched.networks import EDM2
from noise_sched.networks.edm2 import Block

tiny = functools.partial(
    tiny_networks.tiny, EDM2, image_size=4, channels=2, attention_resolutions=(2,)
)
# One resolution, five blocks: quick to compile with its gradient.
smallest = functools.partial(
    tiny, image_size=2, channel_mult=(1,), attention_resolutions=(), dropout=0.3
)
# Magnitude-preserving layers take kernels of unit magnitude.
random_params = functools.partial(tiny_networks.random_params, by_fan_in=False)


@pytest.fixture(scope="module")
def case():
    network = tiny()
    run = jax.jit(lambda params, *args: network.apply({"params": params}, *args)[0])
    return network, random_params(network), inputs_for(network), run


# ---- sizes and names


@pytest.mark.parametrize(
    "model_channels, expected, published",
    [
        (64, 31_309_029, 31.3),
        (128, 124_713_253, 124.7),
        (192, 280_212_837, 280.2),
        (256, 497_807_781, 497.8),
    ],
)
def test_published_parameter_counts(model_channels, expected, published):
    """Sizes XXS, XS, S and M at 64 x 64 x 4 with 1000 classes, in millions, from shapes alone."""
    network = EDM2(image_size=64, channels=4, num_classes=1000, model_channels=model_channels)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes_of(network)))
    assert count == expected
    assert round(count / 1e6, 1) == published


def test_parameters_are_named_as_published(case):
    names = {"/".join(path) for path in flax.traverse_util.flatten_dict(case[1])}
    plain = {"emb_noise", "emb_label", "out_conv", "logvar_linear", "enc_4x4_conv"}
    layers = {f"{name}/kernel" for name in plain} | {"out_gain"}
    inside = {"conv_res0/kernel", "conv_res1/kernel", "emb_linear/kernel", "emb_gain"}
    attention, skip = {"attn_qkv/kernel", "attn_proj/kernel"}, {"conv_skip/kernel"}
    blocks = {
        "enc_4x4_block0": inside,
        "enc_2x2_down": inside,
        "enc_2x2_block0": inside | skip | attention,
        "dec_2x2_in0": inside | attention,
        "dec_2x2_in1": inside,
        "dec_2x2_block0": inside | skip | attention,
        "dec_2x2_block1": inside | skip | attention,
        "dec_4x4_up": inside,
        "dec_4x4_block0": inside | skip,
        "dec_4x4_block1": inside | skip,
    }
    assert names == layers | {f"{block}/{name}" for block, own in blocks.items() for name in own}


# ---- magnitudes


@pytest.mark.parametrize(("decoder", "heads"), [(False, 2), (True, 0)])
def test_a_block_keeps_the_magnitude(decoder, heads):
    block = Block(features=48, decoder=decoder, heads=heads)
    x = jax.random.normal(jax.random.key(0), (8, 8, 8, 32))
    embedding = jax.random.normal(jax.random.key(1), (8, 16))
    out, _ = jax.jit(block.init_with_output)(jax.random.key(2), x, embedding)
    # Attention averages values, and the border of a convolution sees zeros: both can only shrink.
    assert 0.85 < np.sqrt(np.mean(out**2)) < 1.02


def test_activations_are_clipped():
    block = Block(features=4, decoder=True)
    x = jnp.full((1, 2, 2, 4), 1e4)
    out, _ = jax.jit(block.init_with_output)(jax.random.key(0), x, jnp.ones((1, 4)))
    assert np.abs(out).max() == 256.0


def test_only_the_directions_of_the_filters_count(case):
    _, params, inputs, run = case
    scaled = jax.tree.map(lambda leaf: leaf * 7.0 if leaf.ndim else leaf, params)
    expected = run(params, *inputs)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(run(scaled, *inputs), expected, rtol=2e-3, atol=2e-3)


def test_the_first_output_is_zero(case):
    _, params, inputs, run = case
    np.testing.assert_array_equal(run({**params, "out_gain": jnp.zeros(())}, *inputs), 0)


# ---- conditioning


def test_noise_level_and_class_reach_the_output(case):
    _, params, (x, noise_cond, label, memory), run = case
    out = run(params, x, noise_cond, label, memory)
    assert not np.allclose(out, run(params, x, noise_cond + 0.1, label, memory))
    assert not np.allclose(out, run(params, x, noise_cond, (label + 1) % 3, memory))


def test_no_class_looks_at_no_class_embedding(case):
    _, params, (x, noise_cond, label, memory), run = case
    without = {**params, "emb_label": jax.tree.map(lambda leaf: leaf[::-1], params["emb_label"])}
    none = jnp.full_like(label, -1)
    np.testing.assert_array_equal(
        run(params, x, noise_cond, none, memory), run(without, x, noise_cond, none, memory)
    )
    out = run(params, x, noise_cond, label, memory)
    assert not np.allclose(out, run(without, x, noise_cond, label, memory))


def test_examples_do_not_mix(case):
    _, params, (x, noise_cond, label, memory), run = case
    out = run(params, x, noise_cond, label, memory)
    changed = run(params, x.at[1].mul(2.0), noise_cond.at[1].add(1.0), label.at[1].set(0), memory)
    assert not np.allclose(out[1], changed[1])
    np.testing.assert_allclose(out[::2], changed[::2], atol=1e-6)


def test_log_variance_is_one_number_per_noise_level(case):
    network, params, (_, noise_cond, *_), _ = case
    run = lambda c, net=network: net.apply({"params": params}, c, method="log_variance")
    out = run(noise_cond)
    assert out.shape == noise_cond.shape and len(set(np.asarray(out))) == 3
    np.testing.assert_array_equal(run(noise_cond[::-1]), out[::-1])
    # It has frequencies of its own, and they can be given.
    given = tiny(logvar_frequencies=(0.0,) * 128, logvar_phases=(0.0,) * 128)
    np.testing.assert_allclose(run(noise_cond, given), run(noise_cond, given)[0], rtol=1e-6)


def test_given_frequencies_and_phases_are_used():
    constant = smallest(frequencies=(0.0,) * 8, phases=(1.0,) * 8)
    params, (x, _, label, memory) = random_params(constant), inputs_for(constant)
    run = jax.jit(lambda c: constant.apply({"params": params}, x, c, label, memory)[0])
    np.testing.assert_array_equal(run(jnp.zeros(3)), run(jnp.ones(3)))


# ---- training and precision


def test_remat_changes_nothing_but_what_is_stored():
    networks = [smallest(remat=remat) for remat in ("none", "layer")]
    params, inputs = random_params(networks[0]), inputs_for(networks[0])

    def loss(part, network):
        rngs = {"dropout": jax.random.key(5)}
        variables = {"params": {**params, "emb_noise": part}}
        return jnp.mean(network.apply(variables, *inputs, True, rngs=rngs)[0] ** 2)

    # The gradient of the embedding passes through all blocks.
    slope, part = jax.jit(jax.value_and_grad(loss), static_argnums=1), params["emb_noise"]
    plain, remat = (slope(part, network) for network in networks)
    assert_close(plain, remat)
    eqns = [jax.make_jaxpr(loss, static_argnums=1)(part, network).eqns for network in networks]
    assert [sum("remat" in e.primitive.name for e in es) for es in eqns] == [0, 5]


def test_dropout_acts_in_training_only():
    tiny_networks.assert_dropout_acts_in_training_only(smallest())


def test_bfloat16_computes_close_to_float32():
    """The decoder's first block has attention."""
    network, other = smallest(dtype=jnp.bfloat16), smallest()
    params, inputs = random_params(other), inputs_for(other)
    # jax.nn.dot_product_attention itself asks for bfloat16 and float32 to be promoted.
    with jax.numpy_dtype_promotion("standard"):
        own = shapes_of(network)
        out, _ = jax.jit(network.apply)({"params": params}, *inputs)
    assert {leaf.dtype for leaf in jax.tree.leaves((own, out))} == {jnp.dtype("float32")}
    exact = jax.jit(other.apply)({"params": params}, *inputs)[0]
    assert 0 < np.abs(out - exact).max() < 0.1 * np.abs(exact).max()


def test_float32_whatever_the_default_is():
    tiny_networks.assert_float32_whatever_the_default_is(EDM2)


def test_modules_are_hashable_whatever_the_config_holds():
    assert hash(tiny(channel_mult=[1, 2], attention_resolutions=[2])) == hash(tiny())


# ---- messages


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_size": 7}, "image_size=7 x 7 cannot be halved 1 times.* multiples of 2"),
        ({"attention_resolutions": (3,)}, "no level has the height 3. Those .* are 4, 2."),
        ({"channels_per_head": 3}, "channels_per_head=3 does not divide the 16 .* example 16"),
        ({"dropout": 1.0}, r"dropout is a probability in \[0, 1\), but got 1.0"),
        ({"channel_mult": ()}, "channel_mult needs one positive number per level"),
        ({"frequencies": (1.0,)}, "frequencies needs 8 numbers, .* but got 1"),
        ({"logvar_phases": (1.0,)}, "logvar_phases needs 128 numbers"),
        ({"augment_dim": 9}, "augment_dim=9, but EDM2 has no input for augmentations.* DDPMpp"),
        ({"num_blocks": 0}, "num_blocks must be at least 1, but got 0"),
        ({"num_classes": -1}, "num_classes must be at least 0, but got -1"),
    ],
)
def test_configurations_that_do_not_fit_are_refused_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"x": jnp.zeros((3, 8, 8, 2))}, r"images .* = \[batch, 4, 4, 2\], but x has .*8, 8, 2"),
        ({"label": None}, "has 3 classes, but label is None: .* -1 for no class"),
        ({"augment_label": jnp.zeros((3, 9))}, "no input for augmentations"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(case, changes, message):
    network, params, inputs, _ = case
    names = dict(zip(("x", "noise_cond", "label", "memory"), inputs, strict=True)) | changes
    with pytest.raises(ValueError, match=message):
        network.apply({"params": params}, **names)


def test_labels_for_a_network_without_classes_are_refused():
    network = tiny(num_classes=0)
    x, noise_cond, *_ = inputs_for(network)
    with pytest.raises(ValueError, match="no classes .* label=None"):
        network.init(jax.random.key(0), x, noise_cond, jnp.zeros(3, jnp.int32), ())
