"""The commands as a user runs them: killed, restarted, on eight devices, with mistakes."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from configs import digits
from noise_sched import experiment, train
from noise_sched.experiment import sampler, workdir
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.loop import NonFiniteLoss

ROOT = pathlib.Path(__file__).parent.parent
TINY = "--config=configs/digits.py:tiny"
LONG = (TINY, "--config.train.steps=12", "--config.train.log_every=1")


def command(module: str, *args: str, env: dict | None = None, **kwargs) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", f"noise_sched.{module}", *args],
        cwd=ROOT,
        env=os.environ | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def run(module: str, *args: str, env: dict | None = None) -> tuple[int, str, str]:
    process = command(module, *args, env=env)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def parameters(folder: pathlib.Path) -> dict:
    """The moving average at the newest checkpoint, as sampling reads it."""
    exp = experiment.from_config(workdir.load_config(folder))
    abstract = jax.eval_shape(exp.init_params, jax.random.key(0))
    with Checkpoints(workdir.checkpoints(folder), read_only=True) as checkpoints:
        step, params = checkpoints.restore_ema(abstract)
    return {"step": step, "leaves": [np.asarray(leaf) for leaf in jax.tree.leaves(params)]}


def losses(folder: pathlib.Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run that the tests share."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    code, out, err = run("train", *LONG, f"--workdir={folder}")
    assert code == 0, err
    assert "parameters" in out and "config.schedule = 'linear()'" in out
    assert "step 12, loss" in err and "image/s" in err
    return folder


def test_kill_9_in_the_middle_of_training(trained, tmp_path):
    """Killed after some checkpoint, the same command ends with the same parameters."""
    folder = tmp_path / "killed"
    args = (*LONG, f"--workdir={folder}")
    process = command("train", *args)
    deadline = time.monotonic() + 500
    while not list(workdir.checkpoints(folder).glob("[0-9]*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, out, err = run("train", *args)
    assert code == 0, err
    assert "resuming at step" in out or "starting at step 0" in out
    assert losses(folder) == losses(trained)
    one, other = parameters(trained), parameters(folder)
    assert one["step"] == other["step"] == 12
    for a, b in zip(one["leaves"], other["leaves"], strict=True):
        np.testing.assert_array_equal(a, b)


def test_eight_devices_give_the_same_losses_and_a_run_that_one_samples(trained, tmp_path):
    folder = tmp_path / "eight"
    eight = {"JAX_NUM_CPU_DEVICES": "8"}
    code, out, err = run(
        "train", *LONG, f"--workdir={folder}", "--config.partition.mesh=fsdp=4", env=eight
    )
    assert code == 0, err
    assert "8 cpu device(s)" in out
    np.testing.assert_allclose(losses(folder), losses(trained), rtol=2e-4)
    assert len(jax.devices()) == 1
    images = [
        drawn(run, tmp_path / f"from_{run.name}", count=4)["images"] for run in (folder, trained)
    ]
    assert np.abs(images[0].astype(int) - images[1].astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("module", "args", "message"),
    [
        ("train", (TINY, "--config.train.stpes=3"), "unknown key --config.train.stpes.*'steps'"),
        ("sample", ("--out=x",), "--workdir is missing"),
    ],
)
def test_mistakes_get_one_message_and_write_nothing(module, args, message, tmp_path):
    folder = tmp_path / "new"
    given = (f"--workdir={folder}",) if module == "train" else ()
    code, _, err = run(module, *args, *given)
    assert code == 2 and re.search(message, err) and "Traceback" not in err, err
    assert len(err.strip().splitlines()) <= 2 and not folder.exists()


# What follows calls the same functions without starting a process.


def config(**changes):
    made = digits.get_config("tiny")
    made.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return made


def drawn(trained, out, count=16, **changes) -> dict:
    made = workdir.load_config(trained)
    made.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    assert sampler.run(made, trained, out, count)
    return dict(np.load(out / "samples.npz"))


def test_a_sample_does_not_depend_on_the_batch_size(trained, tmp_path):
    one, other = (
        drawn(trained, tmp_path / str(n), sample__batch_size=n, sample__solver="ddpm()")
        for n in (8, 5)
    )
    assert one["labels"].dtype == np.int32
    np.testing.assert_array_equal(one["labels"], other["labels"])
    gap = np.abs(one["images"].astype(int) - other["images"].astype(int))
    assert gap.max() <= 1  # rounding to uint8


def test_chosen_classes_and_a_run_that_is_done(trained, tmp_path):
    changes = dict(sample__classes=(7, 3), sample__guidance="cfg(w=2.0)")
    found = drawn(trained, tmp_path / "s", count=6, **changes)
    assert found["labels"].tolist() == [7, 3, 7, 3, 7, 3]
    made = workdir.load_config(trained)
    before = (tmp_path / "s" / "samples.npz").read_bytes()
    with pytest.raises(ValueError, match="holds images drawn otherwise"):
        sampler.run(made, trained, tmp_path / "s", 6)
    assert (tmp_path / "s" / "samples.npz").read_bytes() == before


def test_autoguidance_away_from_the_model_itself_changes_nothing(trained, tmp_path):
    plain = drawn(trained, tmp_path / "plain", count=4)
    guided = drawn(
        trained,
        tmp_path / "guided",
        count=4,
        sample__guidance="autoguide(w=3.0)",
        sample__guide_workdir=str(trained),
    )
    gap = np.abs(plain["images"].astype(int) - guided["images"].astype(int))
    assert gap.max() <= 1  # rounding


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(data__name="cifar10"), "not prepared"),
        (dict(data__name="cifra10"), "did you mean 'cifar10'"),
        (dict(network__num_classes=7), "num_classes=7, but 'digits' has 10"),
        (dict(partition__mesh="fsdp=3"), "fsdp=3 does not divide"),
        (dict(data__name="folder:/nowhere"), "/nowhere"),
    ],
)
def test_a_run_that_cannot_work_writes_nothing(changes, message, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    with pytest.raises((ValueError, OSError), match=message):
        train.run(config(**changes), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_wrong_workdirs(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a workdir"):
        workdir.load_config(tmp_path)
    before = (trained / "config.json").read_bytes()
    with pytest.raises(ValueError, match="seed: 0 there, 5 given"):
        train.run(config(seed=5, train__steps=12), trained)
    assert (trained / "config.json").read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty and not a workdir"):
        train.run(config(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        workdir.load_config(tmp_path)


def test_a_checkpoint_cut_off_half_way_falls_back(trained, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(trained, folder)
    newest = max(workdir.checkpoints(folder).glob("[0-9]*"), key=lambda path: int(path.name))
    for path in (newest / "ema").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    drawn(folder, tmp_path / "s", count=2)
    assert json.loads((tmp_path / "s" / "samples.json").read_text())["step"] < int(newest.name)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    made = config(train__steps=40, optimizer__learning_rate=1e30, optimizer__name="adam")
    with pytest.raises(NonFiniteLoss, match="step .* is not finite"):
        train.run(made, tmp_path / "bad")
    for path in workdir.checkpoints(tmp_path / "bad").glob("[0-9]*"):
        assert int(path.name) < 40


def test_evaluation_draws_and_judges_a_model(trained, tmp_path):
    """Its training data is the reference unless another is named."""
    code, out, err = run(
        "evaluate",
        f"--images={trained}",
        "--num_images=20",
        "--metrics=contrast,spectrum",
        f"--out={tmp_path / 'out'}",
        "--config.sample.steps=2",
    )
    assert code == 0, err
    assert f"20 images of {trained}, step 12 beside 1,797 real ones (digits@train)" in out
    kept = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert kept["images"]["shape"] == kept["reference"]["shape"] == [4, 4, 1]
