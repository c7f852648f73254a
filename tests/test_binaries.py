"""The commands as a user runs them: killed, restarted, on eight devices, with mistakes."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from noise_sched import workdir

ROOT = pathlib.Path(__file__).parent.parent
TINY = "--config=configs/digits.py:tiny"


def command(module: str, *args: str, env: dict | None = None, **kwargs) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", f"noise_sched.{module}", *args],
        cwd=ROOT,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax")} | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def run(module: str, *args: str, env: dict | None = None) -> tuple[int, str, str]:
    process = command(module, *args, env=env)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def parameters(folder: pathlib.Path) -> dict:
    """The moving average at the newest checkpoint, as sampling reads it."""
    import jax

    from noise_sched import experiment
    from noise_sched.training.checkpoints import Checkpoints

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
    code, out, err = run(
        "train", TINY, f"--workdir={folder}", "--config.train.steps=30", "--config.train.log_every=1"
    )
    assert code == 0, err
    assert "parameters" in out and "config.schedule = 'linear()'" in out
    assert "step 30/30" in err and "images/s" in err
    return folder


def test_kill_9_in_the_middle_of_training(trained, tmp_path):
    """Killed after some checkpoint, the same command ends with the same parameters."""
    folder = tmp_path / "killed"
    args = (TINY, f"--workdir={folder}", "--config.train.steps=30", "--config.train.log_every=1")
    process = command("train", *args)
    deadline = time.monotonic() + 240
    while not list(workdir.checkpoints(folder).glob("[0-9]*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, out, err = run("train", *args)
    assert code == 0, err
    assert "resuming at step" in out or "starting at step 0" in out
    one, other = parameters(trained), parameters(folder)
    assert one["step"] == other["step"] == 30
    for a, b in zip(one["leaves"], other["leaves"], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("fsdp", [1, 2])
def test_eight_devices_give_the_same_losses(trained, tmp_path, fsdp):
    folder = tmp_path / "eight"
    code, out, err = run(
        "train",
        TINY,
        f"--workdir={folder}",
        "--config.train.steps=30",
        "--config.train.log_every=1",
        f"--config.train.fsdp={fsdp}",
        env={"XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    )
    assert code == 0, err
    assert "8 cpu device(s)" in out
    np.testing.assert_allclose(losses(folder), losses(trained), rtol=2e-4)


def test_a_sample_does_not_depend_on_the_batch_size(trained, tmp_path):
    images = {}
    for size in (8, 5):
        out = tmp_path / str(size)
        code, _, err = run(
            "sample",
            f"--workdir={trained}",
            "--num_images=16",
            f"--out={out}",
            f"--config.sample.batch_size={size}",
            "--config.sample.solver=ddpm()",
        )
        assert code == 0, err
        found = np.load(out / "samples.npz")
        images[size] = found["images"].astype(int)
        assert found["labels"].dtype == np.int32
    assert np.abs(images[8] - images[5]).max() <= 1  # rounding to uint8


def test_chosen_classes(trained, tmp_path):
    out = tmp_path / "sevens"
    args = (f"--workdir={trained}", "--num_images=6", f"--out={out}")
    args += ("--config.sample.classes=(7, 3)", "--config.sample.guidance=cfg(w=2.0)")
    code, text, err = run("sample", *args)
    assert code == 0 and "grid.png" in text, err
    assert np.load(out / "samples.npz")["labels"].tolist() == [7, 3, 7, 3, 7, 3]
    code, text, _ = run("sample", *args)
    assert code == 0 and "already drawn" in text
    code, _, err = run("sample", *args[:-1])
    assert code == 2 and "holds images drawn otherwise" in err


@pytest.mark.parametrize(
    ("module", "args", "message"),
    [
        ("train", (TINY, "--config.train.stpes=3"), "unknown key --config.train.stpes.*'steps'"),
        ("train", (TINY, "--config.schedule=sigmiod()"), "Did you mean 'sigmoid'"),
        ("train", ("--config=configs/digit.py",), "no file configs/digit.py.*configs/digits.py"),
        ("train", ("--config=configs/digits.py:tny",), "unknown variant 'tny'"),
        ("train", (TINY, "--config.data.name=cifar10"), "not prepared"),
        ("train", (TINY, "--config.network.num_classes=7"), "num_classes=7, but 'digits' has 10"),
        ("train", (TINY, "extra"), "unexpected argument 'extra'"),
        ("sample", ("--out=x",), "--workdir is missing"),
    ],
)
def test_mistakes_get_one_message_and_write_nothing(module, args, message, tmp_path):
    folder = tmp_path / "new"
    given = (f"--workdir={folder}",) if module == "train" else ()
    code, _, err = run(module, *args, *given, env={"TFDS_DATA_DIR": str(tmp_path / "tfds")})
    import re

    assert code == 2 and re.search(message, err) and "Traceback" not in err, err
    assert len(err.strip().splitlines()) <= 4 and not folder.exists()


def test_wrong_workdirs(trained, tmp_path):
    code, _, err = run("sample", f"--workdir={tmp_path}", "--out=x")
    assert code == 2 and "is not a workdir" in err
    before = (trained / "config.json").read_bytes()
    code, _, err = run(
        "train", TINY, f"--workdir={trained}", "--config.train.steps=30", "--config.seed=5"
    )
    assert code == 2 and "seed: 0 there, 5 given" in err
    assert (trained / "config.json").read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = run("train", TINY, f"--workdir={tmp_path}")
    assert code == 2 and "not empty and not a workdir" in err
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_checkpoint_cut_off_half_way_falls_back(trained, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(trained, folder)
    newest = max(workdir.checkpoints(folder).glob("[0-9]*"), key=lambda p: int(p.name))
    for path in (newest / "ema").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    code, _, err = run("sample", f"--workdir={folder}", "--num_images=2", f"--out={tmp_path}/s")
    assert code == 0, err
    assert newest.name in err
    assert json.loads((tmp_path / "s" / "samples.json").read_text())["step"] < int(newest.name)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    folder = tmp_path / "bad"
    code, _, err = run(
        "train",
        TINY,
        f"--workdir={folder}",
        "--config.train.steps=40",
        "--config.optimizer.learning_rate=1e30",
        "--config.optimizer.name=adam",
    )
    assert code == 2 and "step" in err and "is not finite" in err, err
    assert "Traceback" not in err
