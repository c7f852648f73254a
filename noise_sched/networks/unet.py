r"""What all U-Nets here share: the plan of their blocks, how they are run, what they refuse.

A U-Net sees an image at several resolutions. The encoder goes down through them, `num_blocks` blocks at
each, and keeps what every block gave; the decoder comes back up, `num_blocks + 1` blocks at each, and
appends what was kept at the same resolution, last in first out:

    encoder   32x32: conv, block0 .. block3     16x16: down, block0 .. block3     8x8: ...
    decoder   8x8: in0 (attends), in1, block0 .. block4     16x16: up, block0 .. block4     32x32: ...

One embedding of noise level, class and augmentation goes into every block (`unet_blocks`). The networks
differ in how it is made, in the style of their blocks and in where these attend: `song` has DDPM++ and
NCSN++, `adm` has ADM, `unet_small` a compact one.

Three fields change speed and memory but neither the parameters nor the numbers: `remat`, `scan` (one
compiled body for each run of equal blocks; their parameters are stacked on the way in) and
`pad_channels`.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Int

from noise_sched.networks import checks
from noise_sched.networks.resampling import Images, upsample
from noise_sched.networks.scanning import scan_layers
from noise_sched.networks.unet_blocks import Block, Conv, Initial, Style, group_norm, groups

NUM_EMB = 4  # channels of the embedding per model channel


@dataclasses.dataclass(frozen=True)
class Stage:
    """One block in the plan.

    Attributes:
      name: of its parameters.
      number: its position among all blocks, for the key of its dropout.
      size: (height, width) of its output.
      channels: in, without those appended.
      skip: channels that are appended, 0 for none.
      features: channels out.
      attends: whether it has attention.
      resample: "down", "up" or "".
    """

    name: str
    number: int
    size: tuple[int, int]
    channels: int
    skip: int
    features: int
    attends: bool = False
    resample: str = ""

    @property
    def kind(self) -> tuple[Any, ...]:
        """Equal for blocks that one program can run."""
        fields = dataclasses.astuple(self)
        return fields[2:]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The blocks of a U-Net in the order in which they run.

    Attributes:
      first: channels of the first convolution's output.
      encoder: downwards.
      decoder: upwards.
    """

    first: int
    encoder: tuple[Stage, ...]
    decoder: tuple[Stage, ...]


def make_plan(
    sizes: Sequence[tuple[int, int]],
    widths: Sequence[int],
    num_blocks: int,
    attention_resolutions: Sequence[int],
    first: int,
    attend_last_only: bool,
) -> Plan:
    """The plan of a U-Net.

    Args:
      sizes: (height, width) of each level, largest first.
      widths: channels of each level.
      num_blocks: blocks of each level of the encoder; the decoder has one more.
      attention_resolutions: heights at which blocks attend.
      first: channels of the first convolution's output.
      attend_last_only: in the decoder only the last block of such a level attends.
    """
    numbers = itertools.count()
    encoder: list[Stage] = []
    decoder: list[Stage] = []
    kept, c = [first], first

    def add(stages, room, size, what, features, skip=0, **more):
        name = f"{room}_{size_name(size)}_{what}"
        stages.append(Stage(name, next(numbers), size, c, skip, features, **more))
        return features

    for i, (size, width) in enumerate(zip(sizes, widths, strict=True)):
        attends = size[0] in attention_resolutions
        if i:
            c = add(encoder, "enc", size, "down", c, resample="down")
            kept.append(c)
        for j in range(num_blocks):
            c = add(encoder, "enc", size, f"block{j}", width, attends=attends)
            kept.append(c)
    for i, (size, width) in reversed(list(enumerate(zip(sizes, widths, strict=True)))):
        attends = size[0] in attention_resolutions
        if i == len(sizes) - 1:
            c = add(decoder, "dec", size, "in0", c, attends=True)
            c = add(decoder, "dec", size, "in1", c)
        else:
            c = add(decoder, "dec", size, "up", c, resample="up")
        for j in range(num_blocks + 1):
            this = attends and (j == num_blocks or not attend_last_only)
            c = add(decoder, "dec", size, f"block{j}", width, kept.pop(), attends=this)
    return Plan(first, tuple(encoder), tuple(decoder))


def size_name(size: tuple[int, int]) -> str:
    """For example "32x32"."""
    return f"{size[0]}x{size[1]}"


def equal_runs(stages: Sequence[Stage]) -> Iterator[list[Stage]]:
    """The stages, neighbours of the same kind together."""
    for _, run in itertools.groupby(stages, lambda stage: stage.kind):
        yield list(run)


class UNet(nn.Module, kw_only=True):
    """The common part of the U-Nets; a network is made by a subclass.

    A subclass gives `style`, `embed`, `heads` and, where they differ, the other methods named below.

    Attributes:
      image_size: height and width of the images, or one number for both; divisible by 2 for every
        level but the first.
      channels: of the images, in and out.
      num_classes: classes that a label can name; 0 for a network without labels.
      augment_dim: length of the augmentation label; 0 for a network that is told no augmentation.
      model_channels: channels that `channel_mult` multiplies.
      channel_mult: one entry per level (resolution), largest resolution first.
      num_blocks: blocks per level of the encoder.
      attention_resolutions: image heights at which blocks attend.
      dropout: rate inside the blocks.
      dtype: type of the convolutions and of what passes between blocks. Parameters, embedding,
        norm statistics, softmax and output are float32.
      remat: recompute each block in the backward pass instead of storing its insides.
      scan: compile equal neighbouring blocks once.
      pad_channels: fill up the image's channels with zeros to a multiple of this number inside the
        first and last convolutions.

    Raises:
      ValueError: sizes that do not fit one another, rates outside [0, 1), unknown names.
    """

    image_size: int | Sequence[int]
    channels: int = 3
    num_classes: int
    augment_dim: int = 0
    model_channels: int
    channel_mult: Sequence[int]
    num_blocks: int
    attention_resolutions: Sequence[int] = ()
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    remat: bool = False
    scan: bool = False
    pad_channels: int = 1

    def __post_init__(self):
        # Configs hold lists; a module that is to be hashed (static under jit) must not.
        self.image_size = checks.height_width(self.image_size)
        self.channel_mult = tuple(self.channel_mult)
        self.attention_resolutions = tuple(self.attention_resolutions)
        self.validate()
        super().__post_init__()

    # ---- what a subclass says

    @property
    def style(self) -> Style:
        """What all blocks share."""
        raise NotImplementedError

    def embed(
        self,
        noise_cond: Float[Array, " batch"],
        one_hot: Float[Array, "batch classes"] | None,
        augment_label: Float[Array, "batch augment"] | None,
    ) -> Float[Array, "batch emb"]:
        """The embedding of all that conditions the network, float32."""
        raise NotImplementedError

    def heads(self, features: int) -> int:
        """Heads of the attention over `features` channels."""
        return 1

    @property
    def plan(self) -> Plan:
        """The blocks."""
        return make_plan(
            self.sizes,
            [self.model_channels * mult for mult in self.channel_mult],
            self.num_blocks,
            self.attention_resolutions,
            first=self.model_channels * self.channel_mult[0],
            attend_last_only=False,
        )

    @property
    def taps(self) -> tuple[int, ...]:
        """The filter of down- and upsampling."""
        return (1, 1)

    @property
    def shows_image(self) -> bool:
        """Whether the image is added, shrunk, to every level of the encoder."""
        return False

    @property
    def sums_images(self) -> bool:
        """Whether every level of the decoder draws an image, and the output is their sum."""
        return False

    def head_names(self, size: tuple[int, int]) -> tuple[str, str]:
        """Names of the norm and the convolution that draw the image of a level."""
        return "out_norm", "out_conv"

    # ---- the network

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        noise_cond: Float[Array, " batch"],
        label: Int[Array, " batch"] | None,
        memory: tuple[()],
        train: bool = False,
        augment_label: Float[Array, "batch augment"] | None = None,
    ) -> tuple[Float[Array, "batch height width channels"], tuple[()]]:
        """One evaluation of the network.

        Args:
          x: images, scaled by the caller.
          noise_cond: scalar that tells the noise level, scaled by the caller (published: ln(sigma)/4).
          label: class of each image, -1 for no class; None if the network has no classes.
          memory: (): a U-Net has none.
          train: drop units; needs a "dropout" key if the rate is positive.
          augment_label: what was done to each image, [batch, augment_dim]; None for zeros, nothing.

        Returns:
          The output, as large as x and float32, and ().

        Raises:
          ValueError: shapes other than the module was made for, or a label too many or missing.
        """
        self._check_inputs(x, label, augment_label)
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

    def _encode(self, x: Images, emb: Array, key: Array | None) -> tuple[Images, list[Images]]:
        """The lowest level, and what is kept for the decoder."""
        plan, image = self.plan, x
        name = f"enc_{size_name(self.sizes[0])}_conv"
        x = self._image_conv(plan.first, self.style.initial, name)(x)
        kept = [x]
        for run in equal_runs(plan.encoder):
            x, outputs = self._run(run, x, emb, key)
            kept += outputs
            if self.shows_image and run[0].resample:
                image, x = self._show(image, x, run[0])
                kept[-1] = x
        return x, kept

    def _decode(self, x: Images, kept: list[Images], emb: Array, key: Array | None) -> Images:
        """From the lowest level to the output."""
        kept, drawn = list(kept), []
        for size, level in itertools.groupby(self.plan.decoder, lambda stage: stage.size):
            for run in equal_runs(list(level)):
                skips = [kept.pop() for _ in run] if run[0].skip else None
                x, _ = self._run(run, x, emb, key, skips)
            if self.sums_images or size == self.sizes[0]:
                drawn.append(self._draw(x, size))
        return functools.reduce(lambda small, image: upsample(small, self.taps) + image, drawn)

    def _draw(self, x: Images, size: tuple[int, int]) -> Images:
        """The image of one level of the decoder."""
        norm, conv = self.head_names(size)
        x = nn.silu(group_norm(x, self.style.epsilon, norm)).astype(self.dtype)
        return self._image_conv(self.channels, self.style.initial_last, conv)(x)

    def _show(self, image: Images, x: Images, stage: Stage) -> tuple[Images, Images]:
        """The image as small as a level of the encoder, and the level with it added."""
        raise NotImplementedError

    def _run(
        self,
        stages: Sequence[Stage],
        x: Images,
        emb: Array,
        key: Array | None,
        skips: Sequence[Images] | None = None,
    ) -> tuple[Images, list[Images]]:
        """Equal blocks, one after the other: the last output, and all of them."""
        keys = None
        if key is not None:
            keys = [jax.random.fold_in(key, stage.number) for stage in stages]
        if self.scan and len(stages) > 1 and not self.is_initializing():
            return self._scanned(stages, x, emb, keys, skips)
        outputs = []
        for i, stage in enumerate(stages):
            block = self._block(stage, nn.remat(Block) if self.remat else Block, name=stage.name)
            x = block(x, emb, skips[i] if skips else None, keys[i] if keys else None)
            outputs.append(x)
        return x, outputs

    def _scanned(self, stages, x, emb, keys, skips) -> tuple[Images, list[Images]]:
        """The same by one `lax.scan` over the stacked parameters."""
        block = self._block(stages[0], Block, parent=None)

        def apply(params, x, given):
            return block.apply({"params": params}, x, emb, *given)

        params = [self.get_variable("params", stage.name) for stage in stages]
        nothing = [None] * len(stages)
        given = list(zip(skips or nothing, keys or nothing, strict=True))
        return scan_layers(apply, params, x, given, remat=self.remat)

    def _block(self, stage: Stage, made: Callable[..., Any], **names: Any) -> Any:
        return made(
            features=stage.features,
            heads=self.heads(stage.features) if stage.attends else 0,
            resample=stage.resample,
            taps=self.taps,
            style=self.style,
            dropout=self.dropout,
            dtype=self.dtype,
            **names,
        )

    def _image_conv(self, features: int, initial: Initial, name: str) -> Conv:
        return Conv(
            features=features,
            initial=initial,
            pad_channels=self.pad_channels,
            dtype=self.dtype,
            name=name,
        )

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

    @nn.nowrap
    def validate(self) -> None:
        """Check that the configuration makes sense; called whenever a network is built.

        Raises:
          ValueError: it does not; the message says what to change.
        """
        checks.check_least(
            self,
            dict(channels=1, num_classes=0, augment_dim=0, model_channels=4, num_blocks=1)
            | dict(pad_channels=1),
        )
        checks.check_rates(self, ["dropout"])
        if self.model_channels % 2:
            raise ValueError(
                f"model_channels={self.model_channels} must be even: the code of the noise level is "
                f"made from pairs of sine and cosine."
            )
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
        for stage in (*self.plan.encoder, *self.plan.decoder):
            self._check_stage(stage)

    @nn.nowrap
    def _check_stage(self, stage: Stage) -> None:
        for channels in (stage.channels + stage.skip, stage.features):
            if channels % groups(channels):
                raise ValueError(
                    f"model_channels={self.model_channels} with channel_mult={self.channel_mult} "
                    f"gives {stage.name} {channels} channels, which {groups(channels)} groups of "
                    f"its norm do not divide: use a multiple of 32."
                )

    @nn.nowrap
    def _check_inputs(self, x, label, augment_label) -> None:
        checks.check_images(self, x)
        checks.check_label(self, label)
        checks.check_augment_label(self, x, augment_label)
