"""Many cells trained together by one program, each in a workdir of its own, as if it were trained alone.

A stack may be killed at any moment: the same cells go on from their checkpoints, in this stack, in
another or alone.
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from noise_sched.experiment import Experiment, keys
from noise_sched.experiment.hyper import Hyper, stack
from noise_sched.sweeping import programs
from noise_sched.sweeping.cell_run import CellRun
from noise_sched.sweeping.cells import Cell
from noise_sched.sweeping.choice import Choice
from noise_sched.sweeping.programs import Carry
from noise_sched.sweeping.streams import Sources, Streams
from noise_sched.training.loop import StopSignals
from noise_sched.training.state import TrainState

_CALL_SECONDS = 2.0  # of one call: how long a signal waits, and how often progress moves
_TELL_SECONDS = 3.0


class Stopped(Exception):
    """A signal asked to stop; all cells are saved."""


def train(
    sweep: pathlib.Path,
    cells: Sequence[Cell],
    experiments: Sequence[Experiment],
    hypers: Sequence[Hyper],
    choice: Choice,
    sources: Sources,
    poll: Callable[[], None] = lambda: None,
) -> None:
    """Trains cells until each has had config.train.steps steps, resuming where they are.

    Args:
      sweep: the sweep's folder.
      cells: no more than `choice.size` of one group, all at the same step.
      experiments: theirs.
      hypers: theirs, of one structure (`families.unified`).
      choice: the compiled program.
      sources: opened data sets.
      poll: called after each call of the program.

    Raises:
      Stopped: after a signal.
      ValueError, OSError: a workdir that another process holds, or that cannot be written.
    """
    with contextlib.ExitStack() as entered:
        runs = [entered.enter_context(CellRun(sweep, cell)) for cell in cells]
        states = [_state(run, exp, choice) for run, exp in zip(runs, experiments, strict=True)]
        steps = [int(state.step) for state in states]
        together = [i for i, step in enumerate(steps) if step == min(steps)]
        # Only a damaged checkpoint brings a cell behind the others; those ahead are trained after it.
        runs, states = [runs[i] for i in together], [states[i] for i in together]
        experiments, hypers = [experiments[i] for i in together], [hypers[i] for i in together]
        for run in runs:
            run.begin(min(steps))
        _fit(runs, states, experiments, hypers, choice, sources, poll)


def _state(run: CellRun, exp: Experiment, choice: Choice) -> TrainState:
    restored = run.restore(choice.abstract)
    if restored is not None:
        return restored.state
    return choice.new_state(keys.of_training(exp.config.seed))


def _fit(
    runs: Sequence[CellRun],
    states: Sequence[TrainState],
    experiments: Sequence[Experiment],
    hypers: Sequence[Hyper],
    choice: Choice,
    sources: Sources,
    poll: Callable[[], None],
) -> None:
    config = experiments[0].config
    step, steps = int(states[0].step), config.train.steps
    carry, hyper = placed(states, hypers, choice)
    with Streams(experiments, sources, step) as streams, StopSignals() as signals:
        stream = programs.split_cells(_filled(streams.of_cell, choice.size), choice.mesh)
        pace, told, running = _Pace(choice.most), 0.0, None

        def settle() -> None:
            nonlocal running
            if running is not None:
                first, count, metrics = running
                running = None
                jax.block_until_ready(metrics)
                pace.took(count)
                _see(runs, first, count, jax.device_get(metrics))

        def upcoming(at: int) -> int:
            edge = min(
                steps, (at // config.train.checkpoint_every + 1) * config.train.checkpoint_every
            )
            return min(pace.count, edge - at)

        count = upcoming(step) if step < steps else 0
        while count:
            batches = programs.copied(streams.take(count, choice.streams, choice.most), choice.mesh)
            carry, metrics = choice.program(carry, hyper, stream, batches, jnp.int32(count))
            settle()
            running = step, count, metrics
            step += count
            stop = signals.stop_after(step)
            due = stop or step == steps or step % config.train.checkpoint_every == 0
            count = 0 if stop or step == steps else upcoming(step)
            if count:
                streams.prepare(count)
            if due:
                settle()
                _save(runs, carry, last=step == steps)
            if time.monotonic() - told > _TELL_SECONDS and not due:
                told = time.monotonic()
                for run in runs:
                    run.tell()
            poll()
            if all(run.stopped is not None for run in runs) and running is None:
                break
        settle()
    for run, state in zip(runs, _apart(carry, len(runs)), strict=True):
        if step == steps or run.stopped is not None:
            run.end(state)
        else:
            run.tell()
    if step < steps and not all(run.stopped is not None for run in runs):
        raise Stopped


def placed(
    states: Sequence[TrainState], hypers: Sequence[Hyper], choice: Choice
) -> tuple[Carry, Any]:
    """The stacked states and numbers on the devices, filled up to the size of the program."""
    size, mesh = choice.size, choice.mesh
    whole = jax.tree.map(lambda *x: _stacked(x, size), *states)
    carry = Carry(whole, np.zeros(size, np.int32))
    hyper = stack([*hypers, *[hypers[-1]] * (size - len(hypers))])
    return programs.split_cells(carry, mesh), programs.split_cells(hyper, mesh)


def _stacked(values: Sequence[Any], size: int) -> Any:
    values = [*values, *[values[-1]] * (size - len(values))]
    if jnp.issubdtype(values[0].dtype, jax.dtypes.prng_key):
        return jnp.stack(values)
    return np.stack([np.asarray(value) for value in values])


def _filled(values: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([values, np.repeat(values[-1:], size - len(values))])


def _apart(carry: Carry, count: int) -> list[TrainState]:
    """The state of each of the first `count` cells, on one device."""
    state = carry.state
    data = jax.device_get(_with_key(state, jax.random.key_data(state.key)))
    impl = jax.random.key_impl(state.key)
    found = []
    for i in range(count):
        own = jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), data)
        found.append(_with_key(own, jax.random.wrap_key_data(own.key, impl=impl)))
    return found


def _with_key(state: TrainState, key: Any) -> TrainState:
    return dataclasses.replace(state, key=key)


def _see(runs: Sequence[CellRun], first: int, count: int, values: dict[str, np.ndarray]) -> None:
    """Tells each run its metrics of `count` steps after step `first`."""
    for i, run in enumerate(runs):
        for j in range(count):
            run.see(first + j + 1, {name: rows[i, j] for name, rows in values.items()})


def _save(runs: Sequence[CellRun], carry: Carry, *, last: bool) -> None:
    if last:  # `end` saves
        return
    for run, state in zip(runs, _apart(carry, len(runs)), strict=True):
        run.save(state)
    for run in runs:
        run.wait()
        run.tell()


class _Pace:
    """How many steps a call may have, so that it takes about `_CALL_SECONDS`."""

    def __init__(self, most: int):
        self._most, self._before = most, time.monotonic()
        self.count = min(most, 5)

    def took(self, count: int) -> None:
        """The results of `count` steps are there."""
        now = time.monotonic()
        each = max((now - self._before) / count, 1e-6)
        self._before = now
        self.count = int(np.clip(_CALL_SECONDS / each, 1, self._most))
