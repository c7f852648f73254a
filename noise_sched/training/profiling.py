"""A trace of a few steps, for TensorBoard's profiler or Perfetto.

pip install tensorboard xprof;  tensorboard --logdir=WORKDIR/profile
"""

import dataclasses
from typing import Any

import jax

from noise_sched.training.files import Folder
from noise_sched.training.step import TrainStep


@dataclasses.dataclass(frozen=True)
class Profile:
    """Which steps are traced, and where to.

    Attributes:
      start, stop: the first step in the trace, and the one after the last, of the whole run.
      folder: where the trace goes.
    """

    start: int
    stop: int
    folder: Folder

    @classmethod
    def of(cls, text: str, folder: Folder) -> "Profile":
        """The steps that "START:STOP" names.

        Raises:
          ValueError: if it names none.
        """
        start, colon, stop = text.partition(":")
        whole = colon and start.isdecimal() and stop.isdecimal()
        if not whole or not 0 <= int(start) < int(stop):
            raise ValueError(
                f"--profile={text}: expected START:STOP, two numbers of steps, the second larger, such as "
                "--profile=20:25. The first step of a start compiles: leave it out."
            )
        return cls(int(start), int(stop), folder)

    def around(self, step: TrainStep, done: int) -> TrainStep:
        """The step, traced when its number is due.

        Args:
          step: the compiled step.
          done: the steps done before the first call.
        """
        number = done

        def traced(state: Any, batch: Any) -> Any:
            nonlocal number
            if number == self.start:
                jax.block_until_ready(state)
                jax.profiler.start_trace(str(self.folder))
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                result = step(state, batch)
            number += 1
            if number == self.stop and done <= self.start:
                jax.block_until_ready(result)
                jax.profiler.stop_trace()
            return result

        return traced
