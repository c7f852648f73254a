"""The solver and the threshold that a class means."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from noise_sched.diffusion import clocks, conditioning, solvers, thresholding
from noise_sched.interop.diffusers.reader import Reader

# The classes that step with the network's own eps where they have changed x0.
KEEPS_EPS = ("DDIMScheduler", "DDIMInverseScheduler")
IGNORES_CLIPPING = ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")
SOLVER_TYPES = (
    "midpoint",
    "heun",
    "logrho",
    "bh1",
    "bh2",
)  # what no class of DPM-Solver's kin refuses
NO_NETWORK_VARIANCE = "the variance is no network's output here; 'small' stands in."


def solver_of(reader: Reader, base: Any = None) -> Any:
    """The solver of the file's class, on the table `base`."""
    return _SOLVERS[reader.class_name](reader, base)


def threshold_of(reader: Reader) -> Any:
    """What bounds the predicted x0."""
    keeps = reader.class_name in KEEPS_EPS
    if reader.class_name in IGNORES_CLIPPING:
        reader.read |= {"clip_sample_range", "sample_max_value"}
        if reader.get("clip_sample", bool) and "clip_sample" in reader.given:
            reader.say("clip_sample", "no effect", f"{reader.class_name} never looks at it.")
        return thresholding.none()
    if reader.flag("thresholding"):
        return thresholding.dynamic(
            reader.number("dynamic_thresholding_ratio"),
            1.0,
            reader.number("sample_max_value"),
            keep_eps=keeps,
        )
    if reader.flag("clip_sample"):
        return thresholding.static(reader.number("clip_sample_range"), keep_eps=keeps)
    return thresholding.none()


def _ddpm(reader: Reader, base: Any) -> Any:
    kind = reader.get("variance_type")
    known = {"fixed_small": "small", "fixed_large": "large"}
    known |= {f"{name}_log": variance for name, variance in known.items()}
    if kind not in tuple(known):
        reader.say("variance_type", "inexpressible", NO_NETWORK_VARIANCE)
        kind = "fixed_small"
    large = known[kind] == "large"
    return solvers.ddpm(known[kind], last_noise=large and not _ends_at_first_level(reader))


def _ends_at_first_level(reader: Reader) -> bool:
    """Whether the last timestep is 0, where DDPMScheduler adds no noise."""
    kind = reader.get("timestep_spacing")
    return kind == "linspace" or (kind == "leading" and reader.get("steps_offset") == 0)


def _unclip(reader: Reader, base: Any) -> Any:
    if reader.get("variance_type") != "fixed_small_log":
        reader.say("variance_type", "inexpressible", NO_NETWORK_VARIANCE)
    return solvers.ddpm("small")


def _pndm(reader: Reader, base: Any) -> Any:
    if reader.flag("skip_prk_steps"):
        return solvers.pndm(4, "heun")
    return solvers.pndm(4, "runge_kutta", clocks.by_schedule(base))


def _unipc(reader: Reader, base: Any) -> Any:
    reader.refuse(
        "predict_x0", "disable_corrector", "solver_p", reason="unipc() has no such option."
    )
    reader.refuse("shift_terminal", reason="no schedule here is stretched so.")
    variant = reader.choice("solver_type", SOLVER_TYPES)
    if variant not in ("bh1", "bh2"):
        reader.say("solver_type", "approximate", "diffusers takes 'bh2' in its place.")
        variant = "bh2"
    return solvers.unipc(reader.whole("solver_order"), variant, reader.flag("lower_order_final"))


def _dpm(reader: Reader, base: Any) -> Any:
    return solvers.dpmpp(
        reader.whole("solver_order"),
        _stochastic(reader),
        midpoint_or_heun(reader),
        reader.flag("lower_order_final"),
    )


def _dpm_singlestep(reader: Reader, base: Any) -> Any:
    if not reader.flag("lower_order_final") and reader.get("final_sigmas_type") == "zero":
        reader.say(
            "lower_order_final",
            "no effect",
            "with final_sigmas_type 'zero' diffusers ends with lower orders in any case.",
        )
        lower = True
    else:
        lower = reader.flag("lower_order_final")
    return solvers.dpmpp_single(
        reader.whole("solver_order"), _stochastic(reader), midpoint_or_heun(reader), lower
    )


def _stochastic(reader: Reader) -> float:
    """1 for the SDE, 0 for the ODE, of DPM-Solver++."""
    kind = reader.choice(
        "algorithm_type",
        ("dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver", "deis"),
    )
    if kind == "deis":
        reader.say("algorithm_type", "approximate", "diffusers takes 'dpmsolver++' in its place.")
    elif kind not in ("dpmsolver++", "sde-dpmsolver++"):
        reader.say(
            "algorithm_type",
            "inexpressible",
            "a solver of predicted noise; that of predicted data, 'dpmsolver++', stands in.",
        )
    if reader.has("euler_at_final"):
        reader.get("euler_at_final")  # a step to clean data is of first order here in any case
    reader.refuse("variance_type", reason="the variance is no network's output here.")
    return 1.0 if str(kind).startswith("sde") else 0.0


def midpoint_or_heun(reader: Reader) -> str:
    """The variant of order 2 that solver_type means."""
    variant = reader.choice("solver_type", SOLVER_TYPES)
    if variant not in ("midpoint", "heun"):
        reader.say("solver_type", "approximate", "diffusers takes 'midpoint' in its place.")
        return "midpoint"
    return variant


def _deis(reader: Reader, base: Any) -> Any:
    algorithms = ("deis", "dpmsolver", "dpmsolver++")
    for field, known, own in (
        ("algorithm_type", algorithms, "deis"),
        ("solver_type", SOLVER_TYPES, "logrho"),
    ):
        if reader.choice(field, known) != own:
            reader.say(field, "approximate", f"diffusers takes {own!r} in its place.")
    return solvers.deis(reader.whole("solver_order"), reader.flag("lower_order_final"))


def _sa_solver(reader: Reader, base: Any) -> Any:
    if (
        reader.choice("algorithm_type", ("data_prediction", "noise_prediction"))
        != "data_prediction"
    ):
        reader.say(
            "algorithm_type",
            "inexpressible",
            "a solver of predicted noise; that of predicted data, 'data_prediction', stands in.",
        )
    reader.refuse("variance_type", reason="the variance is no network's output here.")
    reader.refuse("tau_func", reason="no file holds a function; the class's own stands in.")
    return sa_solver_on(
        base,
        reader.whole("predictor_order"),
        reader.whole("corrector_order"),
        reader.flag("lower_order_final"),
    )


def sa_solver_on(base: Any, predictor: int, corrector: int, lower_order_final: bool) -> Any:
    """SA-Solver with diffusers' own tau: 1 for timesteps 200 to 800, 0 before and after.

    The bounds in sigma / alpha lie half-way, in its logarithm, to the next levels.
    """
    log_sigmas = -0.5 * np.asarray(base.table())

    def between(low: int) -> float:
        return math.exp(0.5 * (log_sigmas[low] + log_sigmas[low + 1]))

    levels = len(log_sigmas)
    if levels <= 200:
        return solvers.sa_solver(predictor, corrector, 0.0, lower_order_final=lower_order_final)
    high = between(800) if levels > 801 else None
    return solvers.sa_solver(predictor, corrector, 1.0, between(199), high, lower_order_final)


def _lcm(reader: Reader, base: Any) -> Any:
    return solvers.lcm(conditioning.index(base), reader.number("timestep_scaling"))


def _tcd(reader: Reader, base: Any) -> Any:
    reader.get("timestep_scaling")  # not used by the class either
    reader.say_of("eta", "assumed", "an argument of step(), whose default 0.3 is taken.")
    return solvers.tcd(0.3, base)


_SOLVERS: dict[str, Callable[[Reader, Any], Any]] = {
    "DDIMScheduler": lambda reader, base: solvers.ddim(),
    "DDIMInverseScheduler": lambda reader, base: solvers.ddim(),
    "CogVideoXDDIMScheduler": lambda reader, base: solvers.ddim(),
    # Its order falls to 1 at the step to clean data only.
    "CogVideoXDPMScheduler": lambda reader, base: solvers.dpmpp(2, 1.0, "midpoint", False),
    "DDPMScheduler": _ddpm,
    "UnCLIPScheduler": _unclip,
    "DDPMWuerstchenScheduler": lambda reader, base: solvers.ddpm("small"),
    "PNDMScheduler": _pndm,
    "IPNDMScheduler": lambda reader, base: solvers.pndm(4, "euler"),
    "EulerDiscreteScheduler": lambda reader, base: solvers.euler(),
    "EulerAncestralDiscreteScheduler": lambda reader, base: solvers.euler_ancestral(),
    "HeunDiscreteScheduler": lambda reader, base: solvers.heun(),
    "LMSDiscreteScheduler": lambda reader, base: solvers.lms(),
    "KDPM2DiscreteScheduler": lambda reader, base: solvers.dpm2(),
    "KDPM2AncestralDiscreteScheduler": lambda reader, base: solvers.dpm2(1.0),
    "DPMSolverSDEScheduler": lambda reader, base: solvers.dpmpp_sde(),
    "DPMSolverMultistepScheduler": _dpm,
    "DPMSolverMultistepInverseScheduler": _dpm,
    "DPMSolverSinglestepScheduler": _dpm_singlestep,
    "UniPCMultistepScheduler": _unipc,
    "DEISMultistepScheduler": _deis,
    "SASolverScheduler": _sa_solver,
    "LCMScheduler": _lcm,
    "TCDScheduler": _tcd,
    "EDMEulerScheduler": lambda reader, base: solvers.euler(),
    "EDMDPMSolverMultistepScheduler": _dpm,
}
