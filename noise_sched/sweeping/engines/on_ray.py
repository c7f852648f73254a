"""Tasks of Ray: `pip install 'noise_sched[ray]'`.

On the cluster of RAY_ADDRESS or --ray_address, else on a Ray that is started on this machine for as long as
the sweep runs. A task whose node dies, or whose command is killed, is started again and goes on where it was.
"""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from noise_sched.sweeping.engines.jobs import AGAIN, TRIES, Job, MissingPackage, log_of, run_here

_PAUSE = 1.0  # seconds between two looks


class Again(Exception):
    """A command that was killed or stopped: Ray is to start it again."""


def check() -> None:
    """Refuses to begin without Ray.

    Raises:
      MissingPackage: it is not installed.
    """
    try:
        import ray  # noqa: F401
    except ImportError:
        raise MissingPackage("ray", "ray") from None


def run(
    jobs: Sequence[Job],
    logs: pathlib.Path,
    *,
    resources: Mapping[str, float],
    address: str | None = None,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Runs commands as tasks.

    Args:
      jobs: the commands.
      logs: a folder that the nodes see, too.
      resources: of each task: "num_cpus", "num_gpus", and any other by its name in the cluster.
      address: of a cluster; None is RAY_ADDRESS, or a Ray of our own.
      poll: called about once a second.

    Returns:
      The exit code of each job, by its name.
    """
    import ray

    logs.mkdir(parents=True, exist_ok=True)
    ours = not ray.is_initialized()
    if ours:
        ray.init(address=address or os.environ.get("RAY_ADDRESS"), **_QUIET)
    own = {name: resources[name] for name in ("num_cpus", "num_gpus") if name in resources}
    others = {name: value for name, value in resources.items() if name not in own}
    task = ray.remote(_task).options(
        **own, resources=others or None, max_retries=TRIES, retry_exceptions=[Again]
    )
    folder = os.getcwd()
    try:
        waiting = {
            task.remote(job.argv, str(log_of(job, logs).absolute()), folder): job.name
            for job in jobs
        }
        codes: dict[str, int] = {}
        while waiting:
            done, _ = ray.wait(list(waiting), timeout=_PAUSE)
            poll()
            for each in done:
                codes[waiting.pop(each)] = _code(ray, each)
        return codes
    finally:
        if ours:
            ray.shutdown()


_QUIET: dict[str, Any] = {
    "include_dashboard": False,
    "log_to_driver": False,
    "logging_level": "ERROR",
}


def _task(argv: Sequence[str], log: str, folder: str) -> int:
    code = run_here(argv, pathlib.Path(log), folder)
    if code == AGAIN or code < 0:
        raise Again(f"exit code {code}")
    return code


def _code(ray: Any, task: Any) -> int:
    try:
        return int(ray.get(task))
    except Exception:  # killed too often, or its node is gone: its log says more
        return 1
