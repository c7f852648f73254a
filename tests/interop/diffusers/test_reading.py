"""Published scheduler configs: what they say, what is wrong with them, and back.

Contents as documented by diffusers for the models named.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published import BETAS, DPM, SD15, SD21_BASE, SD21_V, SDXL, ZERO

from noise_sched.diffusion import grids, schedules, solvers, specs, thresholding
from noise_sched.interop.diffusers.reading import (
    FIELDS,
    audit_loaded,
    findings,
    load,
)
from noise_sched.interop.diffusers.writing import write

CLEAN_FLAWS = ["last_level_not_sampled", "nonzero_terminal_snr"]
CROWDED = ["karras_on_zero_snr", "steps_crowded_in_noise"]
DDPM = dict(_class_name="DDPMScheduler", beta_schedule="linear", clip_sample=True)

# name -> (contents, steps, everything worse than a note)
PUBLISHED = {
    "Stable Diffusion 1.5": (SD15, 50, CLEAN_FLAWS),
    "Stable Diffusion 2.1-base": (SD21_BASE, 50, CLEAN_FLAWS),
    "Stable Diffusion 2.1-v": (SD21_V, 50, CLEAN_FLAWS),
    "SDXL": (SDXL, 30, CLEAN_FLAWS),
    "trailing alone": (dict(SD21_V, timestep_spacing="trailing"), 50, ["nonzero_terminal_snr"]),
    "zero SNR alone": (dict(SD21_V, rescale_betas_zero_snr=True), 50, ["last_level_not_sampled"]),
    "zero SNR, trailing, v": (ZERO, 50, []),
    "zero SNR, trailing, v, S=30": (ZERO, 30, ["previous_level_of_another_path"]),
    "zero SNR with eps": (
        dict(ZERO, prediction_type="epsilon"),
        50,
        ["eps_trained_at_zero_snr", "parametrization_at_zero_snr"],
    ),
    "DDIM linspace": (
        dict(ZERO, timestep_spacing="linspace"),
        25,
        ["previous_level_of_another_path"],
    ),
    "DPM++ 2M Karras": (dict(DPM, use_karras_sigmas=True), 25, ["nonzero_terminal_snr"]),
    "DPM++ 2M Karras, zero SNR": (
        dict(DPM, prediction_type="v_prediction", use_karras_sigmas=True)
        | dict(rescale_betas_zero_snr=True),
        10,
        CROWDED,
    ),
    "SDXL, zero SNR and trailing, v": (
        dict(SDXL, prediction_type="v_prediction", timestep_spacing="trailing")
        | dict(rescale_betas_zero_snr=True),
        28,
        [],
    ),
    "Heun, zero SNR asked for": (
        dict(_class_name="HeunDiscreteScheduler", **BETAS, rescale_betas_zero_snr=True),
        25,
        ["nonzero_terminal_snr", "zero_snr_ignored"],
    ),
    "DDPM CIFAR-10": (DDPM, 1000, ["nonzero_terminal_snr"]),
    "DDPM laplace": (dict(DDPM, beta_schedule="laplace"), 1000, ["laplace_table"]),
    "EDM": (dict(_class_name="EDMEulerScheduler"), 18, []),
    "Playground 2.5": (
        dict(_class_name="EDMDPMSolverMultistepScheduler", sigma_data=0.5, sigma_max=80.0),
        50,
        [],
    ),
    "Stable Diffusion 3": (dict(_class_name="FlowMatchEulerDiscreteScheduler", shift=3.0), 28, []),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_verdict_on_published_configs(name):
    config, steps, flaws = PUBLISHED[name]
    report = audit_loaded(load(config, steps))
    assert sorted(f.name for f in report.findings if f.severity != "note") == flaws
    assert report.flawed == bool(flaws)


@pytest.mark.parametrize("name", PUBLISHED)
def test_there_and_back(name):
    """What is loaded is written as a file that loads as the same, and with nothing new to say."""
    config, steps, _ = PUBLISHED[name]
    loaded = load(config, steps)
    written = write(loaded.objective, loaded.sampling)
    again = load(json.loads(json.dumps(written.config)), steps)
    assert again.objective == loaded.objective and again.sampling == loaded.sampling
    assert not {f.kind for f in again.fields} & {"unknown", "foreign", "inexpressible", "no effect"}
    assert set(written.config) <= {"_class_name", *FIELDS[written.config["_class_name"]]}
    # PNDM and the laplace table are no choices here; every other class comes back.
    if not any(f.kind == "inexpressible" for f in loaded.fields):
        assert written.config["_class_name"] == config["_class_name"]


def test_what_stable_diffusion_says():
    loaded = load(SD21_V)
    assert loaded.objective.schedule == specs.build("discrete(scaled_linear())")
    assert loaded.objective.parametrization == specs.build("v()", "parametrization")
    assert loaded.sampling.grid == grids.leading(1000, offset=1)
    assert loaded.sampling.solver == solvers.ddim()
    assert loaded.sampling.threshold == thresholding.none()


def kinds(config):
    return {f.name: f.kind for f in load(config).fields}


def test_every_field_is_used_or_reported():
    assert kinds(SDXL) == {
        "clip_sample": "foreign",
        "sample_max_value": "foreign",
        "set_alpha_to_one": "foreign",
        "skip_prk_steps": "foreign",
    }
    report = {f.name: f for f in load(dict(SD21_V, use_karas_sigmas=True, steps_ofset=3)).fields}
    assert report["steps_ofset"].kind == report["use_karas_sigmas"].kind == "unknown"
    assert "Did you mean 'steps_offset'?" in report["steps_ofset"].reason
    assert report["steps_ofset"].value == 3


@pytest.mark.parametrize(
    ("config", "field", "kind"),
    [
        (dict(SD15, _class_name="FlaxPNDMScheduler"), "_class_name", "assumed"),
        (SD15, "set_alpha_to_one", "approximate"),
        (dict(DPM, use_beta_sigmas=True), "use_beta_sigmas", "inexpressible"),
        (dict(DPM, use_lu_lambdas=True), "use_lu_lambdas", "inexpressible"),
        (dict(DPM, lambda_min_clipped=-5.1), "lambda_min_clipped", "inexpressible"),
        (dict(DPM, algorithm_type="dpmsolver"), "algorithm_type", "inexpressible"),
        (dict(DPM, final_sigmas_type="sigma_min"), "final_sigmas_type", "approximate"),
        (dict(DPM, timestep_spacing="leading"), "timestep_spacing", "approximate"),
        (dict(DPM, flow_shift=3.0), "flow_shift", "no effect"),
        (dict(DPM, rescale_betas_zero_snr=True), "rescale_betas_zero_snr", "approximate"),
        (dict(DDPM, variance_type="learned_range"), "variance_type", "inexpressible"),
        (dict(DDPM, sample_max_value=2.0), "sample_max_value", "no effect"),
        (dict(ZERO, trained_betas=[0.1, 1.0]), "beta_start", "no effect"),
        (
            dict(_class_name="UniPCMultistepScheduler", disable_corrector=[0]),
            "disable_corrector",
            "inexpressible",
        ),
        (
            dict(_class_name="EDMEulerScheduler", prediction_type="v_prediction"),
            "prediction_type",
            "approximate",
        ),
        (
            dict(_class_name="FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True),
            "use_dynamic_shifting",
            "inexpressible",
        ),
        (
            dict(_class_name="FlowMatchEulerDiscreteScheduler", shift_terminal=0.1),
            "shift_terminal",
            "inexpressible",
        ),
    ],
)
def test_what_cannot_be_said_is_reported(config, field, kind):
    steps = 2 if "trained_betas" in config and config["trained_betas"] else 50
    assert {f.name: f.kind for f in load(config, steps).fields}[field] == kind


def timesteps(config, steps):
    """0-based, as diffusers counts."""
    sampling = load(config, steps).sampling
    with jax.enable_x64(True):
        return np.asarray(sampling.grid(steps))[:-1] * 1000 - 1


def test_steps_of_the_classes():
    """One name, three rules: as recorded of diffusers 0.42 with ten steps."""
    leading, linspace = dict(timestep_spacing="leading"), dict(timestep_spacing="linspace")
    trailing = dict(timestep_spacing="trailing")
    ddim, euler = dict(ZERO, steps_offset=0), dict(SDXL, steps_offset=0)
    np.testing.assert_allclose(timesteps(ddim | leading, 10), np.arange(900, -1, -100))
    np.testing.assert_allclose(timesteps(ddim | trailing, 10), np.arange(999, 0, -100))
    rounded = [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]
    np.testing.assert_allclose(timesteps(ddim | linspace, 10), rounded)
    np.testing.assert_allclose(timesteps(DPM | leading, 10), np.arange(900, 0, -90))
    found = timesteps(DPM | linspace, 10)
    np.testing.assert_allclose(found, np.round(np.linspace(0, 999, 11))[:0:-1])
    np.testing.assert_allclose(timesteps(euler | linspace, 10), np.linspace(999, 0, 10))
    np.testing.assert_allclose(timesteps(dict(euler, steps_offset=1) | leading, 10)[0], 901)


def test_steps_of_the_flow():
    """Shifted twice, as FlowMatchEulerDiscreteScheduler does at its cleaner end."""
    sampling = load(dict(_class_name="FlowMatchEulerDiscreteScheduler", shift=3.0), 10).sampling
    with jax.enable_x64(True):
        logsnr = sampling.schedule.logsnr(sampling.grid(10))
        found = jax.nn.sigmoid(-0.5 * logsnr)
    last = 3.0 * 0.001 / (1 + 2 * 0.001)
    s = np.linspace(1, last, 10)
    np.testing.assert_allclose(found[:-1], 3 * s / (1 + 2 * s), rtol=1e-12)


def test_karras_range_depends_on_the_class():
    whole = load(dict(DPM, use_karras_sigmas=True)).sampling.schedule
    np.testing.assert_allclose((whole.sigma_min, whole.sigma_max), (0.029167, 14.6146), rtol=1e-4)
    euler = load(dict(SDXL, use_karras_sigmas=True), 10).sampling.schedule
    assert euler.sigma_max < 10 and isinstance(euler, schedules.karras)


def test_bounded_x0_with_the_eps_of_the_unbounded():
    """DDIMScheduler's default, clip_sample, and its thresholding; the other classes recompute eps."""
    ddim = load(dict(_class_name="DDIMScheduler"))
    assert ddim.sampling.threshold == thresholding.static(1.0, keep_eps=True)
    assert "eps_of_the_unclipped_x0" in {f.name for f in findings(ddim)}
    ddim = load(dict(_class_name="DDIMScheduler", thresholding=True))
    assert ddim.sampling.threshold == thresholding.dynamic(0.995, 1.0, 1.0, keep_eps=True)
    for name in ("DDPMScheduler", "DPMSolverMultistepScheduler"):
        other = load(dict(_class_name=name, thresholding=True))
        assert not other.sampling.threshold.keep_eps
        assert "eps_of_the_unclipped_x0" not in {f.name for f in findings(other)}


@pytest.mark.parametrize(
    ("spacing", "offset", "noisy"),
    [("trailing", 0, True), ("leading", 1, True), ("leading", 0, False), ("linspace", 0, False)],
)
def test_noise_on_the_finished_image(spacing, offset, noisy):
    config = dict(DDPM, variance_type="fixed_large", timestep_spacing=spacing, steps_offset=offset)
    found = {f.name: f.what for f in findings(load(config, 50))}
    assert ("noise_on_the_finished_image" in found) == noisy
    assert not findings(load(dict(config, variance_type="fixed_small"), 50))


def test_linspace_of_ddim_is_told_with_its_levels():
    found = {f.name: f.what for f in findings(load(dict(ZERO, timestep_spacing="linspace"), 10))}
    said = found["previous_level_of_another_path"]
    assert "9 of 10 steps (timestep 999 goes with 899, while the list goes on with 888)" in said


def test_the_exponential_table_of_heun():
    """abar(t) = exp(-12 t) at t = k / T, as recorded in the conformance runs too."""
    loaded = load(dict(_class_name="HeunDiscreteScheduler", beta_schedule="exp"), 10)
    with jax.enable_x64(True):
        abar = jax.nn.sigmoid(jnp.asarray(loaded.objective.schedule.table()))
    np.testing.assert_allclose(abar, np.exp(-12 * np.arange(1, 1001) / 1000), rtol=1e-9)


def test_the_path_of_zero_snr_is_exact():
    sampling = load(ZERO, 50).sampling
    with jax.enable_x64(True):
        logsnr = sampling.schedule.logsnr(sampling.grid(50))
        assert logsnr[0] == -jnp.inf and logsnr[-1] == jnp.inf and jnp.isfinite(logsnr[1:-1]).all()
