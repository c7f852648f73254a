"""The classes that sample a table of betas -> a training and a sampling set-up."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from noise_sched.diffusion import (
    conditioning,
    grids,
    parametrization,
    process,
    schedules,
    thresholding,
)
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import Sampling
from noise_sched.interop.diffusers import flow, sigmas
from noise_sched.interop.diffusers.fields import FLOORED, MULTISTEP, UPWARDS
from noise_sched.interop.diffusers.paths import path_of
from noise_sched.interop.diffusers.reader import DiffusersConfigError, Reader, check_betas
from noise_sched.interop.diffusers.samplers import solver_of, threshold_of
from noise_sched.interop.diffusers.usual import usual_objective

PREDICTIONS = {
    "epsilon": parametrization.eps(),
    "sample": parametrization.x0(),
    "v_prediction": parametrization.v(),
}


def load_table(reader: Reader, steps: int) -> tuple[Objective, Sampling]:
    """A class with a table of betas."""
    base = _betas(reader)
    if reader.class_name in UPWARDS:
        _check_inversion(reader)
    kinds: Mapping[str, Any] = PREDICTIONS
    if reader.class_name in MULTISTEP:
        kinds = {**kinds, "flow_prediction": parametrization.flow()}
    own = reader.choice("prediction_type", kinds)
    if isinstance(own, parametrization.flow) or reader.flag("use_flow_sigmas"):
        return flow.load_flow_sigmas(reader, own, steps)
    if reader.has("snr_shift_scale"):
        scale = reader.number("snr_shift_scale")
        if scale != 1:  # abar / (scale + (1 - scale) abar): the SNR divided by scale
            base = schedules.shift(base, math.sqrt(scale), 1.0)
    if reader.flag("rescale_betas_zero_snr"):
        base = schedules.zero_terminal(base)
        if reader.class_name in FLOORED:
            reader.say(
                "rescale_betas_zero_snr",
                "approximate",
                "diffusers puts 2^-24 in the place of abar_T = 0 (sigma = 4096); here it is 0 exactly.",
            )
    schedule, grid = path_of(reader, base, steps)
    objective = table_training(base, own)
    if reader.class_name == "EulerDiscreteScheduler":
        objective = sigmas.conditioned_on_sigma(reader, objective)
    solver, threshold = solver_of(reader, base), threshold_of(reader)
    if reader.class_name in UPWARDS:
        _say_inverted(reader, threshold)
    if getattr(grid, "inversion", False) and grid.kind == "trailing":
        steps -= 1
        reader.say(
            "timestep_spacing",
            "approximate",
            "its last step leads from the last level to itself, and is left out.",
        )
    return objective, Sampling(schedule, grid, max(steps, 1), solver, threshold=threshold)


def _check_inversion(reader: Reader) -> None:
    if reader.flag("use_flow_sigmas"):
        raise DiffusersConfigError(
            f"use_flow_sigmas=True: {reader.class_name} runs these steps from noise to the image, which is "
            "no inversion. DPMSolverMultistepScheduler with the same fields is what it does."
        )
    if reader.has("algorithm_type") and str(reader.get("algorithm_type")).startswith("sde"):
        raise DiffusersConfigError(
            f"algorithm_type={reader.get('algorithm_type')!r}: the noise that the SDE adds cannot be taken "
            "back, and diffusers' steps are not finite. Use 'dpmsolver++'."
        )


def _say_inverted(reader: Reader, threshold: Any) -> None:
    reader.say_of(
        "direction",
        "assumed",
        "this class goes from an image to its noise: noise_sched.diffusion.inversion.invert along the same "
        "path. What is audited is the way back.",
    )
    if reader.class_name == "DDIMInverseScheduler" and reader.get("prediction_type") != "epsilon":
        reader.say(
            "prediction_type",
            "approximate",
            "it calls the network for the upper level of a step and reads the output by the lower one; here "
            "both are the upper.",
        )
    if threshold != thresholding.none():
        reader.say_of(
            "bounded x0",
            "approximate",
            "it bounds the x0 of the level that a step starts from; here a step upwards needs eps alone.",
        )


def table_training(base: Any, own: Any) -> Objective:
    """A network trained on the levels of a table and conditioned on their numbers."""
    return usual_objective(schedules.discrete(base), process.vp(), own, conditioning.index(base))


def load_unclip(reader: Reader, steps: int) -> tuple[Objective, Sampling]:
    """UnCLIPScheduler: DDPM on the cosine table, its steps from the last level to the first."""
    levels = reader.whole("num_train_timesteps")
    reader.choice("beta_schedule", ("squaredcos_cap_v2",))
    base = schedules.cosine_betas(levels=levels)
    own = reader.choice("prediction_type", {k: PREDICTIONS[k] for k in ("epsilon", "sample")})
    sampling = Sampling(
        base,
        grids.linspace(levels),
        steps,
        solver_of(reader),
        threshold=threshold_of(reader),
    )
    return table_training(base, own), sampling


def load_ipndm(reader: Reader, steps: int) -> tuple[Objective, Sampling]:
    """IPNDMScheduler: iPNDM for networks of v that are conditioned on the angle, on the "crash" schedule."""
    reader.get("num_train_timesteps")
    reader.refuse(
        "trained_betas",
        reason="they stand for the sigmas of one number of steps; crash() stands in.",
    )
    reader.say_of(
        "training", "assumed", "the file does not say which levels were trained: all angles evenly."
    )
    objective = dataclasses.replace(
        table_training(schedules.cosine_betas(), parametrization.v()),
        schedule=schedules.cosine(),
        conditioning=conditioning.angle(2 / math.pi),
    )
    return objective, Sampling(schedules.crash(), grids.uniform(), steps, solver_of(reader))


def load_wuerstchen(reader: Reader, steps: int) -> tuple[Objective, Sampling]:
    """DDPMWuerstchenScheduler: DDPM on a continuous cosine.

    Its abar(t) = cos^2((t + s) / (1 + s) pi / 2) / cos^2(s / (1 + s) pi / 2), within [1e-4, 0.9999].
    """
    offset = reader.number("s")
    schedule = schedules.cosine(start=offset / (1 + offset), clip_min=1e-4)
    if reader.number("scaler") != 1:
        reader.say(
            "scaler", "inexpressible", "no schedule here bends t so; the unbent cosine stands in."
        )
    reader.say_of(
        "conditioning",
        "approximate",
        "the network is told the cosine's t; angle(), which is nearly a multiple of it, stands in.",
    )
    reader.say_of("training", "assumed", "the file does not say which t were trained: all evenly.")
    reader.say_of("the last step", "approximate", "it lands on abar = 0.9999, here on clean data.")
    own = parametrization.eps()
    objective = dataclasses.replace(
        table_training(schedules.cosine_betas(), own),
        schedule=schedule,
        conditioning=conditioning.angle(),
    )
    return objective, Sampling(schedule, grids.uniform(), steps, solver_of(reader))


def _betas(reader: Reader) -> schedules.TableSchedule:
    levels = reader.whole("num_train_timesteps")
    betas = reader.get("trained_betas", list, tuple, type(None))
    if betas is not None:
        betas = check_betas(betas)
        if len(betas) != levels and "num_train_timesteps" in reader.given:
            reader.say(
                "num_train_timesteps", "no effect", f"trained_betas has {len(betas)} levels."
            )
        for field in ("beta_schedule", "beta_start", "beta_end"):
            if field in reader.given:
                reader.say(field, "no effect", "trained_betas holds the whole table.")
        return schedules.from_betas(betas)
    if reader.class_name == "HeunDiscreteScheduler" and reader.get("beta_schedule") == "exp":
        beta = min(-math.expm1(-12.0 / levels), 0.999)  # abar(t) = exp(-12 t)
        return schedules.linear_betas(beta, beta, levels)
    known = {
        "linear": schedules.linear_betas,
        "scaled_linear": schedules.scaled_linear,
        "squaredcos_cap_v2": schedules.cosine_betas,
    }
    if reader.class_name == "DDPMScheduler":
        known |= {"sigmoid": schedules.sigmoid_betas, "laplace": schedules.cosine_betas}
    made = reader.choice("beta_schedule", known)
    if made is schedules.cosine_betas:
        if reader.get("beta_schedule") == "laplace":
            reader.say(
                "beta_schedule",
                "inexpressible",
                "diffusers takes a square root too many in this table (abar = 0.71 where logSNR is 0), "
                "so it is not the published one; 'laplace()' is. The cosine table stands in.",
            )
        return made(levels=levels)
    return made(reader.number("beta_start"), reader.number("beta_end"), levels)
