"""When training saves, and what it does when a save fails.

Checkpoints are written in the background, so that a save fails after it was asked for. It is noticed at the
next step, told, and tried again at once with the state of that step. A second failure in a row, or a disk
that is full, stops training, or with `go_on` leaves it to the next save that is due: there may be room by
then.
"""

from typing import Any

from absl import logging

from noise_sched.training import faults, hosts
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.state import TrainState
from noise_sched.training.window import Window


class Saver:
    """Saves a run's states; without `checkpoints` it saves nothing."""

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        batches: Any,
        window: Window,
        start: int,
        *,
        go_on: bool = False,
    ):
        """Begins after a restored or fresh state.

        Args:
          checkpoints: where to save; None not to.
          batches: their `get_state()`, if they have one, is saved with each state.
          window: its values since the last line are kept with each state.
          start: the step of the checkpoint that was restored, 0 for none.
          go_on: train on where saving fails twice in a row, instead of raising.
        """
        self._checkpoints, self._batches, self._window = checkpoints, batches, window
        self._go_on = go_on
        self._same: int | None = (
            start or None
        )  # the checkpoint that holds the parameters as they are
        self._failures = 0  # in a row
        self._under_way = False
        self._missing = False  # whether the state that was to be saved is not

    def changed(self) -> None:
        """To be called when a step has changed the parameters."""
        self._same = None

    def failed(self, step: int) -> bool:
        """Whether a save has failed in the background and is to be done again now; does not wait for it.

        Raises:
          Exception: what a second failure in a row was, unless it is to go on.
        """
        failure = self._failure(wait=False)
        if failure is not None:
            self._note(failure, step)
        return failure is not None and self._failures == 1

    def save(self, step: int, state: TrainState) -> None:
        """Saves a state, once more if that fails.

        Raises:
          Exception: what a second failure in a row was, unless it is to go on.
        """
        if self._checkpoints is None:
            return
        if (failure := self._failure(wait=True)) is not None:
            self._note(failure, step)
        self._missing = True
        while self._missing:
            try:
                self._begin(step, state)
            except Exception as error:  # what a file system raises has many types
                if hosts.several():  # the others wait for this one: it cannot go on alone
                    raise
                self._note(error, step)
                if self._failures > 1:
                    return

    def finish(self, step: int, state: TrainState) -> None:
        """Waits until the last state is on disk; saves it once more if it is not.

        Raises:
          Exception: what kept it from that.
        """
        failure = self._failure(wait=True)
        if failure is None and not self._missing:
            return
        self._go_on = False  # this is the last chance
        if failure is not None:
            self._note(failure, step)
        self._begin(step, state)
        if (failure := self._failure(wait=True)) is not None:
            raise failure

    def _begin(self, step: int, state: TrainState) -> None:
        assert self._checkpoints is not None
        self._window.keep(step, self._checkpoints.steps())
        get_state = getattr(self._batches, "get_state", None)
        position = None if get_state is None else get_state()
        if self._same is None:
            self._checkpoints.save(step, state, position)
        else:
            self._checkpoints.replace(self._same, step, state, position)
        self._same, self._under_way, self._missing = step, True, False

    def _failure(self, *, wait: bool) -> Exception | None:
        """Why the save in progress failed; None if it has not, or is still going on."""
        if self._checkpoints is None or not self._under_way:
            return None
        failure, ended = self._checkpoints.outcome(wait=wait)
        if ended:
            self._under_way = False
            self._failures = 0 if failure is None else self._failures
        return failure

    def _note(self, error: Exception, step: int) -> None:
        """Tells of a failure; raises it where it is the second in a row."""
        assert self._checkpoints is not None
        self._failures += 1
        self._same, self._missing = None, True
        final = self._failures > 1 or isinstance(error, faults.OutOfSpace)
        if final and not self._go_on:
            raise error
        there = max(self._checkpoints.on_disk(), default=None)
        logging.warning(
            "a checkpoint could not be written to %s (%s); %s. %s",
            self._checkpoints.directory,
            faults.brief(error),
            "there is none yet" if there is None else f"the last one is that of step {there}",
            f"Saving again, after step {step}."
            if self._failures == 1
            else "Training goes on, and saves again when it is due.",
        )
