"""The averaged parameters of the best step so far, by one figure, kept beside the newest checkpoints."""

import json
import math
from typing import Any, Literal

from noise_sched.training import files, hosts
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.files import Folder


class Best:
    """Keeps the best step in `DIRECTORY`, and in `DIRECTORY.json` which it is and how good.

    A run that is killed and repeats some steps comes out the same: of equal figures the first stays. With
    several hosts every method is to be called on all of them.

    Args:
      directory: where its checkpoint is; made when there is one.
      figure: the name of the figure.
      better: in which direction it is.
    """

    def __init__(self, directory: Folder, figure: str, better: Literal["lower", "higher"]):
        self._directory, self._figure, self._better = directory, figure, better
        self._record = directory.with_name(f"{directory.name}.json")

    def offer(self, step: int, value: float | None, averages: Any) -> bool:
        """Keeps the averages of a step if it is better than all before.

        Args:
          step: the number of steps taken.
          value: the figure, which the first host knows; one that is not finite is never the best.
          averages: the moving averages, in the layout that checkpoints have them in.

        Returns:
          Whether it is the best.

        Raises:
          OutOfSpace: if the disk is full.
        """
        if not hosts.first(lambda: self._is_better(value)):
            return False
        with Checkpoints(self._directory, keep=1) as checkpoints:
            checkpoints.save_ema(step, averages)
            checkpoints.wait()
        record = {"step": step, "figure": self._figure, "value": value}
        hosts.first(lambda: files.write_text(self._record, json.dumps(record) + "\n"))
        return True

    def _is_better(self, value: float | None) -> bool:
        if value is None or not math.isfinite(value):
            return False
        try:
            record = json.loads(self._record.read_text())
        except (OSError, ValueError):  # none yet
            return True
        if record.get("figure") != self._figure:  # another figure decides from now on
            return True
        return value < record["value"] if self._better == "lower" else value > record["value"]
