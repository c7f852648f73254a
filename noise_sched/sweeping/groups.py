"""Which cells one program can train: those whose configs differ in numbers of `Hyper`, and in schedules."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from noise_sched.diffusion.numbers import is_off
from noise_sched.experiment import Experiment
from noise_sched.experiment.hyper import SWITCHES, Hyper
from noise_sched.experiment.ranges import leaves
from noise_sched.sweeping.families import one_of

# Config keys that reach the program of a step through `Hyper` alone, or do not reach it.
_NUMBERS = (
    "seed",
    "schedule",
    "process",
    "input_scale",
    "conditioning",
    "parametrization",
    "sigma_data",
    "loss.",
    "label_dropout",
    "augment.",
    "train.time",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "ema.decay",
    "ema.halflife_images",
    "ema.snapshot_every",
    "data.name",
    "data.split",
    "data.data_dir",
    "data.flip",
    "train.log_every",
    "train.checkpoint_every",
    "train.keep",
    "train.image_every",
    "train.eval_every",
    "train.skip_nonfinite",
    "train.stop_if_unsaved",
    "train.digests",
    "partition.mesh",
    "eval.",
    "sample.",
)


def group(experiments: Sequence[Experiment]) -> list[list[int]]:
    """The numbers of the experiments that one program can train, group by group, in order."""
    found: dict[Any, list[int]] = {}
    for number, exp in enumerate(experiments):
        found.setdefault(structure(exp), []).append(number)
    return list(found.values())


def structure(exp: Experiment) -> Any:
    """Equal where one program serves: all that is compiled in, but for the schedule's family."""
    fixed = [
        (key, repr(value)) for key, value in leaves(exp.config) if not key.startswith(_NUMBERS)
    ]
    off = tuple(is_off(getattr(place, name)) for place, name in _switches(exp.hyper))
    return tuple(fixed), jax.tree.structure(_without_family(exp.hyper)), off


def _switches(hyper: Hyper) -> list[tuple[Any, str]]:
    """The rates that are left out of the program where they are 0, each with what has it."""
    return [(hyper.objective if hasattr(hyper.objective, n) else hyper, n) for n in SWITCHES]


def _without_family(hyper: Hyper) -> Hyper:
    """The numbers with a schedule of no family: those of all families can be in one program."""
    objective = dataclasses.replace(hyper.objective, schedule=one_of(0, ()))
    return dataclasses.replace(hyper, objective=objective)
