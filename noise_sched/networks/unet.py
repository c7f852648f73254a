r"""The part that all U-Nets share: how their blocks are run, and the checks of their fields.

A U-Net sees an image at several resolutions, in the order of a plan (`unet_plan`). One embedding of noise
level, class and augmentation goes into every block. The networks differ in how they compute it, in their
blocks, and in where these attend: `song` has DDPM++ and NCSN++, `adm` has ADM, `unet_small` a compact one,
all three with blocks of group norms (`unet_blocks`); `edm2` has EDM2's, whose layers keep magnitudes.

Three fields change speed and memory but not the parameters, and the numbers by rounding alone (with `scan`
EDM2's dropout draws others): `remat`, `scan` (one compiled body for each run of equal blocks; their
parameters are stacked on the way in) and `pad_channels`.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Int

from noise_sched.networks import checks, remat
from noise_sched.networks.image_network import ImageNetwork
from noise_sched.networks.resampling import Images, upsample
from noise_sched.networks.scanning import scan_layers
from noise_sched.networks.unet_blocks import Block, Conv, Initial, Style, group_norm, groups
from noise_sched.networks.unet_plan import Plan, Stage, equal_runs, make_plan, size_name

NUM_EMB = 4  # channels of the embedding per model channel

Rows = Float[Array, "batch _"]  # one vector per image


class UNet(ImageNetwork, kw_only=True):
    """The common part of the U-Nets; a network is made by a subclass.

    A subclass gives `BLOCK`, `block_fields`, `embed`, `stem`, `draw` and, where they differ, the other
    methods named below.

    Attributes: those of `ImageNetwork`, with a height and width that can be halved for every level but
      the first, and
      model_channels: channels that `channel_mult` multiplies.
      channel_mult: one entry per level (resolution), largest resolution first.
      num_blocks: blocks per level of the encoder.
      attention_resolutions: image heights at which blocks attend.
      dropout: rate inside the blocks.
      dtype: type of the convolutions and of the images between blocks. Parameters, embedding,
        norm statistics, softmax and output are float32.
      remat: what the backward pass keeps of a block: "none" (all), "layer" or "dots", see `remat`.
      scan: compile equal neighbouring blocks once.
      pad_channels: fill up the image's channels with zeros to a multiple of this number inside the
        first and last convolutions.
    """

    model_channels: int
    channel_mult: Sequence[int]
    num_blocks: int
    attention_resolutions: Sequence[int] = ()
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    remat: str = "none"
    scan: bool = False
    pad_channels: int = 1

    BLOCK: ClassVar[type[nn.Module]]

    # ---- the choices of a subclass

    def block_fields(self, stage: Stage) -> dict[str, Any]:
        """The fields of a block of the plan."""
        raise NotImplementedError

    def embed(
        self, noise_cond: Float[Array, " batch"], one_hot: Rows | None, augment_label: Rows | None
    ) -> Rows:
        """The embedding of all that conditions the network, float32."""
        raise NotImplementedError

    def stem(self, x: Images, features: int, name: str) -> Images:
        """The first convolution."""
        raise NotImplementedError

    def draw(self, x: Images, size: tuple[int, int]) -> Images | None:
        """The image of one level of the decoder, None for no image; the output is the sum of all."""
        raise NotImplementedError

    def show(self, image: Images, x: Images, stage: Stage) -> tuple[Images, Images]:
        """The image made as small as a level of the encoder, and the level with it added."""
        return image, x

    @property
    def plan(self) -> Plan:
        """The blocks."""
        return make_plan(self.sizes, self.widths, self.num_blocks, self.attention_resolutions)

    @property
    def taps(self) -> tuple[int, ...]:
        """The filter of down- and upsampling."""
        return (1, 1)

    # ---- the network

    @nn.compact
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
          noise_cond: one scalar per noise level, scaled by the caller (published: ln(sigma) / 4).
          label: class of each image, -1 for no class; None if the network has no classes.
          memory: (): a U-Net has none.
          train: drop units; needs a "dropout" key if the rate is positive.
          augment_label: the augmentation of each image, [batch, augment_dim]; None for zeros, none.

        Returns:
          The output, as large as x and float32, and ().

        Raises:
          ValueError: shapes other than the module was made for, or a label that is missing or not
            expected.
        """
        self.check_inputs(x, label, augment_label)
        one_hot = None
        if self.num_classes:  # the row of -1 is all zeros
            one_hot = jax.nn.one_hot(label, self.num_classes, dtype=jnp.float32)
        if self.augment_dim and augment_label is None:
            augment_label = jnp.zeros((len(x), self.augment_dim))
        if augment_label is not None:
            augment_label = augment_label.astype(jnp.float32)
        emb = self.embed(noise_cond.astype(jnp.float32), one_hot, augment_label)
        key = self.make_rng("dropout") if train and self.dropout else None

        out = self._decode(*self._encode(x.astype(self.dtype), emb, key), emb, key)
        return out.astype(jnp.float32), ()

    def _encode(self, x: Images, emb: Rows, key: Array | None) -> tuple[Images, list[Images]]:
        """The lowest level, and the outputs kept for the decoder."""
        plan, image = self.plan, x
        x = self.stem(x, plan.first, f"enc_{size_name(self.sizes[0])}_conv")
        kept = [x]
        for run in equal_runs(plan.encoder):
            x, outputs = self._run(run, x, emb, key)
            kept += outputs
            if run[0].resample:
                image, x = self.show(image, x, run[0])
                kept[-1] = x
        return x, kept

    def _decode(self, x: Images, kept: list[Images], emb: Rows, key: Array | None) -> Images:
        """From the lowest level to the output."""
        kept, drawn = list(kept), []
        for size, level in itertools.groupby(self.plan.decoder, lambda stage: stage.size):
            for run in equal_runs(list(level)):
                skips = [kept.pop() for _ in run] if run[0].skip else None
                x, _ = self._run(run, x, emb, key, skips)
            image = self.draw(x, size)
            drawn += [] if image is None else [image]
        return functools.reduce(lambda small, image: upsample(small, self.taps) + image, drawn)

    def _run(
        self,
        stages: Sequence[Stage],
        x: Images,
        emb: Rows,
        key: Array | None,
        skips: Sequence[Images] | None = None,
    ) -> tuple[Images, list[Images]]:
        """Equal blocks, one after the other: the last output, and all of them."""
        nothing, outputs = [None] * len(stages), []
        keys = nothing if key is None else [jax.random.fold_in(key, s.number) for s in stages]
        given = list(zip(skips or nothing, keys, strict=True))
        if self.scan and len(stages) > 1 and not self.is_initializing():
            return self._scanned(stages, x, emb, given)
        made = remat.module(self.BLOCK, self.remat)
        for stage, (skip, own_key) in zip(stages, given, strict=True):
            x = made(**self.block_fields(stage), name=stage.name)(x, emb, skip, own_key)
            outputs.append(x)
        return x, outputs

    def _scanned(self, stages, x, emb, given) -> tuple[Images, list[Images]]:
        """The same by one `lax.scan` over the stacked parameters."""
        block = self.BLOCK(**self.block_fields(stages[0]), parent=None)

        def apply(params, x, given) -> Any:
            skip, key = given
            rngs = {} if key is None else {"dropout": key}
            return block.apply({"params": params}, x, emb, skip, key, rngs=rngs)

        params = [self.get_variable("params", stage.name) for stage in stages]
        return scan_layers(apply, params, x, given, remat=self.remat)

    @nn.nowrap
    def initial_memory(self, batch: int) -> tuple[()]:
        """The memory of a network that has none."""
        return ()

    # ---- checks

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each level, largest first."""
        height, width = checks.height_width(self.image_size)
        return [(height >> i, width >> i) for i in range(len(self.channel_mult))]

    @property
    def widths(self) -> list[int]:
        """Channels of each level, largest size first."""
        return [self.model_channels * mult for mult in self.channel_mult]

    @nn.nowrap
    def validate(self) -> None:
        """As `ImageNetwork.validate`, and the fields of a U-Net."""
        super().validate()
        checks.check_least(self, dict(model_channels=1, num_blocks=1, pad_channels=1))
        checks.check_rates(self, ["dropout"])
        checks.check_known("remat", self.remat, remat.REMATS)
        if not self.channel_mult or min(self.channel_mult) < 1:
            raise ValueError(
                f"channel_mult needs one positive number per level, but got {self.channel_mult}: "
                f"for example (1, 2, 2)."
            )
        height, width = checks.height_width(self.image_size)
        stride = 2 ** (len(self.channel_mult) - 1)
        if height % stride or width % stride:
            raise ValueError(
                f"image_size={height} x {width} cannot be halved {len(self.channel_mult) - 1} "
                f"times, once for each entry of channel_mult={self.channel_mult} but the first: use "
                f"multiples of {stride}, or fewer entries."
            )
        occurring = [size[0] for size in self.sizes]
        for resolution in self.attention_resolutions:
            if resolution not in occurring:
                raise ValueError(
                    f"attention_resolutions={self.attention_resolutions}: no level has the height "
                    f"{resolution}. Those of this network are {', '.join(map(str, occurring))}."
                )

    @nn.nowrap
    def check_heads(self, channels_per_head: int) -> None:
        """Refuses heads that do not fit the blocks that attend."""
        attending = [s for s in (*self.plan.encoder, *self.plan.decoder) if s.attends]
        for stage in attending:
            if stage.features % channels_per_head:
                raise ValueError(
                    f"channels_per_head={channels_per_head} does not divide the {stage.features} "
                    f"channels of {stage.name}, which attends: use for example "
                    f"{math.gcd(*(s.features for s in attending))}."
                )


class GroupNormUNet(UNet, kw_only=True):
    """A U-Net of the blocks of `unet_blocks`; a subclass gives `STYLE`, `embed` and the methods that differ.

    Attributes: those of `UNet`.
    """

    STYLE: ClassVar[Style]
    BLOCK: ClassVar[type[nn.Module]] = Block

    def heads(self, features: int) -> int:
        """Heads of the attention over `features` channels."""
        return 1

    def head_names(self, size: tuple[int, int]) -> tuple[str, str] | None:
        """Names of the norm and the convolution that draw the image of a level; None for no image."""
        return ("out_norm", "out_conv") if size == self.sizes[0] else None

    def block_fields(self, stage: Stage) -> dict[str, Any]:
        """The fields of a block of the plan."""
        return dict(
            features=stage.features,
            heads=self.heads(stage.features) if stage.attends else 0,
            resample=stage.resample,
            taps=self.taps,
            style=self.STYLE,
            dropout=self.dropout,
            dtype=self.dtype,
        )

    def stem(self, x: Images, features: int, name: str) -> Images:
        """The first convolution."""
        return self._image_conv(features, self.STYLE.initial, name)(x)

    def draw(self, x: Images, size: tuple[int, int]) -> Images | None:
        """The image of one level, None for no image."""
        if (names := self.head_names(size)) is None:
            return None
        norm, conv = names
        x = nn.silu(group_norm(x, self.STYLE.epsilon, norm)).astype(self.dtype)
        return self._image_conv(self.channels, self.STYLE.initial_last, conv)(x)

    def _image_conv(self, features: int, initial: Initial, name: str) -> Conv:
        shared = dict(pad_channels=self.pad_channels, dtype=self.dtype)
        return Conv(features=features, initial=initial, name=name, **shared)

    @nn.nowrap
    def validate(self) -> None:
        """As `UNet.validate`, and that the groups of the norms divide the channels."""
        super().validate()
        checks.check_least(self, dict(model_channels=4))
        if self.model_channels % 2:
            raise ValueError(
                f"model_channels={self.model_channels} must be even: the code of the noise level is "
                f"made from pairs of sine and cosine."
            )
        for stage in (*self.plan.encoder, *self.plan.decoder):
            for channels in (stage.channels + stage.skip, stage.features):
                if channels % groups(channels):
                    raise ValueError(
                        f"model_channels={self.model_channels} with channel_mult="
                        f"{self.channel_mult} gives {stage.name} {channels} channels, which "
                        f"{groups(channels)} groups of its norm do not divide: use a multiple of 32."
                    )
