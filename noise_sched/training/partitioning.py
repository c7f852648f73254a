"""Where arrays live: a mesh of two axes, and the rule that lays a state out on it.

The mesh has the axes "data" and "fsdp". A batch is split over both. Parameters, optimizer state and
moving average are copied to every device along "data" and, in arrays that are large enough, split
along "fsdp": with fsdp = 1 that is plain data parallelism. The same code runs on one device, on
eight, and on many hosts. Layouts are computed from shapes alone, so that nothing is ever allocated
unsplit:

    abstract = jax.eval_shape(init, key)
    shardings = state_shardings(abstract, mesh)
    state = create_sharded(init, shardings, key)
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp")

# Splitting an array smaller than this (256 KiB in float32) saves less than its gather costs.
MIN_SIZE_TO_SPLIT = 2**16


def make_mesh(fsdp: int = 1, *, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of all devices (or of those given), `fsdp` of them sharing one copy of the state.

    Args:
      fsdp: over how many devices each large array is split; 1 for a full copy on each device.
      devices: the devices of all hosts; None for `jax.devices()`.

    Raises:
      ValueError: if `fsdp` does not divide the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    count = len(devices)
    if fsdp < 1 or count % fsdp:
        divisors = [d for d in range(1, count + 1) if count % d == 0]
        raise ValueError(
            f"fsdp={fsdp} does not divide the {count} device(s): use one of "
            f"{', '.join(map(str, divisors))}"
        )
    # Host by host, so that a host's rows of a batch are one block of it, the p-th of process p:
    # jax.make_mesh may interleave the hosts of a TPU slice. Its axes would be explicit, too, under
    # which linen's convolutions fail.
    devices = sorted(devices, key=lambda device: (device.process_index, device.id))
    grid = np.asarray(devices).reshape(count // fsdp, fsdp)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
    """The layout of a full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The layout of a batch: its first axis split over every device."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def check_batch_size(batch_size: int, mesh: Mesh, *, microbatches: int = 1) -> None:
    """Refuse a global batch that the devices cannot share evenly.

    Raises:
      ValueError: naming the nearest batch sizes that would do.
    """
    unit = mesh.size * microbatches
    if batch_size < 1 or batch_size % unit:
        lower, upper = batch_size // unit * unit, (batch_size // unit + 1) * unit
        sizes = f"{lower} or {upper}" if lower > 0 else f"{upper}"
        times = f" x {microbatches} microbatches" if microbatches > 1 else ""
        raise ValueError(
            f"a batch of {batch_size} (batch_size) does not divide over {mesh.size} device(s){times}: "
            f"use a multiple of {unit}, such as {sizes}"
        )


def to_global(batch: Any, mesh: Mesh) -> Any:
    """Turn this process's rows (numpy) into global arrays, split over every device.

    Args:
      batch: a tree of numpy arrays, each [rows of this process, ...], the same tree on every host.
      mesh: the mesh to split over.

    Returns:
      The same tree of `jax.Array`, each [rows of all processes, ...].

    Raises:
      ValueError: if the rows do not divide over this process's devices.
    """
    sharding = batch_sharding(mesh)
    leaves = jax.tree.leaves(batch)
    rows = {np.shape(leaf)[0] if np.ndim(leaf) else -1 for leaf in leaves}
    local_devices = len(sharding.addressable_devices)
    if len(rows) != 1 or -1 in rows:
        raise ValueError(
            f"the arrays of a batch must all have the same number of rows, got shapes "
            f"{[np.shape(leaf) for leaf in leaves]}"
        )
    if (count := rows.pop()) % local_devices:
        raise ValueError(
            f"{count} rows do not divide over the {local_devices} device(s) of this process: use a "
            f"global batch that is a multiple of {mesh.size}"
        )
    if mesh.size == local_devices:  # one process: the rows are the whole batch
        return jax.device_put(batch, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def split_rows(batch: Any, mesh: Mesh) -> Any:
    """Global arrays of a batch that every host has whole, split over every device.

    Args:
      batch: a tree of numpy arrays [rows, ...], the same on every host.
      mesh: the mesh to split over; rows that do not divide over it are copied to every device.
    """

    def place(x: np.ndarray) -> jax.Array:
        sharding = replicated(mesh) if len(x) % mesh.size else batch_sharding(mesh)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(place, batch)


def gather(array: jax.Array) -> np.ndarray:
    """The whole of a global array, on every host; all hosts have to call it."""
    return multihost_utils.process_allgather(array, tiled=True)


def state_shardings(abstract: Any, mesh: Mesh, *, min_size: int = MIN_SIZE_TO_SPLIT) -> Any:
    """The layout of each array of a state (or of parameters), by its shape alone.

    An array of at least `min_size` elements is split over "fsdp" along its largest dimension that
    divides evenly (the last of several equal ones); every other array is copied. As the rule sees
    only shapes, a parameter, its moments and its moving average are laid out alike.

    Args:
      abstract: a tree of arrays or of `jax.ShapeDtypeStruct`, from `jax.eval_shape`.
      mesh: from `make_mesh`.
      min_size: elements below which an array is copied.

    Returns:
      The same tree of `NamedSharding`.
    """

    def sharding(leaf):
        return NamedSharding(mesh, _spec(leaf.shape, mesh.shape["fsdp"], min_size))

    return jax.tree.map(sharding, abstract)


def with_shardings(abstract: Any, shardings: Any) -> Any:
    """The shapes with their layouts attached, as `Checkpoints.restore` takes them."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract,
        shardings,
    )


def create_sharded(init: Callable[..., Any], shardings: Any, *args: Any) -> Any:
    """`init(*args)` computed straight into its layout: no device ever holds what it does not keep.

    The values do not depend on the layout: random draws in JAX are the same on any mesh.
    """
    return jax.jit(init, out_shardings=shardings)(*args)


def _spec(shape: tuple[int, ...], parts: int, min_size: int) -> PartitionSpec:
    if parts == 1 or int(np.prod(shape)) < min_size:
        return PartitionSpec()
    divisible = [(size, axis) for axis, size in enumerate(shape) if size % parts == 0]
    if not divisible:
        return PartitionSpec()
    _, axis = max(divisible)
    return PartitionSpec(*(None,) * axis, "fsdp")
