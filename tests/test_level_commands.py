"""One tiny run with an adaptive density, and the commands that read its noise levels."""

import json
import pathlib
import shutil

import in_process
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from noise_sched import audit, experiment, fit_steps, levels, train
from noise_sched.auditing import recommendation
from noise_sched.diffusion import specs
from noise_sched.experiment import workdir
from noise_sched.training import metrics
from noise_sched.training.checkpoints import Checkpoints


def config(steps=8):
    made = digits.get_config("tiny")
    made.train.update(steps=steps, log_every=2, checkpoint_every=4)
    made.train.density = "adaptive(bins=8, decay=0.9)"
    return made


def state_of(folder):
    exp = experiment.from_config(workdir.load_config(folder))
    abstract = jax.eval_shape(lambda: experiment.training.new_state(exp))
    with Checkpoints(workdir.checkpoints(folder), read_only=True) as checkpoints:
        return checkpoints.restore(abstract).state


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels") / "run"
    train.run(config(), folder)
    return folder


def test_the_density_is_part_of_the_state(run):
    """Learnt, saved, and gone on with: stopped after half of the steps, a run ends with the same bits."""
    whole = state_of(run)
    learnt = np.asarray(whole.density["square"])
    assert np.count_nonzero(learnt) > 4
    assert float(np.sum(whole.density["draws"])) == pytest.approx(
        sum(0.9**k for k in range(8)), rel=1e-5
    )
    half = run.parent / "half"
    shutil.copytree(run, half)
    shutil.rmtree(workdir.checkpoints(half) / "8")  # as a kill after the first checkpoint leaves it
    train.run(config(), half)
    jax.tree.map(np.testing.assert_array_equal, state_of(half).density, whole.density)
    strip = lambda row: {k: v for k, v in row.items() if k not in ("time", "wall")}
    rows = [[strip(row) for row in metrics.read_metrics(folder)] for folder in (run, half)]
    assert rows[0] == rows[1]


def test_rows_have_losses_by_level(run):
    row = metrics.read_metrics(run)[-1]
    found = row["levels"]
    assert set(found) == {"logsnr", "draws", "loss", "explained"}
    assert sum(found["draws"]) == pytest.approx(1, rel=1e-5)
    assert np.all(np.diff(found["logsnr"]) >= 1) and all(each < 1 for each in found["explained"])


def test_levels_draws_a_picture(run, tmp_path, capsys):
    out = tmp_path / "levels.png"
    assert not in_process.run(levels, [f"--workdir={run}", "--num_images=16", f"--out={out}"])
    assert out.stat().st_size > 10_000
    told = capsys.readouterr().out
    assert "checkpoint 8, 16 images" in told and "explained" in told


def test_fitted_steps_are_what_sample_takes(run, tmp_path, capsys):
    flags = [f"--workdir={run}", "--steps=3", "--grid=6", "--num_images=4", "--rounds=1"]
    assert not in_process.run(fit_steps, [*flags, f"--out={tmp_path}"])
    assert "--config.sample.schedule=" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "fitted_steps.json").read_text())["rows"]
    schedule = specs.build(row["schedule"], "schedule")
    made = config()
    made.sample.update(schedule=row["schedule"], grid="uniform()", steps=3)
    path = np.asarray(experiment.from_config(made).levels.logsnr)
    np.testing.assert_allclose(path[:-1], np.asarray(row["logsnr"], float), rtol=1e-4, atol=1e-4)
    assert schedule.num_levels == 3 and len(row["diffusers"]["sigmas"]) == 4
    assert set(row["errors"]) >= {"fitted", "the config's own", "karras, rho = 7"}
    assert (tmp_path / "fitted_steps.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps=3", "--config.sample.solver=ddpm()"], "draws noise of its own"),
        (["--steps=9", "--grid=6"], "cannot be chosen from a fine grid of --grid=6"),
        (["--steps=three"], "expected whole numbers"),
        (["--steps=3", "--config.sample.grid=asymmetric(uniform(), 1.0)"], "leads further"),
    ],
)
def test_what_cannot_be_fitted_is_refused(run, flags, message, capsys):
    assert in_process.run(fit_steps, [f"--workdir={run}", *flags]) == 2
    assert message in capsys.readouterr().err


def test_audit_says_what_was_learnt(run, capsys):
    assert not in_process.run(audit, [f"--workdir={run}"])
    told = capsys.readouterr().out
    assert "What training learnt, by logSNR" in told and "fit_steps --workdir" in told
    assert "calibrate --data=digits --size=4 --anchor_size=2" in told


def test_a_run_with_little_record_is_audited_all_the_same(run, tmp_path, capsys):
    (tmp_path / "config.json").write_bytes((pathlib.Path(run) / "config.json").read_bytes())
    assert not in_process.run(audit, [f"--workdir={tmp_path}"])
    told = capsys.readouterr().out
    assert "is not said: metrics.jsonl has 0 rows" in told and "learnt, by logSNR" not in told


def test_recommendations_name_what_is_wrong():
    """A record made by hand: half of the draws where all is known, no step where images take shape."""
    row = {
        "logsnr": [-4.5, -0.5, 9.5],
        "draws": [0.25, 0.25, 0.5],
        "loss": [1.0, 4.0, 1.0],
        "explained": [0.1, 0.6, 0.999],
    }
    later = row | {"loss": [1.0, 2.0, 1.0]}
    path = specs.build("vp()", "process").level(jnp.asarray([-9.0, 9.0, jnp.inf]))
    rows = [{"levels": row}, {"levels": row}, {"levels": later}]
    found = recommendation.bands(rows, path)
    told = " ".join(recommendation.remarks(found))
    assert "50% of the draws are at levels where 99%" in told
    assert "still falls at logSNR -2 .. 0: these levels get 25%" in told
    assert "no step at logSNR -2 .. 0" in told
    assert sum(band.draws for band in found) == pytest.approx(1)
    with pytest.raises(ValueError, match="has 1 rows with losses by noise level, and at least 3"):
        recommendation.bands(rows[:1], path)
