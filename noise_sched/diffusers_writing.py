r"""Our choices -> diffusers' scheduler_config.json, refused where no such file says them.

    written = write(training, sampling)
    json.dumps(written.config)

`diffusers_config` reads what is written here as the same choices.
"""

import dataclasses
import math
from typing import Any

import jax

from noise_sched.diffusers.fields import FIELDS, FLOORED, MULTISTEP, UNROUNDED
from noise_sched.diffusers.paths import sigma_range, spacing
from noise_sched.diffusers.tables import PREDICTIONS
from noise_sched.diffusion import (
    conditioning,
    grids,
    guidance,
    input_scale,
    parametrization,
    process,
    schedules,
    solvers,
    thresholding,
    weighting,
)
from noise_sched.diffusion.audit import Sampling, Training
from noise_sched.diffusion.clocks import by_sigma


class CannotExpress(ValueError):
    """A set-up that no scheduler_config.json says; the message says what of it."""


@dataclasses.dataclass(frozen=True)
class Written:
    """A set-up as a scheduler config, and what the file cannot say but does not contradict."""

    config: dict[str, Any]
    remarks: tuple[str, ...]


def write(training: Training, sampling: Sampling) -> Written:
    """A set-up as a scheduler config.

    Raises:
      CannotExpress: where no such file says it, with the choice that is in the way.
    """
    own = training.parametrization
    with jax.enable_x64(True):
        if isinstance(own, parametrization.edm):
            config, remarks = _write_edm(training, sampling)
        elif isinstance(own, parametrization.flow):
            config, remarks = _write_flow(training, sampling)
        else:
            config, remarks = _write_table(training, sampling)
    if not isinstance(sampling.guidance, guidance.none):
        remarks.append(f"guidance {sampling.guidance!r} is an argument of the pipeline.")
    if type(training.space) is not type(own) or training.weight != weighting.uniform():
        remarks.append("the loss and its weight are in no such file.")
    if training.offset_noise:
        remarks.append("offset noise is in no such file.")
    remarks.append(f"steps={sampling.steps} is an argument of set_timesteps.")
    return Written(config, tuple(remarks))


def _need(condition: bool, reason: str) -> None:
    if not condition:
        raise CannotExpress(f"no scheduler_config.json says this: {reason}")


def _need_equal(what: str, found: Any, wanted: Any, why: str) -> None:
    _need(found == wanted, f"{what} is {found!r}, and {why} has {wanted!r}.")


def _write_table(training: Training, sampling: Sampling) -> tuple[dict[str, Any], list[str]]:
    own = training.parametrization
    remarks: list[str] = []
    base: Any = training.schedule
    if isinstance(base, schedules.discrete) and base.num_levels == getattr(
        base.schedule, "num_levels", 0
    ):
        base = base.schedule
    else:
        remarks.append("training draws t between the levels too; diffusers draws whole levels.")
    zero = isinstance(base, schedules.zero_terminal)
    table = base.schedule if zero else base
    _need(
        isinstance(table, schedules.TableSchedule) and base.num_levels > 0,
        f"schedule {training.schedule!r} is continuous; a file holds a table of betas.",
    )
    _need_equal("process", training.process, process.vp(), "diffusers' table")
    _need_equal("input_scale", training.input_scale, input_scale.none(), "its pipeline")
    _need_equal(
        "conditioning",
        training.conditioning,
        conditioning.index(base),
        "a pipeline, which tells the network the number of the level,",
    )
    names: dict[type, str] = {type(value): name for name, value in PREDICTIONS.items()}
    _need(type(own) in names, f"there is no prediction_type for {own!r}.")
    name, config = _write_solver(sampling.solver, remarks)
    config = {"_class_name": name, **config, "prediction_type": names[type(own)]}
    config |= _write_betas(table, name)
    if zero:
        _need(
            "rescale_betas_zero_snr" in FIELDS[name],
            f"{name} has no rescale_betas_zero_snr, and the schedule is {base!r}. ddim() has.",
        )
        config["rescale_betas_zero_snr"] = True
        if name in FLOORED:
            remarks.append(f"{name} puts sigma = 4096 in the place of zero SNR.")
    config |= _write_threshold(sampling.threshold, name)
    config |= _write_path(base, sampling, name)
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
    _need(
        betas[-1] < 1 or name in ("DDIMScheduler", "DDPMScheduler"),
        f"{name} is not finite on a table that ends at beta = 1, {table!r}. ddim() and ddpm() are.",
    )
    return config | {"trained_betas": betas}


def _write_solver(solver: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    if isinstance(solver, solvers.euler_ancestral):
        _need_equal("solver", solver, solvers.euler_ancestral(), "EulerAncestralDiscreteScheduler")
        return "EulerAncestralDiscreteScheduler", {}
    if isinstance(solver, solvers.ddim):
        if solver.eta:
            remarks.append(f"eta={solver.eta} is an argument of DDIMScheduler.step.")
        return "DDIMScheduler", {}
    if isinstance(solver, solvers.ddpm):
        return "DDPMScheduler", {"variance_type": f"fixed_{solver.variance}"}
    if isinstance(solver, solvers.euler | solvers.heun):
        _need(
            solver.clock == by_sigma() and solver.frame in (None, "ve"),
            f"{solver!r} steps in another clock or frame than sigma.",
        )
        _need(
            not solver.churn, f"{solver!r}: churn is an argument of the step, S_tmin .. S_tmax too."
        )
        if isinstance(solver, solvers.heun):
            _need(solver.stage == 1, f"{solver!r}: only stage=1 is Heun's method.")
            return "HeunDiscreteScheduler", {}
        return "EulerDiscreteScheduler", {}
    if isinstance(solver, solvers.dpmpp):
        _need(solver.eta in (0, 1), f"{solver!r}: eta is 0 (the ODE) or 1 (the SDE).")
        return "DPMSolverMultistepScheduler", {
            "algorithm_type": "sde-dpmsolver++" if solver.eta else "dpmsolver++",
            "solver_order": solver.order,
            "solver_type": solver.variant,
            "lower_order_final": solver.lower_order_final,
        }
    if isinstance(solver, solvers.unipc):
        return "UniPCMultistepScheduler", {
            "solver_order": solver.order,
            "solver_type": solver.variant,
            "lower_order_final": solver.lower_order_final,
        }
    raise CannotExpress(f"no scheduler_config.json says this: solver {solver!r}.")


def _write_threshold(threshold: Any, name: str) -> dict[str, Any]:
    fields, config = FIELDS[name], {}
    if "clip_sample" in fields:
        config["clip_sample"] = isinstance(threshold, thresholding.static)
    if "thresholding" in fields:
        config["thresholding"] = isinstance(threshold, thresholding.dynamic)
    if isinstance(threshold, thresholding.static):
        _need("clip_sample" in fields, f"{name} does not clip; threshold is {threshold!r}.")
        config["clip_sample_range"] = threshold.bound
    if isinstance(threshold, thresholding.dynamic):
        _need("thresholding" in fields, f"{name} has no thresholding; threshold is {threshold!r}.")
        _need(
            threshold.bound == 1 and threshold.maximum is not None,
            f"{threshold!r}: diffusers' bound is 1 and needs a maximum.",
        )
        config["dynamic_thresholding_ratio"] = threshold.percentile
        config["sample_max_value"] = threshold.maximum
    return config


def _write_path(base: Any, sampling: Sampling, name: str) -> dict[str, Any]:
    schedule, grid, levels = sampling.schedule, sampling.grid, base.num_levels
    if isinstance(schedule, schedules.discrete):
        schedule = schedule.schedule
    for made, field in (
        (schedules.karras, "use_karras_sigmas"),
        (schedules.geometric, "use_exponential_sigmas"),
    ):
        if isinstance(schedule, made):
            return _write_sigmas(base, sampling, schedule, name, field)
    _need(
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
    _need(field in fields, f"{name} has no {field}; the sampling schedule is {schedule!r}.")
    _need(
        sampling.grid == grids.edm(),
        f"{field} steps on edm() and ends at 0, the grid is {sampling.grid!r}.",
    )
    _need(getattr(schedule, "rho", 7.0) == 7, f"{schedule!r}: rho is 7 in diffusers.")
    config: dict[str, Any] = {field: True}
    if name in UNROUNDED:  # whose range of sigma is that of the spacing's steps
        config |= {"timestep_spacing": "linspace", "steps_offset": 0}
    whole = grids.linspace(base.num_levels)
    wanted = sigma_range(name, base, whole, sampling.steps)
    for end, own in zip(("sigma_min", "sigma_max"), wanted, strict=True):
        found = getattr(schedule, end)
        if math.isclose(found, own, rel_tol=1e-6):
            continue
        _need(
            end in fields,
            f"{name} takes {end} = {own:.6g} from the table, the schedule {found:.6g}.",
        )
        config[end] = found
    return config


def _write_edm(training: Training, sampling: Sampling) -> tuple[dict[str, Any], list[str]]:
    own: Any = training.parametrization
    sigma_data = own.sigma_data
    _need_equal("process", training.process, process.ve(), "EDM")
    _need_equal("input_scale", training.input_scale, input_scale.analytic(sigma_data), "EDM")
    _need_equal("conditioning", training.conditioning, conditioning.log_sigma(), "EDM")
    _need_equal("grid", sampling.grid, grids.edm(), "EDM")
    schedule: Any = sampling.schedule
    remarks = ["the training density of sigma is in no such file."]
    _need(
        isinstance(schedule, schedules.karras | schedules.geometric),
        f"EDM's steps are karras() or geometric(), not {schedule!r}.",
    )
    name, config = _write_solver(sampling.solver, remarks)
    classes = {
        "EulerDiscreteScheduler": "EDMEulerScheduler",
        "DPMSolverMultistepScheduler": "EDMDPMSolverMultistepScheduler",
    }
    _need(
        name in classes, f"no EDM class has the solver {sampling.solver!r}; euler() and dpmpp() do."
    )
    name = classes[name]
    config = {
        "_class_name": name,
        **config,
        "prediction_type": "epsilon",
        "sigma_min": schedule.sigma_min,
        "sigma_max": schedule.sigma_max,
        "sigma_data": sigma_data,
        "sigma_schedule": "karras" if isinstance(schedule, schedules.karras) else "exponential",
        "final_sigmas_type": "zero",
    }
    if isinstance(schedule, schedules.karras):
        config["rho"] = schedule.rho
    return config | _write_threshold(sampling.threshold, name), remarks


def _write_flow(training: Training, sampling: Sampling) -> tuple[dict[str, Any], list[str]]:
    _need_equal("process", training.process, process.flow(), "FlowMatchEulerDiscreteScheduler")
    _need_equal("input_scale", training.input_scale, input_scale.none(), "its pipeline")
    told = training.conditioning
    table: Any = getattr(told, "schedule", None)
    _need(
        isinstance(told, conditioning.index) and isinstance(table, schedules.discrete),
        f"conditioning is {told!r}, and a pipeline tells the network its level's number; write "
        "index(discrete(rectified_flow(), levels=1000)).",
    )
    _need(
        isinstance(sampling.solver, solvers.ddim) and sampling.solver.eta == 0,
        f"the solver is {sampling.solver!r}, and FlowMatchEulerDiscreteScheduler is ddim() in the "
        "flow's frame.",
    )
    _need(
        isinstance(sampling.threshold, thresholding.none),
        "FlowMatchEulerDiscreteScheduler has no thresholding, and threshold is "
        f"{sampling.threshold!r}.",
    )
    schedule: Any = sampling.schedule
    levels, shift = table.num_levels, 1.0
    if isinstance(schedule, schedules.shift):
        schedule, shift = schedule.schedule, schedule.image_size / schedule.noise_size
    _need_equal("sample.schedule", schedule, schedules.rectified_flow(), "the flow")
    last = grids.edm(shift / levels / (1 + (shift - 1) / levels))
    _need(
        isinstance(sampling.grid, grids.edm) and math.isclose(sampling.grid.last, last.last),
        f"its steps are those of {last!r}, not of {sampling.grid!r}.",
    )
    config = {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": levels,
        "shift": float(shift),
    }
    return config, ["the training density of t is in no such file."]
