"""The training step and the sampler of a config, compiled for TPUs that are not there.

The TPU's compiler comes with libtpu (`pip install 'noise_sched[preflight]'`) and needs no device. What it
says of memory is what the program will take; what it says of speed has the body of a loop once, so
operations, bytes and collectives are counted by `flops` and `hlo`.
"""

import dataclasses
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from noise_sched.experiment import Experiment, training
from noise_sched.preflight import flops, hlo
from noise_sched.preflight.chips import Topology
from noise_sched.training import partitioning

# Several processes may compile at once; and no metadata server is asked what this machine is.
_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}
# What the compiler does for a faster program, such as choosing the tiles of each convolution, takes most of
# its time. Without it, operations and collectives are the same, memory nearly, and bytes up to half more,
# as less is fused (docs/results/preflight.md has both).
_LITTLE_EFFORT = {"exec_time_optimization_effort": -1.0}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# What the compiler says of a program that does not fit.
_TOO_MUCH = (
    re.compile(r"[Uu]sed ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm"),
    re.compile(r"\(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)"),
)


class DoesNotFit(Exception):
    """A program that needs more memory than a chip has.

    Attributes:
      needed, limit: bytes on a chip.
    """

    def __init__(self, name: str, needed: float, limit: float):
        super().__init__(
            f"the {name} needs {needed / 2**30:.1f} GiB of each chip, which has {limit / 2**30:.2f} GiB "
            "for it"
        )
        self.name, self.needed, self.limit = name, needed, limit


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled program takes, on each chip.

    Attributes:
      name: "training step" or "sampler".
      arguments, temporaries: bytes; results take the place of arguments where they can, and are temporary
        where they cannot.
      flops: operations of matrix products and convolutions, by our count.
      compiler_flops: by the compiler's, which has the body of a loop once.
      bytes: read from and written to memory.
      collectives: all that the chips tell each other.
      seconds: that compiling took.
    """

    name: str
    arguments: int
    temporaries: int
    flops: float
    compiler_flops: float
    bytes: int
    collectives: Sequence[hlo.Collective]
    seconds: float

    @property
    def memory(self) -> int:
        """Bytes in all."""
        return self.arguments + self.temporaries


def devices(topology: Topology) -> list[jax.Device]:
    """The chips of a slice, as the compiler knows them; no device is touched.

    Raises:
      ValueError: if libtpu is not installed, or knows no such slice.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import libtpu  # noqa: F401
    except ImportError:
        raise ValueError(
            "compiling for TPUs needs libtpu, which is not installed: pip install 'noise_sched[preflight]'"
        ) from None
    more = {"chip_config_name": "megacore"} if topology.chip.name in ("v4", "v5p") else {}
    try:
        found = topologies.get_topology_desc(
            platform="tpu", topology_name=topology.name, **more
        ).devices
    except Exception as error:  # libtpu's own
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"--topology={topology.name}: libtpu knows no such slice ({reason})."
        ) from None
    if len(found) != topology.size:
        raise ValueError(
            f"--topology={topology.name}: libtpu made {len(found)} devices of it, not {topology.size}."
        )
    return list(found)


def training_step(
    exp: Experiment, chips: Sequence[jax.Device], *, full_effort: bool = False
) -> Program:
    """The step that `train` would compile; with `full_effort` as `train` would, in many times the time.

    Raises:
      ConfigError: if config.partition.mesh and the batch do not fit the chips.
      DoesNotFit: if it needs more memory than they have.
    """
    mesh = training.mesh_of(exp, chips)
    abstract, shardings = training.layout(exp, mesh)
    state = partitioning.with_shardings(abstract, shardings)
    batch = _batch(exp, mesh)
    step = training.compiled_step(exp, mesh, shardings)
    return _compiled("training step", step, (state, batch), mesh.size, full_effort)


def sampler(exp: Experiment, chips: Sequence[jax.Device], *, full_effort: bool = False) -> Program:
    """The program that `sample` would compile: config.sample.batch_size images, split over the chips.

    Raises:
      DoesNotFit: if it needs more memory than they have.
    """
    mesh = partitioning.make_mesh(devices=chips)
    count = -(-exp.config.sample.batch_size // mesh.size) * mesh.size
    split = NamedSharding(mesh, PartitionSpec(partitioning.AXES))
    params = jax.eval_shape(exp.init_params, jax.random.key(0))
    copies = jax.tree.map(lambda _: partitioning.replicated(mesh), params)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))
    arguments = (
        partitioning.with_shardings(params, copies),
        jax.ShapeDtypeStruct(keys.shape, keys.dtype, sharding=split),
        jax.ShapeDtypeStruct((count,), jnp.int32, sharding=split),
    )
    drawn = (exp.unguided() if exp.needs_guide else exp).sampler()
    return _compiled("sampler", drawn, arguments, mesh.size, full_effort)


def _batch(exp: Experiment, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    size = exp.config.train.batch_size
    shapes = {
        "image": jax.ShapeDtypeStruct((size, *exp.image_shape), jnp.float32),
        "label": jax.ShapeDtypeStruct((size,), jnp.int32),
    }
    return partitioning.with_shardings(shapes, partitioning.batch_shardings(shapes, mesh))


def _compiled(
    name: str, function: Any, arguments: Sequence[Any], chips: int, full_effort: bool
) -> Program:
    operations = flops.of(function, *arguments)
    began = time.monotonic()
    options = None if full_effort else _LITTLE_EFFORT
    compiled = _fitting(name, lambda: function.lower(*arguments).compile(options))
    seconds = time.monotonic() - began
    memory, costs = compiled.memory_analysis(), compiled.cost_analysis()
    module = hlo.Module(compiled.as_text())
    kept = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Program(
        name=name,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes + kept,
        flops=operations / chips,
        compiler_flops=costs.get("flops", 0.0),
        bytes=module.bytes(),
        collectives=module.collectives(),
        seconds=seconds,
    )


def _fitting(name: str, compile_it: Callable[[], Any]) -> Any:
    try:
        return compile_it()
    except jax.errors.JaxRuntimeError as error:
        found = next(filter(None, (each.search(str(error)) for each in _TOO_MUCH)), None)
        if found is None or "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needed, limit = (float(found.group(i)) * _UNITS[found.group(i + 1)] for i in (1, 3))
        raise DoesNotFit(name, needed, limit) from None
