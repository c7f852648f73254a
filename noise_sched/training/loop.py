"""The loop around the train step: batches in, metrics out, checkpoints, and a clean way to stop.

The host never waits for the step that is running: it reads the metrics of step k while the device
is at step k + 1. A loss that is not finite is thus seen one step late, which costs nothing, as the
train step itself refuses to apply such an update.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.metrics import MetricWriter
from noise_sched.training.progress import Progress
from noise_sched.training.state import TrainState
from noise_sched.training.step import TrainStep


class NonFiniteLoss(RuntimeError):
    """A loss, gradient or parameter that is not finite; training stopped.

    Attributes:
      step: the step whose update was refused, counted from 1.
      state: the last finite state.
    """

    def __init__(self, message: str, *, step: int, state: TrainState):
        super().__init__(message)
        self.step = step
        self.state = state


class Hook(NamedTuple):
    """Something to do every so many steps, such as drawing samples.

    `run(step, state)` must keep no reference to the state's arrays: the next step donates them.
    """

    every: int
    run: Callable[[int, TrainState], None]


class Fitted(NamedTuple):
    """Where `fit` left off: `step` is below the number asked for if a signal stopped it."""

    state: TrainState
    step: int


def fit(
    state: TrainState,
    train_step: TrainStep,
    batches: Iterator[Any],
    *,
    steps: int,
    place: Callable[[Any], Any] = jax.device_put,
    checkpoints: Checkpoints | None = None,
    checkpoint_every: int = 1000,
    writer: MetricWriter | None = None,
    log_every: int = 100,
    progress: Progress | None = None,
    hooks: Sequence[Hook] = (),
) -> Fitted:
    """Trains until `steps` steps are done in all, from wherever `state` is.

    SIGTERM (a machine about to be taken away) and SIGINT (ctrl-C) end it after the step at hand,
    with a checkpoint; a second SIGINT interrupts at once. Under `jax.distributed` jax itself
    notices SIGTERM, and all hosts stop after the same step.

    Args:
      state: where to start; donated.
      train_step: from `make_train_step`.
      batches: yields this process's rows as numpy; its `get_state()`, if it has one, is saved with
        each checkpoint.
      steps: the steps of the whole run, those before a resume included.
      place: turns a batch of rows into device arrays, such as `partitioning.to_global` on a mesh.
      checkpoints: where to save; None not to.
      checkpoint_every: save after this many steps; the last state is saved in any case.
      writer: where metrics go; None for nowhere. Written are the means over the steps since the
        last time.
      log_every: write metrics after this many steps.
      progress: the progress line; None for none.
      hooks: run after their numbers of steps.

    Returns:
      The final state and how many steps it has had.

    Raises:
      NonFiniteLoss: if a step's loss, gradient norm or updated parameters are not finite. The
        checkpoints are left as they were; no later state is saved.
      ValueError: if the batches run out, or a cadence is below 1.
    """
    for name, every in (
        ("checkpoint_every", checkpoint_every),
        ("log_every", log_every),
        *(("a hook's every", hook.every) for hook in hooks),
    ):
        if every < 1:
            raise ValueError(f"{name} must be at least 1, got {every}")

    start = int(state.step)
    window = _Window(log_every, writer, progress, start)
    running: tuple[int, dict[str, jax.Array]] | None = None

    def settle() -> None:
        """Waits for the step that is running, and looks at its metrics."""
        nonlocal running
        if running is not None:
            number, metrics = running
            running = None
            values = jax.device_get(metrics)
            if not values["finite"]:
                window.flush(number - 1)
                if progress is not None:
                    progress.close()
                _stop_non_finite(number, values, state, checkpoints)
            window.add(number, values)

    def save(step: int) -> None:
        if checkpoints is not None:
            window.keep(step, checkpoints.steps())
            position = batches.get_state() if hasattr(batches, "get_state") else None
            checkpoints.save(step, state, position)

    step = start
    with _StopSignals() as signals:
        while step < steps:
            try:
                batch = next(batches)
            except StopIteration:
                raise ValueError(
                    f"the data ended after step {step} of {steps}: the batches must repeat"
                ) from None
            state, metrics = train_step(state, place(batch))
            step += 1
            settle()
            for value in metrics.values():
                value.copy_to_host_async()
            running = (step, metrics)

            stop = signals.stop_after(step)
            due = [hook for hook in hooks if step % hook.every == 0]
            # Nothing is saved, drawn or left before the step just run is known to be finite.
            if due or stop or step == steps or step % checkpoint_every == 0:
                settle()
            if step == steps:
                window.flush(step)
            if stop or step == steps or step % checkpoint_every == 0:
                save(step)
            for hook in due:
                hook.run(step, state)
            if stop:
                break
    if checkpoints is None:
        window.flush(step)  # else the steps since the last line are kept with the checkpoint
    if progress is not None:
        progress.close()
    if checkpoints is not None:
        checkpoints.wait()
    if step < steps:
        saved = "" if checkpoints is None else f", saved in {checkpoints.directory}"
        logging.warning(
            "stopped by a signal after step %d of %d%s: the same command goes on from there",
            step,
            steps,
            saved,
        )
    return Fitted(state=state, step=step)


def _stop_non_finite(
    step: int, values: dict[str, Any], state: TrainState, checkpoints: Checkpoints | None
) -> None:
    kept = "There is no checkpoint yet."
    if checkpoints is not None:
        checkpoints.wait()
        latest = checkpoints.latest_step()
        if latest is not None:
            kept = f"The last good checkpoint is that of step {latest}, in {checkpoints.directory}."
    raise NonFiniteLoss(
        f"step {step} is not finite (loss {values['loss']}, gradient norm {values['grad_norm']}, "
        f"parameter norm {values['param_norm']}): its update was not applied and training stopped. "
        f"{kept} A lower learning rate, a longer warm-up or gradient clipping may help.",
        step=step,
        state=state,
    )


class _Window:
    """The means of the metrics over the steps since they were last written."""

    def __init__(
        self, every: int, writer: MetricWriter | None, progress: Progress | None, start: int
    ):
        self._every, self._writer, self._progress = every, writer, progress
        kept = [] if writer is None else writer.window(start)
        # Another cadence than before the resume may have its last line elsewhere.
        self._rows = [row for row in kept if row["step"] > start // every * every]

    def add(self, step: int, values: dict[str, Any]) -> None:
        row = {name: float(value) for name, value in values.items() if name != "finite"}
        self._rows.append(row | {"step": step})
        if self._progress is not None:
            self._progress.update(step, row["loss"])
        if step % self._every == 0:
            self.flush(step)

    def flush(self, step: int) -> None:
        if self._rows and self._writer is not None:
            names = [name for name in self._rows[-1] if name != "step"]
            means = {n: np.mean([row[n] for row in self._rows if n in row]) for n in names}
            self._writer.scalars(step, means)
        self._rows.clear()

    def keep(self, step: int, steps: Sequence[int]) -> None:
        """Keeps the values since the last line for a resume from a checkpoint, besides those of `steps`."""
        if self._writer is not None:
            self._writer.keep_window(step, self._rows, steps)


class _StopSignals:
    """Notes SIGTERM and SIGINT instead of dying of them, for as long as it is entered."""

    def __init__(self):
        self._received = False
        self._previous: dict[int, Any] = {}
        # jax.distributed has its own notice of SIGTERM, agreed upon between the hosts.
        self._distributed = jax.distributed.is_initialized()

    def __enter__(self) -> "_StopSignals":
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and not self._distributed:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def stop_after(self, step: int) -> bool:
        if self._distributed:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._received

    def _note(self, number: int, frame: Any) -> None:
        if self._received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = True
        logging.warning("got %s: stopping after this step", signal.Signals(number).name)
