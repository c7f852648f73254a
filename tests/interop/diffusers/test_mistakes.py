"""Files that say what no scheduler can: one message, by the file's own field."""

import json
import math

import pytest
from published import DPM, SD21_V

from noise_sched.diffusion import schedules
from noise_sched.interop.diffusers.reading import DiffusersConfigError, load, read


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
    path.write_text(json.dumps(SD21_V))
    assert read(path, steps=20) == load(SD21_V, steps=20)
    with pytest.raises(DiffusersConfigError, match="is a folder; give the file"):
        read(tmp_path)
