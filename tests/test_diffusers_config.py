"""Published scheduler configs: what they say, what is wrong with them, and back.

Contents as documented by diffusers for the models named.
"""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.diffusers_config import (
    FIELDS,
    DiffusersConfigError,
    audit_loaded,
    findings,
    load,
    read,
)
from noise_sched.diffusers_writing import CannotExpress, write
from noise_sched.diffusion import grids, schedules, solvers, specs, thresholding
from noise_sched.diffusion.audit import Sampling, Training

BETAS = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    num_train_timesteps=1000,
    trained_betas=None,
)
SD15 = dict(
    _class_name="PNDMScheduler",
    _diffusers_version="0.6.0",
    **BETAS,
    clip_sample=False,
    set_alpha_to_one=False,
    skip_prk_steps=True,
    steps_offset=1,
)
SD21_BASE = dict(SD15, _diffusers_version="0.10.0.dev0", prediction_type="epsilon")
SD21_V = dict(
    _class_name="DDIMScheduler",
    _diffusers_version="0.8.0",
    **BETAS,
    clip_sample=False,
    prediction_type="v_prediction",
    set_alpha_to_one=False,
    skip_prk_steps=True,
    steps_offset=1,
)
SDXL = dict(
    _class_name="EulerDiscreteScheduler",
    _diffusers_version="0.19.0.dev0",
    **BETAS,
    clip_sample=False,
    interpolation_type="linear",
    prediction_type="epsilon",
    sample_max_value=1.0,
    set_alpha_to_one=False,
    skip_prk_steps=True,
    steps_offset=1,
    timestep_spacing="leading",
    use_karras_sigmas=False,
)
ZERO = dict(SD21_V, rescale_betas_zero_snr=True, timestep_spacing="trailing")
DPM = dict(_class_name="DPMSolverMultistepScheduler", **BETAS, prediction_type="epsilon")
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
    written = write(loaded.training, loaded.sampling)
    again = load(json.loads(json.dumps(written.config)), steps)
    assert again.training == loaded.training and again.sampling == loaded.sampling
    assert not {f.kind for f in again.fields} & {"unknown", "foreign", "inexpressible", "no effect"}
    assert set(written.config) <= {"_class_name", *FIELDS[written.config["_class_name"]]}
    # PNDM and the laplace table are no choices here; every other class comes back.
    if not any(f.kind == "inexpressible" for f in loaded.fields):
        assert written.config["_class_name"] == config["_class_name"]


def test_what_stable_diffusion_says():
    loaded = load(SD21_V)
    assert loaded.training.schedule == specs.build("discrete(scaled_linear())")
    assert loaded.training.parametrization == specs.build("v()", "parametrization")
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(_class_name="DDIMSheduler"), "Did you mean 'DDIMScheduler'"),
        (dict(_class_name="AmusedScheduler"), "'AmusedScheduler': masked tokens"),
        (dict(_class_name="NoSuchScheduler"), "no scheduler of diffusers 0.42. Known: DDIM"),
        (
            dict(_class_name=["DDIMScheduler"]),
            "_class_name must be str, .*got \\['DDIMScheduler'\\]",
        ),
        (dict(_class_name={"a": 1}), "_class_name must be str"),
        (dict(_class_name=7), "_class_name must be str, .*got 7"),
        (dict(_class_name=None), "no field '_class_name'"),
        (dict(prediction_type="v_predicton"), "prediction_type.*Did you mean 'v_prediction'"),
        (dict(beta_schedule="scaled"), "unknown beta_schedule 'scaled'.*'scaled_linear'"),
        (dict(timestep_spacing="trail"), "unknown timestep_spacing 'trail'"),
        (dict(num_train_timesteps="1000"), "num_train_timesteps must be int, got '1000'"),
        (dict(clip_sample="no"), "clip_sample must be bool, got 'no'"),
        (dict(beta_end=1.5), "beta_end must lie in \\(0, 1\\], got 1.5"),
        (dict(beta_start=-1), "beta_start must lie in \\[0, 1\\), got -1"),
        (dict(beta_start=math.nan), "beta_start must lie in \\[0, 1\\), got nan"),
        (dict(beta_start=[0.1]), "beta_start must be int or float, got \\[0.1\\]"),
        (dict(beta_schedule=["linear"]), "unknown beta_schedule \\['linear'\\]"),
        (dict(beta_schedule="exp"), "unknown beta_schedule 'exp'"),
        (dict(trained_betas=[0.1, -0.2]), "trained_betas: beta_2 = -0.2"),
        (dict(trained_betas=[0.1, "x"]), "trained_betas: beta_2 = 'x'"),
        (dict(trained_betas=[]), "trained_betas must hold 1 to 1,000,000 numbers, got 0"),
        (dict(num_train_timesteps=0), "num_train_timesteps must lie in \\[1, 1,000,000\\], got 0"),
        (
            dict(num_train_timesteps=10**12),
            "num_train_timesteps=1000000000000 is more than the 1,000,000",
        ),
        (dict(num_train_timesteps=20), "50 steps do not fit on 20 levels"),
        (dict(steps_offset=999), "steps_offset=999 with 50 steps asks for timestep"),
        (dict(steps_offset=-1), "steps_offset must lie in"),
        (dict(DPM, use_karras_sigmas=True, use_beta_sigmas=True), "at most one of them"),
        (
            dict(DPM, solver_type="midpont"),
            "unknown solver_type 'midpont'. Did you mean 'midpoint'",
        ),
        (dict(DPM, algorithm_type="dpm"), "unknown algorithm_type 'dpm'"),
        (dict(DPM, final_sigmas_type="none"), "unknown final_sigmas_type 'none'.*zero, sigma_min"),
        (dict(clip_sample=True, clip_sample_range=0), "clip_sample_range must be positive"),
        (
            dict(thresholding=True, sample_max_value=0.5),
            "sample_max_value must lie in \\[1, inf\\)",
        ),
        (
            dict(_class_name="EDMEulerScheduler", sigma_min=-1),
            "sigma_min must be positive and finite, got -1",
        ),
        (
            dict(_class_name="EDMEulerScheduler", sigma_min=90),
            "sigma_min=90 must be below sigma_max=80",
        ),
        (
            dict(_class_name="FlowMatchEulerDiscreteScheduler", shift=0),
            "shift must be positive and finite, got 0",
        ),
        (
            dict(_class_name="DPMSolverMultistepScheduler", solver_order=4),
            "solver_order must lie in \\[1, 3\\], got 4",
        ),
    ],
)
def test_mistakes_in_a_file(change, message):
    with pytest.raises(DiffusersConfigError, match=message):
        load(SD21_V | change)


@pytest.mark.parametrize("steps", [0, -1, True, 10**12])
def test_steps_that_are_none(steps):
    with pytest.raises(DiffusersConfigError, match="steps must be a whole number in"):
        load(SD21_V, steps)


def test_too_many_levels_take_no_memory(monkeypatch):
    """The limit is looked at before any table is made."""
    monkeypatch.setattr(schedules.TableSchedule, "table", lambda self: pytest.fail("a table"))
    for name in ("DDIMScheduler", "FlowMatchEulerDiscreteScheduler", "UnCLIPScheduler"):
        with pytest.raises(DiffusersConfigError, match="1,000,000 levels"):
            load(dict(_class_name=name, num_train_timesteps=10**12))


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
        abar = jax.nn.sigmoid(jnp.asarray(loaded.training.schedule.table()))
    np.testing.assert_allclose(abar, np.exp(-12 * np.arange(1, 1001) / 1000), rtol=1e-9)


def test_files(tmp_path):
    path = tmp_path / "scheduler_config.json"
    with pytest.raises(OSError, match="scheduler_config.json"):
        read(path)
    path.write_text("{")
    with pytest.raises(DiffusersConfigError, match="is not JSON"):
        read(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DiffusersConfigError, match="nested too deeply|is not JSON"):
        read(path)
    path.write_text('{"_class_name": "DDIMScheduler", "steps_offset": ' + "9" * 5000 + "}")
    with pytest.raises(DiffusersConfigError, match="is not JSON: Exceeds the limit"):
        read(path)
    path.write_text("[1]")
    with pytest.raises(DiffusersConfigError, match="expected an object of fields, got list"):
        read(path)
    path.write_text(json.dumps(SD15))
    assert read(path, steps=20) == load(SD15, steps=20)
    with pytest.raises(DiffusersConfigError, match="is a folder; give the file"):
        read(tmp_path)


BASE = dict(
    schedule="discrete(scaled_linear())",
    process="vp()",
    parametrization="v()",
    input_scale="none()",
    conditioning="index(scaled_linear())",
    space="v()",
    weight="uniform()",
    sample_schedule="scaled_linear()",
    grid="trailing()",
    solver="ddim()",
    threshold="none()",
)


def set_up(**changes):
    kinds = {"space": "parametrization", "sample_schedule": "schedule"}
    made = {k: specs.build(v, kinds.get(k, k)) for k, v in (BASE | changes).items()}
    names = ("grid", "solver", "threshold")
    sampling = Sampling(made.pop("sample_schedule"), steps=20, **{k: made.pop(k) for k in names})
    return Training(**made), sampling


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(solver="ddim(eta=1.0)"),
        dict(solver="ddpm('small')", threshold="static()"),
        dict(solver="ddpm('large', last_noise=True)"),
        dict(solver="ddpm()", grid="linspace()"),
        dict(threshold="static(keep_eps=True)"),
        dict(solver="dpm2(1.0)"),
        dict(solver="pndm()"),
        dict(solver="dpmpp(3)", threshold="dynamic(maximum=2.0)"),
        dict(solver="dpmpp(2, eta=1.0)"),
        dict(solver="unipc(3)"),
        dict(solver="euler_ancestral()"),
        dict(solver="heun()", grid="leading(offset=1)"),
        dict(
            schedule="discrete(from_betas((0.1, 0.2, 1.0)))",
            conditioning="index(from_betas((0.1, 0.2, 1.0)))",
            sample_schedule="from_betas((0.1, 0.2, 1.0))",
            grid="trailing(3)",
        ),
    ],
)
def test_ours_are_written(changes):
    training, sampling = set_up(**changes)
    steps = 3 if "trailing(3)" in str(changes) else 20
    again = load(write(training, sampling).config, steps)
    assert again.training == training
    assert again.sampling.schedule == sampling.schedule and again.sampling.grid == sampling.grid
    if "eta" not in changes.get("solver", "") or "dpmpp" in changes["solver"]:
        assert again.sampling.solver == sampling.solver
    assert again.sampling.threshold == sampling.threshold


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(schedule="sigmoid()"), "sigmoid.* is continuous"),
        (dict(process="vp(0.6)"), "process is vp\\(input_scale=0.6\\)"),
        (dict(input_scale="per_example_std()"), "input_scale"),
        (dict(conditioning="gamma()"), "conditioning is gamma"),
        (dict(parametrization="score()"), "no prediction_type for score"),
        (dict(sample_schedule="cosine()"), "sampling runs on cosine.*a file has one table"),
        (dict(grid="uniform()"), "takes other steps than uniform.*trailing"),
        (dict(grid="leading()", solver="dpmpp()"), "takes other steps than leading"),
        (dict(grid="linspace()", solver="euler()"), "takes other steps than linspace"),
        (dict(solver="heun(clock=by_angle())"), "another clock"),
        (dict(solver="euler(churn=10.0)"), "churn"),
        (dict(solver="dpmpp(eta=0.5)"), "eta is 0"),
        (dict(threshold="static()", solver="unipc()"), "does not clip"),
        (dict(threshold="dynamic(keep_eps=True)"), "needs a maximum"),
        (dict(threshold="static()"), "DDIMScheduler keeps eps where it bounds x0"),
        (dict(solver="ddpm()"), "adds noise to the finished image.*ddpm\\('small'\\)"),
        (dict(solver="pndm(3)"), "PNDMScheduler is pndm"),
        (
            dict(sample_schedule="karras()", grid="edm()", solver="dpmpp()"),
            "takes sigma_min = 0.029.* from the table",
        ),
        (dict(sample_schedule="karras()", grid="edm()"), "DDIMScheduler has no use_karras_sigmas"),
        (
            dict(
                schedule="discrete(zero_terminal(scaled_linear()))",
                conditioning="index(zero_terminal(scaled_linear()))",
                sample_schedule="zero_terminal(scaled_linear())",
                solver="heun()",
            ),
            "HeunDiscreteScheduler has no rescale_betas_zero_snr",
        ),
        (dict(parametrization="edm()"), "process is vp.* EDM has ve"),
        (dict(parametrization="flow()"), "process is vp.*has flow"),
    ],
)
def test_what_no_file_says_is_refused(changes, message):
    with pytest.raises(CannotExpress, match=message):
        write(*set_up(**changes))


def test_the_path_of_zero_snr_is_exact():
    sampling = load(ZERO, 50).sampling
    with jax.enable_x64(True):
        logsnr = sampling.schedule.logsnr(sampling.grid(50))
        assert logsnr[0] == -jnp.inf and logsnr[-1] == jnp.inf and jnp.isfinite(logsnr[1:-1]).all()
