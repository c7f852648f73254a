"""Every scheduler class of diffusers 0.42.1: read as what it does, or refused with the reason.

`conformance.json` holds what the library itself does (see README.md beside it): the classes with their
fields and defaults, and runs of a fixed function in the place of the network. What is read is held to those
runs; where it is not the same, a report of a field or a finding must say so.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.diffusion import conditioning, process, sampling
from noise_sched.diffusion.denoiser import Preconditioner
from noise_sched.diffusion.inversion import invert
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.interop.diffusers.fields import ALIASES, DISTILLED, ENDS_AT_FIRST_LEVEL, FIELDS
from noise_sched.interop.diffusers.methods import OTHER_METHODS
from noise_sched.interop.diffusers.reading import DiffusersConfigError, findings, load
from noise_sched.interop.diffusers.writing import CannotExpress, write

DATA = json.loads((pathlib.Path(__file__).parent / "conformance.json").read_text())


def name_of(run):
    return f"{run['class']}-{run['case']}"


RUNS = {name_of(run): run for run in DATA["runs"]}

# Runs that end elsewhere than the library's, and the field or finding that says so.
ELSEWHERE = {
    "DDIMScheduler-linspace": "previous_level_of_another_path",
    "CogVideoXDDIMScheduler-linspace": "previous_level_of_another_path",
    "CogVideoXDPMScheduler-linspace": "previous_level_of_another_path",
    "DDIMInverseScheduler-default": "bounded x0",
    "DDIMInverseScheduler-zero SNR": "bounded x0",
    "DDIMInverseScheduler-zero SNR unbounded": "prediction_type",
    "DDPMWuerstchenScheduler-default": "the last step",
    "DEISMultistepScheduler-karras": "noise_left_in_the_image",
    "DEISMultistepScheduler-exponential": "noise_left_in_the_image",
    "DEISMultistepScheduler-flow": "noise_left_in_the_image",
    "DPMSolverMultistepInverseScheduler-trailing": "timestep_spacing",
    "DPMSolverMultistepInverseScheduler-karras": "use_karras_sigmas",
    "DPMSolverMultistepInverseScheduler-exponential": "use_exponential_sigmas",
    "DPMSolverMultistepScheduler-zero SNR": "zero_snr_by_a_floor",
    "EulerDiscreteScheduler-zero SNR": "zero_snr_by_a_floor",
    "UniPCMultistepScheduler-zero SNR": "zero_snr_by_a_floor",
    "UniPCMultistepScheduler-bh1 to sigma_min": "final_sigmas_type",
    "SASolverScheduler-karras": "noise_left_in_the_image",
    "SASolverScheduler-exponential": "noise_left_in_the_image",
    "SASolverScheduler-flow": "noise_left_in_the_image",
    "ScoreSdeVeScheduler-default": "correct_steps",
    "ScoreSdeVpScheduler-default": "solver",
}
# Runs that the library itself breaks off, and the finding that says so.
BROKEN = {
    "DPMSolverMultistepScheduler-cosine karras": "timesteps_repeated",
    "DPMSolverMultistepScheduler-cosine karras few": "timesteps_repeated",
    "UniPCMultistepScheduler-bh1": "bh1_not_finite",
}
REFUSED = {
    "DPMSolverMultistepInverseScheduler-flow": "use_flow_sigmas=True.*no inversion",
    "DPMSolverMultistepInverseScheduler-sde": "cannot be taken back",
}
# The cosine table ends at abar = 2.4e-9, of which float32 leaves four digits.
COSINE_IN_FLOAT32 = 6e-4


pytestmark = pytest.mark.usefixtures("float64")


def numbers(values):
    return np.asarray([float(value) for value in values])


def loaded_of(run):
    return load({"_class_name": run["class"], **run["config"]}, run["steps"])


def said(loaded):
    return {field.name for field in loaded.fields} | {f.name for f in findings(loaded)}


def test_every_class_is_known():
    known = {*FIELDS, *OTHER_METHODS, *(name for name in ALIASES if not name.startswith("Flax"))}
    assert known == set(DATA["classes"])
    assert set(FIELDS).isdisjoint(OTHER_METHODS) and set(ALIASES.values()) <= set(FIELDS)
    assert set(FIELDS) <= {run["class"] for run in DATA["runs"]}


@pytest.mark.parametrize("name", sorted(FIELDS.keys() | ALIASES.keys()))
def test_fields_are_the_class_s_own(name):
    own = DATA["classes"].get(name)
    ours = FIELDS[ALIASES.get(name, name)]
    if own is not None:  # the Flax classes are no longer there
        assert {k: float(v) if v in ("inf", "-inf") else v for k, v in own.items()} == ours
    loaded = load({"_class_name": name, **ours}, 10)
    assert loaded.class_name == ALIASES.get(name, name)
    left_out = {f.name for f in loaded.fields if f.kind == "inexpressible"} - {"correct_steps"}
    assert not left_out and not {f.kind for f in loaded.fields} & {"unknown", "foreign"}
    assert ("_class_name" in {f.name for f in loaded.fields}) == (name in ALIASES)


@pytest.mark.parametrize("name", sorted(OTHER_METHODS))
def test_another_method_is_refused_with_its_reason(name):
    fields = {k: v for k, v in DATA["classes"][name].items() if v != "<REQ>"}
    with pytest.raises(DiffusersConfigError) as raised:
        load({"_class_name": name, **fields})
    what, instead = OTHER_METHODS[name]
    assert what in str(raised.value) and instead in str(raised.value)
    assert "Did you mean" not in str(raised.value)
    named = [
        word.strip(",;.") for word in instead.split() if word.strip(",;.").endswith("Scheduler")
    ]
    assert set(named) <= set(FIELDS)


@pytest.mark.parametrize("name", sorted(RUNS.keys() - REFUSED.keys()))
def test_levels(name):
    """Where the network is called, and what it is told."""
    run = RUNS[name]
    loaded = loaded_of(run)
    training, path = loaded.objective, loaded.sampling
    logsnr = path.schedule.logsnr(path.grid(path.steps))
    levels = training.process.level(logsnr)
    flow = isinstance(training.process, process.flow)
    reports = {field.name: field.kind for field in loaded.fields}
    if "path" in run:
        found = np.asarray(levels.sigma if flow else jnp.exp(-0.5 * logsnr))[: len(run["path"])]
        wanted = numbers(run["path"])
        if reports.get("rescale_betas_zero_snr") == "approximate":
            assert found[0] == np.inf and wanted[0] == pytest.approx(4096)
            found, wanted = found[1:], wanted[1:]
        spread = {"use_karras_sigmas", "use_exponential_sigmas"} & reports.keys()
        if not spread:
            np.testing.assert_allclose(found, wanted, rtol=3e-4)
    if "told" in run and reports.get("conditioning") != "approximate":
        found = np.asarray(training.conditioning(levels))[: len(run["told"])]
        # A level's number is whole here; it is fractional, or rounded down, between two levels there.
        whole = isinstance(training.conditioning, conditioning.index)
        if loaded.class_name != "MiniMaxH3Scheduler":
            np.testing.assert_allclose(found, numbers(run["told"]), atol=1.0 if whole else 1e-5)


def network(x, told, memory):
    return 0.8 * x + 0.3 * jnp.tanh(2 * x), memory


def negated(x, told, memory):
    return -network(x, told, memory)[0], memory


def without_first_image(denoise):
    """What IPNDMScheduler takes at zero SNR."""

    def lost(x, level, memory):
        prediction, memory = denoise(x, level, memory)
        silent = level.expand_to(x).alpha == 0
        return Prediction(jnp.where(silent, 0.0, prediction.x0), prediction.eps), memory

    return lost


def drawn(run, loaded):
    training, path = loaded.objective, loaded.sampling
    times = path.grid(path.steps)
    short = loaded.class_name in ENDS_AT_FIRST_LEVEL and name_of(run) not in ELSEWHERE
    if short:  # as reported: the library's last step lands on the first level
        assert "the last step" in said(loaded)
        times = times.at[-1].set(1 / loaded.value("num_train_timesteps"))
    levels = training.process.level(path.schedule.logsnr(times))
    x = jnp.asarray(DATA["z"]) * run["init"]
    if run["frame"] == "ve" and not isinstance(training.process, process.ve):
        x = x / np.hypot(1.0, numbers(run["path"])[0])
    # The function in the network's place does not look at what it is told.
    made = Preconditioner(training.parametrization, training.input_scale, conditioning.angle())
    minus = any(
        "output is -F" in f.reason or "output is x0 - eps" in f.reason for f in loaded.fields
    )
    minus |= loaded.class_name == "ScoreSdeVeScheduler"  # recorded with -eps, what it predicts
    denoise = path.threshold(made.denoise(negated if minus else network))
    if loaded.class_name == "IPNDMScheduler":
        assert "first_prediction_lost" in said(loaded)
        denoise = without_first_image(denoise)
    noise = jnp.asarray(DATA["noise"])[: path.steps]
    with jax.disable_jit(loaded.class_name not in (*DISTILLED, "PNDMScheduler")):
        if loaded.upwards:
            return invert(denoise, path.solver, levels, x)
        x0, steps = sampling.sample(
            jax.random.key(0), denoise, path.solver, levels, x, noise=noise, trajectory=True
        )
        return steps.x[-1] if short else x0


@pytest.mark.parametrize(
    "name", sorted(n for n, run in RUNS.items() if "final" in run and n not in REFUSED)
)
def test_images(name):
    run = RUNS[name]
    loaded = loaded_of(run)
    wanted = numbers(run["final"])
    error = np.abs(np.ravel(drawn(run, loaded)) - wanted).max() / np.abs(wanted).max()
    if name in ELSEWHERE:
        assert error > 1e-4 and ELSEWHERE[name] in said(loaded)
    else:
        cosine = "UnCLIP" in name
        assert error < (COSINE_IN_FLOAT32 if cosine else 1e-4)


@pytest.mark.parametrize("name", BROKEN)
def test_what_the_library_breaks_off_is_found(name):
    run = RUNS[name]
    loaded = loaded_of(run)
    assert "failed" in run and BROKEN[name] in said(loaded)
    assert np.isfinite(drawn(run | {"init": 1.0}, loaded)).all()


@pytest.mark.parametrize("name", REFUSED)
def test_refused_runs(name):
    with pytest.raises(DiffusersConfigError, match=REFUSED[name]):
        loaded_of(RUNS[name])


# Written as another class that reads as the same, or as none.
UNWRITTEN = ("MiniMaxH3Scheduler", "DPMSolverMultistepInverseScheduler")
WRITTEN_AS = {"UnCLIPScheduler": "DDPMScheduler", "DDIMInverseScheduler": "DDIMScheduler"}


@pytest.mark.parametrize("name", sorted(set(FIELDS) - set(UNWRITTEN)))
def test_what_is_read_is_written(name):
    loaded = load({"_class_name": name}, 10)
    config = json.loads(json.dumps(write(loaded.objective, loaded.sampling).config))
    again = load(config, 10)
    assert again.objective == loaded.objective and again.sampling == loaded.sampling
    assert again.class_name == WRITTEN_AS.get(name, name)


@pytest.mark.parametrize("name", UNWRITTEN)
def test_what_is_not_written_is_refused(name):
    loaded = load({"_class_name": name}, 10)
    with pytest.raises(CannotExpress, match="no scheduler_config.json says this|takes other steps"):
        write(loaded.objective, loaded.sampling)
