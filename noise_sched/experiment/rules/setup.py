"""What the rules judge: how a model is trained and sampled; and choices as the text of a config."""

import dataclasses
from typing import Any

from noise_sched.diffusion import guidance as guidances
from noise_sched.diffusion import thresholding
from noise_sched.diffusion.conditioning import Conditioning
from noise_sched.diffusion.grids import Grid
from noise_sched.diffusion.input_scale import InputScale
from noise_sched.diffusion.parametrization import Parametrization
from noise_sched.diffusion.process import NoiseLevel, Process
from noise_sched.diffusion.schedules import Schedule
from noise_sched.diffusion.solvers import Solver
from noise_sched.diffusion.thresholding import Threshold
from noise_sched.diffusion.weighting import Weighting


@dataclasses.dataclass(frozen=True)
class Training:
    """What decides which levels are trained and on what; as in `loss.Objective`, but unchecked.

    Attributes:
      schedule: t ~ U(0, 1) -> logSNR.
      process, parametrization, input_scale, conditioning, space, weight: as in `Objective`.
      offset_noise: of the training noise, 0 for none.
      clip_x0: as in `Objective`.
    """

    schedule: Schedule
    process: Process
    parametrization: Parametrization
    input_scale: InputScale
    conditioning: Conditioning
    space: Parametrization
    weight: Weighting
    offset_noise: float = 0.0
    clip_x0: bool = False


@dataclasses.dataclass(frozen=True)
class Sampling:
    """What decides where a sampling run steps; the process is the training's.

    Attributes:
      schedule, grid, steps: the path is process.level(schedule.logsnr(grid(steps))).
      solver, guidance, threshold: what happens along it; `guidance` is a `Guidance`.
    """

    schedule: Schedule
    grid: Grid
    steps: int
    solver: Solver
    guidance: Any = guidances.none()
    threshold: Threshold = thresholding.none()

    def path(self, process: Process) -> NoiseLevel:
        """The levels of a run, fields of shape [steps + 1], noisiest first.

        Raises:
          ValueError: if the grid has no such path.
        """
        return process.level(self.schedule.logsnr(self.grid(self.steps)))

    def targets(self, process: Process) -> NoiseLevel | None:
        """Where each step leads, fields of shape [steps], on a grid that says so; None is along the path."""
        grid: Any = self.grid
        if not hasattr(grid, "targets"):
            return None
        return process.level(self.schedule.logsnr(grid.targets(self.steps)))


# The keys of a config that do not have a field's own name.
_KEYS = {
    "space": "loss.space",
    "weight": "loss.weight",
    "offset_noise": "loss.offset_noise",
    "clip_x0": "loss.clip_x0",
}


def chosen(part: Training | Sampling, field: str) -> str:
    """A choice with its key in a config: "config.sample.grid='trailing()'"."""
    key = f"sample.{field}" if isinstance(part, Sampling) else _KEYS.get(field, field)
    value = getattr(part, field)
    said = repr(spec(value)) if dataclasses.is_dataclass(value) else repr(value)
    return f"config.{key}={said}"


def spec(choice: Any) -> str:
    """What builds `choice` in a config, without the fields that are as by default."""
    if not dataclasses.is_dataclass(choice):
        return repr(choice)
    said, positional = [], True
    for field in dataclasses.fields(choice):
        value = getattr(choice, field.name)
        if field.default is not dataclasses.MISSING and value == field.default:
            positional = False
            continue
        said.append(spec(value) if positional else f"{field.name}={spec(value)}")
    return f"{type(choice).__name__}({', '.join(said)})"
