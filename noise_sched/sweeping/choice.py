"""Which program trains a group of cells: found by timing, within the memory that there is.

Three ways, by the names of --stack:

    shared   one cell at a time on each device, all by one compiled program
    map      several cells in a call, one after the other (`lax.map`)
    vmap     several cells in a call, together

`shared` is compiled in any case. Another way is compiled and timed only where it can be expected to save more
time than compiling it takes. The choice is kept in the sweep's folder: a sweep that is killed goes on with
the same program, and so with the same bits.
"""

import dataclasses
import json
import os
import pathlib
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from noise_sched.experiment import Experiment, keys, training
from noise_sched.experiment.hyper import Hyper, stack
from noise_sched.sweeping import groups, programs
from noise_sched.sweeping.programs import Carry, Kind
from noise_sched.sweeping.streams import room
from noise_sched.training import files
from noise_sched.training.state import TrainState

WAYS = ("auto", "shared", "map", "vmap")
PLAN = "plan.json"

_MOST_CELLS = 64  # of one device at a time
# How much faster another way may be. On two cores `vmap` was 3.5 times as fast for steps of 1 ms, and 0.7 to
# 0.9 times for steps of 10 to 30 ms. An accelerator that a small model leaves idle can gain as much as there
# are cells.
_GAIN_OF_SMALL_STEPS, _GAIN_ON_CPU, _GAIN_OF_MAP, _MOST_GAIN = 2.0, 1.0, 1.02, 8.0
_SMALL_STEP = 5e-3  # seconds
_TRIAL_SECONDS = 0.3  # of a call
_CLEARLY = 0.93  # what is not faster than that is noise: cells one by one are finished one by one
SHARE_OF_MEMORY = 0.9


@dataclasses.dataclass(frozen=True)
class Choice:
    """A compiled program for a group of cells.

    Attributes:
      way: one of `WAYS` but "auto".
      size: how many cells it trains at a time, on all devices.
      streams: how many streams of batches it reads.
      most: how many steps a call may have.
      mesh: the devices.
      program: see `programs.make`.
      new_state: a compiled function, the keys of a seed -> a cell's first state.
      abstract: the shapes of such a state.
      bytes: of memory that it needs on each device.
      seconds: of one step of one cell on one device; None where nothing was timed.
    """

    way: str
    size: int
    streams: int
    most: int
    mesh: Mesh
    program: Callable[..., Any]
    new_state: Callable[[Any], TrainState]
    abstract: TrainState
    bytes: int
    seconds: float | None = None


class NoMemory(ValueError):
    """A program that no device has the memory for; `bytes` are what it needs."""

    def __init__(self, message: str, needed: int):
        super().__init__(message)
        self.bytes = needed


def choose(
    sweep: pathlib.Path,
    experiments: Sequence[Experiment],
    hypers: Sequence[Hyper],
    *,
    way: str = "auto",
    mesh: Mesh | None = None,
    say: Callable[[str], None] = print,
) -> Choice:
    """Compiles the program for a group of cells.

    Args:
      sweep: the sweep's folder, where choices are kept.
      experiments: the cells' that are still to be trained, of one structure.
      hypers: theirs.
      way: one of `WAYS`.
      mesh: from `programs.mesh_of`; None for all devices of this process.
      say: what is told about the choice.

    Raises:
      NoMemory: if not even one cell fits on a device.
    """
    mesh = programs.mesh_of() if mesh is None else mesh
    maker = _Maker(experiments, hypers, mesh)
    kept = _kept(sweep, maker.digest)
    if kept is not None and way in ("auto", kept["way"]):
        return maker.make(kept["way"], kept["size"] // mesh.size)
    if way == "auto":
        found = _fastest(maker, len(experiments), say)
    elif way == "shared":
        found = maker.make("shared", 1)
    else:
        found = _fitting(maker, way, len(experiments))
    if way == "auto":
        kept = {"way": found.way, "size": found.size, "seconds": found.seconds}
        _keep(sweep, maker.digest, kept)
    return found


def memory_limit(device: jax.Device) -> int:
    """Bytes that a program may use on a device: of a CPU a share of what the machine has."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"]
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return whole // jax.local_device_count()


def _fastest(maker: "_Maker", cells: int, say: Callable[[str], None]) -> Choice:
    """Times the ways that may be worth their compiling."""
    best = maker.make("shared", 1)
    if cells <= maker.mesh.size:
        return best
    compiling = maker.compiling
    best = maker.timed(best)
    assert best.seconds is not None
    steps = maker.config.train.steps
    rounds = -(-cells // maker.mesh.size)
    for way in ("vmap", "map"):
        left = rounds * steps * best.seconds
        gain = min(_gain(way, best.seconds, maker.mesh), rounds)
        if left * (1 - 1 / gain) < compiling:
            continue
        found = _fitting(maker, way, cells)
        if found.size == maker.mesh.size:
            continue
        found = maker.timed(found, give_up=3 * best.seconds)
        say(f"  {way}, {found.size} cells at a time: {_ms(found)} beside {_ms(best)} ({best.way})")
        if found.seconds is not None and found.seconds < _CLEARLY * best.seconds:
            best = found
    return best


def _gain(way: str, seconds: float, mesh: Mesh) -> float:
    if way == "map":
        return _GAIN_OF_MAP
    if mesh.devices.flat[0].platform != "cpu":
        return _MOST_GAIN
    return _GAIN_OF_SMALL_STEPS if seconds < _SMALL_STEP else _GAIN_ON_CPU


def _ms(choice: Choice) -> str:
    return "slower" if choice.seconds is None else f"{1e3 * choice.seconds:.2f} ms a step and cell"


def _fitting(maker: "_Maker", way: str, cells: int) -> Choice:
    """The program of as many cells at a time as memory allows, in parts of about equal size."""
    one = maker.make("shared", 1).bytes
    most = min(-(-cells // maker.mesh.size), _MOST_CELLS)
    while True:
        parts = -(-cells // (most * maker.mesh.size))
        each = -(-cells // (parts * maker.mesh.size))
        try:
            return maker.make(way, each)
        except NoMemory as error:
            if each == 1:
                raise
            # What is needed grows by as much with each cell.
            of_each = max((error.bytes - one) / (each - 1), 1)
            most = int(np.clip(1 + (maker.limit - one) / of_each, 1, each - 1))


class _Maker:
    """Compiles and times programs of one group."""

    def __init__(self, experiments: Sequence[Experiment], hypers: Sequence[Hyper], mesh: Mesh):
        self.mesh, self.config = mesh, experiments[0].config
        self.compiling = 0.0
        self.limit = SHARE_OF_MEMORY * memory_limit(mesh.devices.flat[0])
        self._exp, self._hypers = experiments[0], hypers
        self._experiments = experiments
        self._known: dict[tuple[str, int], Choice] = {}
        first = self._exp
        self._new_state = jax.jit(lambda pair: training.new_state(first, pair))
        self._abstract = jax.eval_shape(lambda: training.new_state(first))

    @property
    def digest(self) -> str:
        """Of what the choice is for: the program's structure and the devices."""
        device = self.mesh.devices.flat[0]
        parts = (
            repr(groups.structure(self._exp)),
            str(jax.tree.structure(self._hypers[0])),
            f"{self.mesh.size} {device.device_kind}",
        )
        return f"{zlib.crc32(' '.join(parts).encode()):08x}"

    def make(self, way: str, each: int) -> Choice:
        """The program of `each` cells a device.

        Raises:
          NoMemory: if a device has not the memory for it.
        """
        if (way, each) not in self._known:
            self._known[way, each] = self._made(way, each)
        return self._known[way, each]

    def _made(self, way: str, each: int) -> Choice:
        size = each * self.mesh.size
        count = min(size, len({_stream(exp) for exp in self._experiments}))
        batching = "vmap" if way == "vmap" else "map"
        began = time.monotonic()
        most = room(self._exp, count)
        lowered = self._lower(Kind(batching, scan=True), size, count, most)
        platform = self.mesh.devices.flat[0].platform
        if platform == "cpu" and "stablehlo.convolution" in lowered.as_text():
            most = 1
            lowered = self._lower(Kind(batching, scan=False), size, count, most)
        compiled = lowered.compile()
        self.compiling = time.monotonic() - began
        needed = _bytes(compiled)
        self._check(way, each, needed)
        return Choice(
            way, size, count, most, self.mesh, compiled, self._new_state, self._abstract, needed
        )

    def _lower(self, kind: Kind, size: int, count: int, most: int) -> Any:
        program = programs.make(
            training.step_of(self._exp),
            kind,
            self.mesh,
            most=most,
            allowed=self.config.train.skip_nonfinite,
        )
        return program.lower(*self._shapes(size, count, most))

    def _shapes(self, size: int, count: int, most: int) -> Any:
        """The shapes and layouts of what the program is called with."""
        split, copied = programs.layouts(self.mesh)
        state = jax.tree.map(lambda x: _shape((size, *x.shape), x.dtype, split), self._abstract)
        carry = Carry(state, _shape((size,), np.int32, split))
        numbers = stack([self._hypers[0]] * size)
        hyper = jax.tree.map(lambda x: _shape(x.shape, x.dtype, split), numbers)
        rows = (count, most, self.config.train.batch_size)
        batches = {
            "image": _shape((*rows, *self._exp.image_shape), np.float32, copied),
            "label": _shape(rows, np.int32, copied),
        }
        stream = _shape((size,), np.int32, split)
        return carry, hyper, stream, batches, jax.ShapeDtypeStruct((), np.int32)

    def _arguments(self, size: int, count: int, most: int) -> tuple[Any, ...]:
        """What the program is called with, of zeros but for the numbers and the states."""
        state = self._new_state(keys.of_training(self.config.seed))
        whole = jax.tree.map(lambda x: jnp.stack([x] * size), state)
        carry = Carry(whole, np.zeros(size, np.int32))
        hyper = stack([self._hypers[0]] * size)
        rows = (count, most, self.config.train.batch_size)
        batches = {
            "image": np.zeros((*rows, *self._exp.image_shape), np.float32),
            "label": np.zeros(rows, np.int32),
        }
        return (
            programs.split_cells(carry, self.mesh),
            programs.split_cells(hyper, self.mesh),
            programs.split_cells(np.zeros(size, np.int32), self.mesh),
            programs.copied(batches, self.mesh),
            jnp.int32(most),
        )

    def _check(self, way: str, each: int, needed: int) -> None:
        if needed > self.limit:
            what = "one cell" if each == 1 else f"{each} cells ({way})"
            raise NoMemory(
                f"no memory for {what} on a device: the compiled step of {self._exp.config.network.name} at "
                f"{self.config.data.image_size} px with a batch of {self.config.train.batch_size} needs "
                f"{needed / 2**30:.2f} GiB, and {self.limit / 2**30:.2f} GiB may be used. "
                "Try train.microbatches, a smaller batch or network.remat in the sweep's base.",
                needed,
            )

    def timed(self, choice: Choice, give_up: float = float("inf")) -> Choice:
        """The choice with the time of a step; without one if that is above `give_up`."""
        carry, *others, most = self._arguments(choice.size, choice.streams, choice.most)
        each = choice.size // self.mesh.size
        taken: list[float] = []
        count = 1
        for _ in range(3):
            began = time.monotonic()
            carry, metrics = choice.program(carry, *others, jnp.int32(count))
            jax.block_until_ready(metrics)
            seconds = (time.monotonic() - began) / (count * each)
            if seconds > give_up and taken:
                return choice
            taken.append(seconds)
            count = int(np.clip(_TRIAL_SECONDS / (seconds * each), 1, choice.most))
        return dataclasses.replace(choice, seconds=min(taken))


def _shape(shape: tuple[int, ...], dtype: Any, layout: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=layout)


def _stream(exp: Experiment) -> tuple[Any, ...]:
    data = exp.config.data
    return exp.config.seed, data.name, data.split, data.flip


def _bytes(compiled: Any) -> int:
    """Memory of a device while the program runs."""
    found = compiled.memory_analysis()
    if found is None:
        return 1
    return max(
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        + found.temp_size_in_bytes
        - found.alias_size_in_bytes,
        1,
    )


def _kept(sweep: pathlib.Path, digest: str) -> Mapping[str, Any] | None:
    try:
        return json.loads((sweep / PLAN).read_text(encoding="utf-8"))[digest]
    except (OSError, ValueError, KeyError):
        return None


def _keep(sweep: pathlib.Path, digest: str, chosen: Mapping[str, Any]) -> None:
    path = sweep / PLAN
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    files.write_text(path, json.dumps(known | {digest: dict(chosen)}, indent=1) + "\n")
