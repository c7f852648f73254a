"""The audit of a scheduler file, and the defects of diffusers 0.42 that the file meets.

The audit's own findings are of the choices; these are of what the library makes of them.
"""

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from noise_sched.auditing.report import Report, audit
from noise_sched.diffusion import schedules, thresholding
from noise_sched.experiment.rules import Facts, Finding, worst_first
from noise_sched.experiment.rules.facts import PIXELS
from noise_sched.interop.diffusers.fields import (
    CUTS_COSINE,
    FIELDS,
    FLOORED,
    MULTISTEP,
    NO_SAMPLE_PREDICTION,
    REPEATS_LAST_SIGMA,
    STEPS_BY_STRIDE,
)
from noise_sched.interop.diffusers.flow import FLOW_SOLVERS
from noise_sched.interop.diffusers.reader import Loaded

_CHANGES = {
    "nonzero_terminal_snr": 'train with "rescale_betas_zero_snr": true, "prediction_type": '
    '"v_prediction", then sample with "timestep_spacing": "trailing"',
    "last_level_not_sampled": '"timestep_spacing": "trailing"',
    "parametrization_at_zero_snr": '"rescale_betas_zero_snr": false, or a network trained with '
    '"prediction_type": "v_prediction"',
    "eps_trained_at_zero_snr": 'a network trained with "prediction_type": "v_prediction"',
    "linspace_at_few_steps": '"timestep_spacing": "trailing"',
    "levels_between_trained": '"timestep_spacing": "trailing" without Karras or exponential sigmas',
    "steps_crowded_in_noise": '"use_karras_sigmas": false, "timestep_spacing": "trailing"',
    "guidance_without_rescale": "guidance_rescale=0.7 in the pipeline's call",
}


def audit_loaded(loaded: Loaded, pixels: int = PIXELS) -> Report:
    """The audit of a scheduler config: of the set-up, and of what diffusers makes of it."""
    report = audit(Facts(loaded.objective, loaded.sampling, pixels))
    ours = tuple(dataclasses.replace(f, fix=_CHANGES.get(f.name, f.fix)) for f in report.findings)
    return dataclasses.replace(report, findings=worst_first(ours + findings(loaded)))


def findings(loaded: Loaded) -> tuple[Finding, ...]:
    """Defects of diffusers 0.42 that this file meets; they are not ours, nor of its choices."""
    with jax.enable_x64(True):
        return tuple(finding for check in _CHECKS for finding in check(loaded))


def _zero(loaded: Loaded) -> bool:
    return bool(loaded.value("rescale_betas_zero_snr"))


def _spreads(loaded: Loaded) -> bool:
    return bool(loaded.value("use_karras_sigmas") or loaded.value("use_exponential_sigmas"))


def _steps_by_stride(loaded: Loaded) -> Iterator[Finding]:
    name, steps = loaded.class_name, loaded.sampling.steps
    if name not in STEPS_BY_STRIDE:
        return
    levels, kind = loaded.value("num_train_timesteps"), loaded.value("timestep_spacing")
    times = np.asarray(loaded.sampling.grid(steps)) * levels - 1
    called, listed = np.round(times[:-1]), np.round(times[1:])
    taken = np.maximum(called - levels // steps, -1)
    # From the last level of "leading" a stride leads to clean data, whatever is left of it.
    wrong = np.flatnonzero((taken != listed) & ((listed >= 0) | (kind != "leading")))
    if len(wrong):
        k = wrong[0]
        yield Finding(
            "previous_level_of_another_path",
            "flaw",
            "diffusers #12633, #9261",
            f"{name} pairs each level with the one {levels} // {steps} = {levels // steps} below it, and not "
            f"with the next of its own list: with {kind!r} that is wrong in {len(wrong)} of {steps} steps "
            f"(timestep {called[k]:g} goes with {_level(taken[k])}, while the list goes on with "
            f"{_level(listed[k])}), so the state carries another amount of noise than the network is told.",
            f'a number of steps that divides {levels}, with "timestep_spacing": "trailing"',
        )


def _level(index: float) -> str:
    return "clean data" if index < 0 else f"{index:g}"


def _sigmas_on_zero_snr(loaded: Loaded) -> Iterator[Finding]:
    if _zero(loaded) and _spreads(loaded):
        yield Finding(
            "karras_on_zero_snr",
            "flaw",
            "diffusers #12788",
            "Karras or exponential sigmas are spread from the stand-in sigma = 4096: many steps are "
            "lost there, and rounded timesteps repeat (IndexError from 25 steps on).",
            '"use_karras_sigmas": false, "use_exponential_sigmas": false, "timestep_spacing": '
            '"trailing"',
        )


def _repeated_timesteps(loaded: Loaded) -> Iterator[Finding]:
    if loaded.class_name not in MULTISTEP or not _spreads(loaded) or _zero(loaded):
        return
    sampling, trained = loaded.sampling, loaded.objective.schedule
    if not isinstance(trained, schedules.TableSchedule):
        return
    table = -0.5 * np.asarray(trained.table())
    called = -0.5 * np.asarray(sampling.schedule.logsnr(sampling.grid(sampling.steps)))[:2]
    position = np.interp(called, table, np.arange(len(table)))
    cut = loaded.class_name in CUTS_COSINE and loaded.value("beta_schedule") == "squaredcos_cap_v2"
    if loaded.value("use_karras_sigmas") and not cut:
        timesteps = np.round(position)
    else:  # cut down to whole numbers; float32 leaves the first just below the last level
        timesteps = np.floor(position - 1e-4)
    if timesteps[0] == timesteps[1]:
        yield Finding(
            "timesteps_repeated",
            "error",
            "diffusers #12771",
            f"{loaded.class_name} tells the network whole timesteps, and of these sigmas the first two, "
            f"{np.exp(called[0]):.4g} and {np.exp(called[1]):.4g}, are both timestep {timesteps[0]:g}: its "
            "step() starts at the second of them and breaks off (IndexError, AssertionError).",
            'fewer steps, or "use_karras_sigmas": false, "use_exponential_sigmas": false; this library '
            "draws them as they are",
        )


def _floor(loaded: Loaded) -> Iterator[Finding]:
    if _zero(loaded) and loaded.class_name in FLOORED:
        yield Finding(
            "zero_snr_by_a_floor",
            "note",
            "diffusers #6024",
            f"{loaded.class_name} replaces zero SNR by sigma = 4096: images differ by up to 7e-3 from "
            "the exact ones, and half precision overflows (#6981).",
            "DDIMScheduler is exact; or sample with this library",
        )


def _eta_from_zero_snr(loaded: Loaded) -> Iterator[Finding]:
    named = loaded.class_name == "DDIMScheduler"
    if _zero(loaded) and named and loaded.value("prediction_type") != "epsilon":
        yield Finding(
            "eta_one_from_zero_snr",
            "note",
            "rounding of 1 - abar - sigma^2",
            "with eta = 1, DDIMScheduler's first step from zero SNR is NaN for about four in ten "
            "numbers of steps (25, 30 and 50 among them).",
            "eta below 1, or sample with this library",
        )


def _zero_snr_ignored(loaded: Loaded) -> Iterator[Finding]:
    name = loaded.class_name
    if "rescale_betas_zero_snr" not in FIELDS[name] and loaded.config.get("rescale_betas_zero_snr"):
        yield Finding(
            "zero_snr_ignored",
            "flaw",
            f"{name} has no such field",
            "the file asks for zero terminal SNR, and this class ignores it.",
            '"_class_name": "DDIMScheduler"',
        )


def _kept_eps(loaded: Loaded) -> Iterator[Finding]:
    threshold = loaded.sampling.threshold
    if getattr(threshold, "keep_eps", False):
        field = "thresholding" if isinstance(threshold, thresholding.dynamic) else "clip_sample"
        yield Finding(
            "eps_of_the_unclipped_x0",
            "note",
            "DDIMScheduler.step, use_clipped_model_output=False",
            f"with {field!r}, {loaded.class_name} steps to the bounded x0 with the eps of the unbounded "
            "one: alpha x0 + sigma eps is then no longer x_t. Samplers that bound x0 elsewhere (Imagen, "
            "DDPM, DPM-Solver++) recompute eps, and draw other images.",
            "use_clipped_model_output=True in the call of step(); here keep_eps=False",
        )


def _noise_on_the_image(loaded: Loaded) -> Iterator[Finding]:
    if not getattr(loaded.sampling.solver, "last_noise", False):
        return
    yield Finding(
        "noise_on_the_finished_image",
        "flaw",
        "DDPMScheduler.step, fixed_large",
        f"the last timestep is not 0, and {loaded.class_name} then adds noise to the finished image, of "
        f"standard deviation {_sigma_left(loaded):.3g} with the large variance.",
        '"variance_type": "fixed_small"',
    )


def _noise_left(loaded: Loaded) -> Iterator[Finding]:
    flow = bool(loaded.value("use_flow_sigmas"))
    if loaded.class_name not in REPEATS_LAST_SIGMA or not (flow or _spreads(loaded)):
        return
    yield Finding(
        "noise_left_in_the_image",
        "flaw",
        "the last of the scheduler's sigmas is there twice",
        f"{loaded.class_name} ends these sigmas by repeating the last, so the image keeps noise of "
        f"{_sigma_left(loaded):.3g}.",
        '"_class_name": "DPMSolverMultistepScheduler"; or sample with this library, which goes on to clean '
        "data",
    )


def _sigma_left(loaded: Loaded) -> float:
    """Sigma of the last level that the network is called at."""
    return float(loaded.sampling.path(loaded.objective.process).sigma[-2])


def _first_step_without_image(loaded: Loaded) -> Iterator[Finding]:
    if loaded.class_name == "IPNDMScheduler":
        yield Finding(
            "first_prediction_lost",
            "flaw",
            "IPNDMScheduler.step divides by max(alpha, 1e-8)",
            "the first step starts from zero SNR, where (x - sigma eps) / max(alpha, 1e-8) is 0 whatever the "
            "network predicts: its first x0 is lost.",
            "sample with this library, which takes x0 as predicted",
        )


def _shift_twice(loaded: Loaded) -> Iterator[Finding]:
    shift = loaded.value("shift")
    if loaded.class_name not in FLOW_SOLVERS or loaded.value("use_dynamic_shifting") or shift == 1:
        return
    levels, grid = loaded.value("num_train_timesteps"), loaded.sampling.grid
    once = getattr(grid, "last", 0.0)  # where the library's even steps end, shifted before
    twice = shift * once / (1 + (shift - 1) * once)
    here = f"sample with this library on edm({1 / levels:g})"
    own = f"sigmas=numpy.linspace(1, 1 / {levels}, steps) in the call of set_timesteps(), or {here}"
    yield Finding(
        "shift_applied_twice",
        "note",
        "diffusers #13243",
        f"{loaded.class_name}.set_timesteps starts from sigmas that are shifted already and shifts them "
        f"again: the last step starts at sigma = {twice:.4g} and not at {once:.4g}. Audited as it does.",
        here if loaded.class_name == "FlowMatchHeunDiscreteScheduler" else own,
    )


def _bh1(loaded: Loaded) -> Iterator[Finding]:
    if loaded.class_name == "UniPCMultistepScheduler" and loaded.value("solver_type") == "bh1":
        if loaded.value("final_sigmas_type") == "zero":
            yield Finding(
                "bh1_not_finite",
                "error",
                "UniPCMultistepScheduler.step, B(h) = h",
                "with 'bh1' the last step, infinitely long in lambda, makes the image NaN.",
                '"solver_type": "bh2"; or sample with this library',
            )


def _laplace(loaded: Loaded) -> Iterator[Finding]:
    if loaded.value("beta_schedule") == "laplace" and loaded.class_name == "DDPMScheduler":
        yield Finding(
            "laplace_table",
            "flaw",
            "arXiv 2407.03297 against diffusers' table",
            "abar at the middle is 0.7073 where logSNR 0 needs 0.5: a square root too many.",
            "schedule='laplace()' in a config of this library",
        )


def _sample_raises(loaded: Loaded) -> Iterator[Finding]:
    name = loaded.class_name
    if name in NO_SAMPLE_PREDICTION and loaded.value("prediction_type") == "sample":
        yield Finding(
            "prediction_not_implemented",
            "error",
            f"{name}.step",
            "this class raises for prediction_type 'sample'.",
            '"_class_name": "DDPMScheduler"',
        )


def _sigma_squared(loaded: Loaded) -> Iterator[Finding]:
    if loaded.class_name == "KarrasVeScheduler":
        high = float(loaded.value("sigma_max"))
        yield Finding(
            "sigma_squared",
            "flaw",
            "EDM Table 1, column VE: sigma(t) = sqrt(t)",
            f"KarrasVeScheduler takes sigma^2 where sigma is meant: it starts from noise of {high:g} and "
            f"calls it {high**2:g}. The steps that were meant are audited.",
            '"_class_name": "EDMEulerScheduler"; or sample with this library',
        )


_CHECKS = (
    _steps_by_stride,
    _sigmas_on_zero_snr,
    _repeated_timesteps,
    _floor,
    _eta_from_zero_snr,
    _zero_snr_ignored,
    _kept_eps,
    _noise_on_the_image,
    _noise_left,
    _first_step_without_image,
    _bh1,
    _shift_twice,
    _laplace,
    _sample_raises,
    _sigma_squared,
)
