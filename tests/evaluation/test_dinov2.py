"""DINOv2, held against transformers' implementation of a tiny one, and PyTorch's resizing.

`dinov2_tiny.npz` was made with transformers 5.24.0 and torch on a CPU: a `Dinov2Model` of width 128, 2 blocks
of 2 heads and 224 px with the pseudo-weights of `state()` (query, key, value: the thirds of `attn.qkv`);

    features     its class token for `images()` resized by F.interpolate(mode="bicubic", antialias=True)
    resized      those resized images at every 37th row and 41st column; resized_big: those of `big()`
    positions    F.interpolate(scale_factor=16.1 / 37, mode="bicubic") of default_rng(2).standard_normal(
                 (1, 3, 37, 37))
"""

import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.evaluation import dinov2
from noise_sched.evaluation.errors import EvaluationInputError

WIDTH, DEPTH = 128, 2


@pytest.fixture(scope="module")
def golden():
    return np.load(pathlib.Path(__file__).with_name("dinov2_tiny.npz"))


def images():
    return np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3)).astype(np.uint8)


def big():
    return np.random.default_rng(1).integers(0, 256, (1, 300, 260, 3)).astype(np.uint8)


def pseudo_weight(name, shape):
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) == 1 and name.endswith(("weight", "gamma")):
        return 1 + 0.1 * drawn
    if len(shape) > 1 and name not in ("cls_token", "pos_embed"):
        return drawn / np.sqrt(np.prod(shape[1:]))
    return 0.1 * drawn


def state():
    shapes = dinov2._shapes(dinov2.VisionTransformer(WIDTH, DEPTH, 2), 1 + 16 * 16)
    return {n: pseudo_weight(n, s).astype(np.float32) for n, s in shapes.items()}


def test_features_are_those_of_transformers(golden):
    module, params = dinov2.convert(state() | {"mask_token": np.zeros((1, WIDTH))})
    assert (module.width, module.depth, module.heads, module.patch) == (WIDTH, DEPTH, 2, 14)
    extractor = dinov2.extractor(module, params, "digest")
    found = jax.jit(extractor.apply)(extractor.params, images(), np.arange(2))["dinov2"]
    assert extractor.outputs == {"dinov2": WIDTH}
    np.testing.assert_allclose(found, golden["features"], rtol=1e-4, atol=2e-5)
    # Grey is repeated: the same as a colour image of equal channels.
    grey = images()[..., :1]
    one, three = (
        jax.jit(extractor.apply)(extractor.params, x, np.arange(2))["dinov2"]
        for x in (grey, np.repeat(grey, 3, axis=3))
    )
    np.testing.assert_allclose(one, three, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("made", "name"), [(images, "resized"), (big, "resized_big")])
def test_images_are_resized_as_torch_does(golden, made, name):
    """Enlarged and made smaller."""
    found = np.asarray(dinov2.prepare(jnp.asarray(made())))[:, ::37, ::41].transpose(0, 3, 1, 2)
    mean, std = (np.array(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    np.testing.assert_allclose((found * std + mean) * 255, golden[name], atol=2e-3)


def test_positions_are_interpolated_as_the_original_does(golden):
    grid = np.random.default_rng(2).standard_normal((1, 3, 37, 37))
    flat = np.concatenate([np.full((1, 3), 7.0), grid[0].transpose(1, 2, 0).reshape(-1, 3)])
    found = dinov2._positions(flat, 16)
    assert found.shape == (257, 3) and (found[0] == 7).all()
    expected = golden["positions"][0].transpose(1, 2, 0).reshape(-1, 3)
    np.testing.assert_allclose(found[1:], expected, atol=1e-5)
    np.testing.assert_allclose(dinov2.interpolation(37, 16).sum(axis=1), 1, atol=1e-12)


def test_the_published_shapes_are_converted():
    """ViT-L/14's arrays, without their numbers."""
    module = dinov2.VisionTransformer()
    shapes = dinov2._shapes(module, 1 + 37 * 37)
    assert (
        sum(int(np.prod(shape)) for shape in shapes.values()) + 1024 == 304_368_640
    )  # with the mask token
    params = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 224, 224, 3)))["params"]
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
    assert count == 304_367_616 - (37 * 37 - 16 * 16) * 1024


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("norm.bias"), r"norm.bias: missing, expected \[128\]"),
        (lambda s: s.pop("pos_embed"), "have no 'pos_embed'"),
        (
            lambda s: s.update({"register_tokens": np.zeros((1, 4, WIDTH))}),
            "register_tokens.*no such array",
        ),
        (lambda s: s.update({"norm.bias": np.zeros(3)}), r"norm.bias: \[3\], expected \[128\]"),
        (lambda s: s.update({"blocks.0.mlp.w12.weight": np.zeros(3)}), "without registers"),
    ],
)
def test_other_weights_are_refused(change, message):
    changed = state()
    change(changed)
    with pytest.raises(EvaluationInputError, match=message):
        dinov2.convert(changed)
