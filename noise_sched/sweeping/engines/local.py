"""Processes on this machine, a few at a time."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

from noise_sched.sweeping.engines.jobs import AGAIN, TRIES, Job, log_of

_PAUSE = 0.2  # seconds between two looks


class Interrupted(Exception):
    """A signal asked to stop; the processes were told, and have ended."""


def run(
    jobs: Sequence[Job],
    logs: pathlib.Path,
    *,
    processes: int,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Runs commands, `processes` at a time; one that fails does not stop the others.

    On CPUs each process gets its share of the cores; with several GPUs each gets one.

    Args:
      jobs: the commands.
      logs: a folder for their output.
      processes: how many run at once.
      poll: called several times a second.

    Returns:
      The exit code of each job, by its name.

    Raises:
      Interrupted: after SIGTERM or SIGINT.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting, tries = list(jobs), dict.fromkeys((job.name for job in jobs), 0)
    running: dict[int, tuple[Job, subprocess.Popen]] = {}
    codes: dict[str, int] = {}
    with _Signals() as signals:
        while waiting or running:
            for slot in range(processes):
                if slot not in running and waiting:
                    job = waiting.pop(0)
                    tries[job.name] += 1
                    running[slot] = job, _start(job, logs, slot, processes)
            time.sleep(_PAUSE)
            poll()
            if signals.received:
                _end([process for _, process in running.values()])
                raise Interrupted
            for slot, (job, process) in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[slot]
                # Killed, or told to stop: what is saved is not lost. A mistake in the input stays one.
                if (code == AGAIN or code < 0) and tries[job.name] < TRIES:
                    waiting.append(job)
                else:
                    codes[job.name] = code
    return codes


def _start(job: Job, logs: pathlib.Path, slot: int, processes: int) -> subprocess.Popen:
    environment = os.environ.copy()
    # Cells of one group share a program: the first process compiles it, the others read it.
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(logs / "compiled"))
    cores = _cores(slot, processes)
    gpus = _gpus()
    if len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    with log_of(job, logs).open("ab") as log, _on(cores):
        return subprocess.Popen(
            job.argv,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # ctrl-C is ours to pass on
        )


@contextlib.contextmanager
def _on(cores: set[int] | None) -> Iterator[None]:
    """This thread on some cores; a process that it starts inherits that."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cores(slot: int, processes: int) -> set[int] | None:
    """The cores of one process: XLA starts a thread for each core that a process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    ours = sorted(os.sched_getaffinity(0))
    if not 1 < processes <= len(ours):
        return None
    return set(ours[slot::processes])


def _gpus() -> list[str]:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [each for each in chosen.split(",") if each]
    return [path.name[6:] for path in sorted(pathlib.Path("/dev").glob("nvidia[0-9]*"))]


def _end(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


class _Signals:
    """Notes SIGTERM and SIGINT for as long as it is entered."""

    received = False

    def __enter__(self) -> "_Signals":
        self._before = {n: signal.signal(n, self._note) for n in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exc_info) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame) -> None:
        self.received = True
