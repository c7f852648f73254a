"""Writes a converted snapshot as the workdir that training would have written.

The checkpoint is of step 0: the snapshot's moving average stands for both the parameters and theirs, and
the optimizer has seen nothing.
"""

from noise_sched.experiment import keys, workdir
from noise_sched.interop.nvlabs.settings import Converted
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.files import Folder
from noise_sched.training.state import TrainState


def write(converted: Converted, folder: Folder) -> None:
    """Writes config and checkpoint into a new or empty folder.

    Raises:
      ValueError: if it is not empty.
      OSError: if it cannot be written.
    """
    workdir.check_unused(folder)
    built = converted.experiment
    _, run_key = keys.of_training(built.config.seed)
    state = TrainState.create(converted.params, built.optimizer, run_key)
    workdir.claim(folder, built.config)
    with Checkpoints(workdir.checkpoints(folder)) as checkpoints:
        checkpoints.save(0, state)
