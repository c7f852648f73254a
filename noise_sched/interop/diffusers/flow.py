"""The flow-matching classes -> a training and a sampling set-up."""

from typing import Any

from noise_sched.diffusion import (
    clocks,
    conditioning,
    grids,
    parametrization,
    process,
    schedules,
    solvers,
)
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import Sampling
from noise_sched.interop.diffusers.fields import SPREADS
from noise_sched.interop.diffusers.reader import Reader
from noise_sched.interop.diffusers.samplers import solver_of, threshold_of
from noise_sched.interop.diffusers.usual import usual_objective

FLOW_SOLVERS: dict[str, Any] = {
    "FlowMatchEulerDiscreteScheduler": solvers.ddim(),  # Euler's method in the flow's time
    "FlowMatchHeunDiscreteScheduler": solvers.heun(clock=clocks.by_flow()),
    "FlowMatchLCMScheduler": solvers.lcm(),
}


def load_flow(reader: Reader, steps: int) -> tuple[Objective, Sampling]:
    """Steps evenly in the flow's time and shifted, from 1 to the first level, then clean data.

    The classes shift twice at the cleaner end: set_timesteps starts from the shifted 1 / T and shifts it
    again, so that the last time before clean data is shift(shift(1 / T)).
    """
    levels, shift = reader.whole("num_train_timesteps"), reader.number("shift")
    if reader.flag("use_dynamic_shifting"):
        shift = _say_dynamic(reader)
    reader.refuse(
        "time_shift_type",
        "invert_sigmas",
        "shift_terminal",
        "scale_factors",
        *SPREADS,
        reason="no choice here does this; it is left out.",
    )
    _say_told(reader, "T sigma")
    last = 1 / levels
    grid = grids.edm(shift * last / (1 + (shift - 1) * last))
    return flow_training(levels, parametrization.flow()), Sampling(
        shifted(shift), grid, steps, _flow_solver(reader)
    )


def _flow_solver(reader: Reader) -> Any:
    if reader.flag("stochastic_sampling"):
        return FLOW_SOLVERS["FlowMatchLCMScheduler"]
    return FLOW_SOLVERS[reader.class_name]


def load_minimax(reader: Reader, steps: int) -> tuple[Objective, Sampling]:
    """MiniMaxH3Scheduler: the flow's Euler method, from 1 evenly to 0."""
    reader.say(
        "prediction_type",
        "approximate",
        "the network's output is x0 - eps and it is told 1 - sigma; here eps - x0 and sigma.",
    )
    reader.say_of("training", "assumed", "the file does not say which t were trained: all evenly.")
    reader.say_of(
        "steps",
        "assumed",
        f"this class counts the levels, clean data included: {steps} of them are {max(steps - 1, 1)} steps.",
    )
    schedule = shifted(reader.number("shift"))
    return flow_training(1000, parametrization.flow()), Sampling(
        schedule, grids.uniform(), max(steps - 1, 1), solvers.ddim()
    )


def load_flow_sigmas(reader: Reader, own: Any, steps: int) -> tuple[Objective, Sampling]:
    """The multistep classes with use_flow_sigmas."""
    levels = reader.whole("num_train_timesteps")
    reader.get("use_flow_sigmas", bool)
    reader.refuse(
        "use_dynamic_shifting",
        "time_shift_type",
        *SPREADS,
        "use_lu_lambdas",
        "lambda_min_clipped",
        reason="no choice here does this; it is left out.",
    )
    _say_told(reader, "T sigma")
    schedule, grid = shifted(reader.number("flow_shift")), grids.uniform()
    if (
        reader.class_name == "UniPCMultistepScheduler"
    ):  # evenly from 1 to 1 / T, that last one left out
        grid = grids.edm(1 - (steps - 1) / steps * (1 - 1 / levels))
    else:
        schedule = schedules.crop(schedule, 0.0, 1 - 1 / levels)
    for field in ("timestep_spacing", "steps_offset", "rescale_betas_zero_snr"):
        if reader.given.get(field, reader.defaults.get(field)) != reader.defaults.get(field):
            reader.say(field, "no effect", "use_flow_sigmas decides the steps.")
    if reader.has("final_sigmas_type"):
        reader.get("final_sigmas_type")
    solver = solver_of(reader, schedules.discrete(schedules.rectified_flow(), levels=levels))
    return flow_training(levels, own), Sampling(
        schedule, grid, steps, solver, threshold=threshold_of(reader)
    )


def flow_training(levels: int, own: Any) -> Objective:
    """A network of the straight path that was trained on all of its times."""
    flow = schedules.rectified_flow()
    return usual_objective(
        flow, process.flow(), own, conditioning.index(schedules.discrete(flow, levels=levels))
    )


def shifted(shift: float) -> Any:
    """The straight path with the resolution shift of Esser et al. 2024 (arXiv 2403.03206)."""
    flow = schedules.rectified_flow()
    return flow if shift == 1 else schedules.shift(flow, shift, 1)


def _say_told(reader: Reader, what: str) -> None:
    reader.say_of(
        "conditioning",
        "approximate",
        f"the network is told {what}; no conditioning here says it, the nearest level's index does.",
    )
    reader.say_of("training", "assumed", "the file does not say which t were trained: all evenly.")


def _say_dynamic(reader: Reader) -> float:
    reader.say(
        "use_dynamic_shifting",
        "inexpressible",
        "the shift depends on the image's size, which the file does not hold; none is made. For "
        "a size whose mu is known it is shift(rectified_flow(), exp(mu), 1).",
    )
    for field in ("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len", "shift"):
        if field in reader.given:
            reader.say(field, "inexpressible", "a part of use_dynamic_shifting.")
    return 1.0
