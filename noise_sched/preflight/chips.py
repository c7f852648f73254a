"""The TPUs that a program can be compiled for, and what they can do.

Figures of one chip are those of Austin et al. 2025, "How to Scale Your Model", chapter 2, "TPU Specs"
(https://jax-ml.github.io/scaling-book/tpus). Google's pages on each generation
(https://docs.cloud.google.com/tpu/docs/v5e, v5p, v6e) have the same operations, 1 to 2 % more bandwidth of
HBM, and links a tenth faster: v5e's 400 GB/s, both directions of four ports together, are 50 GB/s each.
How many bytes of its memory a program may use the compiler knows better: it keeps some for itself.
"""

import dataclasses
import math
import re

from noise_sched.messages import did_you_mean

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip of a generation.

    Attributes:
      name: "v5e".
      memory: bytes of HBM.
      flops: bfloat16 operations a second, at most.
      bandwidth: bytes a second of HBM.
      link: bytes a second of one link of the torus, in each direction.
      dimensions: of the torus.
      largest: the most chips that a slice has along a dimension.
      wraps: the size of a dimension from which on its ends are joined.
    """

    name: str
    memory: int
    flops: float
    bandwidth: float
    link: float
    dimensions: int
    largest: int
    wraps: int


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 32 * _GIB, 275e12, 1.2e12, 45e9, 3, 16, 4),
        Chip("v5e", 16 * _GIB, 197e12, 0.81e12, 45e9, 2, 16, 16),
        Chip("v5p", 95 * _GIB, 459e12, 2.765e12, 90e9, 3, 24, 4),
        Chip("v6e", 32 * _GIB, 918e12, 1.6e12, 90e9, 2, 16, 16),
    )
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice: chips of one generation in a grid.

    Attributes:
      chip: what it is made of.
      shape: chips along each dimension.
    """

    chip: Chip
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many chips."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """As the compiler calls it: "v5e:16x16"."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    def link_bandwidth(self, parts: int) -> float:
        """Bytes a second that each chip passes on in a ring of `parts` chips.

        A ring along one dimension uses two links where its ends are joined, one where they are not; a group
        larger than the longest dimension is taken to use two dimensions at once.
        """
        spanned = 1 if parts <= max(self.shape) else min(2, sum(n > 1 for n in self.shape))
        joined = (
            min(self.shape) >= self.chip.wraps
            if spanned > 1
            else max(self.shape) >= self.chip.wraps
        )
        return self.chip.link * (2 if joined else 1) * spanned


def parse(text: str) -> Topology:
    """The slice that a name such as "v5e:16x16" means.

    Raises:
      ValueError: for another form, an unknown chip, and a shape that no slice of it has.
    """
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", text)
    if found is None:
        raise ValueError(
            f"--topology={text}: expected CHIP:SHAPE, such as v5e:16x16 or v4:4x4x8 (v5e-256 is v5e:16x16)."
        )
    name, shape = found.group(1), tuple(map(int, found.group(2).split("x")))
    if name not in CHIPS:
        raise ValueError(
            f"--topology={text}: unknown chip {name!r}. {did_you_mean(name, list(CHIPS))}"
        )
    chip = CHIPS[name]
    if len(shape) != chip.dimensions:
        example = "x".join(["4"] * chip.dimensions)
        raise ValueError(
            f"--topology={text}: slices of {name} have {chip.dimensions} dimensions, such as "
            f"{name}:{example}."
        )
    if max(shape) > chip.largest or any(n & (n - 1) and n % 4 for n in shape):
        raise ValueError(
            f"--topology={text}: there is no such slice of {name}; a dimension has 1, 2 or a multiple of 4 "
            f"chips, {chip.largest} at most."
        )
    return Topology(chip, shape)
