"""Inception v3 as FID uses it: TensorFlow's graph of 2015-12-05, with the published weights in flax.

Szegedy et al. 2015 (arXiv 1512.00567), by the names of its conversion to PyTorch (`pt_inception-2015-12-05`).
It differs from torchvision's Inception v3, whose FIDs are others: 1008 logits, average pooling that does
not count the padding, and in `Mixed_7c` maximum pooling. Images are resized to 299 x 299 by TensorFlow 1's
bilinear rule without antialiasing and scaled as (x - 128) / 128.

    inception/64, 192, 768    averages over the positions of the maps behind the first pooling, the second one
                              and Mixed_6e
    inception/2048            the last average: what FID, KID and precision and recall compare
    inception/logits          1008, without their bias: what the Inception Score is computed from
    inception/spatial         17 x 17 x 7, for sFID

sFID (Nash et al. 2021, arXiv 2103.03841) takes the first 7 channels of the tensor `mixed_6/conv:0` of that
graph, as ADM's evaluator does, in the order row, column, channel. The graph's mixed_4 to mixed_7 are Mixed_6b
to Mixed_6e, and a scope's own name is the ReLU at its end; so this is `Mixed_6d.branch1x1`, the first branch
of its block. This was read from the table by which the weights were converted and from a list of the graph's
nodes. The graph itself was not run, and no `mu_s` of ADM's files was reproduced.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from noise_sched.evaluation import resize
from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.features import Extractor

SIZE = 299
LOGITS = 1008
SPATIAL_CHANNELS = 7
OUTPUTS = {
    "inception/64": 64,
    "inception/192": 192,
    "inception/768": 768,
    "inception/2048": 2048,
    "inception/logits": LOGITS,
    "inception/spatial": 17 * 17 * SPATIAL_CHANNELS,
}
_BATCH_NORM_EPSILON = 1e-3
# In full float32 everywhere: GPUs and TPUs would round the factors to fewer digits.
_PRECISION = jax.lax.Precision.HIGHEST

Maps = Float[Array, "n _ _ _"]
Conv = Callable[..., Maps]  # (name within the block, maps, features, kernel, stride) -> maps


class Inception(nn.Module):
    """The network. Batch normalization is part of the kernels and biases (`convert`)."""

    @nn.compact
    def __call__(self, x: Float[Array, "n 299 299 3"]) -> dict[str, Float[Array, "n _"]]:
        """Images in [-1, 1) -> every kind of `OUTPUTS` and "logits with bias"."""
        conv, found = self._conv, {}
        x = conv("Conv2d_1a_3x3", x, 32, (3, 3), stride=2)
        x = conv("Conv2d_2a_3x3", x, 32, (3, 3), padding="VALID")
        x = _halved(conv("Conv2d_2b_3x3", x, 64, (3, 3)))
        found["inception/64"] = _average(x)
        x = conv("Conv2d_3b_1x1", x, 80)
        x = _halved(conv("Conv2d_4a_3x3", x, 192, (3, 3), padding="VALID"))
        found["inception/192"] = _average(x)
        for name, pooled in {"Mixed_5b": 32, "Mixed_5c": 64, "Mixed_5d": 64}.items():
            x = _block_35(self._branch(name), x, pooled)
        x = _block_35_to_17(self._branch("Mixed_6a"), x)
        for name, inner in {
            "Mixed_6b": 128,
            "Mixed_6c": 160,
            "Mixed_6d": 160,
            "Mixed_6e": 192,
        }.items():
            x = _block_17(self._branch(name), x, inner)
            if name == "Mixed_6d":
                found["inception/spatial"] = x[..., :SPATIAL_CHANNELS].reshape(len(x), -1)
        found["inception/768"] = _average(x)
        x = _block_17_to_8(self._branch("Mixed_7a"), x)
        x = _block_8(self._branch("Mixed_7b"), x, _local_average)
        x = _block_8(self._branch("Mixed_7c"), x, _local_maximum)
        found["inception/2048"] = x = _average(x)
        logits = nn.Dense(LOGITS, use_bias=False, precision=_PRECISION, name="fc")(x)
        bias = self.param("fc.bias", nn.initializers.zeros, (LOGITS,))
        return found | {"inception/logits": logits, "logits with bias": logits + bias[None]}

    def _branch(self, block: str) -> Conv:
        return lambda name, *args, **kwargs: self._conv(f"{block}.branch{name}", *args, **kwargs)

    def _conv(
        self,
        name: str,
        x: Maps,
        features: int,
        kernel: tuple[int, int] = (1, 1),
        stride: int = 1,
        padding: str = "",
    ) -> Maps:
        padding = padding or ("SAME" if stride == 1 else "VALID")
        made = nn.Conv(features, kernel, stride, padding, precision=_PRECISION, name=name)
        return nn.relu(made(x))


def _average(x: Maps) -> Float[Array, "n _"]:
    return x.mean((1, 2))


_halved = functools.partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2))
_local_maximum = functools.partial(nn.max_pool, window_shape=(3, 3), padding="SAME")
_local_average = functools.partial(
    nn.avg_pool, window_shape=(3, 3), padding="SAME", count_include_pad=False
)


def _block_35(conv: Conv, x: Maps, pooled: int) -> Maps:
    five = conv("5x5_2", conv("5x5_1", x, 48), 64, (5, 5))
    three = conv("3x3dbl_2", conv("3x3dbl_1", x, 64), 96, (3, 3))
    three = conv("3x3dbl_3", three, 96, (3, 3))
    return _joined(conv("1x1", x, 64), five, three, conv("_pool", _local_average(x), pooled))


def _block_35_to_17(conv: Conv, x: Maps) -> Maps:
    three = conv("3x3dbl_2", conv("3x3dbl_1", x, 64), 96, (3, 3))
    three = conv("3x3dbl_3", three, 96, (3, 3), stride=2)
    return _joined(conv("3x3", x, 384, (3, 3), stride=2), three, _halved(x))


def _block_17(conv: Conv, x: Maps, inner: int) -> Maps:
    seven = conv("7x7_2", conv("7x7_1", x, inner), inner, (1, 7))
    seven = conv("7x7_3", seven, 192, (7, 1))
    double = conv("7x7dbl_2", conv("7x7dbl_1", x, inner), inner, (7, 1))
    double = conv("7x7dbl_3", double, inner, (1, 7))
    double = conv("7x7dbl_4", double, inner, (7, 1))
    double = conv("7x7dbl_5", double, 192, (1, 7))
    return _joined(conv("1x1", x, 192), seven, double, conv("_pool", _local_average(x), 192))


def _block_17_to_8(conv: Conv, x: Maps) -> Maps:
    three = conv("3x3_2", conv("3x3_1", x, 192), 320, (3, 3), stride=2)
    seven = conv("7x7x3_2", conv("7x7x3_1", x, 192), 192, (1, 7))
    seven = conv("7x7x3_3", seven, 192, (7, 1))
    seven = conv("7x7x3_4", seven, 192, (3, 3), stride=2)
    return _joined(three, seven, _halved(x))


def _block_8(conv: Conv, x: Maps, pool: Callable[[Maps], Maps]) -> Maps:
    three = conv("3x3_1", x, 384)
    double = conv("3x3dbl_2", conv("3x3dbl_1", x, 448), 384, (3, 3))
    return _joined(
        conv("1x1", x, 320),
        conv("3x3_2a", three, 384, (1, 3)),
        conv("3x3_2b", three, 384, (3, 1)),
        conv("3x3dbl_3a", double, 384, (1, 3)),
        conv("3x3dbl_3b", double, 384, (3, 1)),
        conv("_pool", pool(x), 192),
    )


def _joined(*maps: Maps) -> Maps:
    return jnp.concatenate(maps, axis=-1)


def convert(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The parameters of `Inception` from the published arrays.

    A convolution and the batch normalization behind it become one convolution: with
    s = weight / sqrt(var + 0.001), its kernel is s times the published one and its bias is bias - mean s, in
    float64.

    Args:
      state: arrays by PyTorch's names; counters of batches are left out.

    Raises:
      EvaluationInputError: an array is missing, unknown, of another shape, or not finite.
    """
    exact = {
        name: np.asarray(array, np.float64)
        for name, array in state.items()
        if not name.endswith("num_batches_tracked")
    }
    expected = published_shapes()
    _check(exact, expected)
    convolutions = [n.removesuffix(".conv.weight") for n in expected if n.endswith(".conv.weight")]
    params: dict[str, Any] = {name: _folded(exact, name) for name in convolutions}
    params["fc"] = {"kernel": exact["fc.weight"].T}
    params["fc.bias"] = exact["fc.bias"]
    return jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), params)


def published_shapes() -> dict[str, tuple[int, ...]]:
    """The names of the published arrays and their shapes, but for the counters of batches."""
    image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
    shapes = jax.eval_shape(Inception().init, jax.random.key(0), image)["params"]
    found: dict[str, tuple[int, ...]] = {"fc.weight": (LOGITS, 2048), "fc.bias": (LOGITS,)}
    for name in [name for name in shapes if not name.startswith("fc")]:
        height, width, inputs, features = shapes[name]["kernel"].shape
        found[f"{name}.conv.weight"] = (features, inputs, height, width)
        for each in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.bn.{each}"] = (features,)
    return found


def _check(state: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    what = "these are not the weights of FID's Inception (pt_inception-2015-12-05)"
    for difference, verb in (
        (expected.keys() - state.keys(), "is missing"),
        (state.keys() - expected.keys(), "is unknown"),
    ):
        if difference:
            more = f", and {len(difference) - 1} more" if len(difference) > 1 else ""
            raise EvaluationInputError(f"{what}: {min(difference)[:50]!r} {verb}{more}.")
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise EvaluationInputError(
                f"{what}: {name!r} has the shape {list(state[name].shape)}, not {list(shape)}."
            )
        if not np.isfinite(state[name]).all():
            raise EvaluationInputError(f"{what}: {name!r} is not finite.")


def _folded(exact: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    norm = {
        each: exact[f"{name}.bn.{each}"]
        for each in ("weight", "bias", "running_mean", "running_var")
    }
    scale = norm["weight"] / np.sqrt(norm["running_var"] + _BATCH_NORM_EPSILON)
    return {
        "kernel": exact[f"{name}.conv.weight"].transpose(2, 3, 1, 0) * scale,
        "bias": norm["bias"] - norm["running_mean"] * scale,
    }


def prepare(images: UInt8[Array, "n height width channels"]) -> Float[Array, "n 299 299 3"]:
    """What the network sees: colours, resized to 299 x 299, in [-1, 1)."""
    x = resize.tf1_bilinear(images.astype(jnp.float32), SIZE)
    return (jnp.broadcast_to(x, (*x.shape[:3], 3)) - 128) / 128


def extractor(params: Any, digest: str) -> Extractor:
    """Every kind of `OUTPUTS`, of images of any size, in colour or grey.

    Args:
      params: from `convert`.
      digest: of the file of weights, for the report.
    """

    def apply(
        params: Any, images: UInt8[Array, "n height width channels"], numbers: Int[Array, " n"]
    ) -> dict[str, Float[Array, "n _"]]:
        del numbers
        found: Any = Inception().apply({"params": params}, prepare(images))
        return {kind: found[kind] for kind in OUTPUTS}

    settings = {
        "network": "inception v3, 2015-12-05",
        "weights": digest,
        "resize": f"bilinear of TensorFlow 1 to {SIZE} x {SIZE}, no antialiasing",
        "grey": "repeated to three channels",
    }
    return Extractor("inception", OUTPUTS, apply, params, settings)
