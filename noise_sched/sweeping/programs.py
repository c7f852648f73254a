"""The compiled program that trains many cells: some steps of all of them in one call.

    program(carry, hyper, stream, batches, count) -> (carry, metrics)

Every array of `carry` and `hyper`, and `stream`, begin with an axis of cells, which is split over the devices
by `shard_map`: each device works on its own cells, and none ever waits for another. A device goes
through its cells one by one ("map", `lax.map`), or takes them together ("vmap"). With a convolution "vmap"
is slow in its backward pass, since it becomes one of as many groups; small matrix products gain by it.

The steps of a call are a loop on the device ("scan"), so that the host is out of the way; or one call is one
step, because XLA's CPU backend runs convolutions inside loops on one thread and without its fast kernels
(a step of configs/digits_unet.py takes 6 times as long).
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from noise_sched.training.state import TrainState
from noise_sched.training.step import Step

AXIS = "cells"


class Carry(NamedTuple):
    """What goes from step to step; in a stack every array begins with an axis of cells.

    Attributes:
      state: the training's.
      failed: int32, how many steps in a row were not finite.
    """

    state: TrainState
    failed: Any


@dataclasses.dataclass(frozen=True)
class Kind:
    """How a program works through its cells.

    Attributes:
      batching: "map" or "vmap" within a device.
      scan: whether a call may be many steps.
    """

    batching: str
    scan: bool

    def __str__(self) -> str:
        return f"{self.batching}, {'many steps' if self.scan else 'one step'} a call"


def mesh_of(devices: list[jax.Device] | None = None) -> Mesh:
    """The devices of this process, along the axis of cells."""
    return Mesh(np.asarray(devices or jax.local_devices()), (AXIS,))


def make(step: Step, kind: Kind, mesh: Mesh, *, most: int, allowed: int) -> Any:
    """The jitted program, which is not compiled yet.

    A cell of which more than `allowed` steps in a row were not finite is frozen: all that it carries stays as
    it is. Nothing that happens to a cell touches another.

    Args:
      step: of one cell, from `experiment.training.step_of`.
      kind: how it works through its cells.
      mesh: from `mesh_of`.
      most: how many steps the batches of a call have room for; 1 without `kind.scan`.
      allowed: config.train.skip_nonfinite.

    Returns:
      (carry [cells], hyper [cells], stream int32 [cells], batches [streams, most, batch, ...], count)
      -> (carry, metrics [cells, most]). Cell i reads the batches of `stream[i]`; `count` steps are taken, and
      the metrics after them mean nothing. `carry` is donated.
    """
    step = jax.jit(step)  # traced once, though its shapes are asked for before

    def many(cell: Any, batches: Any, count: Any) -> Any:
        carry, hyper, stream = cell
        return _steps(step, kind.scan, most, allowed, carry, hyper, stream, batches, count)

    def device(carry: Carry, hyper: Any, stream: Any, batches: Any, count: Any) -> Any:
        if kind.batching == "map":
            return jax.lax.map(lambda cell: many(cell, batches, count), (carry, hyper, stream))
        return jax.vmap(lambda *cell: many(cell, batches, count))(carry, hyper, stream)

    if kind.batching == "map":
        device = _without_loop(device, many)
    split, copied = PartitionSpec(AXIS), PartitionSpec()
    spread = jax.shard_map(
        device,
        mesh=mesh,
        in_specs=(split, split, split, copied, copied),
        out_specs=(split, split),
        check_vma=False,
    )
    return jax.jit(spread, donate_argnums=0)


def layouts(mesh: Mesh) -> tuple[NamedSharding, NamedSharding]:
    """Of arrays whose first axis is that of cells, and of arrays that every device needs."""
    return NamedSharding(mesh, PartitionSpec(AXIS)), NamedSharding(mesh, PartitionSpec())


def split_cells(tree: Any, mesh: Mesh) -> Any:
    """Arrays whose first axis is that of cells, placed on the devices."""
    return jax.device_put(tree, layouts(mesh)[0])


def copied(tree: Any, mesh: Mesh) -> Any:
    """Arrays that every device needs, placed on all."""
    return jax.device_put(tree, layouts(mesh)[1])


def _without_loop(device: Any, many: Any) -> Any:
    """One cell alone needs no loop over cells, in which a CPU would be slow with convolutions."""

    def first(carry: Carry, hyper: Any, stream: Any, batches: Any, count: Any) -> Any:
        if len(stream) > 1:
            return device(carry, hyper, stream, batches, count)
        cell = jax.tree.map(lambda x: x[0], (carry, hyper, stream))
        return jax.tree.map(lambda x: x[None], many(cell, batches, count))

    return first


def _steps(
    step: Step,
    scan: bool,
    most: int,
    allowed: int,
    carry: Carry,
    hyper: Any,
    stream: Any,
    batches: Any,
    count: Any,
) -> Any:
    """`count` steps of one cell."""

    def one(index: Any, carry: Carry) -> tuple[Carry, dict[str, Any]]:
        batch = jax.tree.map(lambda x: x[stream, index], batches)
        state, metrics = step(carry.state, batch, hyper)
        finite = metrics["finite"] > 0
        new = Carry(state, jnp.where(finite, 0, carry.failed + 1))
        frozen = carry.failed > allowed
        return jax.tree.map(lambda o, n: jnp.where(frozen, o, n), carry, new), metrics

    if not scan:
        carry, metrics = one(0, carry)
        return carry, jax.tree.map(lambda x: x[None], metrics)

    def body(index: Any, value: Any) -> Any:
        carry, rows = value
        carry, metrics = one(index, carry)
        return carry, jax.tree.map(lambda row, x: row.at[index].set(x), rows, metrics)

    shapes = jax.eval_shape(lambda: one(0, carry)[1])
    rows = jax.tree.map(lambda s: jnp.zeros((most, *s.shape), s.dtype), shapes)
    return jax.lax.fori_loop(0, count, body, (carry, rows))
