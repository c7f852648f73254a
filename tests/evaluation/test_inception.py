"""FID's Inception against torch-fidelity 0.4 with deterministic pseudo-weights.

`inception_fid.npz` holds three images, the names and shapes of the published file's arrays, and what
torch-fidelity 0.4's "inception-v3-compat" makes of them; of sFID's features every 50th, from a hook behind
its `Mixed_6d.branch1x1`.
"""

import ast
import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.evaluation import inception, resize
from noise_sched.evaluation.errors import EvaluationInputError

GOLDEN = np.load(pathlib.Path(__file__).parent / "inception_fid.npz")
SHAPES = {
    str(name): ast.literal_eval(str(shape))
    for name, shape in zip(GOLDEN["state_dict_names"], GOLDEN["state_dict_shapes"], strict=True)
}


def pseudo_weights(name, shape):
    """Numbers of a size at which every layer matters, the same wherever they are made."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        return (0.5 + rng.random(shape)).astype(np.float32)
    normal = rng.standard_normal(shape)
    if name.endswith("bn.weight"):
        return (1 + 0.1 * normal).astype(np.float32)
    if name.endswith(("running_mean", "bias")):
        return (0.1 * normal).astype(np.float32)
    return (normal * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)


@pytest.fixture(scope="module")
def state():
    return {name: pseudo_weights(name, shape) for name, shape in SHAPES.items()}


def test_features_are_those_of_torch_fidelity(state):
    made = inception.extractor(inception.convert(state), "abc")
    images = GOLDEN["images_nchw_uint8"].transpose(0, 2, 3, 1)

    @jax.jit
    def both(params, images):
        """The extractor and, in the same program, the logits with their bias, which it leaves out."""
        found = inception.Inception().apply({"params": params}, inception.prepare(images))
        return made.apply(params, images, jnp.arange(len(images))), found["logits with bias"]

    found, with_bias = both(made.params, images)
    assert {kind: values.shape[1] for kind, values in found.items()} == made.outputs
    for ours, theirs in {
        **{f"inception/{n}": str(n) for n in (64, 192, 768, 2048)},
        "inception/logits": "logits_unbiased",
    }.items():
        assert_equal(found[ours], GOLDEN[f"feature/{theirs}"])
    assert_equal(with_bias, GOLDEN["feature/logits"])
    assert_equal(found["inception/spatial"][:, ::50], GOLDEN["feature/spatial_every_50th"])


def assert_equal(found, expected):
    """To 1e-4; next to 0, of which a float32 sum has lost the digits, to 1e-5 of the largest number."""
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.bias": None}, "'fc.bias' is missing"),
        ({"AuxLogits.fc.weight": np.zeros(3)}, "'AuxLogits.fc.weight' is unknown"),
        ({"fc.bias": np.zeros(1000)}, r"'fc.bias' has the shape \[1000\], not \[1008\]"),
        ({"fc.bias": np.full(1008, np.inf)}, "'fc.bias' is not finite"),
    ],
)
def test_other_weights_are_refused(state, change, message):
    changed = {name: array for name, array in (state | change).items() if array is not None}
    with pytest.raises(EvaluationInputError, match=f"FID's Inception.*: {message}"):
        inception.convert(changed)


def test_resizing_is_tensorflow_1s():
    """Against its loop: output i lies at i * length / size, between two pixels, the last one repeated."""
    images = np.random.default_rng(0).integers(0, 256, (2, 7, 31, 3)).astype(np.float32)

    def between(x, axis, size):
        length, found = x.shape[axis], []
        for i in range(size):
            at = i * length / size
            low, high = (np.take(x, min(int(at) + k, length - 1), axis) for k in (0, 1))
            found.append(low + (high - low) * (at - int(at)))
        return np.stack(found, axis)

    expected = between(between(images.astype(np.float64), 1, 13), 2, 13)
    np.testing.assert_allclose(resize.tf1_bilinear(jnp.asarray(images), 13), expected, rtol=1e-6)
    same = images[:, :, :7]
    np.testing.assert_array_equal(resize.tf1_bilinear(jnp.asarray(same), 7), same)


def test_grey_images_are_repeated():
    grey = jnp.arange(48, dtype=jnp.uint8).reshape(3, 4, 4, 1)
    found = inception.prepare(grey)
    assert found.shape == (3, 299, 299, 3)
    np.testing.assert_array_equal(found, inception.prepare(jnp.repeat(grey, 3, axis=3)))
