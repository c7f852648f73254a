"""The steps of the classes that sample a table of betas."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from noise_sched.diffusion import grids, schedules
from noise_sched.interop.diffusers.fields import (
    DISTILLED,
    ENDS_AT_FIRST_LEVEL,
    MULTISTEP,
    SPREADS,
    UNROUNDED,
)
from noise_sched.interop.diffusers.reader import DiffusersConfigError, Reader

FLOOR = 2.0**-24  # what several classes put in the place of abar_T = 0: sigma = 4096


@dataclasses.dataclass(frozen=True)
class spacing:
    """Diffusers' own rule of the steps, where none of `grids` has the same ones.

    The multistep classes take one point more and drop the last; Euler and Heun do not round linspace.
    Distilled networks (LCM, TCD) were trained on few levels, evenly down from the last, and some of
    those are sampled. DPM-Solver's inversion goes from the first level of its steps to the last one, T.

    Attributes:
      kind: "leading", "linspace", "trailing" (of an inversion only) or "distilled".
      levels: T.
      offset: steps_offset.
      multistep: whether one point more is taken and dropped.
      original: original_inference_steps, of "distilled".
      inversion: whether the path ends at the first level that is stepped from, and starts at T.
    """

    kind: str
    levels: int = 1000
    offset: int = 0
    multistep: bool = False
    original: int = 50
    inversion: bool = False

    def __call__(self, steps: int) -> Float[Array, "times"]:
        """Returns the times of the levels, noisiest first, then 0 (but for an inversion)."""
        if self.kind == "distilled":
            index = self._distilled(steps)
        else:
            index = self._inverted(steps) if self.inversion else self._spaced(steps)
        check_offset(self.offset, steps, float(index[0]), self.levels)
        k = index + 1 if self.inversion else np.append(index + 1, 0)
        return jnp.asarray(k / self.levels, float)

    def _spaced(self, steps: int) -> np.ndarray:
        points = steps + 1 if self.multistep else steps
        if not 1 <= points <= self.levels:
            raise ValueError(f"{steps} steps do not fit on {self.levels} levels.")
        if self.kind == "leading":
            index = np.arange(points) * (self.levels // points) + self.offset
        else:
            index = np.linspace(0, self.levels - 1, points) if points > 1 else np.zeros(1)
            index = np.round(index) if self.multistep else index
        return index[::-1][:steps]

    def _inverted(self, steps: int) -> np.ndarray:
        if not 1 <= steps < self.levels:
            raise ValueError(f"{steps} steps do not fit on {self.levels} levels.")
        if self.kind == "trailing":
            index = np.round(self.levels * np.arange(1, steps + 2) / (steps + 1)) - 1
        elif self.kind == "linspace":
            index = np.round(np.linspace(0, self.levels - 1, steps + 1))
        else:
            index = np.arange(steps) * (self.levels // (steps + 1)) + self.offset
            index = np.append(index, self.levels - 1)
        return index[::-1]

    def _distilled(self, steps: int) -> np.ndarray:
        if not 1 <= steps <= self.original:
            raise ValueError(
                f"{steps} steps do not fit on the {self.original} that the network was distilled from "
                "(original_inference_steps)."
            )
        trained = np.arange(self.original, 0, -1) * (self.levels // self.original) - 1
        return trained[np.arange(steps) * self.original // steps]


def check_offset(offset: int, steps: int, first: float, levels: int) -> None:
    """Refuses an offset that shifts the first timestep off the table.

    Raises:
      DiffusersConfigError: naming the field.
    """
    if first >= levels:
        raise DiffusersConfigError(
            f"steps_offset={offset} with {steps} steps asks for timestep {first:g} of 0 ... {levels - 1}. "
            "Use fewer steps or steps_offset=0."
        )


def path_of(reader: Reader, base: Any, steps: int) -> tuple[Any, Any]:
    """(schedule, grid) of the sampling path on the table `base`."""
    grid = grid_of(reader, base.num_levels)
    if isinstance(grid, grids.leading) and steps <= grid.levels:
        first = grid.offset + (steps - 1) * (grid.levels // steps)
        check_offset(grid.offset, steps, float(first), grid.levels)
    if reader.class_name in ENDS_AT_FIRST_LEVEL:
        reader.say_of(
            "the last step", "approximate", "it lands on the first level, here on clean data."
        )
    chosen = [field for field in SPREADS if reader.flag(field)]
    if len(chosen) > 1:
        raise DiffusersConfigError(f"{' and '.join(chosen)} are true: at most one of them can be.")
    if reader.has("final_sigmas_type"):
        reader.choice("final_sigmas_type", ("zero", "sigma_min"))
    reader.flag("set_alpha_to_one")
    for field, kind in (("set_alpha_to_one", False), ("final_sigmas_type", "sigma_min")):
        if reader.has(field) and reader.class_name not in DISTILLED and reader.get(field) == kind:
            reader.say(
                field, "approximate", "its last step lands on the first level, here on clean data."
            )
    if reader.class_name == "DPMSolverMultistepInverseScheduler":
        reader.refuse(
            *SPREADS,
            reason="no inversion here has these steps; those of timestep_spacing stand in.",
        )
        return base, grid
    for field, made in (
        ("use_karras_sigmas", schedules.karras),
        ("use_exponential_sigmas", schedules.geometric),
    ):
        if reader.flag(field):
            if isinstance(grid, spacing) and "timestep_spacing" in reader.given and grid.multistep:
                reader.say("timestep_spacing", "no effect", f"{field} decides the steps.")
            low, high = given_range(reader, *sigma_range(reader.class_name, base, grid, steps))
            return made(low, high), grids.edm()
    if isinstance(grid, spacing) and grid.kind != "distilled":
        reader.say(
            "timestep_spacing",
            "approximate",
            "no grid's spec has these steps: "
            + (
                "one point more is taken, the last dropped"
                if grid.multistep
                else "they are not whole"
            )
            + f". Audited as they are; in a config {grid.kind}(levels={grid.levels}) comes nearest.",
        )
    reader.refuse(
        "use_beta_sigmas",
        "use_lu_lambdas",
        "lambda_min_clipped",
        reason="no schedule here has these steps; those of timestep_spacing stand in.",
    )
    if reader.has("interpolation_type") and (
        reader.choice("interpolation_type", ("linear", "log_linear")) != "linear"
    ):
        reader.say("interpolation_type", "inexpressible", "the steps of timestep_spacing stand in.")
    return base, grid


def grid_of(reader: Reader, levels: int) -> Any:
    """The grid that timestep_spacing and steps_offset mean in the file's class."""
    if reader.class_name in DISTILLED:
        reader.ignore(
            "timestep_spacing",
            "steps_offset",
            "set_alpha_to_one",
            reason="the levels are those that the network was distilled from.",
        )
        return spacing("distilled", levels, original=reader.whole("original_inference_steps"))
    if not reader.has("timestep_spacing"):
        return spacing("linspace", levels, multistep=True)
    kind = reader.choice("timestep_spacing", ("leading", "linspace", "trailing"))
    offset = reader.whole("steps_offset")
    multistep = reader.class_name in MULTISTEP
    if reader.class_name == "DPMSolverMultistepInverseScheduler":
        grid = spacing(kind, levels, offset if kind == "leading" else 0, inversion=True)
    elif kind == "trailing":
        grid = grids.trailing(levels)
    elif multistep or (kind == "linspace" and reader.class_name in UNROUNDED):
        grid = spacing(kind, levels, offset if kind == "leading" else 0, multistep)
    elif kind == "leading":
        grid = grids.leading(levels, offset)
    else:
        grid = grids.linspace(levels)
    if kind != "leading" and "steps_offset" in reader.given and offset:
        reader.say("steps_offset", "no effect", f"only 'leading' is shifted, not {kind!r}.")
    return grid


def sigma_range(name: str, base: Any, grid: Any, steps: int) -> tuple[float, float]:
    """(sigma_min, sigma_max) that a class spreads Karras and exponential steps over.

    Those of the spacing's own first and last step in the unrounded classes, of the table in the others.
    """
    table = base.table()
    low, high = float(table[-1]), float(table[0])
    if name in UNROUNDED:
        path = base.logsnr(grid(steps))
        low, high = float(path[0]), float(path[-2])
    if low == -math.inf:
        low = math.log(FLOOR) - math.log1p(-FLOOR)
    return math.exp(-high / 2), math.exp(-low / 2)


def given_range(reader: Reader, low: float, high: float) -> tuple[float, float]:
    """The file's own sigma_min and sigma_max, where it has them.

    Raises:
      DiffusersConfigError: if the range is empty.
    """
    ends = {"sigma_min": low, "sigma_max": high}
    for field in ends:
        own = reader.get(field, int, float, type(None)) if reader.has(field) else None
        ends[field] = ends[field] if own is None else float(own)
    if not ends["sigma_min"] < ends["sigma_max"]:
        raise DiffusersConfigError(
            f"sigma_min={ends['sigma_min']:g} must be below sigma_max={ends['sigma_max']:g}."
        )
    return ends["sigma_min"], ends["sigma_max"]
