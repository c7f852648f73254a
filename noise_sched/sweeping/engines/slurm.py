"""One array job on Slurm, through submitit: `pip install 'noise_sched[slurm]'`.

A task that Slurm preempts, or that reaches its time limit, ends its command in order and is requeued: the
command then goes on where it was. The job's number is kept in the logs' folder, so that the same call finds
what is still queued or running, instead of submitting it again.
"""

import json
import os
import pathlib
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from noise_sched.sweeping.engines.jobs import AGAIN, TRIES, Job, MissingPackage, log_of

PATIENCE = 60.0
"""Seconds until a command that was stopped is started again; more than Slurm's KillWait, by default 30."""

_RECORD = "slurm.json"
_PAUSE = 1.0  # seconds between two looks
_GRACE = 5  # looks for the result of a job that has ended


class Task:
    """What runs on a node: a command, which is told when the task has to go."""

    def __init__(self, argv: Sequence[str], log: str, folder: str, patience: float):
        self._argv, self._log, self._folder, self._patience = list(argv), log, folder, patience
        self._process: subprocess.Popen | None = None
        self._leaving = False

    def __call__(self) -> int:
        """Runs the command, again if it was stopped, and returns its exit code."""
        code = AGAIN
        for _ in range(TRIES):
            with pathlib.Path(self._log).open("ab") as log:
                self._process = subprocess.Popen(
                    self._argv, stdout=log, stderr=subprocess.STDOUT, cwd=self._folder
                )
                code = self._process.wait()
            if (code != AGAIN and code >= 0) or self._leaving:
                break
            # Slurm that takes the node away first stops the command, then, after its KillWait, this
            # process, which must have left no result by then: what is requeued would count as done.
            time.sleep(self._patience)
        return code

    def checkpoint(self) -> Any:
        """Called by submitit before the task is requeued: what to run then."""
        import submitit

        self._leaving = True
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        return submitit.helpers.DelayedSubmission(
            Task(self._argv, self._log, self._folder, self._patience)
        )


def check() -> None:
    """Refuses to begin without what it needs.

    Raises:
      MissingPackage: submitit is not installed.
      ValueError: there is no Slurm here.
    """
    try:
        import submitit
    except ImportError:
        raise MissingPackage("slurm", "submitit") from None
    if not submitit.SlurmExecutor.affinity() > 0:
        raise ValueError(
            "--engine=slurm: there is no `srun` on this machine. Start the sweep where jobs can be "
            "submitted, or use --engine=local or --engine=commands. To try Slurm out on one machine "
            "see launch/slurm_one_node.sh."
        )


def run(
    jobs: Sequence[Job],
    logs: pathlib.Path,
    *,
    options: Mapping[str, Any],
    at_once: int,
    wait: bool = True,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Submits commands as one array, and waits for them.

    Args:
      jobs: the commands.
      logs: a folder that the nodes see, too.
      options: submitit's parameters, such as timeout_min, slurm_partition, cpus_per_task, mem_gb.
      at_once: how many may run at once.
      wait: whether to wait; ending this process leaves the array running.
      poll: called about once a second.

    Returns:
      The exit code of each job, by its name; without `wait` nothing.

    Raises:
      ValueError: an option that submitit does not know.
    """
    import submitit

    logs.mkdir(parents=True, exist_ok=True)
    folder = logs / "submitit"
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=1000, python=sys.executable)
    try:
        executor.update_parameters(**_parameters(options, at_once))
    except (TypeError, ValueError, NameError) as error:
        raise ValueError(f"--slurm: {' '.join(str(error).split())[:300]}") from None
    known = _still_there(logs, folder)
    new = [job for job in jobs if job.name not in known]
    if new:
        here = os.getcwd()
        tasks = [Task(job.argv, str(log_of(job, logs).absolute()), here, PATIENCE) for job in new]
        submitted = _submit(executor, tasks)
        known |= {job.name: each for job, each in zip(new, submitted, strict=True)}
        record = {name: each.job_id for name, each in known.items()}
        (logs / _RECORD).write_text(json.dumps(record, indent=1) + "\n")
    if not wait:
        return {}
    watched = {job.name: known[job.name] for job in jobs}
    while not all(_is_done(each) for each in watched.values()):
        time.sleep(_PAUSE)
        poll()
    return {name: _code(each) for name, each in watched.items()}


def _submit(executor: Any, tasks: Sequence[Task]) -> list[Any]:
    with executor.batch():
        return [executor.submit(task) for task in tasks]


def _parameters(options: Mapping[str, Any], at_once: int) -> dict[str, Any]:
    return {
        "job_name": "noise_sched",
        "time": 24 * 60,
        "array_parallelism": at_once,
        "use_srun": False,
        **options,
    }


def _still_there(logs: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """The jobs of an earlier call that are queued or running, by name."""
    import submitit

    try:
        record = json.loads((logs / _RECORD).read_text())
    except (OSError, ValueError):
        return {}
    queued = _queued()
    return {
        name: submitit.SlurmJob(folder=folder, job_id=number)
        for name, number in record.items()
        if number in queued
    }


def _queued() -> set[str]:
    """The numbers of all jobs that are queued or running; `sacct` would need accounting."""
    done = subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%i"], capture_output=True, text=True
    )
    return set(done.stdout.split())


def _is_done(job: Any) -> bool:
    """Whether a job has left its result, or has gone without one."""
    return _has_result(job) or (job.job_id not in _queued() and not _appears(job))


def _has_result(job: Any) -> bool:
    return job.paths.result_pickle.exists()


def _appears(job: Any) -> bool:
    """Whether a result that was written as the job ended becomes visible: shared folders take a while."""
    for _ in range(_GRACE):
        if _has_result(job):
            return True
        time.sleep(_PAUSE)
    return False


def _code(job: Any) -> int:
    if not _has_result(job):  # the node died, or the task was cancelled: its log says more
        return 1
    outcome, value = pickle.loads(job.paths.result_pickle.read_bytes())
    return int(value) if outcome == "success" else 1
