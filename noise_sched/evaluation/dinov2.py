"""DINOv2's vision transformer, whose features FD-DINOv2 compares, with the published weights in flax.

Oquab et al. 2023 (arXiv 2304.07193), proposed for judging by Stein et al. 2023 (arXiv 2306.04675), reported
beside FID by EDM2 (Karras et al. 2023, arXiv 2312.02696). The feature is the class token of ViT-L/14 behind
the last normalization, 1,024 numbers, of images resized to 224 x 224 (bicubic, antialiased, not clipped) and
brought to ImageNet's mean and standard deviation. The published positions, of 37 x 37 patches, are
interpolated to 16 x 16 by the rule of the original code: bicubic (a = -3/4) at the scale (16 + 0.1) / 37.
"""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.features import Extractor

SIZE = 224  # pixels that images are resized to
_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's
_EPSILON = 1e-6  # of the layer normalizations
_OFFSET = 0.1  # of the original's interpolation
# In full float32 everywhere: GPUs and TPUs would round the factors to fewer digits.
_PRECISION = jax.lax.Precision.HIGHEST

Tokens = Float[Array, "n tokens width"]


class Block(nn.Module):
    """Attention and a perceptron, each normalized before and scaled behind (LayerScale)."""

    width: int
    heads: int

    @nn.compact
    def __call__(self, x: Tokens, _: None) -> tuple[Tokens, None]:
        """(tokens, nothing) -> (tokens, nothing), as `nn.scan` has it."""
        dense = lambda size, name: nn.Dense(size, precision=_PRECISION, name=name)
        scale = lambda name: self.param(name, nn.initializers.ones, (self.width,))[None, None]
        y = nn.LayerNorm(_EPSILON, name="norm1")(x)
        qkv = dense(3 * self.width, "qkv")(y)
        q, k, v = jnp.moveaxis(qkv.reshape(*y.shape[:2], 3, self.heads, -1), 2, 0)
        with jax.default_matmul_precision("highest"):
            y = jax.nn.dot_product_attention(q, k, v).reshape(y.shape)
        x = x + scale("scale1") * dense(self.width, "proj")(y)
        y = dense(4 * self.width, "fc1")(nn.LayerNorm(_EPSILON, name="norm2")(x))
        y = dense(self.width, "fc2")(nn.gelu(y, approximate=False))
        return x + scale("scale2") * y, None


class VisionTransformer(nn.Module):
    """DINOv2's network: images -> class token. Its blocks are equal, compiled once, and scanned.

    Attributes:
      width: of the tokens.
      depth: number of blocks.
      heads: of the attention; the original has 64 channels in each.
      patch: side of a patch in pixels.
    """

    width: int = 1024
    depth: int = 24
    heads: int = 16
    patch: int = 14

    @nn.compact
    def __call__(self, images: Float[Array, "n height width 3"]) -> Float[Array, "n _"]:
        """Normalized images, each side a multiple of `patch`."""
        patches = nn.Conv(
            self.width, (self.patch,) * 2, (self.patch,) * 2, precision=_PRECISION, name="embed"
        )(images)
        n, rows, columns, _ = patches.shape
        positions = self.param("positions", nn.initializers.zeros, (1 + rows * columns, self.width))
        token = self.param("token", nn.initializers.zeros, (self.width,))
        x = jnp.concatenate(
            [
                jnp.broadcast_to(token, (n, 1, self.width)),
                patches.reshape(n, rows * columns, self.width),
            ],
            axis=1,
        )
        blocks = nn.scan(
            Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.depth
        )
        x, _ = blocks(self.width, self.heads, name="blocks")(x + positions[None], None)
        return nn.LayerNorm(_EPSILON, name="norm")(x)[:, 0]


def convert(
    state: Mapping[str, np.ndarray], size: int = SIZE
) -> tuple[VisionTransformer, dict[str, Any]]:
    """The network and its parameters from a checkpoint of the original code.

    Args:
      state: arrays by the names of `dinov2_vitl14_pretrain.pth` (or of another of its sizes, but not of the
        variants with registers or with SwiGLU, whose arrays have other names).
      size: side of the images that it will see.

    Raises:
      EvaluationInputError: a name that is missing or unknown, or an array of another shape.
    """
    state = {
        name: np.asarray(array, np.float32) for name, array in state.items() if name != "mask_token"
    }
    for name in ("patch_embed.proj.weight", "pos_embed"):
        if name not in state:
            raise EvaluationInputError(
                f"the weights of DINOv2 have no {name!r}: expected dinov2_vitl14_pretrain.pth."
            )
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    depth = len({match.group(1) for name in state if (match := re.match(r"blocks\.(\d+)\.", name))})
    module = VisionTransformer(width, depth, max(1, width // 64), patch)
    _check(state, _shapes(module, state["pos_embed"].shape[1]))
    linear = lambda name: {"kernel": state[f"{name}.weight"].T, "bias": state[f"{name}.bias"]}
    norm = lambda name: {"scale": state[f"{name}.weight"], "bias": state[f"{name}.bias"]}

    def block(number: int) -> dict[str, Any]:
        at = f"blocks.{number}."
        return {
            "norm1": norm(f"{at}norm1"),
            "qkv": linear(f"{at}attn.qkv"),
            "proj": linear(f"{at}attn.proj"),
            "scale1": state[f"{at}ls1.gamma"],
            "norm2": norm(f"{at}norm2"),
            "fc1": linear(f"{at}mlp.fc1"),
            "fc2": linear(f"{at}mlp.fc2"),
            "scale2": state[f"{at}ls2.gamma"],
        }

    params = {
        "token": state["cls_token"][0, 0],
        "positions": _positions(state["pos_embed"][0], size // patch),
        "embed": {
            "kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
            "bias": state["patch_embed.proj.bias"],
        },
        "blocks": jax.tree.map(lambda *leaves: np.stack(leaves), *map(block, range(depth))),
        "norm": norm("norm"),
    }
    return module, params


def extractor(module: VisionTransformer, params: Any, digest: str) -> Extractor:
    """The kind `dinov2`; `digest` is that of the file of weights."""

    def apply(params: Any, images: UInt8[Array, "n h w c"], numbers: Array) -> dict[str, Array]:
        del numbers  # nothing is random
        features: Any = module.apply({"params": params}, prepare(images))
        return {"dinov2": features}

    settings = {"weights": digest, "resize": f"bicubic, antialiased, {SIZE}", "grey": "repeated"}
    return Extractor("dinov2", {"dinov2": module.width}, apply, params, settings, batch=32)


def prepare(images: UInt8[Array, "n height width c"]) -> Float[Array, "n 224 224 3"]:
    """Bytes to what the network takes; grey images are repeated to three channels."""
    shape = (len(images), SIZE, SIZE, images.shape[3])
    resized = jax.image.resize(
        images.astype(jnp.float32), shape, "cubic", antialias=True, precision=_PRECISION
    )
    colour = jnp.broadcast_to(resized, (*shape[:3], 3))
    mean, std = (jnp.asarray(each, jnp.float32)[None, None, None] for each in (_MEAN, _STD))
    return (colour / 255 - mean) / std


def _positions(published: np.ndarray, side: int) -> np.ndarray:
    """Of [1 + m * m, width] for a square of `side` patches; the first is the class token's."""
    count = round(np.sqrt(len(published) - 1))
    if count == side:
        return published
    weights = interpolation(count, side)
    grid = published[1:].reshape(count, count, -1)
    moved = np.einsum("ri,cj,ijw->rcw", weights, weights, grid).reshape(side * side, -1)
    return np.concatenate([published[:1], moved]).astype(np.float32)


def interpolation(size: int, new_size: int) -> Float[np.ndarray, "{new_size} {size}"]:
    """PyTorch's bicubic weights at the scale (new_size + 0.1) / size, the border repeated (Keys' kernel)."""
    a = -0.75
    centre = (np.arange(new_size) + 0.5) * size / (new_size + _OFFSET) - 0.5
    first = np.floor(centre).astype(int)
    weights = np.zeros((new_size, size))
    for shift in (-1, 0, 1, 2):
        r = np.abs(centre - (first + shift))
        near = (a + 2) * r**3 - (a + 3) * r**2 + 1
        far = a * r**3 - 5 * a * r**2 + 8 * a * r - 4 * a
        column = np.clip(first + shift, 0, size - 1)
        np.add.at(weights, (np.arange(new_size), column), np.where(r <= 1, near, far))
    return weights


def _shapes(module: VisionTransformer, tokens: int) -> dict[str, tuple[int, ...]]:
    """Every array of a checkpoint with its shape."""
    width = module.width
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, tokens, width),
        "patch_embed.proj.weight": (width, 3, module.patch, module.patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for number in range(module.depth):
        at = f"blocks.{number}."
        for name in ("norm1", "norm2"):
            shapes |= {f"{at}{name}.weight": (width,), f"{at}{name}.bias": (width,)}
        for name, out, into in (
            ("attn.qkv", 3 * width, width),
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ):
            shapes |= {f"{at}{name}.weight": (out, into), f"{at}{name}.bias": (out,)}
        shapes |= {f"{at}ls1.gamma": (width,), f"{at}ls2.gamma": (width,)}
    return shapes


def _check(state: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    wrong = [
        f"{name}: {list(state[name].shape) if name in state else 'missing'}, expected "
        f"{list(expected[name]) if name in expected else 'no such array'}"
        for name in sorted(state.keys() | expected.keys())
        if name not in state or name not in expected or state[name].shape != expected[name]
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise EvaluationInputError(
            f"the weights are not those of DINOv2 without registers: {'; '.join(wrong[:3])}{more}."
        )
