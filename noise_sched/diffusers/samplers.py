"""The solver and the threshold that a class means."""

from collections.abc import Callable
from typing import Any

from noise_sched.diffusers.reader import Reader
from noise_sched.diffusion import solvers, thresholding

# The classes that step with the network's own eps where they have changed x0.
KEEPS_EPS = ("DDIMScheduler",)
IGNORES_CLIPPING = ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")
NO_NETWORK_VARIANCE = "the variance is no network's output here; 'small' stands in."


def solver_of(reader: Reader) -> Any:
    """The solver of the file's class."""
    return _SOLVERS[reader.class_name](reader)


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


def _ddpm(reader: Reader) -> Any:
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


def _unclip(reader: Reader) -> Any:
    if reader.get("variance_type") != "fixed_small_log":
        reader.say("variance_type", "inexpressible", NO_NETWORK_VARIANCE)
    return solvers.ddpm("small")


def _pndm(reader: Reader) -> Any:
    reader.say(
        "_class_name",
        "inexpressible",
        "PNDM (linear multistep) is no solver here; ddim(), of first order on the same levels, "
        "stands in.",
    )
    reader.get("skip_prk_steps")
    return solvers.ddim()


def _unipc(reader: Reader) -> Any:
    reader.refuse(
        "predict_x0", "disable_corrector", "solver_p", reason="unipc() has no such option."
    )
    reader.refuse("shift_terminal", reason="no schedule here is stretched so.")
    variant = reader.get("solver_type")
    if variant not in ("bh1", "bh2"):
        reader.say("solver_type", "approximate", "diffusers takes 'bh2' in its place.")
        variant = "bh2"
    return solvers.unipc(reader.whole("solver_order"), variant, reader.flag("lower_order_final"))


def dpm_of(reader: Reader) -> Any:
    """DPM-Solver++ as the multistep classes have it."""
    kind = reader.get("algorithm_type")
    if kind not in ("dpmsolver++", "sde-dpmsolver++"):
        reader.say(
            "algorithm_type",
            "inexpressible",
            "a solver of predicted noise; dpmpp(), of predicted data, stands in.",
        )
    reader.get("euler_at_final")  # a step to clean data is of first order here in any case
    reader.refuse("variance_type", reason="the variance is no network's output here.")
    return solvers.dpmpp(
        reader.whole("solver_order"),
        1.0 if str(kind).startswith("sde") else 0.0,
        midpoint_or_heun(reader),
        reader.flag("lower_order_final"),
    )


def midpoint_or_heun(reader: Reader) -> str:
    """The variant of order 2 that solver_type means."""
    variant = reader.get("solver_type")
    if variant not in ("midpoint", "heun"):
        reader.say("solver_type", "approximate", "diffusers takes 'midpoint' in its place.")
        return "midpoint"
    return variant


_SOLVERS: dict[str, Callable[[Reader], Any]] = {
    "DDIMScheduler": lambda reader: solvers.ddim(),
    "CogVideoXDDIMScheduler": lambda reader: solvers.ddim(),
    # Its order falls to 1 at the step to clean data only.
    "CogVideoXDPMScheduler": lambda reader: solvers.dpmpp(2, 1.0, "midpoint", False),
    "DDPMScheduler": _ddpm,
    "UnCLIPScheduler": _unclip,
    "DDPMWuerstchenScheduler": lambda reader: solvers.ddpm("small"),
    "PNDMScheduler": _pndm,
    "EulerDiscreteScheduler": lambda reader: solvers.euler(),
    "EulerAncestralDiscreteScheduler": lambda reader: solvers.euler_ancestral(),
    "HeunDiscreteScheduler": lambda reader: solvers.heun(),
    "DPMSolverMultistepScheduler": dpm_of,
    "UniPCMultistepScheduler": _unipc,
    "EDMEulerScheduler": lambda reader: solvers.euler(),
    "EDMDPMSolverMultistepScheduler": dpm_of,
}
