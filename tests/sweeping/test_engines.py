"""Commands that run elsewhere: their exit codes, logs, and what a kill leaves."""

import os
import signal
import subprocess
import sys
import time

import pytest

from noise_sched.sweeping.engines import jobs, local, on_ray, slurm
from noise_sched.sweeping.engines.jobs import Job


def python(name, code):
    return Job(name, (sys.executable, "-c", code))


# The first time it is told to stop, the second time it is done.
ONCE = "import os, sys; p = {path!r}; there = os.path.exists(p); open(p, 'w'); {then}"


def test_local_runs_all_and_tells_how_they_ended(tmp_path):
    todo = [
        python("one", "print('hello')"),
        python("two", "import sys; print('a mistake', file=sys.stderr); sys.exit(2)"),
        python("three", ONCE.format(path=str(tmp_path / "x"), then="sys.exit(0 if there else 75)")),
        python(
            "killed", ONCE.format(path=str(tmp_path / "y"), then="there or os.kill(os.getpid(), 9)")
        ),
        python("always", "import sys; sys.exit(75)"),
    ]
    polls = []
    codes = local.run(todo, tmp_path / "logs", processes=2, poll=lambda: polls.append(1))
    assert codes == {"one": 0, "two": 2, "three": 0, "killed": 0, "always": 75}
    assert jobs.log_of(todo[0], tmp_path / "logs").read_text() == "hello\n"
    text = jobs.failures(todo, codes, tmp_path / "logs")
    assert text.startswith("1 of 5 jobs failed:\n  two: a mistake") and "three" not in text
    assert polls


def test_local_gives_each_process_its_cores(tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("one core")
    show = "import os, time; time.sleep(0.5); print(sorted(os.sched_getaffinity(0)))"
    todo = [python(str(i), show) for i in range(2)]
    local.run(todo, tmp_path, processes=2)
    found = [eval(jobs.log_of(job, tmp_path).read_text()) for job in todo]
    assert sorted(found[0] + found[1]) == cores and all(found)


def test_local_ends_its_processes_when_it_is_told_to_stop(tmp_path):
    code = f"""
import pathlib, sys
from noise_sched.sweeping.engines import local
from noise_sched.sweeping.engines.jobs import Job
job = Job("sleeps", (sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"))
try:
    local.run([job], pathlib.Path({str(tmp_path)!r}), processes=1)
except local.Interrupted:
    sys.exit(75)
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    log = tmp_path / "sleeps.log"
    deadline = time.monotonic() + 30
    while not (log.exists() and log.read_text().strip()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    child = int(log.read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_command_line_survives_a_shell(tmp_path):
    job = Job("x", (sys.executable, "-c", "import sys; print(sys.argv[1])", "a;b=(1, 'two')"))
    done = subprocess.run(job.line, shell=True, capture_output=True, text=True)
    assert done.stdout == "a;b=(1, 'two')\n"


@pytest.mark.parametrize(("engine", "package"), [(slurm, "submitit"), (on_ray, "ray")])
def test_an_engine_that_is_not_installed(monkeypatch, engine, package):
    monkeypatch.setitem(sys.modules, package, None)
    name = {"submitit": "slurm", "ray": "ray"}[package]
    with pytest.raises(jobs.MissingPackage, match=rf"pip install 'noise_sched\[{name}\]'"):
        engine.check()


@pytest.mark.cluster
def test_slurm_runs_an_array_and_requeues(tmp_path, monkeypatch):
    """Needs a Slurm: sudo bash launch/slurm_one_node.sh."""
    monkeypatch.setattr(slurm, "PATIENCE", 8.0)
    slurm.check()
    waits = "import time, sys; there or time.sleep(300)"
    todo = [
        python("one", "print('hello')"),
        python("two", "import sys; sys.exit(2)"),
        python("three", ONCE.format(path=str(tmp_path / "x"), then="sys.exit(0 if there else 75)")),
        python("four", ONCE.format(path=str(tmp_path / "y"), then=waits)),
    ]
    asked = []

    def poll():
        """Preempts the job that waits, as Slurm would."""
        if (tmp_path / "y").exists() and not asked:
            asked.append(1)
            time.sleep(1)
            queue = subprocess.run(
                ["squeue", "--noheader", "--states=R", "--format=%i"],
                capture_output=True,
                text=True,
            )
            (number,) = [each for each in queue.stdout.split() if each.endswith("_3")]
            subprocess.run(["scontrol", "requeue", number], check=True)

    options = {"time": 5}
    logs = tmp_path / "logs"
    codes = slurm.run(todo, logs, options=options, at_once=2, poll=poll)
    assert codes == {"one": 0, "two": 2, "three": 0, "four": 0} and asked
    assert jobs.log_of(todo[0], logs).read_text() == "hello\n"
    with pytest.raises(ValueError, match="--slurm"):
        slurm.run(todo, logs, options={"nonsense": 1}, at_once=2)


@pytest.mark.cluster
def test_slurm_finds_jobs_that_were_left_running(tmp_path):
    logs, options = tmp_path / "logs", {"time": 5}
    job = python(
        "slow", f"open({str(tmp_path / 'count')!r}, 'a').write('x'); import time; time.sleep(5)"
    )
    assert slurm.run([job], logs, options=options, at_once=1, wait=False) == {}
    assert slurm.run([job], logs, options=options, at_once=1) == {"slow": 0}
    assert (tmp_path / "count").read_text() == "x"


@pytest.mark.cluster
def test_ray_runs_tasks_and_tries_again(tmp_path):
    """Needs Ray: pip install 'noise_sched[ray]'."""
    on_ray.check()
    todo = [
        python("one", "print('hello')"),
        python("two", "import sys; sys.exit(2)"),
        python("three", ONCE.format(path=str(tmp_path / "x"), then="sys.exit(0 if there else 75)")),
        python(
            "four", ONCE.format(path=str(tmp_path / "y"), then="there or os.kill(os.getpid(), 9)")
        ),
    ]
    codes = on_ray.run(todo, tmp_path / "logs", resources={"num_cpus": 1.0})
    assert codes == {"one": 0, "two": 2, "three": 0, "four": 0}
    assert jobs.log_of(todo[0], tmp_path / "logs").read_text() == "hello\n"
