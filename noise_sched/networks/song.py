r"""DDPM++ and NCSN++, the networks of score SDEs (Song et al. 2021, arXiv 2011.13456) as EDM uses them.

They are one network (Karras et al. 2022, arXiv 2206.00364, appendix F) with three choices:

    |                               | DDPM++           | NCSN++                        |
    | noise level                   | sinusoids        | random Fourier features       |
    | filter when resampling        | box, (1, 1)      | (1, 3, 3, 1)                  |
    | image shown to every level    | no               | yes, "residual" encoder       |

DDPM++ was made for the VP process and NCSN++ for the VE process; with EDM's preconditioning either works
with either. The embedding of noise level c, class k of C and augmentation a:

    (1)  e = silu(W_1 silu(W_0 (code(c) + L sqrt(C) onehot(k) + A a)))

where A has no bias: sampling takes a = 0, which adds nothing. Blocks add it (equation (2) of
`unet_blocks`), sums are divided by sqrt(2), attention has one head. Down the residual encoder,

    (2)  x <- (x + down(conv3x3(image))) / sqrt(2),      image <- x

Their paper has a second way for each direction (appendix G): down a "skip" encoder the image itself is
made smaller, and up a "skip" decoder every level draws an image, which is added to the enlarged one of
the level below; the output is the last:

    (3)  image <- down(image),      x <- x + conv1x1(image)
    (4)  image <- up(image) + conv3x3(silu(GN(x)))
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from noise_sched.networks import checks
from noise_sched.networks.positions import sines_and_cosines
from noise_sched.networks.resampling import Images, downsample
from noise_sched.networks.unet import NUM_EMB, GroupNormUNet, Rows
from noise_sched.networks.unet_blocks import Conv, Initial, ShrinkingConv, Style, dense
from noise_sched.networks.unet_plan import Plan, Stage, make_plan, size_name

EMBEDDINGS = ("positional", "fourier")
ENCODERS = ("standard", "residual", "skip")
DECODERS = ("standard", "skip")
FOURIER_SCALE = 16.0  # standard deviation of the random frequencies


def _glorot(weight: float) -> Initial:
    """Glorot-uniform times `weight`, zero bias."""
    return Initial(nn.initializers.variance_scaling(weight**2, "fan_avg", "uniform"))


class DDPMpp(GroupNormUNet, kw_only=True):
    """DDPM++ (arXiv 2011.13456), as in EDM's configurations for 32 and 64 pixels (arXiv 2206.00364).

    Attributes: those of `UNet`, and
      embedding: of the noise level, "positional" (sinusoids) or "fourier" (random frequencies).
      encoder: "standard", or "residual" or "skip", which show the image to every level, equations (2), (3).
      decoder: "standard", or "skip", which draws an image at every level, equation (4).
      resample_filter: taps of the filter when resampling, of even length.
      frequencies: of the Fourier features, one per model channel; () for normal ones of standard
        deviation 16, drawn from a fixed seed. They are never trained, hence no parameters.
    """

    model_channels: int = 128
    channel_mult: Sequence[int] = (2, 2, 2)
    num_blocks: int = 4
    attention_resolutions: Sequence[int] = (16,)
    dropout: float = 0.1
    embedding: str = "positional"
    encoder: str = "standard"
    decoder: str = "standard"
    resample_filter: Sequence[int] = (1, 1)
    frequencies: Sequence[float] = ()

    STYLE: ClassVar[Style] = Style(
        initial=_glorot(1.0),
        initial_qkv=_glorot(math.sqrt(0.2)),
        initial_last=_glorot(1e-5),
        scale_shift=False,
        residual_scale=math.sqrt(0.5),
        epsilon=1e-6,
        project_resampled=True,
    )

    @property
    def taps(self) -> tuple[int, ...]:
        """The filter of down- and upsampling."""
        return tuple(self.resample_filter)

    @property
    def plan(self) -> Plan:
        """The blocks; of the decoder only each level's last attends."""
        return make_plan(
            self.sizes,
            self.widths,
            self.num_blocks,
            self.attention_resolutions,
            first=self.model_channels,
            attend_last_only=True,
        )

    def head_names(self, size: tuple[int, int]) -> tuple[str, str] | None:
        """Every level draws an image for the "skip" decoder, equation (4)."""
        if self.decoder == "standard" and size != self.sizes[0]:
            return None
        return f"dec_{size_name(size)}_aux_norm", f"dec_{size_name(size)}_aux_conv"

    def embed(
        self, noise_cond: Float[Array, " batch"], one_hot: Rows | None, augment_label: Rows | None
    ) -> Rows:
        """Equation (1)."""
        code = sines_and_cosines(noise_cond, self._rates())
        width, wide = code.shape[-1], NUM_EMB * self.model_channels
        initial = self.STYLE.initial
        if one_hot is not None:
            classes = self.num_classes
            scaled = one_hot * math.sqrt(classes)
            code = code + dense(width, classes, initial, "map_label")(scaled)
        if augment_label is not None:
            augment = dense(width, self.augment_dim, initial, "map_augment", bias=False)
            code = code + augment(augment_label)
        h = nn.silu(dense(wide, width, initial, "map_layer0")(code))
        return nn.silu(dense(wide, wide, initial, "map_layer1")(h))

    def _rates(self) -> np.ndarray:
        """Angle per unit of the noise condition."""
        if self.embedding == "positional":  # from 1 down to exactly 1e-4
            half = self.model_channels // 2
            return 10_000.0 ** (-np.arange(half) / (half - 1))
        frequencies = np.asarray(self.frequencies)
        if not self.frequencies:
            frequencies = np.random.default_rng(0).standard_normal(self.model_channels)
            frequencies = frequencies * FOURIER_SCALE
        return 2 * np.pi * frequencies

    def show(self, image: Images, x: Images, stage: Stage) -> tuple[Images, Images]:
        """Equation (2) or (3), or nothing."""
        if self.encoder == "standard":
            return image, x
        if self.encoder == "skip":
            image = downsample(image, self.taps)
            conv = Conv(
                features=stage.features,
                size=1,
                initial=self.STYLE.initial,
                dtype=self.dtype,
                name=f"enc_{size_name(stage.size)}_aux_skip",
            )
            return image, x + conv(image)
        # At the first halving this is the image itself, whose channels may be filled up.
        first = image.shape[-1] == self.channels
        shrink = ShrinkingConv(
            features=stage.features,
            taps=self.taps,
            initial=self.STYLE.initial,
            pad_channels=self.pad_channels if first else 1,
            dtype=self.dtype,
            name=f"enc_{size_name(stage.size)}_aux_residual",
        )
        x = (x + shrink(image)) * math.sqrt(0.5)
        return x, x

    @nn.nowrap
    def validate(self) -> None:
        """As `GroupNormUNet.validate`, and the fields of this network."""
        super().validate()
        checks.check_known("embedding", self.embedding, EMBEDDINGS)
        checks.check_known("encoder", self.encoder, ENCODERS)
        checks.check_known("decoder", self.decoder, DECODERS)
        taps = self.resample_filter
        if not taps or len(taps) % 2 or sum(taps) == 0:
            raise ValueError(
                f"resample_filter must have an even number of taps with a sum other than 0, but got "
                f"{taps}: for example (1, 1) or (1, 3, 3, 1)."
            )
        if self.frequencies and self.embedding != "fourier":
            raise ValueError(
                f"frequencies are given ({len(self.frequencies)} of them), but embedding="
                f"'{self.embedding}' has its own: leave them out or use embedding='fourier'."
            )
        if self.frequencies and len(self.frequencies) != self.model_channels:
            raise ValueError(
                f"frequencies needs one number per model channel ({self.model_channels}), or () for "
                f"random ones, but got {len(self.frequencies)}."
            )


class NCSNpp(DDPMpp, kw_only=True):
    """NCSN++ (arXiv 2011.13456), as in EDM's configurations (arXiv 2206.00364): other defaults.

    Attributes: those of `DDPMpp`.
    """

    embedding: str = "fourier"
    encoder: str = "residual"
    resample_filter: Sequence[int] = (1, 3, 3, 1)
