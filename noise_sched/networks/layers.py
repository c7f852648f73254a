"""The layers that networks share: convolution, norms, attention, MLP, transformer layer, embeddings.

Initial values are those of the published networks, which were written in Keras: Glorot-uniform
kernels and zero biases, with the fans of attention kernels counted as below.

Numbers: `dtype` is the type of the matrix products inside attention and MLPs. Everything else is
float32: parameters, embeddings, the tokens between layers, layer norms and softmax.
"""

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from noise_sched.networks.positions import sinusoid
from noise_sched.networks.resampling import Images

glorot_uniform = nn.initializers.glorot_uniform()
LayerNorm = functools.partial(nn.LayerNorm, epsilon=1e-6)
Dense = functools.partial(nn.Dense, kernel_init=glorot_uniform)


def uniform(limit: float) -> nn.initializers.Initializer:
    """Initial values drawn uniformly from [-limit, limit]."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


def convolve(
    x: Images,
    kernel: Float[Array, "height width inputs features"],
    padding: Sequence[int],
    pad_channels: int = 1,
) -> Images:
    """Convolution of stride 1.

    Args:
      x: images.
      kernel: of the same type.
      padding: zeros above and below, left and right of the image.
      pad_channels: fill up the channels, in and out, with zeros to a multiple of this number, which
        accelerators prefer to be a multiple of 8. The result is the same.
    """
    more_in, more_out = (-n % pad_channels for n in kernel.shape[2:])
    y = jax.lax.conv_general_dilated(
        jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, more_in))),
        jnp.pad(kernel, ((0, 0), (0, 0), (0, more_in), (0, more_out))),
        window_strides=(1, 1),
        padding=[(p, p) for p in padding],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y[..., : kernel.shape[-1]]


def attention(
    *, heads: int, inner_dim: int, query_dim: int, dtype: DTypeLike, name: str
) -> nn.MultiHeadDotProductAttention:
    """Multi-head attention with biases and the published initial values.

    Keras reads the three axes of an attention kernel as those of a convolution (the first as its
    receptive field), so Glorot's rule gives smaller values than it would for the matrix that the
    kernel is. With d features, h heads of k features:

      query, key, value  [d, h, k]: limit sqrt(6 / (d (h + k)))
      output             [h, k, d]: limit sqrt(6 / (h (k + d)))

    Args:
      heads: number of heads; divides `inner_dim`.
      inner_dim: total features of the queries, keys and values.
      query_dim: features of the tokens that ask, hence of the output.
      dtype: type of the matrix products.
      name: name of the parameters.
    """
    head_dim = inner_dim // heads

    def kernel_init(key, shape, dtype=jnp.float32):
        # linen hands over the flattened shape [d, h * k].
        return uniform(math.sqrt(6 / (shape[0] * (heads + head_dim))))(key, shape, dtype)

    return nn.MultiHeadDotProductAttention(
        num_heads=heads,
        qkv_features=inner_dim,
        kernel_init=kernel_init,
        out_kernel_init=uniform(math.sqrt(6 / (heads * (head_dim + query_dim)))),
        attention_fn=jax.nn.dot_product_attention,
        dtype=dtype,
        name=name,
    )


class MLP(nn.Module):
    """Dense, GELU (exact), dropout, Dense; as wide at the end as at the beginning.

    Attributes:
      ratio: hidden features per input feature.
      drop_units: dropout rate of the hidden features.
      dtype: type of the matrix products.
    """

    ratio: int
    drop_units: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens dim"], train: bool = False
    ) -> Float[Array, "batch tokens dim"]:
        """Apply the MLP to each token; `train` turns dropout on (key "dropout")."""
        dim = x.shape[-1]
        h = Dense(self.ratio * dim, dtype=self.dtype, name="hidden")(x)
        h = nn.gelu(h, approximate=False)
        h = nn.Dropout(self.drop_units, deterministic=not train)(h)
        return Dense(dim, dtype=self.dtype, name="out")(h)


class TransformerLayer(nn.Module):
    """Pre-norm attention and MLP, each with a residual connection.

      x <- x + drop_path(attention(query=LN(x), key=value=context))
      x <- x + drop_path(MLP(LN(x)))

    Without `context` this is self-attention: keys and values are LN(x) too.

    Attributes:
      heads: attention heads.
      inner_dim: total features of the queries, keys and values.
      mlp_ratio: hidden features of the MLP per feature; 0 leaves the MLP out.
      norm_context: normalise the context before it is looked at.
      drop_units: dropout rate inside the MLP.
      drop_path: probability, per example, that a residual branch is left out.
      dtype: type of the matrix products.
    """

    heads: int
    inner_dim: int
    mlp_ratio: int
    norm_context: bool = False
    drop_units: float = 0.0
    drop_path: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens dim"],
        context: Float[Array, "batch others other_dim"] | None = None,
        train: bool = False,
    ) -> Float[Array, "batch tokens dim"]:
        """Update x, looking at `context`; `train` turns both dropouts on (key "dropout")."""

        def residual(branch):
            # One draw per example: the mask is shared by all its tokens and features.
            drop = nn.Dropout(self.drop_path, broadcast_dims=(1, 2), deterministic=not train)
            return drop(branch).astype(x.dtype)

        if context is not None and self.norm_context:
            context = LayerNorm(name="context_norm")(context)
        query = LayerNorm(name="attention_norm")(x)
        attend = attention(
            heads=self.heads,
            inner_dim=self.inner_dim,
            query_dim=x.shape[-1],
            dtype=self.dtype,
            name="attention",
        )
        x = x + residual(attend(query, context))
        if self.mlp_ratio:
            h = LayerNorm(name="mlp_norm")(x)
            x = x + residual(MLP(self.mlp_ratio, self.drop_units, self.dtype, name="mlp")(h, train))
        return x


class NoiseEmbedding(nn.Module):
    """A token for the noise level: standardised sinusoid, Dense, SiLU, Dense; in float32.

    Attributes:
      dim: features of the token, a multiple of 8; the sinusoid has dim / 4.
    """

    dim: int

    @nn.compact
    def __call__(self, noise_cond: Float[Array, " batch"]) -> Float[Array, "batch {self.dim}"]:
        """One token per noise level."""
        code = sinusoid(noise_cond, self.dim // 4)
        # The code holds cosines as well as sines: its deviation is never zero, so no epsilon.
        code = jax.nn.standardize(code, axis=-1, epsilon=0.0)
        h = nn.silu(Dense(self.dim, name="hidden")(code))
        return Dense(self.dim, name="out")(h)
