"""EDM2's network: ADM's U-Net rebuilt from magnitude-preserving layers.

Karras et al. 2024, arXiv 2312.02696, config G and figure 21. Against ADM (arXiv 2105.05233):

  - every convolution and matrix is an `MPConv`: normalised filters, no bias; instead of biases the
    image gets one more channel of ones;
  - no group norm: the encoder's main path is normalised per pixel, the decoder's not at all;
  - the embedding multiplies the activations by 1 + gain * linear(embedding), the gain learned from 0;
  - attention by cosine: queries, keys and values normalised per token and head;
  - branches are joined by `mp_sum` and `mp_cat` in fixed proportions;
  - the output is multiplied by a learned gain that starts at 0.

A head beside the U-Net, `log_variance`, learns the error to expect at each noise level (u(sigma), eq. 21),
which balances the loss over the levels. Parameters are named like those of the
published networks: `enc.64x64_block0.conv_res0.weight` is `enc_64x64_block0/conv_res0/kernel`.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from noise_sched.networks import checks
from noise_sched.networks.magnitude import MPConv, mp_cat, mp_fourier, mp_silu, mp_sum, normalize
from noise_sched.networks.resampling import Images, resample
from noise_sched.networks.unet import Rows, UNet
from noise_sched.networks.unet_plan import Stage

_BRANCH = 0.3  # share of the residual branch and of attention in the sum with the main path
_LABEL = 0.5  # share of the class in the embedding
_CLIP = 256.0  # activations are clipped here, for the sake of short floats
_LOG_VARIANCE_FEATURES = 128
_FOURIER = ("frequencies", "phases", "logvar_frequencies", "logvar_phases")
_NO_AUGMENTATION = (
    "EDM2 has no input for augmentations: pass augment_label=None and leave augment_dim at 0, or use a "
    "network with that input, such as DDPMpp."
)


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
        x: Images,
        embedding: Rows,
        skip: Images | None = None,
        dropout_key: Array | None = None,
    ) -> Images:
        """Apply the block.

        Args:
          x: the image so far.
          embedding: of noise level and class, float32.
          skip: the output of the encoder kept for this block; joined to x by `mp_cat`.
          dropout_key: None for no dropout. Otherwise the draws are those of the module's own stream,
            "dropout", which a run that goes on from a checkpoint repeats.
        """
        x = x if skip is None else mp_cat(x, skip)
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
        y = nn.Dropout(self.dropout, deterministic=dropout_key is None)(y)
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


class EDM2(UNet, kw_only=True):
    """EDM2's U-Net (arXiv 2312.02696).

    The published sizes differ in `model_channels`: XXS 64, XS 128, S 192, M 256, L 320, XL 384, XXL 448.

    Attributes: those of `UNet` (`augment_dim` must be 0; with `scan` dropout draws other numbers), and
      channels_per_head: of the attention; divides the channels of attending blocks.
      frequencies: of the noise embedding's Fourier features, angular, model_channels *
        channel_mult[0] of them; () for 2 pi N(0, 1), drawn from a fixed seed.
      phases: the same for the phases in radians; () for uniform ones.
      logvar_frequencies: 128, of the features that `log_variance` has of its own.
      logvar_phases: and their phases.
    """

    model_channels: int = 192
    channel_mult: Sequence[int] = (1, 2, 3, 4)
    num_blocks: int = 3
    attention_resolutions: Sequence[int] = (16, 8)
    channels_per_head: int = 64
    frequencies: Sequence[float] = ()
    phases: Sequence[float] = ()
    logvar_frequencies: Sequence[float] = ()
    logvar_phases: Sequence[float] = ()

    BLOCK: ClassVar[type[nn.Module]] = Block
    # All kernels are blind to their filters' lengths, so that these may be normalised in training.
    magnitude_preserving: ClassVar[bool] = True

    def setup(self):
        """The layer of `log_variance`, which can be called by itself."""
        self.logvar_linear = MPConv(1)

    def block_fields(self, stage: Stage) -> dict[str, Any]:
        """The fields of a block of the plan."""
        return dict(
            features=stage.features,
            decoder=stage.decodes,
            resample=stage.resample,
            heads=stage.features // self.channels_per_head if stage.attends else 0,
            dropout=self.dropout,
        )

    def embed(
        self, noise_cond: Float[Array, " batch"], one_hot: Rows | None, augment_label: Rows | None
    ) -> Rows:
        """Features of the noise level and the class, mixed; `augment_label` is always None."""
        if self.is_initializing():
            self.log_variance(noise_cond)  # its parameters are the network's too
        width = max(self.widths)
        features = self._fourier(noise_cond, "frequencies", "phases")
        embedding = MPConv(width, name="emb_noise")(features)
        if one_hot is not None:  # the factor gives a one-hot vector unit magnitude
            classes = MPConv(width, name="emb_label")(one_hot * math.sqrt(self.num_classes))
            embedding = mp_sum(embedding, classes, _LABEL)
        return mp_silu(embedding)

    def stem(self, x: Images, features: int, name: str) -> Images:
        """The first convolution, of the image and a channel of ones."""
        x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
        return MPConv(features, (3, 3), self.pad_channels, name=name)(x)

    def draw(self, x: Images, size: tuple[int, int]) -> Images | None:
        """The image, at the largest level only."""
        if size != self.sizes[0]:
            return None
        gain = self.param("out_gain", nn.initializers.zeros, (), jnp.float32)
        return MPConv(self.channels, (3, 3), self.pad_channels, name="out_conv")(x, gain)

    def log_variance(self, noise_cond: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """u(sigma): the logarithm of the weighted error expected at each noise level (eq. 21)."""
        features = self._fourier(noise_cond, "logvar_frequencies", "logvar_phases")
        return self.logvar_linear(features)[:, 0]

    @nn.nowrap
    def _fourier(self, noise_cond, frequencies: str, phases: str):
        """The features of one pair of fields, which are constants and not parameters."""
        count = self.widths[0] if frequencies == "frequencies" else _LOG_VARIANCE_FEATURES
        # Any seed would do, but a trained network depends on its numbers: never change it.
        rng = np.random.default_rng(_FOURIER.index(frequencies))
        drawn = 2 * np.pi * rng.standard_normal(count), 2 * np.pi * rng.random(count)
        given = getattr(self, frequencies), getattr(self, phases)
        used = [jnp.asarray(g if g else d, jnp.float32) for g, d in zip(given, drawn, strict=True)]
        return mp_fourier(noise_cond.astype(jnp.float32), *used)

    @nn.nowrap
    def validate(self) -> None:
        """As `UNet.validate`, and the fields of this network."""
        super().validate()
        checks.check_least(self, dict(channels_per_head=1))
        self.check_heads(self.channels_per_head)
        if self.augment_dim:
            raise ValueError(f"augment_dim={self.augment_dim}, but {_NO_AUGMENTATION}")
        lengths = (self.widths[0],) * 2 + (_LOG_VARIANCE_FEATURES,) * 2
        for field, length in zip(_FOURIER, lengths, strict=True):
            if len(getattr(self, field)) not in (0, length):
                raise ValueError(
                    f"{field} needs {length} numbers, or none to have them drawn, but got "
                    f"{len(getattr(self, field))}."
                )

    @nn.nowrap
    def check_inputs(self, x: Array, label: Array | None, augment_label: Array | None) -> None:
        """As `UNet.check_inputs`."""
        if augment_label is not None:
            raise ValueError(f"augment_label was given, but {_NO_AUGMENTATION}")
        super().check_inputs(x, label, None)
