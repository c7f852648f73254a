r"""Our choices -> diffusers' scheduler_config.json, refused where no such file says them.

    written = write(objective, sampling)
    json.dumps(written.config)

`reading` reads what is written here as the same choices.
"""

import dataclasses
import math
from typing import Any

import jax

from noise_sched.diffusion import (
    conditioning,
    grids,
    guidance,
    input_scale,
    parametrization,
    process,
    schedules,
    weighting,
)
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import Sampling
from noise_sched.interop.diffusers.expressing import CannotExpress as CannotExpress
from noise_sched.interop.diffusers.expressing import need, need_equal
from noise_sched.interop.diffusers.fields import DISTILLED, FIELDS, FLOORED, MULTISTEP, UNROUNDED
from noise_sched.interop.diffusers.paths import sigma_range, spacing
from noise_sched.interop.diffusers.reading import DiffusersConfigError, load
from noise_sched.interop.diffusers.tables import PREDICTIONS
from noise_sched.interop.diffusers.write_solvers import class_of, threshold_fields
from noise_sched.interop.diffusers.write_untabled import candidates, write_edm, write_flow


@dataclasses.dataclass(frozen=True)
class Written:
    """A set-up as a scheduler config, and what the file cannot say but does not contradict."""

    config: dict[str, Any]
    remarks: tuple[str, ...]


def write(objective: Objective, sampling: Sampling) -> Written:
    """A set-up as a scheduler config.

    Raises:
      CannotExpress: where no such file says it, with the choice that is in the way.
    """
    own = objective.parametrization
    with jax.enable_x64(True):
        if isinstance(own, parametrization.edm):
            config, remarks = write_edm(objective, sampling)
        elif isinstance(own, parametrization.flow):
            config, remarks = write_flow(objective, sampling)
        else:
            config, remarks = _write_one_by_one(objective, sampling) or _write_table(
                objective, sampling
            )
    if not isinstance(sampling.guidance, guidance.none):
        remarks.append(f"guidance {sampling.guidance!r} is an argument of the pipeline.")
    if type(objective.loss_space) is not type(own) or objective.weight != weighting.uniform():
        remarks.append("the loss and its weight are in no such file.")
    if objective.offset_noise:
        remarks.append("offset noise is in no such file.")
    remarks.append(f"steps={sampling.steps} is an argument of set_timesteps.")
    return Written(config, tuple(remarks))


def _write_one_by_one(
    objective: Objective, sampling: Sampling
) -> tuple[dict[str, Any], list[str]] | None:
    """The file of a class with few fields, if one reads as this set-up."""
    plain = dataclasses.replace(sampling, guidance=guidance.none())
    same = dataclasses.replace(
        objective,
        loss_space=objective.parametrization,
        weight=weighting.uniform(),
        offset_noise=0.0,
    )
    for config in candidates(sampling):
        try:
            loaded = load(config, sampling.steps)
        except DiffusersConfigError:
            continue
        if loaded.objective == same and loaded.sampling == plain:
            return config, ["what was trained is in no such file."]
    return None


def _write_table(objective: Objective, sampling: Sampling) -> tuple[dict[str, Any], list[str]]:
    own = objective.parametrization
    remarks: list[str] = []
    base: Any = objective.schedule
    if isinstance(base, schedules.discrete) and base.num_levels == getattr(
        base.schedule, "num_levels", 0
    ):
        base = base.schedule
    else:
        remarks.append("training draws t between the levels too; diffusers draws whole levels.")
    zero = isinstance(base, schedules.zero_terminal)
    table = base.schedule if zero else base
    shifted = isinstance(table, schedules.shift) and base.num_levels > 0
    scale = 1.0
    if shifted:
        scale = float(f"{(table.image_size / table.noise_size) ** 2:.12g}")
        table = table.schedule
    need(
        isinstance(table, schedules.TableSchedule) and base.num_levels > 0,
        f"schedule {objective.schedule!r} is continuous; a file holds a table of betas.",
    )
    need_equal("process", objective.process, process.vp(), "diffusers' table")
    need_equal("input_scale", objective.input_scale, input_scale.none(), "its pipeline")
    need_equal(
        "conditioning",
        objective.conditioning,
        conditioning.index(base),
        "a pipeline, which tells the network the number of the level,",
    )
    names: dict[type, str] = {type(value): name for name, value in PREDICTIONS.items()}
    need(type(own) in names, f"there is no prediction_type for {own!r}.")
    name, config = class_of(sampling.solver, base, remarks)
    config = {"_class_name": name, **config, "prediction_type": names[type(own)]}
    config |= _write_betas(table, name)
    if shifted:
        config["snr_shift_scale"] = scale
    if zero:
        need(
            "rescale_betas_zero_snr" in FIELDS[name],
            f"{name} has no rescale_betas_zero_snr, and the schedule is {base!r}. ddim() has.",
        )
        config["rescale_betas_zero_snr"] = True
        if name in FLOORED:
            remarks.append(f"{name} puts sigma = 4096 in the place of zero SNR.")
    config |= threshold_fields(sampling.threshold, name)
    config |= _write_path(base, sampling, name)
    if name == "DDPMScheduler":
        _check_last_noise(sampling)
    for field, value in (("set_alpha_to_one", True), ("final_sigmas_type", "zero")):
        if field in FIELDS[name]:
            config[field] = value
    return config, remarks


def _write_betas(table: Any, name: str) -> dict[str, Any]:
    config: dict[str, Any] = {"num_train_timesteps": table.num_levels}
    named: dict[type, str] = {
        schedules.linear_betas: "linear",
        schedules.scaled_linear: "scaled_linear",
    }
    if name == "DDPMScheduler":
        named[schedules.sigmoid_betas] = "sigmoid"
    if type(table) in named:
        return config | {
            "beta_schedule": named[type(table)],
            "beta_start": table.start,
            "beta_end": table.end,
        }
    if table == schedules.cosine_betas(levels=table.num_levels):
        return config | {"beta_schedule": "squaredcos_cap_v2"}
    try:
        betas = [float(b) for b in table.beta_table()]
    except NotImplementedError:
        raise CannotExpress(
            f"no scheduler_config.json says this: {table!r} is given without betas."
        ) from None
    need(
        betas[-1] < 1 or name in ("DDIMScheduler", "DDPMScheduler"),
        f"{name} is not finite on a table that ends at beta = 1, {table!r}. ddim() and ddpm() are.",
    )
    return config | {"trained_betas": betas}


def _check_last_noise(sampling: Sampling) -> None:
    """DDPMScheduler's large variance adds noise to the finished image, unless it ends at its first level."""
    solver: Any = sampling.solver
    grid = sampling.grid
    ends = isinstance(grid, grids.linspace) or grid == grids.leading(getattr(grid, "levels", 0))
    noisy = solver.variance == "large" and not ends
    need(
        solver.last_noise == noisy,
        f"on {grid!r} DDPMScheduler {'adds' if noisy else 'does not add'} noise to the finished image, and "
        f"the solver is {solver!r}. ddpm('small') is the same in both.",
    )


def _write_path(base: Any, sampling: Sampling, name: str) -> dict[str, Any]:
    schedule, grid, levels = sampling.schedule, sampling.grid, base.num_levels
    if isinstance(schedule, schedules.discrete):
        schedule = schedule.schedule
    if name in DISTILLED:
        original = getattr(grid, "original", 50)
        own = spacing("distilled", levels, original=original)
        need_equal("grid", grid, own, name)
        need_equal("sample.schedule", schedule, base, name)
        return {"original_inference_steps": original}
    for made, field in (
        (schedules.karras, "use_karras_sigmas"),
        (schedules.geometric, "use_exponential_sigmas"),
    ):
        if isinstance(schedule, made):
            return _write_sigmas(base, sampling, schedule, name, field)
    need(
        schedule == base,
        f"sampling runs on {schedule!r} and training on {base!r}; a file has one table.",
    )
    if isinstance(grid, grids.trailing) and grid.levels == levels:
        return {"timestep_spacing": "trailing", "steps_offset": 0}
    rounded = name not in (*MULTISTEP, *UNROUNDED)
    if isinstance(grid, grids.leading) and grid.levels == levels and name not in MULTISTEP:
        return {"timestep_spacing": "leading", "steps_offset": grid.offset}
    if isinstance(grid, grids.linspace) and grid.levels == levels and rounded:
        return {"timestep_spacing": "linspace", "steps_offset": 0}
    if isinstance(grid, spacing) and grid.levels == levels and not rounded:
        if grid.multistep == (name in MULTISTEP):
            return {"timestep_spacing": grid.kind, "steps_offset": grid.offset}
    raise CannotExpress(
        f"no scheduler_config.json says this: {name} takes other steps than {grid!r} on {levels} "
        f"levels. trailing(levels={levels}) is the same everywhere."
    )


def _write_sigmas(
    base: Any, sampling: Sampling, schedule: Any, name: str, field: str
) -> dict[str, Any]:
    fields = FIELDS[name]
    need(field in fields, f"{name} has no {field}; the sampling schedule is {schedule!r}.")
    need(
        sampling.grid == grids.edm(),
        f"{field} steps on edm() and ends at 0, the grid is {sampling.grid!r}.",
    )
    need(getattr(schedule, "rho", 7.0) == 7, f"{schedule!r}: rho is 7 in diffusers.")
    config: dict[str, Any] = {field: True}
    if name in UNROUNDED:  # whose range of sigma is that of the spacing's steps
        config |= {"timestep_spacing": "linspace", "steps_offset": 0}
    whole = grids.linspace(base.num_levels)
    wanted = sigma_range(name, base, whole, sampling.steps)
    for end, own in zip(("sigma_min", "sigma_max"), wanted, strict=True):
        found = getattr(schedule, end)
        if math.isclose(found, own, rel_tol=1e-6):
            continue
        need(
            end in fields,
            f"{name} takes {end} = {own:.6g} from the table, the schedule {found:.6g}.",
        )
        config[end] = found
    return config
