"""The loop around the train step: batches in, metrics out, checkpoints, and a clean way to stop.

The host never waits for the step that is running: it reads the metrics of step k while the device
is at step k + 1. A loss that is not finite is thus seen one step late, which costs nothing, as the
train step itself refuses to apply such an update; see `nonfinite` for what follows.

A state may also be that of a grid, many models trained as one program: then all its arrays, and the
metrics, begin with an axis of cells.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from noise_sched.training import hosts
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.goodput import Clock
from noise_sched.training.metrics import MetricWriter
from noise_sched.training.nonfinite import NonFiniteLoss, NonFiniteSteps
from noise_sched.training.progress import Progress
from noise_sched.training.saving import Saver
from noise_sched.training.state import TrainState
from noise_sched.training.step import TrainStep
from noise_sched.training.window import Window

__all__ = ["AGAIN", "Fitted", "Hook", "NonFiniteLoss", "fit"]

AGAIN = 75
"""Exit code of a command that a signal stopped: give it again (EX_TEMPFAIL of sysexits.h)."""


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
    skip_nonfinite: int = 0,
    go_on_unsaved: bool = False,
    clock: Clock | None = None,
) -> Fitted:
    """Trains until `steps` steps are done in all, from wherever `state` is.

    SIGTERM (a machine about to be taken away) and SIGINT (ctrl-C) end it after the step at hand,
    with a checkpoint; a second SIGINT interrupts at once. Under `jax.distributed` jax itself
    notices SIGTERM, and all hosts stop after the same step.

    Args:
      state: where to start; donated.
      train_step: from `compile_step`, or of a grid: its metrics are then arrays of one value per cell.
      batches: yields this process's rows as numpy; its `get_state()`, if it has one, is saved with
        each checkpoint.
      steps: the steps of the whole run, those before a resume included.
      place: turns a batch of rows into device arrays, such as `partitioning.to_global` on a mesh.
      checkpoints: where to save; None not to.
      checkpoint_every: save after this many steps; the last state is saved in any case.
      writer: where metrics go; None for nowhere. Written are the means over the steps since the
        last time, without those that were not finite; "skipped" is the number of those, where
        there are any. In a grid, of each cell over its own finite steps.
      log_every: write metrics after this many steps.
      progress: the progress line; None for none. Of a grid it shows the mean loss.
      hooks: run after their numbers of steps.
      skip_nonfinite: so many steps in a row may be not finite, each passed over with a warning; one
        more stops training. In a grid a step counts that is finite in no cell.
      go_on_unsaved: where checkpoints cannot be written, train on and try again when the next one is due,
        instead of stopping at the second failure in a row.
      clock: counts where the time goes, and is written with every line of metrics; None for no count.

    Returns:
      The final state and how many steps it has had.

    Raises:
      NonFiniteLoss: if the losses, gradient norms or updated parameters of more than `skip_nonfinite`
        steps in a row are not finite. The last finite state is saved, so that the same command goes
        on behind those steps.
      OutOfSpace, Exception: what kept a checkpoint from being written twice in a row, or the last one.
      ValueError: if the batches run out, a cadence is below 1 or `skip_nonfinite` below 0.
    """
    for name, every in (
        ("checkpoint_every", checkpoint_every),
        ("log_every", log_every),
        *(("a hook's every", hook.every) for hook in hooks),
    ):
        if every < 1:
            raise ValueError(f"{name} must be at least 1, got {every}")

    start = int(np.asarray(state.step).flat[0])  # all cells of a grid are at the same step
    clock = Clock() if clock is None else clock
    window = Window(log_every, writer, progress, start, clock)
    faults = NonFiniteSteps(skip_nonfinite, start=start)
    saver = Saver(checkpoints, batches, window, start, go_on=go_on_unsaved)
    running: tuple[int, dict[str, jax.Array]] | None = None

    def settle() -> None:
        """Waits for the step that is running, and looks at its metrics."""
        nonlocal running
        if running is not None:
            number, metrics = running
            running = None
            with clock("step"):
                values = jax.device_get(metrics)
            faults.see(number, values)
            if np.any(values["finite"]):
                saver.changed()
            window.add(number, values)

    step = start
    with StopSignals() as signals:
        while step < steps:
            try:
                with clock("input"):
                    batch = next(batches)
            except StopIteration:
                raise ValueError(
                    f"the data ended after step {step} of {steps}: the batches must repeat"
                ) from None
            except Exception:  # unreadable data: once it is mended, the run goes on from here
                if not hosts.several():  # the others would wait for this one in the next step
                    settle()
                    saver.save(step, state)
                    saver.finish(step, state)
                raise
            with clock("compile" if step == start else "step"):
                state, metrics = train_step(state, place(batch))
            step += 1
            settle()
            for value in metrics.values():
                value.copy_to_host_async()
            running = (step, metrics)

            stop = signals.stop_after(step)
            save = stop or step == steps or step % checkpoint_every == 0 or saver.failed(step)
            due = [hook for hook in hooks if step % hook.every == 0]
            # Nothing is saved, drawn or left before the step just run is known to be finite or not.
            if due or save or faults.too_many:
                settle()
            stop = stop or faults.too_many
            if step == steps:
                window.flush(step)
            if save or stop:
                with clock("checkpoint"):
                    saver.save(step, state)
            for hook in due:
                with clock("evaluation"):
                    hook.run(step, state)
            if stop:
                break
    if checkpoints is None:
        window.flush(step)  # else the steps since the last line are kept with the checkpoint
    if progress is not None:
        progress.close()
    with clock("checkpoint"):
        saver.finish(step, state)
    if faults.too_many:
        raise faults.error(state, _where_saved(step, checkpoints))
    if step < steps:
        saved = "" if checkpoints is None else f", saved in {checkpoints.directory}"
        logging.warning(
            "stopped by a signal after step %d of %d%s: the same command goes on from there",
            step,
            steps,
            saved,
        )
    return Fitted(state=state, step=step)


def _where_saved(step: int, checkpoints: Checkpoints | None) -> str:
    if checkpoints is None:
        return "Nothing was saved."
    return (
        f"The last finite parameters are saved as step {step} in {checkpoints.directory}: the same "
        "command goes on from there, with the next images and other draws."
    )


class StopSignals:
    """Notes SIGTERM and SIGINT instead of dying of them, for as long as it is entered."""

    def __init__(self):
        self._received = False
        self._previous: dict[int, Any] = {}
        # jax.distributed has its own notice of SIGTERM, agreed upon between the hosts.
        self._distributed = jax.distributed.is_initialized()

    def __enter__(self) -> "StopSignals":
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
