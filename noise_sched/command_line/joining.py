"""Joining the other hosts of a run: from what the environment tells, or from flags.

    --distributed                                    TPU pods, GKE, Slurm, Open MPI: jax finds the others
    --coordinator=HOST:PORT --num_hosts=4 --host=0   anywhere else, with another --host on each

JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID stand for the last three.
"""

import os

import jax
from absl import flags

# A host that has not been heard of for so long is taken for dead, and the others end.
HEARTBEAT_SECONDS = 30

_FROM_ENVIRONMENT = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "num_hosts": "JAX_NUM_PROCESSES",
    "host": "JAX_PROCESS_ID",
}


def define_hosts() -> None:
    """Defines the flags that `join_hosts` reads."""
    flags.DEFINE_bool(
        "distributed", False, "Join the other hosts of a run on several; start it on each."
    )
    flags.DEFINE_string(
        "coordinator", None, "HOST:PORT of host 0, where --distributed does not find it by itself."
    )
    flags.DEFINE_integer("num_hosts", None, "With --coordinator: how many.", lower_bound=1)
    flags.DEFINE_integer("host", None, "With --coordinator: which this is, from 0.", lower_bound=0)


def join_hosts() -> None:
    """Joins the other hosts, if any of the flags or variables asks for it; waits until all are there.

    Raises:
      ValueError: if only some of the three are given, or no environment is found that tells them.
    """
    found = {name: _given(name) for name in _FROM_ENVIRONMENT}
    given = {name: value for name, value in found.items() if value is not None}
    missing = [f"--{name}" for name in found if name not in given]
    if not missing:
        count, index = int(given["num_hosts"]), int(given["host"])
        if index >= count:
            raise ValueError(f"--host={index} of --num_hosts={count}: they are counted from 0.")
        _initialize(coordinator_address=given["coordinator"], num_processes=count, process_id=index)
    elif given:
        raise ValueError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: --coordinator, "
            "--num_hosts and --host belong together."
        )
    elif flags.FLAGS.distributed:
        _initialize()


def _given(name: str) -> str | None:
    value = flags.FLAGS[name].value
    return os.environ.get(_FROM_ENVIRONMENT[name]) if value is None else str(value)


def _initialize(**known: object) -> None:
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS, **known)  # type: ignore
    except ValueError as error:
        if known:
            raise
        raise ValueError(
            f"--distributed: nothing here tells of other hosts ({error}). jax finds them on TPU pods and "
            "under GKE, Slurm and Open MPI; elsewhere give --coordinator=HOST:PORT --num_hosts=N --host=I."
        ) from None
