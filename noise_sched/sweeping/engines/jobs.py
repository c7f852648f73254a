"""What the engines run: commands that may be killed at any moment and run again."""

import pathlib
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from noise_sched.training.loop import AGAIN as AGAIN

DONE = 0
"""Exit code: all is done."""

TRIES = 3
"""How often a command is started before it counts as failed."""


class Job(NamedTuple):
    """A command.

    Attributes:
      name: for messages and the name of its log.
      argv: the command; run again after a kill it goes on where it was.
    """

    name: str
    argv: tuple[str, ...]

    @property
    def line(self) -> str:
        """The command as it is written in a shell."""
        return shlex.join(self.argv)


class MissingPackage(ValueError):
    """An engine whose package is not installed."""

    def __init__(self, engine: str, package: str):
        super().__init__(
            f"--engine={engine} needs the package {package}, which is not installed. Install it with\n"
            f"    pip install 'noise_sched[{engine}]'\n"
            "or use --engine=local, which needs nothing."
        )


def run_here(argv: Sequence[str], log: pathlib.Path, folder: str) -> int:
    """Runs a command to its end on the machine that calls this; its output is added to `log`."""
    with log.open("ab") as file:
        return subprocess.call(list(argv), stdout=file, stderr=subprocess.STDOUT, cwd=folder)


def failures(jobs: Sequence[Job], codes: Mapping[str, int], logs: pathlib.Path) -> str:
    """The jobs that failed, each with the last line of its log; "" if none did."""
    failed = [job for job in jobs if codes.get(job.name) not in (DONE, AGAIN)]
    lines = [f"  {job.name}: {_last_line(log_of(job, logs))}" for job in failed]
    return "\n".join([f"{len(failed)} of {len(jobs)} jobs failed:", *lines]) if failed else ""


def log_of(job: Job, logs: pathlib.Path) -> pathlib.Path:
    """Where a job's output goes."""
    return logs / f"{job.name[:200]}.log"


def _last_line(log: pathlib.Path) -> str:
    try:
        text = log.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "it left no log"
    return f"{text.splitlines()[-1][:300] if text else 'it said nothing'} ({log})"
