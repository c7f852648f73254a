r"""ADM, the network of "Diffusion Models Beat GANs" (Dhariwal, Nichol 2021, arXiv 2105.05233).

The form that EDM trains on ImageNet at 64 pixels (Karras et al. 2022, arXiv 2206.00364, appendix F).
Every block of an attending level attends, in the decoder too, with 64 channels per head, and the
embedding scales and shifts. For noise level c, class k and augmentation a:

    (1)  e = silu(W_1 silu(W_0 (code(c) + A a)) + L onehot(k))

with neither bias nor scale in L and A: the class joins after the two layers, not before as in DDPM++.
Sums are not rescaled, last layers start at exactly zero.
"""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from noise_sched.networks import checks
from noise_sched.networks.positions import sines_and_cosines
from noise_sched.networks.unet import NUM_EMB, GroupNormUNet, Rows
from noise_sched.networks.unet_blocks import Initial, Style, dense

# Uniform in +-1 / sqrt(fan in), kernel and bias.
_USUAL = Initial(nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"), bias=1.0)
_ZERO = Initial(nn.initializers.zeros)
_UNIT_NORMAL = Initial(nn.initializers.normal(1.0))


class ADM(GroupNormUNet, kw_only=True):
    """ADM (arXiv 2105.05233), by default as EDM's for ImageNet at 64 pixels (arXiv 2206.00364).

    Attributes: those of `UNet`, and
      channels_per_head: channels of an attention head; divides the channels of attending blocks.
    """

    model_channels: int = 192
    channel_mult: Sequence[int] = (1, 2, 3, 4)
    num_blocks: int = 3
    attention_resolutions: Sequence[int] = (32, 16, 8)
    dropout: float = 0.1
    channels_per_head: int = 64

    STYLE: ClassVar[Style] = Style(
        initial=_USUAL,
        initial_qkv=_USUAL,
        initial_last=_ZERO,
        scale_shift=True,
        residual_scale=1.0,
        epsilon=1e-5,
        project_resampled=False,
    )

    def heads(self, features: int) -> int:
        """Heads of the attention over `features` channels."""
        return features // self.channels_per_head

    def embed(
        self, noise_cond: Float[Array, " batch"], one_hot: Rows | None, augment_label: Rows | None
    ) -> Rows:
        """Equation (1)."""
        width, wide = self.model_channels, NUM_EMB * self.model_channels
        rates = 10_000.0 ** (-np.arange(0, width, 2) / width)
        code = sines_and_cosines(noise_cond, rates, cosines_first=True)
        if augment_label is not None:
            augment = dense(width, self.augment_dim, _ZERO, "map_augment", bias=False)
            code = code + augment(augment_label)
        h = nn.silu(dense(wide, width, _USUAL, "map_layer0")(code))
        h = dense(wide, wide, _USUAL, "map_layer1")(h)
        if one_hot is not None:
            h = h + dense(wide, self.num_classes, _UNIT_NORMAL, "map_label", bias=False)(one_hot)
        return nn.silu(h)

    @nn.nowrap
    def validate(self) -> None:
        """As `GroupNormUNet.validate`, and the heads."""
        super().validate()
        checks.check_least(self, dict(channels_per_head=1))
        self.check_heads(self.channels_per_head)
