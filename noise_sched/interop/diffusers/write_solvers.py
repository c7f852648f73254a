"""A solver or a threshold -> the class that has it, and its fields."""

from typing import Any

from noise_sched.diffusion import conditioning, schedules, solvers, thresholding
from noise_sched.diffusion.clocks import by_schedule, by_sigma
from noise_sched.interop.diffusers.expressing import CannotExpress, need, need_equal
from noise_sched.interop.diffusers.fields import FIELDS
from noise_sched.interop.diffusers.samplers import KEEPS_EPS, sa_solver_on


def class_of(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    """The class of a solver on the table `base`, and the solver's fields.

    Raises:
      CannotExpress: if no class has it.
    """
    for kind, made in _CLASSES.items():
        if type(solver) is kind:
            name, config = made(solver, base, remarks)
            return (_shifted_class(solver, name), {}) if _is_shifted(base) else (name, config)
    raise CannotExpress(f"no scheduler_config.json says this: solver {solver!r}.")


def threshold_fields(threshold: Any, name: str) -> dict[str, Any]:
    """The fields of a threshold in the class `name`.

    Raises:
      CannotExpress: if the class has no such threshold.
    """
    fields, config = FIELDS[name], {}
    if "clip_sample" in fields:
        config["clip_sample"] = isinstance(threshold, thresholding.static)
    if "thresholding" in fields:
        config["thresholding"] = isinstance(threshold, thresholding.dynamic)
    if not isinstance(threshold, thresholding.none):
        keeps = name in KEEPS_EPS
        need(
            threshold.keep_eps == keeps,
            f"{name} {'keeps' if keeps else 'recomputes'} eps where it bounds x0, and threshold is "
            f"{threshold!r}: keep_eps={keeps}.",
        )
    if isinstance(threshold, thresholding.static):
        need("clip_sample" in fields, f"{name} does not clip; threshold is {threshold!r}.")
        config["clip_sample_range"] = threshold.bound
    if isinstance(threshold, thresholding.dynamic):
        need("thresholding" in fields, f"{name} has no thresholding; threshold is {threshold!r}.")
        need(
            threshold.bound == 1 and threshold.maximum is not None,
            f"{threshold!r}: diffusers' bound is 1 and needs a maximum.",
        )
        config["dynamic_thresholding_ratio"] = threshold.percentile
        config["sample_max_value"] = threshold.maximum
    return config


def _is_shifted(base: Any) -> bool:
    inner = base.schedule if isinstance(base, schedules.zero_terminal) else base
    return isinstance(inner, schedules.shift)


def _shifted_class(solver: Any, name: str) -> str:
    if solver == solvers.dpmpp(2, 1.0, "midpoint", False):
        return "CogVideoXDPMScheduler"
    need(
        name == "DDIMScheduler",
        f"the table is shifted, and only ddim() and dpmpp(2, 1.0, 'midpoint', False) run on such a one, "
        f"not {solver!r}.",
    )
    return "CogVideoXDDIMScheduler"


def _ddim(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    if solver.eta:
        remarks.append(f"eta={solver.eta} is an argument of DDIMScheduler.step.")
    return "DDIMScheduler", {}


def _ddpm(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    return "DDPMScheduler", {"variance_type": f"fixed_{solver.variance}"}


def _euler_ancestral(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    need_equal("solver", solver, solvers.euler_ancestral(), "EulerAncestralDiscreteScheduler")
    return "EulerAncestralDiscreteScheduler", {}


def _ode(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    need(
        solver.clock == by_sigma() and solver.frame in (None, "ve"),
        f"{solver!r} steps in another clock or frame than sigma.",
    )
    need(not solver.churn, f"{solver!r}: churn is an argument of the step, S_tmin .. S_tmax too.")
    if isinstance(solver, solvers.heun):
        need(solver.stage == 1, f"{solver!r}: only stage=1 is Heun's method.")
        return "HeunDiscreteScheduler", {}
    return "EulerDiscreteScheduler", {}


def _dpm2(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    need(solver.eta in (0, 1), f"{solver!r}: eta is 0 (KDPM2) or 1 (its ancestral form).")
    return ("KDPM2AncestralDiscreteScheduler" if solver.eta else "KDPM2DiscreteScheduler"), {}


def _lms(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    need(solver.order == 4, f"{solver!r}: the order is an argument of the step, 4 by default.")
    return "LMSDiscreteScheduler", {}


def _dpmpp_sde(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    need_equal("solver", solver, solvers.dpmpp_sde(), "DPMSolverSDEScheduler")
    return "DPMSolverSDEScheduler", {}


def _dpmpp(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    need(solver.eta in (0, 1), f"{solver!r}: eta is 0 (the ODE) or 1 (the SDE).")
    config = {
        "algorithm_type": "sde-dpmsolver++" if solver.eta else "dpmsolver++",
        "solver_order": solver.order,
        "solver_type": solver.variant,
        "lower_order_final": solver.lower_order_final,
    }
    if isinstance(solver, solvers.dpmpp):
        return "DPMSolverMultistepScheduler", config
    need(solver.lower_order_final, f"{solver!r}: to clean data the order falls in diffusers.")
    return "DPMSolverSinglestepScheduler", config


def _unipc(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    return "UniPCMultistepScheduler", {
        "solver_order": solver.order,
        "solver_type": solver.variant,
        "lower_order_final": solver.lower_order_final,
    }


def _deis(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    remarks.append(
        "DEISMultistepScheduler's last step lands on the first level, not on clean data."
    )
    return "DEISMultistepScheduler", {
        "solver_order": solver.order,
        "lower_order_final": solver.lower_order_final,
    }


def _pndm(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    known = {
        True: solvers.pndm(4, "heun"),
        False: solvers.pndm(4, "runge_kutta", by_schedule(base)),
    }
    for skip, own in known.items():
        if solver == own:
            return "PNDMScheduler", {"skip_prk_steps": skip}
    raise CannotExpress(
        f"no scheduler_config.json says this: {solver!r}; PNDMScheduler is {known[True]!r} or "
        f"{known[False]!r}."
    )


def _sa_solver(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    own = sa_solver_on(base, solver.predictor, solver.corrector, solver.lower_order_final)
    need_equal("solver", solver, own, "SASolverScheduler, whose tau is a function of the timestep,")
    remarks.append("SASolverScheduler's last step lands on the first level, not on clean data.")
    return "SASolverScheduler", {
        "predictor_order": solver.predictor,
        "corrector_order": solver.corrector,
        "lower_order_final": solver.lower_order_final,
    }


def _lcm(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    own = solvers.lcm(conditioning.index(base), solver.scale)
    need_equal("solver", solver, own, "LCMScheduler")
    return "LCMScheduler", {"timestep_scaling": solver.scale}


def _tcd(solver: Any, base: Any, remarks: list[str]) -> tuple[str, dict[str, Any]]:
    need_equal("the solver's schedule", solver.schedule, base, "TCDScheduler")
    remarks.append(f"gamma={solver.gamma} is eta, an argument of TCDScheduler.step.")
    remarks.append("TCDScheduler's last step lands on the first level, not on clean data.")
    return "TCDScheduler", {}


_CLASSES: dict[type, Any] = {
    solvers.ddim: _ddim,
    solvers.ddpm: _ddpm,
    solvers.euler_ancestral: _euler_ancestral,
    solvers.euler: _ode,
    solvers.heun: _ode,
    solvers.dpm2: _dpm2,
    solvers.lms: _lms,
    solvers.dpmpp_sde: _dpmpp_sde,
    solvers.dpmpp: _dpmpp,
    solvers.dpmpp_single: _dpmpp,
    solvers.unipc: _unipc,
    solvers.deis: _deis,
    solvers.pndm: _pndm,
    solvers.sa_solver: _sa_solver,
    solvers.lcm: _lcm,
    solvers.tcd: _tcd,
}
