"""The launchers: what they would run, mistakes, and what they do when a run ends half-way.

gcloud and kubectl are stood in for by scripts that write down how they were called.
"""

import json
import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import yaml

from configs import digits
from noise_sched import train

ROOT = pathlib.Path(__file__).parents[2]
SCHEDULE = "--config.schedule=sigmoid(-3, 3, tau=0.9)"
TRAIN = ("--", "--config=configs/digits.py:tiny", SCHEDULE)
POD = ("--name=rin", "--zone=z", "--accelerator=v5litepod-256")
GKE = ("--name=rin", "--image=i:1", "--accelerator=tpu-v5-lite-podslice", "--topology=4x8")


def launch(name, *args, **environment):
    own = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")}
    return subprocess.run(
        ["bash", f"launch/{name}.sh", *args],
        cwd=ROOT,
        env=own | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def shown(name, *args):
    done = launch(name, "--dry_run", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_local_shows_every_process():
    lines = shown("local", "--processes=3", "--devices=2", *TRAIN).splitlines()
    assert len(lines) == 3
    for host, line in enumerate(lines):
        assert line.startswith("env JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=2 ")
        assert (
            f"-m noise_sched.train --coordinator=localhost:12345 --num_hosts=3 --host={host} "
            in line
        )
        assert line.rstrip().endswith(f"'{SCHEDULE}'")


def test_slurm_shows_the_batch_script(tmp_path):
    text = shown("slurm", "--nodes=4", "--gpus_per_node=8", "--partition=big", *TRAIN)
    for line in (
        "--nodes=4",
        "--gpus-per-node=8",
        "--partition=big",
        "--requeue",
        "--signal=TERM@120",
    ):
        assert f"#SBATCH {line}\n" in text
    assert "export XLA_FLAGS=--xla_gpu_enable_latency_hiding_scheduler=true" in text
    assert (
        f"-m noise_sched.train --distributed --config=configs/digits.py:tiny '{SCHEDULE}'" in text
    )
    script = tmp_path / "batch.sh"
    script.write_text(text)
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    cpus = shown("slurm", *TRAIN)
    assert "JAX_PLATFORMS=cpu" in cpus and "XLA_FLAGS" not in cpus


def test_tpu_pod_shows_every_command():
    text = shown("tpu_pod", *POD, "--spot=yes", *TRAIN, "--workdir=gs://b/r")
    ask, archive, copy, install, train, back = text.splitlines()
    assert ask.startswith("gcloud compute tpus queued-resources create rin --node-id=rin ")
    assert "--runtime-version=v2-alpha-tpuv5-lite --spot --zone=z" in ask
    assert archive.startswith("git ") and "scp" in copy and "--worker=all" in copy
    assert "prepare_env tpu" in install
    assert "-m noise_sched.train --distributed" in train and "LIBTPU_INIT_ARGS=" in train
    assert back.startswith("gcloud compute tpus queued-resources delete rin --force")


def test_gke_shows_a_manifest():
    made = yaml.safe_load(shown("gke", *GKE, "--hosts=8", "--slices=2", *TRAIN))
    assert made["kind"] == "JobSet" and made["metadata"]["name"] == "rin"
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "default"
    (slices,) = made["spec"]["replicatedJobs"]
    job = slices["template"]["spec"]
    assert slices["replicas"] == 2 and job["parallelism"] == job["completions"] == 8
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["--distributed", *TRAIN[1:]]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x8"
    assert "$" not in json.dumps(made)


def test_skypilot_starts_every_host(tmp_path):
    task = yaml.safe_load((ROOT / "launch" / "skypilot.yaml").read_text())
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
    python = tmp_path / "python"
    python.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    run = task["run"].replace("source launch/env.sh", f"fail() {{ exit 1; }}; PYTHON={python}")
    nodes = {
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
    }
    done = subprocess.run(
        ["bash", "-c", run],
        cwd=ROOT,
        env=os.environ
        | nodes
        | {"EXTRA": "cuda", "ARGS": f"--config=configs/digits.py '{SCHEDULE}'"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "-m",
        "noise_sched.train",
        "--coordinator=10.0.0.1:8476",
        "--num_hosts=2",
        "--host=1",
        "--config=configs/digits.py",
        SCHEDULE,
    ], done.stderr


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        (
            "local",
            ("--procs=2", *TRAIN),
            "unknown option --procs. There are: --processes --devices",
        ),
        ("local", ("--processes=two", *TRAIN), "--processes=two: expected a whole number from 1"),
        ("local", ("--processes=2",), "the command's flags are missing: give them behind --"),
        ("local", ("train", *TRAIN), "unexpected argument 'train'"),
        ("slurm", ("--nodes=0", *TRAIN), "--nodes=0: expected a whole number from 1"),
        (
            "tpu_pod",
            ("--name=rin", *TRAIN),
            "--zone is missing; give it, for example --zone=us-west4-a",
        ),
        (
            "tpu_pod",
            (*POD, *TRAIN, "--workdir=runs/r"),
            "--workdir=runs/r is no folder that all workers see",
        ),
        (
            "tpu_pod",
            ("--name=rin", "--zone=z", "--accelerator=v9-8", *TRAIN),
            "runtime of v9-8 is not known",
        ),
        (
            "gke",
            (*GKE, "--hosts=4", *TRAIN),
            "--topology=4x8 has 32 chips, not --hosts=4 x --chips=4",
        ),
    ],
)
def test_mistakes(name, args, message):
    done = launch(name, "--dry_run", *args)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and message in done.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    scripts = sorted(str(path) for path in (ROOT / "launch").glob("*.sh"))
    done = subprocess.run(["shellcheck", "-x", *scripts], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


GCLOUD = """#!/bin/bash
# States, and what the training ends with, come from files, a line for each call.
next() { head -n 1 "$FAKE/$1"; sed -i 1d "$FAKE/$1"; }
echo "$*" >> "$FAKE/calls"
case "$*" in
  *describe*) next states ;;
  *noise_sched.train*) exit "$(next codes)" ;;
esac
"""


def pod(tmp_path, states, codes, *args):
    """What tpu_pod.sh had gcloud do, as one word per call, and its exit code."""
    fake = tmp_path / "gcloud"
    fake.write_text(GCLOUD)
    fake.chmod(0o755)
    (tmp_path / "states").write_text("".join(f"{state}\n" for state in states))
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    done = launch(
        "tpu_pod",
        *POD,
        *args,
        *TRAIN,
        "--workdir=gs://b/r",
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        FAKE=str(tmp_path),
        POLL_SECONDS="0",
    )
    words = ("describe", "create", "delete", "scp", "prepare_env", "noise_sched.train")
    calls = (tmp_path / "calls").read_text().splitlines()
    return [next(word for word in words if word in call) for call in calls], done


def test_a_pod_that_is_preempted_is_asked_for_again(tmp_path):
    states = ["", "WAITING_FOR_RESOURCES", "ACTIVE", "SUSPENDED", "", "ACTIVE", "ACTIVE"]
    calls, done = pod(tmp_path, states, [255, 75, 0])
    assert done.returncode == 0, done.stderr
    start = ["scp", "prepare_env", "noise_sched.train"]
    again = ["describe", "delete", "describe", "create", "describe", *start]
    first = ["describe", "create", "describe", "describe", *start]
    assert calls == [*first, *again, "describe", *start, "delete"]
    assert "the run ended with code 255; starting it again (1 of 100)" in done.stderr


def test_a_pod_is_not_started_again_for_a_mistake(tmp_path):
    calls, done = pod(tmp_path, ["ACTIVE"], [2], "--keep=yes")
    assert done.returncode == 2
    assert calls == ["describe", "scp", "prepare_env", "noise_sched.train"]


def losses(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


RUN = ("--config=configs/digits.py:tiny", "--config.train.steps=4", "--config.train.log_every=1")


@pytest.fixture(scope="module")
def own_python(tmp_path_factory):
    """The launchers run the checkout's environment; here that is the one of the tests."""
    if (ROOT / ".venv" / "bin" / "python").exists():
        return
    pytest.skip("the checkout has no .venv: run the tests by launch/test.sh")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    config = digits.get_config("tiny")
    config.train.update(steps=4, log_every=1)
    train.run(config, folder / "run")
    return losses(folder / "run")


def test_local_trains_as_one_process_does(own_python, alone, tmp_path):
    done = launch("local", "--devices=2", "--", *RUN, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert "4 cpu device(s)" in done.stdout and done.stdout.count("4 of 4 steps done") == 1
    np.testing.assert_allclose(losses(tmp_path / "run"), alone, rtol=1e-4)


def test_local_does_not_start_a_mistake_again(own_python, tmp_path):
    done = launch(
        "local", "--", *RUN, f"--workdir={tmp_path / 'run'}", "--config.train.batch_size=7"
    )
    assert done.returncode == 2 and "starting it again" not in done.stderr
    assert "7 (batch_size)" in done.stderr


@pytest.mark.cluster
def test_slurm_trains_as_one_process_does(own_python, alone, tmp_path):
    if shutil.which("sbatch") is None or subprocess.run(["sinfo"], capture_output=True).returncode:
        pytest.skip("no Slurm runs here: sudo bash launch/slurm_one_node.sh")
    log = tmp_path / "log.txt"
    done = launch(
        "slurm", "--tasks_per_node=2", f"--log={log}", "--", *RUN, f"--workdir={tmp_path / 'run'}"
    )
    assert done.returncode == 0, done.stderr
    number = done.stdout.split()[-1]
    while subprocess.run(["squeue", "-h", "-j", number], capture_output=True, text=True).stdout:
        pass
    assert "2 cpu device(s)" in log.read_text(), log.read_text()
    np.testing.assert_allclose(losses(tmp_path / "run"), alone, rtol=1e-4)
