"""RIN: published sizes, memory, conditioning, precision, transformations, messages."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_networks
from tiny_networks import assert_close, inputs_for, random_params, shapes_of

from noise_sched.networks import RIN

tiny = functools.partial(tiny_networks.tiny, RIN, num_classes=10)


@pytest.fixture(scope="module")
def case():
    rin = tiny()
    run = jax.jit(lambda params, *args: rin.apply({"params": params}, *args))
    return rin, random_params(rin), inputs_for(rin), run


# ---- sizes


CHEN = dict(
    num_classes=1000,
    patch_size=8,
    latent_slots=128,
    latent_dim=768,
    latent_heads=16,
    tape_dim=512,
    tape_mlp_ratio=4,
    rw_heads=16,
)
CIFAR = CHEN | dict(
    num_classes=10, patch_size=2, latent_dim=512, tape_dim=256, tape_mlp_ratio=2, rw_heads=8
)


@pytest.mark.parametrize(
    "size, num_layers, config, expected",
    [
        (32, (2,) * 3, CIFAR, 30_951_180),
        (64, (4,) * 4, CHEN, 157_780_160),
        (64, (6,) * 4, CHEN, 214_483_136),
        (128, (6,) * 4, CHEN, 214_581_440),
        (256, (6,) * 6, CHEN | {"latent_slots": 256}, 319_033_536),
        (512, (6,) * 6, CHEN | {"latent_slots": 256}, 320_606_400),
        (768, (8,) * 6, CHEN | {"latent_slots": 256}, 408_282_304),
        (1024, (8,) * 6, CHEN | {"latent_slots": 256}, 411_952_320),
    ],
)
def test_published_parameter_counts(size, num_layers, config, expected):
    """From shapes alone: arXiv 2301.10972, table 5, and the released configs.

    With equal layers scanned, which are then traced once and not eight times; the tree is the same.
    """
    rin = RIN(image_size=size, num_layers=num_layers, **config)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes_of(rin))) == expected


def test_parameter_names_tell_biases_and_norms_apart(case):
    names = {path[-1].key for path, _ in jax.tree.leaves_with_path(case[1])}
    assert names == {"kernel", "bias", "scale", "latents", "tape_position"}


# ---- memory


def test_memory_changes_the_output(case):
    rin, params, (*inputs, memory), run = case
    out, new_memory = run(params, *inputs, memory)
    assert out.shape == inputs[0].shape
    assert new_memory.shape == memory.shape
    assert not np.allclose(out, run(params, *inputs, rin.initial_memory(3))[0])


def test_memory_is_without_effect_while_its_norm_is_at_its_start(case):
    rin, params, (*inputs, memory), run = case
    params = {**params, "memory_norm": jax.tree.map(jnp.zeros_like, params["memory_norm"])}
    out, _ = run(params, *inputs, memory)
    np.testing.assert_array_equal(out, run(params, *inputs, rin.initial_memory(3))[0])


def test_zero_memory_still_adds_the_learned_constant(case):
    rin, params, inputs, run = case
    memory = rin.initial_memory(3)
    out, _ = run(params, *inputs[:3], memory)
    norm = params["memory_norm"]
    without = {**params, "memory_norm": {"scale": norm["scale"], "bias": 0 * norm["bias"]}}
    assert not np.allclose(out, run(without, *inputs[:3], memory)[0])


def test_examples_do_not_mix(case):
    _, params, inputs, run = case
    out, memory = run(params, *inputs)
    one_out, one_memory = run(params, *(a[1:2] for a in inputs))
    np.testing.assert_allclose(out[1:2], one_out, atol=1e-5)
    np.testing.assert_allclose(memory[1:2], one_memory, atol=1e-5)


# ---- conditioning


def test_no_class_is_the_bias_of_the_class_token(case):
    _, params, (x, noise_cond, _, memory), run = case
    null = jnp.full(3, -1, jnp.int32)
    out, _ = run(params, x, noise_cond, null, memory)
    assert not np.allclose(out, run(params, x, noise_cond, null + 1, memory)[0])
    embedding = params["class_embedding"]
    no_kernel = {"kernel": 0 * embedding["kernel"], "bias": embedding["bias"]}
    without = {**params, "class_embedding": no_kernel}
    np.testing.assert_array_equal(out, run(without, x, noise_cond, null + 7, memory)[0])


def test_augmentation_is_told_with_the_noise_level():
    rin = tiny(num_layers=(1,), augment_dim=2)
    params, inputs = random_params(rin), inputs_for(rin)
    assert params["augment_embedding"]["kernel"].shape == (2, 16)
    assert set(params["augment_embedding"]) == {"kernel"}
    run = jax.jit(lambda p, a: rin.apply({"params": p}, *inputs, augment_label=a)[0])
    out = run(params, jnp.zeros((3, 2)))
    assert not np.allclose(out, run(params, jnp.ones((3, 2))))
    # It starts at zero, so that a network that is not told yet is the same.
    kernel = {"kernel": 0 * params["augment_embedding"]["kernel"]}
    untold = {**params, "augment_embedding": kernel}
    np.testing.assert_array_equal(out, run(untold, jnp.ones((3, 2))))
    with pytest.raises(ValueError, match=r"\[3, 2\], but has \[3, 9\]"):
        run(params, jnp.zeros((3, 9)))


@pytest.mark.parametrize(
    "changes, learned, tape_tokens",
    [
        ({}, 3, 8),
        ({"num_classes": 0}, 4, 8),
        ({"time_on_latent": False}, 4, 8),
        ({"cond_on_latent": False}, 4, 8),
        ({"time_on_latent": False, "cond_on_latent": False}, 5, 8),
        ({"time_on_latent": False, "cond_on_latent": False, "cond_tape_writable": True}, 5, 10),
        ({"cond_tape_writable": True}, 3, 8),
    ],
)
def test_tokens_go_where_they_are_told(changes, learned, tape_tokens):
    rin = tiny(num_layers=(1,), **changes)
    params, (x, noise_cond, label, memory) = random_params(rin), inputs_for(rin)

    @jax.jit
    def run(noise_cond, label):
        (out, _), state = rin.apply(
            {"params": params}, x, noise_cond, label, memory, mutable="intermediates"
        )
        return out, state["intermediates"]["tape"][0]

    out, tape = run(noise_cond, label)
    assert params["latents"].shape == (learned, 16)
    assert tape.shape == (3, tape_tokens, 8)
    assert out.shape == x.shape
    # The noise level and the class reach the output.
    assert not np.allclose(out, run(noise_cond + 100, label)[0])
    if rin.num_classes:
        assert not np.allclose(out, run(noise_cond, label + 1)[0])


@pytest.mark.parametrize("encoding", ["learned", "sin_cos", "sin_cos_plus_learned"])
def test_position_encodings(encoding):
    rin = tiny(num_layers=(1,), tape_pos_encoding=encoding)
    params, (x, *others) = random_params(rin), inputs_for(rin)
    assert ("tape_position" in params) == (encoding != "sin_cos")
    # Equal patches in other places give other pixels.
    out, _ = jax.jit(rin.apply)({"params": params}, jnp.ones_like(x), *others)
    assert not np.allclose(out[:, :2], out[:, 2:4])
    assert not np.allclose(out[:, :, :2], out[:, :, 2:4])


def test_a_block_without_compute_only_reads(case):
    params = case[1]
    assert {"read_0", "compute_0_0", "write_0", "read_1"} <= set(params)
    assert not {"compute_1_0", "write_1"} & set(params)


# ---- training and precision


def test_dropout_acts_in_training_only():
    tiny_networks.assert_dropout_acts_in_training_only(
        tiny(drop_units=0.3, drop_path=0.3, num_layers=(1,))
    )


def test_remat_changes_nothing_but_what_is_stored():
    rins = [
        tiny(num_layers=(1,), remat=r, drop_units=0.2, drop_path=0.2) for r in ("none", "layer")
    ]
    params, inputs = random_params(rins[0]), inputs_for(rins[0])

    def loss(params, rin):
        rngs = {"dropout": jax.random.key(5)}
        out, memory = rin.apply({"params": params}, *inputs, True, rngs=rngs)
        return jnp.mean(out**2) + jnp.mean(memory**2)

    compiled = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    plain, remat = (compiled(params, rin) for rin in rins)
    assert_close(plain, remat)
    # Read, one compute, write.
    eqns = [jax.make_jaxpr(loss, static_argnums=1)(params, rin).eqns for rin in rins]
    assert [sum("remat" in e.primitive.name for e in es) for es in eqns] == [0, 3]


def test_scan_changes_nothing_but_what_is_compiled():
    rins = [tiny(num_layers=(2,), scan=s, remat="layer" if s else "none") for s in (False, True)]
    params, inputs = random_params(rins[0]), inputs_for(rins[0])
    shapes = [jax.tree.map(jnp.shape, random_params(rin)) for rin in rins]
    assert shapes[0] == shapes[1]

    def loss(params, rin):
        out, memory = rin.apply({"params": params}, *inputs)
        return jnp.mean(out**2) + jnp.mean(memory**2)

    compiled = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    plain, scanned = (compiled(params, rin) for rin in rins)
    assert_close(plain, scanned)
    eqns = [jax.make_jaxpr(loss, static_argnums=1)(params, rin).eqns for rin in rins]
    assert [sum(e.primitive.name == "scan" for e in es) for es in eqns] == [0, 1]


def test_scan_draws_dropout_for_each_layer():
    rin = tiny(num_layers=(2,), scan=True, drop_units=0.5)
    params, inputs = random_params(rin), inputs_for(rin)
    run = lambda seed: rin.apply(
        {"params": params}, *inputs, True, rngs={"dropout": jax.random.key(seed)}
    )[0]
    np.testing.assert_array_equal(run(0), run(0))
    assert not np.allclose(run(0), run(1))


def test_bfloat16_computes_close_to_float32(case):
    _, params, inputs, run = case
    rin = tiny(dtype=jnp.bfloat16)
    # jax.nn.dot_product_attention itself asks for bfloat16 and float32 to be promoted.
    with jax.numpy_dtype_promotion("standard"):
        own = jax.eval_shape(lambda: rin.init(jax.random.key(0), *inputs))["params"]
        out, memory = jax.jit(rin.apply)({"params": params}, *inputs)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(own))
    assert out.dtype == memory.dtype == jnp.float32
    exact, _ = run(params, *inputs)
    assert 0 < np.abs(out - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("encoding", ["learned", "sin_cos", "sin_cos_plus_learned"])
def test_float32_whatever_the_default_is(encoding):
    tiny_networks.assert_float32_whatever_the_default_is(RIN, tape_pos_encoding=encoding)


def test_works_under_vmap_over_networks(case):
    _, params, inputs, run = case
    stacked = jax.tree.map(lambda a: jnp.stack([a, a * 0.5]), params)
    out, _ = jax.vmap(run, in_axes=(0, None, None, None, None))(stacked, *inputs)
    assert out.shape == (2, *inputs[0].shape)
    np.testing.assert_allclose(out[0], run(params, *inputs)[0], atol=1e-5)


def test_modules_are_hashable_whatever_the_config_holds():
    assert hash(tiny(num_layers=[1, 0], image_size=[8, 4])) == hash(tiny())
    assert tiny(num_layers=[1, 0], image_size=[8, 4]) == tiny()


# ---- messages


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"patch_size": 3}, "patch_size=3 does not divide .* 8 x 4 pixels: use one of 1, 2, 4,"),
        ({"latent_heads": 3}, r"latent_heads=3 does not divide latent_dim \(16\): .* example 2"),
        ({"rw_heads": 5}, r"rw_heads=5 does not divide the smaller of .* \(8\): .* example 4"),
        ({"latent_slots": 2}, "latent_slots=2 leaves no learned latent .* at least 3"),
        ({"latent_slots": 1, "num_classes": 0}, "latent_slots=1 leaves .* at least 2"),
        ({"drop_units": 1.0}, r"drop_units is a probability in \[0, 1\), but got 1.0"),
        ({"drop_path": -0.1}, r"drop_path is a probability in \[0, 1\), but got -0.1"),
        ({"tape_pos_encoding": "sincos"}, "'sincos'. Did you mean 'sin_cos'?"),
        ({"tape_pos_encoding": "Learnt"}, "'Learnt'. Did you mean 'learned'?"),
        ({"latent_dim": 12}, "latent_dim=12 must be a multiple of 8"),
        ({"tape_dim": 6, "tape_pos_encoding": "sin_cos"}, "tape_dim=6 must be a multiple of 4"),
        ({"num_layers": ()}, "num_layers needs one entry per block"),
        ({"num_layers": (0, 0)}, "at least one positive"),
        ({"num_layers": (2, -1)}, "none negative"),
        ({"channels": 0}, "channels must be at least 1, but got 0"),
        ({"num_classes": -1}, "num_classes must be at least 0, but got -1"),
        ({"image_size": (8, 8, 8)}, "image_size must be one positive number or"),
        ({"image_size": 0}, "image_size must be one positive number or"),
    ],
)
def test_configurations_that_do_not_fit_are_refused_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"x": jnp.zeros((3, 8, 8, 1))}, r"images .* = \[batch, 8, 4, 1\], but x has .*8, 8, 1"),
        ({"memory": jnp.zeros((3, 4, 16))}, r"= \[3, 5, 16\], .* initial_memory\(3\)"),
        ({"label": None}, "has 10 classes, but label is None: .* -1 for no class"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(case, changes, message):
    rin, params, inputs, _ = case
    names = dict(zip(("x", "noise_cond", "label", "memory"), inputs, strict=True)) | changes
    with pytest.raises(ValueError, match=message):
        rin.apply({"params": params}, **names)


def test_labels_for_a_network_without_classes_are_refused():
    rin = tiny(num_classes=0)
    x, noise_cond, _, memory = inputs_for(rin)
    with pytest.raises(ValueError, match="no classes .* label=None"):
        rin.init(jax.random.key(0), x, noise_cond, jnp.zeros(3, jnp.int32), memory)
