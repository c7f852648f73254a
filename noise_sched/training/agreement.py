"""Several hosts do one thing and go the same way afterwards, whatever happened on each of them.

A host that raises by itself leaves the others waiting at their next common operation, for ever or until a
time-out. So each step that may fail on one host alone is an `attempt`, which all hosts enter and which
ends in the same way on all. With one process nothing is exchanged.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from noise_sched.training.faults import Damaged, brief

T = TypeVar("T")

_BYTES = 1024  # of what a host tells the others; all have to send equally much


class HostFailed(OSError):
    """Another host failed, so this one stops as well; the message says which, and of what."""


def from_first(value: int) -> int:
    """The value that host 0 has, a number of 32 bits."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def attempt(action: Callable[[], T]) -> T:
    """Does something on every host, and returns its result once it has gone well on all.

    Args:
      action: what to do. It may wait for other hosts only where none of them can fail before.

    Raises:
      Damaged: on all hosts, if `action` raised it on some, and nothing else failed on any.
      Exception: what failed otherwise, on the host where it did.
      HostFailed: on the others then.
    """
    value: Any = None
    failure: Exception | None = None
    try:
        value = action()
    except Exception as error:
        failure = error
    if jax.process_count() == 1:
        told = [_told(failure)]
    else:
        told = _of_all_hosts(_told(failure))
    others = [f"host {host}: {text[1:]}" for host, text in enumerate(told) if text[:1] == "E"]
    if others:
        if failure is not None and not isinstance(failure, Damaged):
            raise failure
        raise HostFailed(f"stopped with {'; '.join(others)}")
    damage = [text[1:] for text in told if text]
    if damage:
        raise Damaged("; ".join(dict.fromkeys(damage))) from failure
    return value


def _told(failure: Exception | None) -> str:
    """Nothing, or D and what is damaged, or E and what else failed."""
    if failure is None:
        return ""
    return f"D{failure}" if isinstance(failure, Damaged) else f"E{brief(failure)}"


def _of_all_hosts(text: str) -> list[str]:
    data = np.zeros(_BYTES, np.uint8)
    encoded = np.frombuffer(text.encode()[:_BYTES], np.uint8)
    data[: encoded.size] = encoded
    rows = multihost_utils.process_allgather(data)
    return [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in np.asarray(rows)]
