"""What the host does for one cell while many are trained together: its workdir, as `train` would leave it."""

import contextlib
import pathlib
from typing import Any

from noise_sched.experiment import workdir
from noise_sched.sweeping import record
from noise_sched.sweeping.cells import Cell
from noise_sched.sweeping.record import Status
from noise_sched.training.checkpoints import Checkpoints, Restored
from noise_sched.training.metrics import MetricWriter
from noise_sched.training.nonfinite import NonFiniteSteps
from noise_sched.training.state import TrainState
from noise_sched.training.window import Window


class CellRun:
    """One cell's files: claimed when it is entered, closed when it is left.

    Attributes:
      cell: the cell.
      stopped: the step after which it was frozen, since too many in a row were not finite; None as long as it
        is not.
    """

    def __init__(self, sweep: pathlib.Path, cell: Cell):
        self.cell = cell
        self.stopped: int | None = None
        self._sweep, self._folder = sweep, record.folder_of(sweep, cell)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "CellRun":
        with contextlib.ExitStack() as entered:
            entered.enter_context(workdir.hold(self._folder, self.cell.config))
            self._checkpoints = entered.enter_context(
                Checkpoints(
                    workdir.checkpoints(self._folder),
                    keep=self.cell.config.train.keep,
                    digests=self.cell.config.train.digests,
                )
            )
            self._open = entered.pop_all()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._open.__exit__(*exc_info)

    def restore(self, abstract: TrainState) -> Restored | None:
        """The newest sound checkpoint, or None; damaged ones are passed over."""
        return self._checkpoints.restore(abstract)

    def begin(self, start: int) -> None:
        """Opens the log after step `start`."""
        self._writer = self._open.enter_context(
            MetricWriter(self._folder, resume_step=start, tensorboard=False)
        )
        train = self.cell.config.train
        self._window = Window(train.log_every, self._writer, None, start)
        self._faults = NonFiniteSteps(train.skip_nonfinite, start=start, of=self.cell.name)
        self._step = start
        self._same: int | None = start or None  # the checkpoint that has the parameters as they are

    def see(self, step: int, values: dict[str, Any]) -> None:
        """Takes note of the metrics of one step."""
        if self.stopped is not None:
            return
        self._faults.see(step, values)
        self._window.add(step, values)
        self._step = step
        self._same = None if values["finite"] > 0 else self._same
        if self._faults.too_many:
            self.stopped = step

    def save(self, state: TrainState) -> None:
        """Saves the state that all steps seen have led to; `wait` waits until it is on disk."""
        step = self._step
        self._window.keep(step, self._checkpoints.steps())
        position = {"next_index": step}
        if self._same is None:
            self._checkpoints.save(step, state, position)
        else:
            self._checkpoints.replace(self._same, step, state, position)
        self._same = step

    def wait(self) -> None:
        """Waits for the save in progress."""
        self._checkpoints.wait()

    def end(self, state: TrainState) -> None:
        """After the last step, or a stop for good: writes and saves what is left."""
        self._window.flush(self._step)
        self.save(state)
        self.wait()
        if self.stopped is None:
            self._say(Status("trained"))
            return
        saved = f"The last finite parameters are saved as step {self._step}."
        self._say(Status("stopped", message=str(self._faults.error(state, saved))))

    def tell(self) -> None:
        """Writes how far it is, unless it is frozen: `end` says why."""
        if self.stopped is None:
            self._say(Status("running"))

    def _say(self, status: Status) -> None:
        loss = self._window.means.get("loss")
        whole = status._replace(step=self._step, steps=self.cell.config.train.steps, loss=loss)
        record.write_status(self._sweep, self.cell, whole)
