"""A compact U-Net for demonstrations and for grids of many small runs.

ADM's blocks (scale and shift, last layers from zero), two per level, attention at the lowest resolution
only, and sums divided by sqrt(2) so that deep or shallow, activations keep their size. It has no
published numbers to answer for: take it where any good network will do.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

from noise_sched.networks.adm import ADM
from noise_sched.networks.unet_blocks import Style


class UNetSmall(ADM, kw_only=True):
    """A small modern U-Net: 1.8 million parameters by default, and images from 8 x 8 pixels.

    Attributes: those of `ADM`.
    """

    model_channels: int = 32
    channel_mult: Sequence[int] = (1, 2, 2)
    num_blocks: int = 2
    attention_resolutions: Sequence[int] = ()
    dropout: float = 0.0
    channels_per_head: int = 32

    STYLE: ClassVar[Style] = dataclasses.replace(ADM.STYLE, residual_scale=math.sqrt(0.5))
