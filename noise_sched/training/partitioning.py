"""Where arrays live: a mesh of three axes, and the rules that lay a state and a batch out on it.

    data      a batch is split over it
    fsdp      so is a batch; and over its devices each large array of the state is split
    tokens    the images of a batch are split over it, by rows of pixels

Parameters, optimizer state and moving average are copied along "data" and "tokens": with the other two of
size 1 that is plain data parallelism. The same code runs on one device, on eight, and on many hosts.
Layouts are computed from shapes alone, so that nothing is ever allocated unsplit:

    mesh = make_mesh("data=4,fsdp=2")
    abstract = jax.eval_shape(init, key)
    shardings = state_shardings(abstract, mesh)
    state = create_sharded(init, shardings, key)

"tokens" is for images so large that one of them is worth several devices: a RIN's tape, whose tokens never
attend to one another, is split with its image, and only sums over it are exchanged.
"""

import collections
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from noise_sched.messages import did_you_mean
from noise_sched.training import digests

AXES = ("data", "fsdp", "tokens")
_ROWS = ("data", "fsdp")  # the axes that the examples of a batch are split over

Rules = Sequence[tuple[str, tuple[str | None, ...]]]
"""What a network says of its parameters: a regular expression, and an axis, or None, per dimension."""

# Splitting an array smaller than this (256 KiB in float32) saves less than its gather costs.
MIN_SIZE_TO_SPLIT = 2**16


def parse_mesh(text: str) -> dict[str, int]:
    """The sizes that a mesh's description gives: "data=4,fsdp=2" -> {"data": 4, "fsdp": 2}.

    Raises:
      ValueError: for an axis that is unknown or named twice, and a size that is no number above 0.
    """
    sizes: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        axis, _, size = (each.strip() for each in part.partition("="))
        if axis not in AXES:
            raise ValueError(f"the mesh {text!r} has an axis {axis!r}. {did_you_mean(axis, AXES)}")
        if not size.isdecimal() or int(size) < 1:
            raise ValueError(
                f"the mesh {text!r} gives {axis} the size {size!r}: write axes as data=4,fsdp=2, each with "
                "a whole number from 1"
            )
        if axis in sizes:
            raise ValueError(f"the mesh {text!r} has the axis {axis} twice: name it once")
        sizes[axis] = int(size)
    return sizes


def make_mesh(text: str = "", *, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of all devices (or of those given).

    Args:
      text: the sizes of its axes, "data=4,fsdp=2,tokens=1". An axis that is not named has size 1, and
        "data" takes the devices that are left.
      devices: the devices of all hosts; None for `jax.devices()`.

    Raises:
      ValueError: for a description that cannot be read, sizes that do not make up the number of devices, and
        images that would be split over several hosts.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = _all_sizes(text, len(devices))
    # Host by host, so that a host's rows of a batch are one block of it, the p-th of process p:
    # jax.make_mesh may interleave the hosts of a TPU slice. Its axes would be explicit, too, under
    # which linen's convolutions fail.
    devices = sorted(devices, key=lambda device: (device.process_index, device.id))
    on_one_host = min(collections.Counter(device.process_index for device in devices).values())
    if on_one_host % sizes["tokens"]:
        raise ValueError(
            f"tokens={sizes['tokens']} splits images over hosts, which have {on_one_host} device(s) each and "
            f"read whole images: use one of {_divisors(on_one_host)}"
        )
    grid = np.asarray(devices).reshape([sizes[axis] for axis in AXES])
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _all_sizes(text: str, count: int) -> dict[str, int]:
    """The size of every axis on `count` devices."""
    given = parse_mesh(text)
    sizes = {axis: given.get(axis, 1) for axis in AXES}
    others = sizes["fsdp"] * sizes["tokens"]
    if "data" not in given and count % others == 0:
        sizes["data"] = count // others
    if math.prod(sizes.values()) == count:
        return sizes
    named = [axis for axis in ("fsdp", "tokens") if sizes[axis] > 1]
    if "data" not in given and len(named) == 1:
        raise ValueError(
            f"{named[0]}={sizes[named[0]]} does not divide the {count} device(s): use one of "
            f"{_divisors(count)}"
        )
    asked = ",".join(f"{axis}={size}" for axis, size in given.items())
    raise ValueError(
        f"the mesh {asked} does not make up the {count} device(s): the sizes have to multiply to {count}. "
        "Leave data out, and it takes what the others leave."
    )


def _divisors(count: int) -> str:
    return ", ".join(str(d) for d in range(1, count + 1) if count % d == 0)


def replicated(mesh: Mesh) -> NamedSharding:
    """The layout of a full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def rows_of(mesh: Mesh) -> int:
    """Into how many parts the examples of a batch are split."""
    return math.prod(mesh.shape[axis] for axis in _ROWS)


def batch_shardings(batch: Any, mesh: Mesh, *, lead: int = 0) -> Any:
    """The layout of each array of a batch: examples over "data" and "fsdp", images also over "tokens".

    Args:
      batch: arrays or shapes, [rows, ...], images [rows, height, width, channels].
      mesh: the mesh to split over.
      lead: axes before these, which are not split.
    """

    def sharding(leaf: Any) -> NamedSharding:
        images = len(leaf.shape) == lead + 4
        return NamedSharding(mesh, PartitionSpec(*(None,) * lead, _ROWS, *("tokens",) * images))

    return jax.tree.map(sharding, batch)


def spread(batch: Any, mesh: Mesh | None, *, lead: int = 0) -> Any:
    """Inside a compiled program: a batch in that layout; without a mesh as it is."""
    if mesh is None:
        return batch
    return jax.lax.with_sharding_constraint(batch, batch_shardings(batch, mesh, lead=lead))


def check_batch(
    batch_size: int, mesh: Mesh, *, microbatches: int = 1, image_rows: int | None = None
) -> None:
    """Refuse a global batch that the devices cannot share evenly.

    Args:
      batch_size: images in a global batch.
      mesh: the devices.
      microbatches: the parts that a step takes it in.
      image_rows: what "tokens" splits of an image: of a RIN the rows of patches; None for networks whose
        images cannot be split.

    Raises:
      ValueError: naming the nearest batch sizes, or sizes of "tokens", that would do.
    """
    tokens = mesh.shape["tokens"]
    if tokens > 1 and image_rows is None:
        raise ValueError(
            f"the mesh has tokens={tokens}, which splits the tape of a RIN: other networks have none; use "
            "the axes data and fsdp"
        )
    if image_rows is not None and image_rows % tokens:
        raise ValueError(
            f"tokens={tokens} does not divide the {image_rows} rows of patches of an image: use one of "
            f"{_divisors(image_rows)}"
        )
    unit = rows_of(mesh) * microbatches
    if batch_size < 1 or batch_size % unit:
        lower, upper = batch_size // unit * unit, (batch_size // unit + 1) * unit
        sizes = f"{lower} or {upper}" if lower > 0 else f"{upper}"
        times = f" x {microbatches} microbatches" if microbatches > 1 else ""
        raise ValueError(
            f"a batch of {batch_size} (batch_size) does not divide over {rows_of(mesh)} device(s){times}: "
            f"use a multiple of {unit}, such as {sizes}"
        )


def to_global(batch: Any, mesh: Mesh) -> Any:
    """Turn this process's rows (numpy) into global arrays, laid out by `batch_shardings`.

    Args:
      batch: a tree of numpy arrays, each [rows of this process, ...], the same tree on every host.
      mesh: the mesh to split over.

    Returns:
      The same tree of `jax.Array`, each [rows of all processes, ...].

    Raises:
      ValueError: if the rows do not divide over this process's devices.
    """
    leaves = jax.tree.leaves(batch)
    rows = {np.shape(leaf)[0] if np.ndim(leaf) else -1 for leaf in leaves}
    local_devices = mesh.local_mesh.size
    parts = local_devices // mesh.shape["tokens"]
    if len(rows) != 1 or -1 in rows:
        raise ValueError(
            f"the arrays of a batch must all have the same number of rows, got shapes "
            f"{[np.shape(leaf) for leaf in leaves]}"
        )
    if (count := rows.pop()) % parts:
        raise ValueError(
            f"{count} rows do not divide over the {parts} device(s) of this process: use a "
            f"global batch that is a multiple of {rows_of(mesh)}"
        )
    shardings = batch_shardings(batch, mesh)
    if mesh.size == local_devices:  # one process: the rows are the whole batch
        return jax.device_put(batch, shardings)
    return jax.tree.map(
        lambda x, sharding: jax.make_array_from_process_local_data(sharding, x), batch, shardings
    )


def split_rows(batch: Any, mesh: Mesh) -> Any:
    """Global arrays of a batch that every host has whole, split over every device.

    Args:
      batch: a tree of numpy arrays [rows, ...], the same on every host.
      mesh: the mesh to split over; rows that do not divide over it are copied to every device.
    """

    def place(x: np.ndarray) -> jax.Array:
        copied = len(x) % mesh.size
        sharding = replicated(mesh) if copied else NamedSharding(mesh, PartitionSpec(AXES))
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(place, batch)


def gather(array: jax.Array) -> np.ndarray:
    """The whole of a global array, on every host; all hosts have to call it."""
    return multihost_utils.process_allgather(array, tiled=True)


def state_shardings(
    abstract: Any, mesh: Mesh, rules: Rules = (), *, min_size: int = MIN_SIZE_TO_SPLIT
) -> Any:
    """The layout of each array of a state (or of parameters), by its path and its shape.

    The first of the rules whose expression is found in the array's path ("params/read_0/mlp/out/kernel")
    and whose axes divide its dimensions decides. Without one, an array of at least `min_size` elements is
    split over "fsdp" along its largest dimension that divides evenly (the last of several equal ones), and
    every other is copied. As the rules see no more than the end of a path and a shape, a parameter, its
    moments and its moving average are laid out alike.

    Args:
      abstract: a tree of arrays or of `jax.ShapeDtypeStruct`, from `jax.eval_shape`.
      mesh: from `make_mesh`.
      rules: the network's own, see `ImageNetwork.partition_rules`.
      min_size: elements below which an array without a rule is copied.

    Returns:
      The same tree of `NamedSharding`.
    """

    def sharding(path: Any, leaf: Any) -> NamedSharding:
        name = digests.path_name(path)
        ruled = (axes for pattern, axes in rules if re.search(pattern, name))
        fitting = (axes for axes in ruled if _fits(leaf.shape, axes, mesh))
        spec = next((PartitionSpec(*axes) for axes in fitting), None)
        if spec is None:
            spec = _spec(leaf.shape, mesh.shape["fsdp"], min_size)
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(sharding, abstract)


def _fits(shape: tuple[int, ...], axes: Sequence[str | None], mesh: Mesh) -> bool:
    parts = [1 if axis is None else mesh.shape[axis] for axis in axes]
    return len(shape) == len(parts) and all(n % k == 0 for n, k in zip(shape, parts, strict=True))


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
