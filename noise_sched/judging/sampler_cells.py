"""One model, many samplers: the cells of a sweep, and what each costs."""

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from noise_sched import experiment
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.sampling import example_keys
from noise_sched.experiment import Experiment
from noise_sched.experiment.ranges import ConfigError

AXES = ("schedule", "grid", "solver", "guidance", "steps")
"""The keys of config.sample that a sweep varies, in the order of its table."""


def cells(config: ConfigDict, choices: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the choices, each a dict over `AXES`; an axis without a choice is the config's.

    Raises:
      ConfigError: a choice that cannot be built or does not go with the others; all such are named.
    """
    values = [list(choices.get(axis) or [config.sample[axis]]) for axis in AXES]
    found = [dict(zip(AXES, each, strict=True)) for each in itertools.product(*values)]
    wrong = {}
    for cell in found:
        try:
            experiment.from_config(config_of(config, cell))
        except ValueError as error:
            wrong[str(error)] = cell
    if wrong:
        lines = "\n".join(f"  {name_of(cell)}: {error}" for error, cell in wrong.items())
        raise ConfigError(f"{len(wrong)} of {len(found)} samplers cannot work:\n{lines}")
    return found


def config_of(config: ConfigDict, cell: Mapping[str, Any]) -> ConfigDict:
    """The config with the sampler of a cell."""
    config = copy.deepcopy(config)
    config.sample.update(cell)
    return config


def name_of(cell: Mapping[str, Any]) -> str:
    """What tells a cell from others, on one line."""
    return ", ".join(f"{axis}={cell[axis]}" for axis in AXES)


def network_passes(exp: Experiment) -> int:
    """How many times the networks are evaluated for one image (NFE), guidance's second passes included.

    Counted by running the sampler, step by step and outside of any compiled program, with a denoiser that
    counts; so it is right for every solver, whatever it leaves out at its first and last step.
    """
    count = 0

    def counting(x, level, memory):
        nonlocal count
        count += 1
        return Prediction(x0=0.5 * x, eps=0.5 * x), memory

    with jax.disable_jit():
        key = example_keys(jax.random.key(0), jnp.arange(1))
        exp.sampling.draw(key, counting, counting, exp.levels, (1, 1, 1), targets=exp.targets)
    return count
