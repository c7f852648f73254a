"""U-Nets: published sizes, initial values, conditioning, precision, knobs, messages."""

import functools
import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_networks import (
    assert_close,
    assert_float32_whatever_the_default_is,
    inputs_for,
    random_params,
    shapes_of,
    tiny,
)

from noise_sched.networks import ADM, EDM2, DDPMpp, NCSNpp, UNetSmall
from noise_sched.networks.unet_blocks import Conv, Initial
from noise_sched.networks.unet_plan import equal_runs

NETWORKS = [ADM, DDPMpp, NCSNpp, UNetSmall]


# Compiling takes nearly all of the time here.
quickly_compiled = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


@pytest.fixture(scope="module")
def case():
    network = tiny(image_size=(4, 2), channel_mult=(1,))

    @quickly_compiled
    def run(params, x, noise_cond, label, augment_label=None):
        return network.apply(
            {"params": params}, x, noise_cond, label, (), augment_label=augment_label
        )[0]

    zeros = jnp.zeros((3, 2))
    return network, random_params(network), (*inputs_for(network)[:3], zeros), run


# ---- sizes


def counts(made, **fields):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(made(**fields))))


CIFAR = dict(image_size=32, num_classes=0)
FFHQ = dict(image_size=64, num_classes=0, channel_mult=(1, 2, 2, 2), augment_dim=9)


@pytest.mark.parametrize(
    "made, fields, expected",
    [
        (DDPMpp, CIFAR | dict(augment_dim=9), 55_733_891),
        (DDPMpp, CIFAR | dict(augment_dim=9, num_classes=10), 55_735_299),
        (NCSNpp, CIFAR | dict(augment_dim=9), 56_397_827),
        (NCSNpp, CIFAR | dict(augment_dim=9, num_classes=10), 56_400_643),
        (DDPMpp, FFHQ, 61_805_571),
        (NCSNpp, FFHQ, 62_761_091),
        (ADM, dict(image_size=64, num_classes=1000), 295_899_267),
        (UNetSmall, dict(image_size=8, channels=1, num_classes=10), 1_839_041),
    ],
)
def test_parameter_counts(made, fields, expected):
    """From shapes alone: arXiv 2206.00364's networks as its released code makes them."""
    assert counts(made, **fields) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "made, changes, expected",
    [
        (DDPMpp, {}, 55_732_739),
        (NCSNpp, {}, 56_395_523),
        (DDPMpp, dict(channel_mult=(1, 2, 2, 2)), 61_804_419),
        (NCSNpp, dict(channel_mult=(1, 2, 2, 2)), 62_758_787),
        (DDPMpp, dict(augment_dim=9, model_channels=64), 13_956_931),
        (DDPMpp, dict(augment_dim=9, model_channels=32, num_blocks=2), 2_207_523),
    ],
)
def test_more_parameter_counts(made, changes, expected):
    """Without augmentation labels, with the baseline's levels, and narrower ones."""
    assert counts(made, **(CIFAR | changes)) == expected


def test_plan_of_the_cifar_network():
    plan = DDPMpp(image_size=32, num_classes=0).plan
    attending = [stage.name for stage in (*plan.encoder, *plan.decoder) if stage.attends]
    assert attending == [
        *(f"enc_16x16_block{i}" for i in range(4)),
        "dec_8x8_in0",
        "dec_16x16_block4",
    ]
    assert [(s.channels + s.skip, s.features) for s in plan.decoder[-5:]] == [
        *[(512, 256)] * 4,
        (384, 256),
    ]
    adm = ADM(image_size=64, num_classes=1000).plan
    assert sum(stage.attends for stage in adm.encoder) == 9
    assert sum(stage.attends for stage in adm.decoder) == 13


# ---- initial values


def kernel_inits(network):
    """What every kernel is drawn with, by the name of its layer."""
    found = {}

    def look(next_call, args, kwargs, context):
        layer = context.module
        if context.method_name == "__call__" and isinstance(layer, nn.Dense | Conv):
            initial = layer.initial.kernel if isinstance(layer, Conv) else layer.kernel_init
            found["/".join(layer.path)] = initial
        return next_call(*args, **kwargs)

    with nn.intercept_methods(look):
        shapes_of(network)
    return found


@pytest.mark.parametrize("made", NETWORKS)
def test_layers_start_as_published(made):
    network = tiny(made)
    style, last = network.STYLE, r"conv1$|proj$|(out|aux)_conv$"
    if isinstance(network, ADM):
        last += "|map_augment$"
    found = kernel_inits(network)
    assert sum(bool(re.search(last, name)) for name in found) >= 7
    for name, initial in found.items():
        if re.search(last, name):
            assert initial is style.initial_last.kernel, name
        elif name.endswith("qkv"):
            assert initial is style.initial_qkv.kernel, name
        elif name == "map_label" and isinstance(network, ADM):
            assert initial is not style.initial.kernel
        else:
            assert initial is style.initial.kernel, name


@pytest.mark.parametrize(
    "initial, limit, bias_limit",
    [
        (DDPMpp.STYLE.initial, math.sqrt(6 / (9 * (64 + 32))), 0),
        (DDPMpp.STYLE.initial_qkv, math.sqrt(0.2 * 6 / (9 * (64 + 32))), 0),
        (DDPMpp.STYLE.initial_last, 1e-5 * math.sqrt(6 / (9 * (64 + 32))), 0),
        (ADM.STYLE.initial, 1 / math.sqrt(9 * 64), 1 / math.sqrt(9 * 64)),
        (ADM.STYLE.initial_qkv, 1 / math.sqrt(9 * 64), 1 / math.sqrt(9 * 64)),
        (ADM.STYLE.initial_last, 0, 0),
    ],
)
def test_limits_of_the_uniform_initial_values(initial, limit, bias_limit):
    key = jax.random.key(0)
    kernel = initial.kernel(key, (3, 3, 64, 32), jnp.float32)
    bias = initial.bias_init(9 * 64)(key, (1000,), jnp.float32)
    for values, largest in ((kernel, limit), (bias, bias_limit)):
        assert 0.99 * largest <= np.abs(values).max() <= largest * (1 + 1e-6)
        assert np.std(values) == pytest.approx(largest / math.sqrt(3), rel=0.1)


# ---- conditioning


def test_all_that_conditions_reaches_the_output(case):
    _, params, (x, noise_cond, label, augment_label), run = case
    out = run(params, x, noise_cond, label, augment_label)
    assert out.shape == x.shape and out.dtype == jnp.float32
    for other in (
        (x + 0.1, noise_cond, label, augment_label),
        (x, noise_cond + 0.1, label, augment_label),
        (x, noise_cond, (label + 1) % 3, augment_label),
        (x, noise_cond, label, augment_label + 0.1),
    ):
        assert not np.allclose(out, run(params, *other), atol=1e-3)


def test_no_class_is_a_row_of_zeros(case):
    _, params, (x, noise_cond, label, augment_label), run = case
    out = run(params, x, noise_cond, jnp.full_like(label, -1), augment_label)
    without = {**params, "map_label": jax.tree.map(jnp.zeros_like, params["map_label"])}
    np.testing.assert_array_equal(out, run(without, x, noise_cond, label, augment_label))


def test_no_augmentation_label_is_zeros(case):
    _, params, inputs, run = case
    np.testing.assert_allclose(run(params, *inputs), run(params, *inputs[:3]), atol=1e-6)


def test_examples_do_not_mix(case):
    _, params, inputs, run = case
    out = run(params, *inputs)
    moved = run(params, *(jnp.roll(a, 1, axis=0) for a in inputs))
    np.testing.assert_allclose(jnp.roll(out, 1, axis=0), moved, atol=1e-5)


@pytest.mark.parametrize("made", NETWORKS)
def test_memory_is_empty_and_modules_hash(made):
    assert tiny(made).initial_memory(3) == ()
    lists = tiny(made, image_size=[8, 4], channel_mult=[1, 2], attention_resolutions=[4])
    assert lists == tiny(made) and hash(lists) == hash(tiny(made))


def test_frequencies_are_configuration():
    default, given = tiny(NCSNpp), tiny(NCSNpp, frequencies=[float(i) for i in range(8)])
    assert jax.tree.map(jnp.shape, shapes_of(default)) == jax.tree.map(jnp.shape, shapes_of(given))
    np.testing.assert_allclose(given._rates(), 2 * np.pi * np.arange(8))
    np.testing.assert_array_equal(default._rates(), tiny(NCSNpp)._rates())
    assert 8 < np.std(NCSNpp(image_size=32, num_classes=0)._rates() / (2 * np.pi)) < 24


# ---- precision


def test_bfloat16_computes_close_to_float32(case):
    network, params, inputs, run = case
    half = network.clone(dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes_of(half))} == {jnp.dtype(jnp.float32)}
    out = jax.jit(lambda p, *a: half.apply({"params": p}, *a[:3], (), augment_label=a[3])[0])(
        params, *inputs
    )
    exact = run(params, *inputs)
    assert out.dtype == jnp.float32
    assert 0 < np.abs(out - exact).max() < 0.05 * np.abs(exact).max()


def test_bfloat16_has_float32_gradients_whatever_the_knobs():
    network = tiny(dtype=jnp.bfloat16, dropout=0.1, num_blocks=2, remat="layer", scan=True)
    inputs, key = inputs_for(network), jax.random.key(0)

    def loss(params):
        return jnp.sum(network.apply({"params": params}, *inputs, True, rngs={"dropout": key})[0])

    grads = jax.eval_shape(jax.grad(loss), shapes_of(network))
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("made", NETWORKS)
def test_float32_whatever_the_default_is(made):
    assert_float32_whatever_the_default_is(made)


# ---- knobs


@pytest.fixture(scope="module", params=[UNetSmall, EDM2])
def trained(request):
    """A network, value and gradient of its loss in training, and that loss's program."""
    fields = dict(image_size=4, channel_mult=(1,), num_blocks=2, augment_dim=0)
    # What EDM2's dropout draws depends on `scan`.
    rate = 0.0 if request.param is EDM2 else 0.3
    plain = tiny(request.param, **fields, dropout=rate, attention_resolutions=())
    params, inputs = random_params(plain), inputs_for(plain)

    def loss(params, key, network):
        out, _ = network.apply({"params": params}, *inputs, train=True, rngs={"dropout": key})
        return jnp.mean(jnp.square(out)), out

    compiled = quickly_compiled(jax.value_and_grad(loss, has_aux=True), static_argnums=2)

    def run(key=5, **knobs):
        return compiled(params, jax.random.key(key), plain.clone(**knobs))

    def jaxpr(network):
        return str(jax.make_jaxpr(loss, static_argnums=2)(params, jax.random.key(0), network))

    return plain, run, jaxpr


def test_knobs_keep_tree_and_numbers(trained):
    plain, run, _ = trained
    # Blocks in runs are scanned, the two others rematerialised on their own.
    knobs = dict(remat="layer", scan=True, pad_channels=8)
    assert jax.tree.map(jnp.shape, shapes_of(plain.clone(**knobs))) == jax.tree.map(
        jnp.shape, shapes_of(plain)
    )
    assert_close(run(**knobs), run())


def test_knobs_do_what_they_are_for(trained):
    plain, _, jaxpr = trained
    # Encoder: two equal blocks. Decoder: in0, in1 and three equal blocks.
    for knobs, remats, scans in (
        (dict(), 0, 0),
        (dict(remat="layer"), 7, 0),
        (dict(scan=True), 0, 2),
        (dict(remat="layer", scan=True), 4, 2),
    ):
        text = jaxpr(plain.clone(**knobs))
        assert (text.count("= remat"), text.count("= scan[")) == (remats, scans), knobs


def test_dropout_is_the_keys(trained):
    plain, run, _ = trained
    knobs = {} if plain.dropout else dict(dropout=0.3, scan=True)
    (_, one), _ = run(5, **knobs)
    np.testing.assert_array_equal(one, run(5, **knobs)[0][1])
    assert not np.allclose(one, run(6, **knobs)[0][1])


def test_equal_runs_of_the_published_networks():
    """What scan leaves to be compiled: runs, of blocks."""
    for network, blocks, runs in (
        (DDPMpp(image_size=32, num_classes=0), 33, 15),
        (ADM(image_size=64, num_classes=1000), 36, 25),
        (EDM2(image_size=64, num_classes=1000), 36, 25),
    ):
        stages = (network.plan.encoder, network.plan.decoder)
        assert sum(map(len, stages)) == blocks
        assert sum(len(list(equal_runs(s))) for s in stages) == runs


def test_padded_channels_change_no_numbers():
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    convs = [
        Conv(features=5, initial=Initial(jax.nn.initializers.normal(1.0), 1.0), pad_channels=n)
        for n in (1, 8)
    ]
    params = [
        jax.tree.map(
            lambda leaf: np.random.default_rng(0).standard_normal(leaf.shape).astype(np.float32),
            jax.eval_shape(conv.init, jax.random.key(1), x),
        )
        for conv in convs
    ]
    values = [
        quickly_compiled(jax.value_and_grad(lambda p, conv=conv: jnp.sum(conv.apply(p, x) ** 2)))(
            tree
        )
        for conv, tree in zip(convs, params, strict=True)
    ]
    assert_close(*values)


# ---- messages


@pytest.mark.parametrize("made", NETWORKS)
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_size": (8, 5)}, "image_size=8 x 5 cannot be halved 1 times.* multiples of 2"),
        ({"attention_resolutions": (16,)}, "no level has the height 16. Those .* are 8, 4."),
        ({"channel_mult": ()}, r"channel_mult needs one positive number per level, but got \(\)"),
        ({"channel_mult": (1, 0)}, "channel_mult needs one positive number"),
        (
            {"model_channels": 36},
            "gives dec_4x2_block0 144 channels, .* 32 groups .*multiple of 32",
        ),
        ({"num_blocks": 0}, "num_blocks must be at least 1, but got 0"),
        ({"channels": 0}, "channels must be at least 1, but got 0"),
        ({"num_classes": -1}, "num_classes must be at least 0, but got -1"),
        ({"augment_dim": -1}, "augment_dim must be at least 0, but got -1"),
        ({"pad_channels": 0}, "pad_channels must be at least 1, but got 0"),
        ({"dropout": 1.0}, r"dropout is a probability in \[0, 1\), but got 1.0"),
        ({"image_size": (8, 8, 8)}, "image_size must be one positive number or"),
    ],
)
def test_configurations_that_do_not_fit_are_refused_at_once(made, changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(made, **changes)


@pytest.mark.parametrize(
    "made, changes, message",
    [
        (ADM, {"channels_per_head": 3}, "channels_per_head=3 does not divide the 16 .* example 16"),
        (ADM, {"channels_per_head": 0}, "channels_per_head must be at least 1"),
        (DDPMpp, {"embedding": "Fourier"}, "Unknown embedding 'Fourier'. Did you mean 'fourier'"),
        (
            DDPMpp,
            {"encoder": "ladder"},
            "Unknown encoder 'ladder'.* There are: standard, residual, skip",
        ),
        (DDPMpp, {"decoder": "skips"}, "Unknown decoder 'skips'. Did you mean 'skip'"),
        (DDPMpp, {"resample_filter": (1, 2, 1)}, r"even number of taps.* \(1, 2, 1\)"),
        (DDPMpp, {"frequencies": (1.0,) * 8}, "embedding='positional' has its own"),
        (NCSNpp, {"frequencies": (1.0,) * 4}, r"one number per model channel \(8\), .* got 4"),
    ],
)
def test_fields_of_one_network_are_checked(made, changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(made, **changes)


@pytest.mark.parametrize(
    "fields, changes, message",
    [
        ({}, {"x": jnp.zeros((3, 8, 8, 1))}, r"UNetSmall .* \[batch, 8, 4, 1\], .*8, 8, 1"),
        ({}, {"label": None}, "has 3 classes, but label is None: .* -1 for no class"),
        ({"num_classes": 0}, {"label": jnp.zeros(3, jnp.int32)}, "no classes .* label=None"),
        ({}, {"augment_label": jnp.zeros((3, 9))}, r"\[3, 2\], but has \[3, 9\]: .* None"),
        ({"augment_dim": 0}, {"augment_label": jnp.zeros((3, 9))}, "or set augment_dim=9"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(fields, changes, message):
    network = tiny(**fields)
    names = dict(zip(("x", "noise_cond", "label", "memory"), inputs_for(network), strict=True))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: network.init(jax.random.key(0), **(names | changes)))
