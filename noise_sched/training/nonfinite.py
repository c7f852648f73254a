"""Steps that are not finite: passed over for a few in a row, then training stops.

The train step never applies such an update, and its random key depends on the step's number alone. So
going on is all that passing over takes: the next step has the next batch and draws of its own, and the
images of the one passed over come again in the next epoch. What a run computes is then a function of its
config and nothing else: where it was interrupted, and how many steps in a row it may pass over, decide
when it stops and not what it becomes.

Therefore a run that stops saves its state: the last finite parameters, with the number of steps and the
data's position as they are, beyond the steps that were not finite. The same command goes on from there,
and counts anew.

In a grid, many models trained as one program, each cell passes over its own steps. Only steps that no cell
survives are counted: one model that has diverged does not stop the others.
"""

from typing import Any

import numpy as np
from absl import logging

from noise_sched.messages import shown
from noise_sched.training.state import TrainState


class NonFiniteLoss(RuntimeError):
    """Losses, gradients or parameters that are not finite, too many in a row; training stopped.

    Attributes:
      step: the last step whose update was refused, counted from 1.
      state: the last finite state.
    """

    def __init__(self, message: str, *, step: int, state: TrainState):
        super().__init__(message)
        self.step = step
        self.state = state


class NonFiniteSteps:
    """Counts the steps in a row whose updates were refused, in a grid in all cells.

    Every host sees the same metrics, so all of them decide alike.

    Attributes:
      too_many: whether there were more in a row than may be passed over.
      none_finite: whether no step has been finite yet.
    """

    def __init__(self, allowed: int, *, start: int, of: str = ""):
        """`allowed` steps in a row are passed over, from step `start` on; `of` is the run, for messages."""
        if allowed < 0:
            raise ValueError(
                f"skip_nonfinite must be at least 0, got {allowed}: the number of steps in a row "
                "that may be passed over"
            )
        self._allowed, self._start, self._of = allowed, start, of and f" of {of}"
        self._in_a_row = 0
        self._failing: set[int] = set()  # the cells whose last step was not finite
        self._last: tuple[int, dict[str, Any]] | None = None
        self.too_many = False
        self.none_finite = True

    def see(self, step: int, values: dict[str, Any]) -> None:
        """Takes note of the metrics of `step`, with a warning if it is passed over.

        Of a grid with finite cells there is a warning only where a cell begins to fail.
        """
        finite = np.asarray(values["finite"]) > 0
        before, self._failing = self._failing, set(np.flatnonzero(~finite).tolist())
        if finite.any():
            self._in_a_row = 0
            self.none_finite = False
            if self._failing - before:
                logging.warning(
                    "%s: the updates of these cells are not applied, and training goes on",
                    self._described(step, values),
                )
            return
        self._in_a_row += 1
        if self._in_a_row > self._allowed:
            self.too_many = True
        if self.too_many:
            self._last = step, values
            return
        logging.warning(
            "%s: its update is not applied and training goes on, at most %d such steps in a row",
            self._described(step, values),
            self._allowed,
        )

    def error(self, state: TrainState, saved: str) -> NonFiniteLoss:
        """What to raise where there are too many; `saved` says where the state is."""
        assert self._last is not None
        step, values = self._last
        return NonFiniteLoss(
            f"{self._described(step, values)}, more in a row than skip_nonfinite={self._allowed} allows. No "
            f"such update was applied, and training stopped. {saved} {self._advice()}",
            step=step,
            state=state,
        )

    def _advice(self) -> str:
        if self.none_finite:
            return (
                f"No step since step {self._start} was finite, so rare draws are not the cause: look for "
                "images that are not finite, and at the learning rate. Train anew with a lower one, a "
                "longer warm-up or gradient clipping, or remove the newest checkpoints to go on from "
                "an older one."
            )
        return (
            "Should it stop again, look at the last losses before it: if they grow, a lower learning "
            "rate, a longer warm-up or gradient clipping may help; if they do not, at the images."
        )

    def _described(self, step: int, values: dict[str, Any]) -> str:
        """What a step's numbers were, in a grid those of the cells that are not finite."""
        failing = np.asarray(values["finite"]) == 0
        where, numbers = "", {n: values[n] for n in ("loss", "grad_norm", "param_norm")}
        if failing.ndim:
            where = f" in the cells {shown(np.flatnonzero(failing).tolist())} of {failing.size}"
            numbers = {n: shown(np.asarray(v)[failing].tolist()) for n, v in numbers.items()}
        return (
            f"step {step}{self._of} is not finite{where} (loss {numbers['loss']}, gradient norm "
            f"{numbers['grad_norm']}, parameter norm {numbers['param_norm']})"
        )
