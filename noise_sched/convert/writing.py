"""Writes a converted snapshot as the workdir that training would have written.

The checkpoint is of step 0: the snapshot's moving average stands for both the parameters and theirs, and
the optimizer has seen nothing.
"""

import pathlib
import tempfile

from noise_sched import keys, workdir
from noise_sched.convert.settings import Converted
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.state import TrainState


def write(converted: Converted, folder: pathlib.Path) -> None:
    """Writes config and checkpoint into a new or empty folder: all of it, or nothing.

    Raises:
      ValueError: if it is not empty.
      OSError: if it cannot be written.
    """
    workdir.check_unused(folder)
    built = converted.experiment
    _, run_key = keys.of_training(built.config.seed)
    state = TrainState.create(converted.params, built.optimizer, run_key)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A checkpoint can be moved; a folder that is not there yet takes its name in one step.
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=f"{folder.name}.partial-"
    ) as partial:
        made = pathlib.Path(partial) / folder.name
        workdir.claim(made, built.config)
        with Checkpoints(workdir.checkpoints(made)) as checkpoints:
            checkpoints.save(0, state)
        made.rename(folder)
