"""EDM2's network: ADM's U-Net rebuilt from magnitude-preserving layers.

Karras et al. 2024, arXiv 2312.02696, config G and figure 21. Against ADM (arXiv 2105.05233):

  - every convolution and matrix is an `MPConv`: normalised filters, no bias; instead of biases the
    image gets one more channel of ones;
  - no group norm: the encoder's main path is normalised per pixel, the decoder's not at all;
  - the embedding multiplies the activations by 1 + gain * linear(embedding), the gain learned from 0;
  - attention by cosine: queries, keys and values normalised per token and head;
  - branches are joined by `mp_sum` and `mp_cat` in fixed proportions;
  - the output is multiplied by a learned gain that starts at 0.

A head beside the U-Net, `log_variance`, tells how large the error at a noise level is expected to be
(u(sigma), eq. 21), for the loss to be balanced over the levels. Parameters are named like those of the
published networks: `enc.64x64_block0.conv_res0.weight` is `enc_64x64_block0/conv_res0/kernel`.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int

from noise_sched.networks import checks
from noise_sched.networks.magnitude import MPConv, mp_cat, mp_fourier, mp_silu, mp_sum, normalize
from noise_sched.networks.resampling import resample

_BRANCH = 0.3  # share of the residual branch and of attention in the sum with the main path
_LABEL = 0.5  # share of the class in the embedding
_CLIP = 256.0  # activations are clipped here, for the sake of short floats
_LOG_VARIANCE_FEATURES = 128
_FOURIER = ("frequencies", "phases", "logvar_frequencies", "logvar_phases")


class Block(nn.Module, kw_only=True):
    """One block of encoder or decoder (figure 21): residual branch, then attention.

    Attributes:
      features: channels out.
      decoder: a decoder's block; an encoder's is normalised per pixel at its start, and adapts the
        number of channels before its residual branch instead of after.
      resample: "", "down" (mean of 2 x 2 pixels) or "up" (each pixel four times).
      heads: of the attention; 0 for none.
      dropout: rate inside the residual branch.
    """

    features: int
    decoder: bool
    resample: str = ""
    heads: int = 0
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width c"],
        embedding: Float[Array, "batch e"],
        train: bool = False,
    ) -> Float[Array, "batch new_height new_width {self.features}"]:
        """The block; `train` turns dropout on (key "dropout")."""
        x = resample(x, self.resample, (1, 1))
        adapt = lambda x: x
        if x.shape[-1] != self.features:
            adapt = MPConv(self.features, (1, 1), name="conv_skip")
        if not self.decoder:
            x = normalize(adapt(x), -1)

        y = MPConv(self.features, (3, 3), name="conv_res0")(mp_silu(x))
        gain = self.param("emb_gain", nn.initializers.zeros, (), jnp.float32)
        scale = 1.0 + MPConv(self.features, name="emb_linear")(embedding, gain)
        y = mp_silu(y * scale[:, None, None].astype(y.dtype))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = MPConv(self.features, (3, 3), name="conv_res1")(y)

        x = mp_sum(adapt(x) if self.decoder else x, y, _BRANCH)
        if self.heads:
            x = mp_sum(x, self._attention(x), _BRANCH)
        return jnp.clip(x, -_CLIP, _CLIP)

    def _attention(self, x):
        batch, height, width, features = x.shape
        qkv = MPConv(3 * features, (1, 1), name="attn_qkv")(x)
        # The published order of the channels: head, feature, then query, key, value.
        qkv = qkv.reshape(batch, height * width, self.heads, features // self.heads, 3)
        query, key, value = jnp.moveaxis(normalize(qkv, 3), -1, 0)
        y = jax.nn.dot_product_attention(query, key, value)
        return MPConv(features, (1, 1), name="attn_proj")(y.reshape(x.shape))


class EDM2(nn.Module, kw_only=True):
    """EDM2's U-Net (arXiv 2312.02696), an image-to-image network without a memory.

    `EDM2(...).apply({"params": params}, x, noise_cond, label, ())` returns `(out, ())`. Parameters are
    float32. Building one checks the whole configuration and costs nothing else.

    The published sizes differ in `model_channels`: XXS 64, XS 128, S 192, M 256, L 320, XL 384, XXL 448.

    Attributes:
      image_size: height and width of the (square) images.
      channels: of the images, in and out.
      num_classes: classes that a label can name; 0 for a network without labels.
      model_channels: channels per unit of `channel_mult`.
      channel_mult: one entry per resolution, each half the one before.
      num_blocks: blocks per resolution in the encoder; the decoder has one more.
      attention_resolutions: heights of the feature maps whose blocks have attention. The first block
        of the decoder always has it.
      channels_per_head: of the attention.
      dropout: rate inside the residual branches.
      frequencies: of the noise embedding's Fourier features, angular, model_channels *
        channel_mult[0] of them; () for 2 pi N(0, 1), drawn from a fixed seed.
      phases: the same for the phases in radians; () for uniform ones.
      logvar_frequencies: 128, of the features that `log_variance` has of its own.
      logvar_phases: and their phases.
      dtype: type of the convolutions and the attention. Parameters, embeddings, norms and softmax are
        float32.
      remat: recompute each block in the backward pass instead of storing its insides.

    Raises:
      ValueError: sizes that do not fit one another, a rate outside [0, 1).
    """

    image_size: int
    channels: int = 3
    num_classes: int
    model_channels: int = 192
    channel_mult: Sequence[int] = (1, 2, 3, 4)
    num_blocks: int = 3
    attention_resolutions: Sequence[int] = (16, 8)
    channels_per_head: int = 64
    dropout: float = 0.0
    frequencies: Sequence[float] = ()
    phases: Sequence[float] = ()
    logvar_frequencies: Sequence[float] = ()
    logvar_phases: Sequence[float] = ()
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    # All kernels are blind to their filters' lengths, so that these may be normalised in training.
    magnitude_preserving: ClassVar[bool] = True

    def __post_init__(self):
        # Configs hold lists; a module that is to be hashed (static under jit) must not.
        for field in ("channel_mult", "attention_resolutions", *_FOURIER):
            setattr(self, field, tuple(getattr(self, field)))
        self.validate()
        super().__post_init__()

    def setup(self):
        """The layers; a dict's key and its attribute's name make the layer's name: enc_8x8_conv."""
        widest = max(self._widths)
        self.emb_noise = MPConv(widest)
        if self.num_classes:
            self.emb_label = MPConv(widest)
        self.enc = self._encoder()
        self.dec = self._decoder()
        self.out_conv = MPConv(self.channels, (3, 3))
        self.out_gain = self.param("out_gain", nn.initializers.zeros, (), jnp.float32)
        self.logvar_linear = MPConv(1)

    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        noise_cond: Float[Array, " batch"],
        label: Int[Array, " batch"] | None,
        memory: tuple[()] = (),
        train: bool = False,
        augment_label: Float[Array, "batch augment"] | None = None,
    ) -> tuple[Float[Array, "batch height width channels"], tuple[()]]:
        """One evaluation of the network.

        Args:
          x: images, scaled by the caller.
          noise_cond: scalar that tells the noise level, scaled by the caller (published: ln(sigma) / 4).
          label: class of each image, -1 for no class; None if the network has no classes.
          memory: (), this network has none.
          train: drop features; needs a "dropout" key if the rate is positive.
          augment_label: None, this network is not told of augmentations.

        Returns:
          The output, as large as x, float32, and ().

        Raises:
          ValueError: shapes other than the module was made for, a label too many or missing, labels
            of augmentations.
        """
        self._check_inputs(x, label, augment_label)
        if self.is_initializing():
            self.log_variance(noise_cond)  # its parameters are the network's too
        embedding = self._embedding(noise_cond, label)
        h = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1).astype(self.dtype)
        kept = []
        for name, layer in self.enc.items():
            h = layer(h) if name.endswith("conv") else layer(h, embedding, train)
            kept.append(h)
        for name, block in self.dec.items():
            if "block" in name:
                h = mp_cat(h, kept.pop())
            h = block(h, embedding, train)
        return self.out_conv(h, self.out_gain).astype(jnp.float32), ()

    def log_variance(self, noise_cond: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """u(sigma): the logarithm of the weighted error expected at each noise level (eq. 21)."""
        features = self._fourier(noise_cond, "logvar_frequencies", "logvar_phases")
        return self.logvar_linear(features)[:, 0]

    @nn.nowrap
    def initial_memory(self, batch: int) -> tuple[()]:
        """No memory."""
        return ()

    @nn.nowrap
    def validate(self) -> None:
        """Check that the configuration makes sense; called whenever an EDM2 is built.

        Raises:
          ValueError: it does not; the message says what to change.
        """
        least = dict(image_size=1, channels=1, num_classes=0, model_channels=1, num_blocks=1)
        checks.check_least(self, least | dict(channels_per_head=1))
        checks.check_rates(self, ["dropout"])
        if not self.channel_mult or min(self.channel_mult) < 1:
            raise ValueError(
                f"channel_mult needs one number per resolution, each at least 1, but got "
                f"{self.channel_mult}: for example (1, 2, 3, 4)."
            )
        stride = 2 ** (len(self.channel_mult) - 1)
        if self.image_size % stride:
            raise ValueError(
                f"image_size={self.image_size} cannot be halved {len(self.channel_mult) - 1} times, "
                f"as the {len(self.channel_mult)} entries of channel_mult ask: use a multiple of "
                f"{stride}, or fewer entries."
            )
        for size in self.attention_resolutions:
            if size not in self._sizes:
                near = min(self._sizes, key=lambda s: abs(s - size))
                raise ValueError(
                    f"attention_resolutions={self.attention_resolutions} names {size}, but the "
                    f"feature maps have {', '.join(map(str, self._sizes))} pixels: use for example "
                    f"{near}."
                )
        for size, mult in zip(self._sizes, self.channel_mult, strict=True):
            attends = size in self.attention_resolutions or size == self._sizes[-1]
            if attends and mult * self.model_channels % self.channels_per_head:
                raise ValueError(
                    f"channels_per_head={self.channels_per_head} does not divide the "
                    f"{mult * self.model_channels} channels of the attention at {size} x {size} "
                    f"pixels: use for example {math.gcd(*self._widths)}."
                )
        lengths = (self._widths[0],) * 2 + (_LOG_VARIANCE_FEATURES,) * 2
        for field, length in zip(_FOURIER, lengths, strict=True):
            if len(getattr(self, field)) not in (0, length):
                raise ValueError(
                    f"{field} needs {length} numbers, or none to have them drawn, but got "
                    f"{len(getattr(self, field))}."
                )

    @property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(self.image_size >> level for level in range(len(self.channel_mult)))

    @property
    def _widths(self) -> tuple[int, ...]:
        return tuple(mult * self.model_channels for mult in self.channel_mult)

    @nn.nowrap
    def _block(self, features: int, *, attention: bool = False, **fields) -> nn.Module:
        made = nn.remat(Block, static_argnums=(3,)) if self.remat else Block
        heads = features // self.channels_per_head if attention else 0
        return made(features=features, heads=heads, dropout=self.dropout, **fields)

    @nn.nowrap
    def _encoder(self) -> dict[str, nn.Module]:
        layers: dict[str, nn.Module] = {}
        for level, (size, width) in enumerate(zip(self._sizes, self._widths, strict=True)):
            if level == 0:
                layers[f"{size}x{size}_conv"] = MPConv(width, (3, 3))
            else:
                # Going down keeps the channels; the next block changes them.
                down = self._block(self._widths[level - 1], decoder=False, resample="down")
                layers[f"{size}x{size}_down"] = down
            for i in range(self.num_blocks):
                layers[f"{size}x{size}_block{i}"] = self._block(
                    width, decoder=False, attention=size in self.attention_resolutions
                )
        return layers

    @nn.nowrap
    def _decoder(self) -> dict[str, nn.Module]:
        layers: dict[str, nn.Module] = {}
        levels = list(zip(self._sizes, self._widths, strict=True))[::-1]
        for level, (size, width) in enumerate(levels):
            if level == 0:
                layers[f"{size}x{size}_in0"] = self._block(width, decoder=True, attention=True)
                layers[f"{size}x{size}_in1"] = self._block(width, decoder=True)
            else:
                up = self._block(levels[level - 1][1], decoder=True, resample="up")
                layers[f"{size}x{size}_up"] = up
            for i in range(self.num_blocks + 1):
                layers[f"{size}x{size}_block{i}"] = self._block(
                    width, decoder=True, attention=size in self.attention_resolutions
                )
        return layers

    def _embedding(self, noise_cond, label):
        embedding = self.emb_noise(self._fourier(noise_cond, "frequencies", "phases"))
        if self.num_classes:
            # The row of -1 is all zeros. The factor gives a one-hot vector unit magnitude.
            one_hot = jax.nn.one_hot(label, self.num_classes, dtype=jnp.float32)
            classes = self.emb_label(one_hot * math.sqrt(self.num_classes))
            embedding = mp_sum(embedding, classes, _LABEL)
        return mp_silu(embedding)

    @nn.nowrap
    def _fourier(self, noise_cond, frequencies: str, phases: str):
        """The features of one pair of fields, which are constants and not parameters."""
        count = self._widths[0] if frequencies == "frequencies" else _LOG_VARIANCE_FEATURES
        # Any seed would do, but it is part of what a trained network is: never change it.
        rng = np.random.default_rng(_FOURIER.index(frequencies))
        drawn = 2 * np.pi * rng.standard_normal(count), 2 * np.pi * rng.random(count)
        given = getattr(self, frequencies), getattr(self, phases)
        used = [jnp.asarray(g if g else d, jnp.float32) for g, d in zip(given, drawn, strict=True)]
        return mp_fourier(noise_cond.astype(jnp.float32), *used)

    @nn.nowrap
    def _check_inputs(self, x, label, augment_label) -> None:
        checks.check_images(self, x)
        checks.check_label(self, label)
        if augment_label is not None:
            raise ValueError(
                "EDM2 is not told of augmentations, but got augment_label: pass None, or use a "
                "network with augment_dim, such as DDPMpp."
            )
