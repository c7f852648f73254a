"""The classes whose networks are conditioned on sigma -> a training and a sampling set-up."""

import dataclasses
import math
from typing import Any

from noise_sched.diffusion import (
    conditioning,
    grids,
    input_scale,
    parametrization,
    process,
    schedules,
    solvers,
)
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import Sampling
from noise_sched.interop.diffusers.paths import given_range
from noise_sched.interop.diffusers.reader import DiffusersConfigError, Reader
from noise_sched.interop.diffusers.samplers import midpoint_or_heun, solver_of, threshold_of
from noise_sched.interop.diffusers.usual import usual_objective


def load_edm(reader: Reader, steps: int) -> tuple[Objective, Sampling]:
    """EDM's network and steps (Karras et al. 2022, Table 1)."""
    sigma_data = reader.number("sigma_data")
    if reader.choice("prediction_type", ("epsilon", "v_prediction")) != "epsilon":
        reader.say("prediction_type", "approximate", "the network's output is -F, here F.")
    objective = _edm_training(reader, sigma_data, conditioning.log_sigma())
    sampling = Sampling(
        _spread(reader), grids.edm(), steps, solver_of(reader), threshold=threshold_of(reader)
    )
    return objective, sampling


def load_cosine_dpm(reader: Reader, steps: int) -> tuple[Objective, Sampling]:
    """CosineDPMSolverMultistepScheduler (Stable Audio): SDE-DPM-Solver++ on EDM's denoiser.

    With sigma_data = 1, EDM's -F of x / sqrt(sigma^2 + 1) is v of the variance-preserving x, and what
    the network is told, (2 / pi) arctan(sigma), is the t of abar = cos^2(pi t / 2).
    """
    sigma_data = reader.number("sigma_data")
    kind = reader.choice("prediction_type", ("epsilon", "v_prediction"))
    condition = conditioning.angle(2 / math.pi)
    if kind == "v_prediction" and sigma_data == 1:
        own = parametrization.v()
        reader.say(
            "training",
            "assumed",
            "the file does not say which levels were trained: all angles evenly, cosine().",
        )
        objective = usual_objective(schedules.cosine(), process.vp(), own, condition)
    else:
        if kind != "epsilon":
            reader.say("prediction_type", "approximate", "the network's output is -F, here F.")
        objective = _edm_training(reader, sigma_data, condition)
    reader.get("euler_at_final")  # a step to clean data is of first order here in any case
    solver = solvers.dpmpp(
        min(reader.whole("solver_order"), 2),
        1.0,
        midpoint_or_heun(reader),
        reader.flag("lower_order_final"),
    )
    if reader.get("solver_order") == 3:
        reader.say("solver_order", "no effect", "this class has orders 1 and 2.")
    return objective, Sampling(_spread(reader), grids.edm(), steps, solver)


def load_karras_ve(reader: Reader, steps: int) -> tuple[Objective, Sampling]:
    """KarrasVeScheduler: EDM's stochastic sampler on column VE of its Table 1."""
    low, high = given_range(reader, 0.02, 100.0)
    own = parametrization.score()
    reader.say_of(
        "training",
        "assumed",
        "the file does not say which sigmas were trained: column VE's, geometric(sigma_min, sigma_max).",
    )
    objective = usual_objective(
        schedules.geometric(low, high), process.ve(), own, conditioning.log_sigma(1.0, 2.0)
    )
    solver = solvers.heun(
        churn=reader.number("s_churn"),
        s_tmin=reader.number("s_min"),
        s_tmax=reader.number("s_max"),
        s_noise=reader.number("s_noise"),
    )
    return objective, Sampling(schedules.geometric(low, high), grids.edm(), steps, solver)


def load_score_ve(reader: Reader, steps: int) -> tuple[Objective, Sampling]:
    """ScoreSdeVeScheduler: the reverse VE process of Song et al. 2021 (arXiv 2011.13456)."""
    low, high = given_range(reader, 0.01, 1348.0)
    reader.read |= {"num_train_timesteps", "sampling_eps"}  # what set_timesteps makes is the same
    if reader.whole("correct_steps"):
        reader.say(
            "correct_steps",
            "inexpressible",
            "no solver here has Langevin steps; the predictor alone.",
        )
        reader.number("snr")
    schedule = schedules.geometric(low, high)
    condition = conditioning.log_sigma(1.0)
    objective = _score_training(reader, schedule, process.ve(), parametrization.score(), condition)
    return objective, Sampling(schedule, grids.edm(), steps, solvers.ddpm("large"))


def load_score_vp(reader: Reader, steps: int) -> tuple[Objective, Sampling]:
    """ScoreSdeVpScheduler: the reverse VP process of Song et al. 2021 (arXiv 2011.13456)."""
    low, high, last = (reader.number(f) for f in ("beta_min", "beta_max", "sampling_eps"))
    if not low < high:
        raise DiffusersConfigError(f"beta_min={low:g} must be below beta_max={high:g}.")
    if last >= 1:
        raise DiffusersConfigError(f"sampling_eps must lie in (0, 1), got {last:g}.")
    schedule = schedules.vp_diffusion(high - low, low)
    reader.say_of(
        "solver",
        "approximate",
        "it takes Euler-Maruyama steps of the reverse process; ddpm('large'), whose steps have the exact "
        "mean and variance, stands in: the same at many steps.",
    )
    trained = schedules.crop(schedule, 1e-5, 1.0)
    condition = conditioning.vp_time(high - low, low, reader.whole("num_train_timesteps") - 1.0)
    objective = _score_training(reader, trained, process.vp(), parametrization.eps(), condition)
    return objective, Sampling(schedule, grids.edm(last), steps, solvers.ddpm("large"))


def _score_training(
    reader: Reader, schedule: Any, frame: Any, own: Any, condition: Any
) -> Objective:
    reader.say_of(
        "training",
        "assumed",
        "the file does not say which t were trained: the process's, all evenly.",
    )
    return usual_objective(schedule, frame, own, condition)


def conditioned_on_sigma(reader: Reader, objective: Objective) -> Objective:
    """The training of an EulerDiscrete network that is conditioned on sigma and not a level's number."""
    condition = reader.choice("timestep_type", ("discrete", "continuous"))
    if condition == "discrete":
        return objective
    if not isinstance(objective.parametrization, parametrization.v):
        reader.say("timestep_type", "no effect", "only with prediction_type 'v_prediction'.")
        return objective
    reader.say_of(
        "training",
        "assumed",
        "timestep_type 'continuous' tells the network 0.25 ln sigma: it was trained on sigmas of its own "
        "and not on the table of betas, and the file does not say which: EDM's log-normal ones are assumed.",
    )
    return dataclasses.replace(
        objective, schedule=schedules.lognormal(), conditioning=conditioning.log_sigma()
    )


def _edm_training(reader: Reader, sigma_data: float, condition: Any) -> Objective:
    reader.say_of(
        "training",
        "assumed",
        "the file does not say which sigmas were trained: EDM's log-normal ones are assumed.",
    )
    own = parametrization.edm(sigma_data)
    return usual_objective(
        schedules.lognormal(), process.ve(), own, condition, input_scale.analytic(sigma_data)
    )


def _spread(reader: Reader) -> Any:
    """The sampling schedule between sigma_min and sigma_max."""
    ends = given_range(reader, 0.002, 80.0)
    if reader.choice("final_sigmas_type", ("zero", "sigma_min")) == "sigma_min":
        reader.say("final_sigmas_type", "approximate", "here the last step lands on clean data.")
    if reader.choice("sigma_schedule", ("karras", "exponential")) == "karras":
        return schedules.karras(*ends, reader.number("rho"))
    return schedules.geometric(*ends)
