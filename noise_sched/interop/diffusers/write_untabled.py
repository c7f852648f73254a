"""Set-ups without a table of betas -> a scheduler_config.json."""

import math
from collections.abc import Iterator
from typing import Any

from noise_sched.diffusion import (
    conditioning,
    grids,
    input_scale,
    process,
    schedules,
    solvers,
    thresholding,
)
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import Sampling
from noise_sched.interop.diffusers.expressing import need, need_equal
from noise_sched.interop.diffusers.flow import FLOW_SOLVERS
from noise_sched.interop.diffusers.write_solvers import class_of, threshold_fields


def candidates(sampling: Sampling) -> Iterator[dict[str, Any]]:
    """Files of the classes whose few fields follow from the sampling path; one may read as the set-up."""
    path, solver = sampling.schedule, sampling.solver
    if isinstance(path, schedules.karras | schedules.geometric):
        ends = {"sigma_min": path.sigma_min, "sigma_max": path.sigma_max}
        karras_rho = {"rho": path.rho} if isinstance(path, schedules.karras) else {}
        yield from _of_sigmas(ends, karras_rho, solver)
    elif isinstance(path, schedules.vp_diffusion):
        yield {
            "_class_name": "ScoreSdeVpScheduler",
            "beta_min": path.beta_min,
            "beta_max": path.beta_d + path.beta_min,
            "sampling_eps": getattr(sampling.grid, "last", 1e-3),
        }
    elif isinstance(path, schedules.crash):
        yield {"_class_name": "IPNDMScheduler"}
    elif isinstance(path, schedules.cosine):
        yield {
            "_class_name": "DDPMWuerstchenScheduler",
            "s": _digits(path.start / (1 - path.start)),
        }


def _of_sigmas(
    ends: dict[str, Any], karras_rho: dict[str, Any], solver: Any
) -> Iterator[dict[str, Any]]:
    if isinstance(solver, solvers.dpmpp):
        yield {
            "_class_name": "CosineDPMSolverMultistepScheduler",
            **ends,
            **karras_rho,
            "sigma_schedule": "karras" if karras_rho else "exponential",
            "solver_order": solver.order,
            "solver_type": solver.variant,
            "lower_order_final": solver.lower_order_final,
        }
    elif isinstance(solver, solvers.euler):
        yield {
            "_class_name": "EulerDiscreteScheduler",
            **ends,
            f"use_{'karras' if karras_rho else 'exponential'}_sigmas": True,
            "prediction_type": "v_prediction",
            "timestep_type": "continuous",
        }
    elif isinstance(solver, solvers.heun):
        yield {
            "_class_name": "KarrasVeScheduler",
            **ends,
            "s_churn": solver.churn,
            "s_min": solver.s_tmin,
            "s_max": 50.0 if solver.s_tmax is None else solver.s_tmax,
            "s_noise": solver.s_noise,
        }
    elif isinstance(solver, solvers.ddpm):
        yield {"_class_name": "ScoreSdeVeScheduler", **ends, "correct_steps": 0}


def _digits(value: float) -> float:
    """The number that was meant, without the rounding of the way to it."""
    return float(f"{value:.12g}")


def write_edm(objective: Objective, sampling: Sampling) -> tuple[dict[str, Any], list[str]]:
    """EDM's network and steps.

    Raises:
      CannotExpress: if no EDM class has them.
    """
    own: Any = objective.parametrization
    sigma_data = own.sigma_data
    need_equal("process", objective.process, process.ve(), "EDM")
    need_equal("input_scale", objective.input_scale, input_scale.analytic(sigma_data), "EDM")
    need_equal("conditioning", objective.conditioning, conditioning.log_sigma(), "EDM")
    need_equal("grid", sampling.grid, grids.edm(), "EDM")
    schedule: Any = sampling.schedule
    remarks = ["the training density of sigma is in no such file."]
    need(
        isinstance(schedule, schedules.karras | schedules.geometric),
        f"EDM's steps are karras() or geometric(), not {schedule!r}.",
    )
    name, config = class_of(sampling.solver, None, remarks)
    classes = {
        "EulerDiscreteScheduler": "EDMEulerScheduler",
        "DPMSolverMultistepScheduler": "EDMDPMSolverMultistepScheduler",
    }
    need(
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
    return config | threshold_fields(sampling.threshold, name), remarks


def write_flow(objective: Objective, sampling: Sampling) -> tuple[dict[str, Any], list[str]]:
    """A network of the straight path and its steps.

    Raises:
      CannotExpress: if no flow-matching class has them.
    """
    need_equal("process", objective.process, process.flow(), "FlowMatchEulerDiscreteScheduler")
    need_equal("input_scale", objective.input_scale, input_scale.none(), "its pipeline")
    condition = objective.conditioning
    table: Any = getattr(condition, "schedule", None)
    need(
        isinstance(condition, conditioning.index) and isinstance(table, schedules.discrete),
        f"conditioning is {condition!r}, and a pipeline tells the network its level's number; write "
        "index(discrete(rectified_flow(), levels=1000)).",
    )
    names = [name for name, own in FLOW_SOLVERS.items() if own == sampling.solver]
    need(
        bool(names),
        f"the solver is {sampling.solver!r}, and the flow-matching classes are "
        + ", ".join(f"{own!r} ({name})" for name, own in FLOW_SOLVERS.items())
        + ".",
    )
    need(
        isinstance(sampling.threshold, thresholding.none),
        f"{names[0]} has no thresholding, and threshold is {sampling.threshold!r}.",
    )
    schedule: Any = sampling.schedule
    levels, shift = table.num_levels, 1.0
    if isinstance(schedule, schedules.shift):
        schedule, shift = schedule.schedule, schedule.image_size / schedule.noise_size
    need_equal("sample.schedule", schedule, schedules.rectified_flow(), "the flow")
    last = grids.edm(shift / levels / (1 + (shift - 1) / levels))
    need(
        isinstance(sampling.grid, grids.edm) and math.isclose(sampling.grid.last, last.last),
        f"its steps are those of {last!r}, not of {sampling.grid!r}.",
    )
    config = {
        "_class_name": names[0],
        "num_train_timesteps": levels,
        "shift": float(shift),
    }
    return config, ["the training density of t is in no such file."]
