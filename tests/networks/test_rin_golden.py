"""RIN against the reference implementation: forward pass, memory, tape and gradients.

goldens/rin_tiny.npz: google-research/pix2seq eabd4e9 run with TF 2.15.1, all weights random (those
that start at zero too), three variants: learned positions; sin_cos_plus_learned; normalised keys
and values. `<variant>/w/...` and `<variant>/grad/...` go by Keras variable names.
"""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.networks import RIN
from noise_sched.networks.layers import NoiseEmbedding

GOLDENS = dict(np.load(pathlib.Path(__file__).parent / "goldens" / "rin_tiny.npz"))
VARIANTS = {
    "learned": {},
    "sincosplus": {"tape_pos_encoding": "sin_cos_plus_learned"},
    "encln": {"xattn_enc_ln": True},
}

# Keras name -> ours, applied in order.
RENAMES = [
    (r"^tape/", ""),
    (r"latent_pos_emb/kernel/vis_pos_embedding", "latents"),
    (r"tape_pos_emb/kernel/vis_pos_embedding|tape_pos_emb_res/kernel", "tape_position"),
    (r"time_emb/dense0", "noise_embedding/hidden"),
    (r"time_emb/dense1", "noise_embedding/out"),
    (r"cond_proj", "class_embedding"),
    (r"latent_prev_proj/ffn/ln", "memory_mlp_norm"),
    (r"latent_prev_proj/ffn", "memory_mlp"),
    (r"latent_prev_ln", "memory_norm"),
    (r"(read|write)_unit_(\d)/transformer_decoder_layer", r"\1_\2"),
    (r"latent_processing_unit(\d)/transformer_encoder_(\d)", r"compute_\1_\2"),
    (r"latent_processing_unit(\d)/transformer_encoder", r"compute_\1_0"),
    (r"mlp/ffn/ln", "mlp_norm"),
    (r"mlp/ffn", "mlp"),
    (r"dense1", "hidden"),
    (r"dense2", "out"),
    (r"(cross_)?mha/ln", "attention_norm"),
    (r"cross_mha/enc_ln", "context_norm"),
    (r"attention_output", "out"),
    (r"(cross_)?mha/", "attention/"),
    (r"(stem|output)_ln", r"\1_norm"),
    (r"output_linear", "output"),
    (r"gamma$", "scale"),
    (r"beta$", "bias"),
]


def params_of(prefix):
    """The arrays below `prefix`, as a tree of our names."""
    tree = {}
    for keras_name, value in GOLDENS.items():
        if not keras_name.startswith(prefix):
            continue
        name = keras_name.removeprefix(prefix)
        for pattern, ours in RENAMES:
            name = re.sub(pattern, ours, name)
        *path, leaf = name.split("/")
        node = functools.reduce(lambda node, key: node.setdefault(key, {}), path, tree)
        node[leaf] = jnp.asarray(value)
    return tree


def assert_close(got, expected, fraction=5e-6):
    """Equal to a fraction of the largest value of the array.

    The default tells a layer norm's epsilon of 1e-6 from one of 1e-5.
    """
    np.testing.assert_allclose(got, expected, rtol=0, atol=fraction * np.abs(expected).max())


@pytest.fixture(scope="module", params=VARIANTS)
def case(request):
    tag = request.param
    sizes = dict(image_size=8, num_classes=10, patch_size=2, num_layers=(2, 1), latent_slots=6)
    sizes |= dict(latent_dim=32, latent_heads=4, tape_dim=16, tape_mlp_ratio=2, rw_heads=2)
    rin = RIN(**sizes, **VARIANTS[tag])
    golden = {k.removeprefix(f"{tag}/"): v for k, v in GOLDENS.items() if k.startswith(f"{tag}/")}
    inputs = (
        jnp.asarray(golden["x"]),
        jnp.asarray(golden["gamma"]) * 1000.0,
        jnp.asarray(golden["onehot"].argmax(-1).astype(np.int32)),
    )

    @jax.jit
    def run(params, memory):
        def loss(params):
            with jax.default_matmul_precision("float32"):
                (out, latents), state = rin.apply(
                    {"params": params}, *inputs, memory, mutable="intermediates"
                )
            return jnp.mean(out**2), (out, latents, state["intermediates"]["tape"][0])

        (value, outputs), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return value, *outputs, grads

    return rin, golden, params_of(f"{tag}/w/"), params_of(f"{tag}/grad/"), run


def test_parameters_have_the_reference_shapes(case):
    rin, _, params, _, _ = case
    own = jax.eval_shape(
        lambda: rin.init(
            jax.random.key(0),
            jnp.zeros((2, 8, 8, 3)),
            jnp.zeros(2),
            jnp.zeros(2, jnp.int32),
            rin.initial_memory(2),
        )
    )["params"]
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, params)


def test_forward_and_gradients_match_the_reference(case):
    _, golden, params, expected_grads, run = case
    value, out, latents, tape, grads = run(params, jnp.asarray(golden["latent_prev"]))
    assert_close(out, golden["out"])
    assert_close(latents, golden["latent_out"])
    assert_close(tape, golden["tape_out"])
    assert_close(value, golden["loss_meansq"])
    assert jax.tree.structure(grads) == jax.tree.structure(expected_grads)
    for (path, got), expected in zip(
        jax.tree.leaves_with_path(grads), jax.tree.leaves(expected_grads), strict=True
    ):
        if jax.tree_util.keystr(path).endswith("['key']['bias']"):
            # Adding the same to all keys changes no softmax: both are rounding around zero.
            assert max(np.abs(got).max(), np.abs(expected).max()) < 1e-6, path
        else:
            assert_close(got, expected, fraction=1e-5)


def test_forward_without_memory_matches_the_reference(case):
    rin, golden, params, _, run = case
    _, out, latents, _, _ = run(params, rin.initial_memory(2))
    assert_close(out, golden["out_zero_prev"])
    assert_close(latents, golden["latent_out_zero_prev"])


def test_noise_embedding_matches_the_reference(case):
    _, golden, params, _, _ = case
    noise_cond = jnp.asarray(golden["gamma"]) * 1000.0
    token = NoiseEmbedding(32).apply({"params": params["noise_embedding"]}, noise_cond)
    assert_close(token, golden["time_emb"])
