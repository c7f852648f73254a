"""Many cells trained together by one program, each in a workdir of its own, as if it were trained alone.

A stack may be killed at any moment: the same cells go on from their checkpoints, in this stack, in
another or alone.
"""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

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


Later: TypeAlias = Callable[[Callable[[], None]], Any]


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
    later: Later = lambda end: end(),
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
      later: calls what it is given, which saves the cells that are finished, now or in another thread.

    Raises:
      Stopped: after a signal.
      ValueError, OSError: a workdir that another process holds, or that cannot be written.
    """
    with contextlib.ExitStack() as entered:
        runs: list[CellRun] = [entered.enter_context(CellRun(sweep, cell)) for cell in cells]
        states = [_state(run, exp, choice) for run, exp in zip(runs, experiments, strict=True)]
        steps = [int(state.step) for state in states]
        together = [i for i, step in enumerate(steps) if step == min(steps)]
        # Only a damaged checkpoint brings a cell behind the others; those ahead are trained after it.
        runs, states = [runs[i] for i in together], [states[i] for i in together]
        experiments, hypers = [experiments[i] for i in together], [hypers[i] for i in together]
        for run in runs:
            run.begin(min(steps))
        finished = _fit(runs, states, experiments, hypers, choice, sources, poll)
        closing = entered.pop_all()
    later(functools.partial(_end, finished, closing))


def _end(finished: Sequence[tuple[CellRun, TrainState]], closing: contextlib.ExitStack) -> None:
    """Saves cells that are finished, and lets go of their workdirs."""
    with closing:
        for run, state in finished:
            run.end(state)


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
) -> list[tuple[CellRun, TrainState]]:
    """Trains cells that are all at one step; returns those that are finished, with their last states."""
    train, step = experiments[0].config.train, int(states[0].step)
    with Streams(experiments, sources, step) as streams, StopSignals() as signals:
        cells = _Together(runs, states, hypers, choice, streams, step)
        told = 0.0
        while step < train.steps and not cells.all_stopped:
            edge = min(train.steps, (step // train.checkpoint_every + 1) * train.checkpoint_every)
            count = min(cells.pace, edge - step)
            cells.call(count)
            step += count
            stop = signals.stop_after(step)
            if stop or (step == edge and step < train.steps):
                cells.save()
            elif time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                for run in runs:
                    run.tell()
            poll()
            if stop:
                break
        finished = cells.finished(whole=step == train.steps)
    if step < train.steps and not cells.all_stopped:
        for run, state in finished:
            run.end(state)
        raise Stopped
    return finished


class _Together:
    """Cells in training: what is on the devices, and the call that is under way.

    The host reads what a call gave while the devices are at the next one.

    Attributes:
      pace: how many steps a call may have, so that it takes about `_CALL_SECONDS`.
    """

    def __init__(
        self,
        runs: Sequence[CellRun],
        states: Sequence[TrainState],
        hypers: Sequence[Hyper],
        choice: Choice,
        streams: Streams,
        step: int,
    ):
        self._runs, self._choice, self._streams, self._step = runs, choice, streams, step
        self._carry, self._hyper = placed(states, hypers, choice)
        self._stream = programs.split_cells(_filled(streams.of_cell, choice.size), choice.mesh)
        self._running: tuple[int, int, Any] | None = None
        self._began = time.monotonic()
        self.pace = min(choice.most, 5)

    @property
    def all_stopped(self) -> bool:
        """Whether every cell is frozen, as far as it was looked at."""
        return all(run.stopped is not None for run in self._runs)

    def call(self, count: int) -> None:
        """Begins `count` steps, and looks at the steps before them."""
        choice = self._choice
        batches = self._streams.take(count, choice.streams, choice.most)
        self._carry, metrics = choice.program(
            self._carry,
            self._hyper,
            self._stream,
            programs.copied(batches, choice.mesh),
            jnp.int32(count),
        )
        self._settle()
        self._running = self._step, count, metrics
        self._step += count

    def save(self) -> None:
        """Saves all cells; none is written before its last step is known to be finite or not."""
        self._settle()
        for run, state in zip(self._runs, _apart(self._carry, len(self._runs)), strict=True):
            run.save(state)
        for run in self._runs:
            run.wait()
            run.tell()

    def finished(self, whole: bool) -> list[tuple[CellRun, TrainState]]:
        """All cells after the `whole` training, else those that are frozen, with their states."""
        self._settle()
        states = _apart(self._carry, len(self._runs))
        pairs = zip(self._runs, states, strict=True)
        return [(run, state) for run, state in pairs if whole or run.stopped is not None]

    def _settle(self) -> None:
        """Waits for the call that is under way, and tells each cell its metrics."""
        if self._running is None:
            return
        first, count, metrics = self._running
        self._running = None
        values = jax.device_get(metrics)
        seconds, self._began = time.monotonic() - self._began, time.monotonic()
        self.pace = int(np.clip(_CALL_SECONDS * count / max(seconds, 1e-6), 1, self._choice.most))
        for i, run in enumerate(self._runs):
            for j in range(count):
                run.see(first + j + 1, {name: rows[i, j] for name, rows in values.items()})


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
