"""Writes a converted snapshot as the workdir that training would have written.

The checkpoint is of step 0: the snapshot's moving average stands for both the parameters and theirs, and
the optimizer has seen nothing.
"""

import pathlib

import jax

from noise_sched import workdir
from noise_sched.convert.settings import Converted
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.state import TrainState


def check_unused(folder: pathlib.Path) -> None:
    """Refuses a folder that holds anything: nothing is ever overwritten.

    Raises:
      ValueError: if it does.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"--workdir={folder} is not empty. Give a new folder: nothing here is overwritten."
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--workdir={folder} is a file. Give a new folder.")


def write(converted: Converted, folder: pathlib.Path) -> None:
    """Writes config and checkpoint into a new or empty folder.

    Raises:
      ValueError: if it is not empty.
      OSError: if it cannot be written.
    """
    check_unused(folder)
    built = converted.experiment
    key = jax.random.key(built.config.seed)
    state = TrainState.create(converted.params, built.optimizer, key)
    workdir.claim(folder, built.config)
    with Checkpoints(workdir.checkpoints(folder)) as checkpoints:
        checkpoints.save(0, state)
