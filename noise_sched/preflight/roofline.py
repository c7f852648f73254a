"""The least time that a program can take, from what it computes, moves and tells.

    compute   operations / the chip's matrix rate in bfloat16
    memory    bytes read and written / the bandwidth of its memory
    links     bytes of collectives / the bandwidth of its links
    time      the largest of the three: as if each hid behind it

The share of compute in that time bounds the utilization of the chip from above.
"""

import dataclasses

from noise_sched.preflight.chips import Topology
from noise_sched.preflight.programs import Program


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of one call on one chip."""

    compute: float
    memory: float
    links: float

    @property
    def time(self) -> float:
        """The least time of a call."""
        return max(self.compute, self.memory, self.links)

    @property
    def utilization(self) -> float:
        """At most so much of the chip's matrix rate."""
        return self.compute / self.time if self.time else 0.0

    @property
    def collectives(self) -> float:
        """The share of the least time that the links are busy."""
        return self.links / self.time if self.time else 0.0

    @property
    def bound(self) -> str:
        """Which of the three is the largest."""
        return max(("compute", "memory", "links"), key=lambda name: getattr(self, name))


def of(program: Program, topology: Topology) -> Roofline:
    """The roofline of a program on a slice."""
    chip = topology.chip
    links = sum(c.moved / topology.link_bandwidth(c.parts) for c in program.collectives)
    return Roofline(program.flops / chip.flops, program.bytes / chip.bandwidth, links)
