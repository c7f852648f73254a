r"""Diffusers' scheduler_config.json -> our choices; `writing` is the way back.

    loaded = read("scheduler_config.json", steps=50)     or load({...}, steps=50)

Such a file holds a table of betas, what the network predicts, a rule for the steps and a solver's
options, all under one class name. Every field of it is used, or is reported by name with the reason in
`Loaded.fields`: nothing is ignored silently. What the file does not hold (the loss, its weight, the number
of steps, guidance) is what its users do: the loss in the network's own parametrization, weight 1.

The classes and fields are those of diffusers 0.42: `diffusers.fields` lists those that are read, and
`diffusers.methods` those that are another method. Diffusers' defects that decide what a file draws are
findings of their own (`findings`); where a rule of steps has no spec here, `spacing` is a grid with those
steps.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax

from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import Sampling
from noise_sched.interop.diffusers.fields import FIELDS as FIELDS
from noise_sched.interop.diffusers.flow import load_flow, load_minimax
from noise_sched.interop.diffusers.judging import audit_loaded as audit_loaded
from noise_sched.interop.diffusers.judging import findings as findings
from noise_sched.interop.diffusers.paths import spacing as spacing
from noise_sched.interop.diffusers.reader import DiffusersConfigError as DiffusersConfigError
from noise_sched.interop.diffusers.reader import FieldReport as FieldReport
from noise_sched.interop.diffusers.reader import Loaded as Loaded
from noise_sched.interop.diffusers.reader import Reader
from noise_sched.interop.diffusers.sigmas import (
    load_cosine_dpm,
    load_edm,
    load_karras_ve,
    load_score_ve,
    load_score_vp,
)
from noise_sched.interop.diffusers.tables import (
    load_ipndm,
    load_table,
    load_unclip,
    load_wuerstchen,
)

MAX_STEPS = 1_000_000

_LOADERS: dict[str, Callable[[Reader, int], tuple[Objective, Sampling]]] = {
    "EDMEulerScheduler": load_edm,
    "EDMDPMSolverMultistepScheduler": load_edm,
    "CosineDPMSolverMultistepScheduler": load_cosine_dpm,
    "KarrasVeScheduler": load_karras_ve,
    "ScoreSdeVeScheduler": load_score_ve,
    "ScoreSdeVpScheduler": load_score_vp,
    "FlowMatchEulerDiscreteScheduler": load_flow,
    "FlowMatchHeunDiscreteScheduler": load_flow,
    "FlowMatchLCMScheduler": load_flow,
    "IPNDMScheduler": load_ipndm,
    "MiniMaxH3Scheduler": load_minimax,
    "UnCLIPScheduler": load_unclip,
    "DDPMWuerstchenScheduler": load_wuerstchen,
}


def read(path: str | pathlib.Path, steps: int = 50) -> Loaded:
    """Loads a scheduler_config.json; see `load`.

    Raises:
      DiffusersConfigError: if it is none.
      OSError: if it cannot be read.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise DiffusersConfigError(
            f"{path} is a folder; give the file, usually {path / 'scheduler_config.json'}."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise DiffusersConfigError(
            f"{path} is nested too deeply: a scheduler_config.json is one flat object."
        ) from None
    except ValueError as error:  # of JSON, of UTF-8, and of a number of too many digits
        raise DiffusersConfigError(f"{path} is not JSON: {error}.") from None
    try:
        return load(config, steps)
    except DiffusersConfigError as error:
        raise DiffusersConfigError(f"{path}: {error}") from None


def load(config: Any, steps: int = 50) -> Loaded:
    """A scheduler config as our choices.

    Args:
      config: the file's contents.
      steps: the number of sampling steps, which no such file holds; 50 is the pipelines' default.

    Raises:
      DiffusersConfigError: no class name, a class that cannot be read, a value that a field cannot hold,
        or steps that the class cannot take.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MAX_STEPS:
        raise DiffusersConfigError(
            f"steps must be a whole number in [1, {MAX_STEPS}], got {steps!r}."
        )
    reader = Reader(config)
    with jax.enable_x64(True):
        try:
            objective, sampling = _LOADERS.get(reader.class_name, load_table)(reader, steps)
            sampling.grid(sampling.steps)
        except DiffusersConfigError:
            raise
        except (ValueError, TypeError) as error:
            raise DiffusersConfigError(f"{reader.class_name}: {error}") from None
    return Loaded(reader.class_name, dict(config), objective, sampling, reader.finish())
