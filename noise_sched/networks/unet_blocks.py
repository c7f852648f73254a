r"""The parts of a U-Net: convolution, group norm, attention, and the block made of them.

A block, with GN a group norm, e the embedding of noise level, class and augmentation, R the resampling
(or nothing), s the block's `residual_scale`:

    (1)  h = conv3x3(R(silu(GN(x))))
    (2)  h = silu(GN(h + A e))                           where the embedding is added (DDPM++, NCSN++)
         h = silu(GN(h) (1 + A_1 e) + A_2 e)             where it scales and shifts (ADM)
    (3)  x = s (skip(R(x)) + conv3x3(dropout(h)))        skip: nothing, or a 1x1 convolution
    (4)  x = s (x + proj(attention(qkv(GN(x)))))         where the block attends

The last convolution of (3) and `proj` start at, or almost at, zero, so that a new network is nearly
linear. Sources: Song et al. 2021, arXiv 2011.13456 (BigGAN's block and s = sqrt(1/2)); Dhariwal and
Nichol 2021, arXiv 2105.05233 (scale and shift, 64 channels per head); Karras et al. 2022, arXiv
2206.00364, appendix F, whose exact form of both this is.

Numbers: parameters are float32. Convolutions, and the images between blocks, are `dtype`; the
embedding, the statistics of norms, the softmax are float32.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from noise_sched.networks.layers import convolve
from noise_sched.networks.resampling import Images, border, downsample, resample


@dataclasses.dataclass(frozen=True)
class Initial:
    """How a layer starts.

    Attributes:
      kernel: initial values of the kernel.
      bias: the bias is uniform in +-bias / sqrt(fan in); 0 for zeros.
    """

    kernel: nn.initializers.Initializer
    bias: float = 0.0

    def bias_init(self, fan_in: int) -> nn.initializers.Initializer:
        """Initial values of the bias of a layer with `fan_in` inputs."""
        limit = self.bias / math.sqrt(fan_in)
        return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -limit, limit)


@dataclasses.dataclass(frozen=True)
class Style:
    """What all blocks of one network have in common.

    Attributes:
      initial: initial values of all layers but the next three.
      initial_qkv: of the queries, keys and values.
      initial_last: of the last convolution of each branch.
      scale_shift: the embedding scales and shifts instead of being added, equation (2).
      residual_scale: s of equations (3) and (4).
      epsilon: of the group norms.
      project_resampled: a resampled skip goes through a 1x1 convolution even if it is as wide as it
        has to be.
    """

    initial: Initial
    initial_qkv: Initial
    initial_last: Initial
    scale_shift: bool
    residual_scale: float
    epsilon: float
    project_resampled: bool


def groups(channels: int) -> int:
    """Groups of a norm: 32, or fewer so that each has at least four channels."""
    return min(32, channels // 4)


def group_norm(x: Images, epsilon: float, name: str) -> Images:
    """Group norm of x with learned scale and bias, in float32; to be called in a compact method."""
    norm = nn.GroupNorm(groups(x.shape[-1]), epsilon=epsilon, name=name)
    return norm(x.astype(jnp.float32))


def dense(features: int, inputs: int, initial: Initial, name: str, bias: bool = True) -> nn.Dense:
    """A float32 Dense layer that starts as `initial` says."""
    return nn.Dense(
        features,
        use_bias=bias,
        kernel_init=initial.kernel,
        bias_init=initial.bias_init(inputs),
        name=name,
    )


class Conv(nn.Module, kw_only=True):
    """A convolution of stride 1, parameters `kernel` [size, size, in, out] and `bias`.

    Attributes:
      features: channels out.
      size: of the kernel, odd.
      padding: zeros around the image; None keeps its height and width.
      initial: initial values.
      parts: the features are stored interleaved, `parts` by `parts`, and come out part by part:
        (q0, k0, v0, q1, ...) as (q0, q1, ..., k0, ...). It is the kernel that is put in order.
      pad_channels: as of `layers.convolve`; parameters and result are the same.
      dtype: type of the product.
    """

    features: int
    size: int = 3
    padding: int | None = None
    initial: Initial
    parts: int = 1
    pad_channels: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Images) -> Images:
        """The convolution of x, of type `dtype`."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.initial.kernel, shape, jnp.float32)
        bias_init = self.initial.bias_init(math.prod(shape[:3]))
        bias = self.param("bias", bias_init, (self.features,), jnp.float32)
        x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
        if self.parts > 1:
            kernel, bias = (
                a.reshape(*a.shape[:-1], -1, self.parts).swapaxes(-1, -2).reshape(a.shape)
                for a in (kernel, bias)
            )
        if self.size == 1:
            return jnp.einsum("bhwi,io->bhwo", x, kernel[0, 0]) + bias[None, None, None]
        padding = self.size // 2 if self.padding is None else self.padding
        y = convolve(x, kernel, (padding, padding), self.pad_channels)
        return y + bias[None, None, None]


def attend(qkv: Float[Array, "batch height width features"], heads: int) -> Images:
    """Self-attention of all pixels, softmax(q k / sqrt(channels / heads)) v.

    On a GPU this is cuDNN's flash attention where it can be: half precision, heads of at most 128
    channels. The softmax is float32 everywhere.

    Args:
      qkv: features ordered [3, heads, channels / heads]: the queries, the keys, the values.
      heads: number of heads.
    """
    batch, height, width, features = qkv.shape
    dim = features // 3 // heads
    qkv = qkv.reshape(batch, height * width, 3, heads, dim)
    half = qkv.dtype in (jnp.bfloat16, jnp.float16)
    flash = half and dim % 8 == 0 and dim <= 128 and jax.default_backend() == "gpu"
    # jax's own implementation mixes bfloat16 and float32.
    with jax.numpy_dtype_promotion("standard"):
        out = jax.nn.dot_product_attention(
            *(qkv[:, :, i] for i in range(3)), implementation="cudnn" if flash else "xla"
        )
    return out.reshape(batch, height, width, heads * dim)


class Block(nn.Module, kw_only=True):
    """One block, equations (1) to (4).

    Attributes:
      features: channels out.
      heads: of the attention; 0 for none.
      resample: "down", "up" or "".
      taps: the filter of the resampling.
      style: of all blocks of the network.
      dropout: rate, equation (3).
      dtype: type of the convolutions and of the result.
    """

    features: int
    heads: int = 0
    resample: str = ""
    taps: Sequence[int] = (1, 1)
    style: Style
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Images,
        emb: Float[Array, "batch emb"],
        skip: Images | None = None,
        dropout_key: Array | None = None,
    ) -> Images:
        """Apply the block.

        Args:
          x: the image so far.
          emb: embedding of noise level, class and augmentation, float32.
          skip: the output of the encoder kept for this block; appended to x.
          dropout_key: key of this block's dropout; None for no dropout.
        """
        style, eps = self.style, self.style.epsilon
        x = x if skip is None else jnp.concatenate([x, skip], axis=-1)
        h = nn.silu(group_norm(x, eps, "norm0")).astype(self.dtype)
        h = self._conv("conv0", style.initial)(resample(h, self.resample, self.taps))
        h = self._conditioned(h, emb)
        if dropout_key is not None:
            h = nn.Dropout(self.dropout, deterministic=False)(h, rng=dropout_key)
        h = self._conv("conv1", style.initial_last)(h)

        projected = x.shape[-1] != self.features or (self.resample and style.project_resampled)
        x = resample(x, self.resample, self.taps)
        if projected:
            x = self._conv("skip", style.initial, size=1)(x)
        x = (x + h) * style.residual_scale
        if self.heads:
            h = group_norm(x, eps, "norm2").astype(self.dtype)
            # Published parameters hold query, key and value of a channel side by side.
            wide = dict(features=3 * self.features, parts=3)
            qkv = self._conv("qkv", style.initial_qkv, size=1, **wide)(h)
            h = self._conv("proj", style.initial_last, size=1)(attend(qkv, self.heads))
            x = (x + h) * style.residual_scale
        return x

    def _conditioned(self, h: Images, emb: Float[Array, "batch emb"]) -> Images:
        """Equation (2)."""
        style = self.style
        width = self.features * (2 if style.scale_shift else 1)
        affine = dense(width, emb.shape[-1], style.initial, "affine")(emb)[:, None, None]
        if not style.scale_shift:
            h = group_norm(h + affine.astype(self.dtype), style.epsilon, "norm1")
        else:
            scale, shift = jnp.split(affine, 2, axis=-1)
            h = group_norm(h, style.epsilon, "norm1") * (1 + scale) + shift
        return nn.silu(h).astype(self.dtype)

    def _conv(self, name: str, initial: Initial, **fields: Any) -> Conv:
        fields = {"features": self.features, **fields}
        return Conv(initial=initial, dtype=self.dtype, name=name, **fields)


class ShrinkingConv(nn.Module, kw_only=True):
    """A 3x3 convolution and the halving after it: how NCSN++ shows the image to every level.

    Attributes: as of `Conv` and `Block`. The parameters are those of the convolution.
    """

    features: int
    taps: Sequence[int]
    initial: Initial
    pad_channels: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Images) -> Images:
        """Convolve on a larger canvas, so that the filter meets no zeros of its own."""
        conv = Conv(
            features=self.features,
            padding=1 + border(self.taps),
            initial=self.initial,
            pad_channels=self.pad_channels,
            dtype=self.dtype,
        )
        nn.share_scope(self, conv)
        return downsample(conv(x), self.taps, padded=False)
