"""The plan of a U-Net: which blocks there are, in which order, and which of them attend.

The encoder goes down through the levels (resolutions), `num_blocks` blocks at each, and keeps the output of
every block; the decoder comes back up, `num_blocks + 1` blocks at each, and appends the kept output of the
same resolution, last in first out:

    encoder   32x32: conv, block0 .. block3     16x16: down, block0 .. block3     8x8: ...
    decoder   8x8: in0 (attends), in1, block0 .. block4     16x16: up, block0 .. block4     32x32: ...
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any


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
        return dataclasses.astuple(self)[2:]

    @property
    def decodes(self) -> bool:
        """Whether it is a block of the decoder."""
        return self.name.startswith("dec")


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
    *,
    first: int = 0,
    attend_last_only: bool = False,
) -> Plan:
    """The plan of a U-Net.

    Args:
      sizes: (height, width) of each level, largest first.
      widths: channels of each level.
      num_blocks: blocks of each level of the encoder; the decoder has one more.
      attention_resolutions: heights at which blocks attend.
      first: channels of the first convolution's output; 0 for those of the first level.
      attend_last_only: in the decoder only the last block of such a level attends.
    """
    numbers = itertools.count()
    encoder: list[Stage] = []
    decoder: list[Stage] = []
    c = first = first or widths[0]
    kept = [first]

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
