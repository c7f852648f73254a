"""Files as published models have them, written from general knowledge of them: typical, not copied."""

import dataclasses
import json
import pathlib

import pytest

from noise_sched.diffusion import conditioning, process, schedules, solvers, specs
from noise_sched.interop.diffusers.reading import DiffusersConfigError, audit_loaded, load

TYPICAL = json.loads((pathlib.Path(__file__).parent / "typical.json").read_text())


def audited(name, **changes):
    """The loaded file, sampled with the guidance of its pipeline, and its audit."""
    entry = TYPICAL[name] | changes
    loaded = load(entry["config"], entry["steps"])
    guidance = specs.build(entry["guidance"], "guidance")
    sampling = dataclasses.replace(loaded.sampling, guidance=guidance)
    loaded = dataclasses.replace(loaded, sampling=sampling)
    return loaded, audit_loaded(loaded)


@pytest.mark.parametrize("name", TYPICAL)
def test_typical_files(name):
    """Every field that is not simply used, and every verdict, is as it was reviewed."""
    entry = TYPICAL[name]
    if "refused" in entry:
        with pytest.raises(DiffusersConfigError, match=entry["refused"]):
            load(entry["config"], entry["steps"])
        return
    loaded, report = audited(name)
    assert {field.name: field.kind for field in loaded.fields} == entry["fields"]
    assert {finding.name: finding.severity for finding in report.findings} == entry["findings"]


def test_what_is_refused_is_another_method():
    refused = {name for name, entry in TYPICAL.items() if "refused" in entry}
    assert refused == {"aMUSEd", "Consistency model, ImageNet-64"} and len(TYPICAL) > 20


def test_a_network_that_is_told_sigma_is_not_judged_by_the_table():
    """Stable Video Diffusion: sigma = 700 is far beyond the table of betas, and was trained."""
    loaded, report = audited("Stable Video Diffusion")
    assert loaded.objective.conditioning == conditioning.log_sigma()
    assert loaded.objective.schedule == schedules.lognormal()
    assert loaded.sampling.schedule == schedules.karras(0.002, 700.0)
    assumed = [f.reason for f in loaded.fields if f.kind == "assumed"]
    assert len(assumed) == 1 and "0.25 ln sigma" in assumed[0]
    discrete = TYPICAL["Stable Video Diffusion"]["config"] | {"timestep_type": "discrete"}
    _, report = audited("Stable Video Diffusion", config=discrete)
    assert "levels_never_trained" in {f.name for f in report.findings}


@pytest.mark.parametrize("name", ["Stable Diffusion 3", "FLUX.1 schnell", "Wan 2.1"])
def test_guided_velocities_are_not_over_exposed(name):
    """No flow pipeline has a guidance_rescale, and a velocity's spread is not the image's."""
    loaded, report = audited(name, guidance="cfg(7.5)")
    assert isinstance(loaded.objective.process, process.flow) and report.zero_snr
    assert "guidance_without_rescale" not in {f.name for f in report.findings}
    _, cog = audited("CogVideoX 2B", guidance="cfg(7.5)")
    assert "guidance_without_rescale" in {f.name for f in cog.findings}


def test_shift_is_applied_as_the_library_does():
    """Once by the scheduler's own table and once by set_timesteps: only the last step sees both."""
    loaded, report = audited("Stable Diffusion 3")
    said = {finding.name: finding.what for finding in report.findings}["shift_applied_twice"]
    assert "starts at sigma = 0.008929 and not at 0.002994" in said
    assert loaded.sampling.schedule == schedules.shift(schedules.rectified_flow(), 3.0, 1)
    assert loaded.sampling.grid.last == pytest.approx(3 * 0.001 / (1 + 2 * 0.001))
    assert loaded.sampling.solver == solvers.ddim()
