"""What the hosts of one run tell each other: failures, and what the first of them found.

A host that fails alone leaves the others waiting for it in the next operation that all of them share.
What can fail on one host alone is therefore done through these two functions. All hosts have to call
them, in the same order. With one process they just call the action.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")


class HostFailed(OSError):
    """Another host of the run failed, so this one stops as well; the message says which and how."""


def together(action: Callable[[], T], *, mild: type[Exception] | None = None) -> T:
    """Runs `action` on every host and waits for all; if it fails on any, it fails on all.

    Args:
      action: what to do. It may wait for other hosts only where none of them can fail before.
      mild: a kind of failure that all hosts go on from in the same way, such as a damaged file.

    Returns:
      What it returned on this host.

    Raises:
      mild: on all hosts, if that is the worst that happened on any; the message has what each found.
      Exception: what else it raised on this host.
      HostFailed: where that happened to another host alone.
    """
    if jax.process_count() == 1:
        return action()
    found = []
    _share(lambda: found.append(action()), mild)
    return found[0]


def first(action: Callable[[], Any]) -> Any:
    """Runs `action` on the first host alone, while the others wait.

    Returns:
      What it returned there, on every host: anything that JSON can hold.

    Raises:
      HostFailed: on the other hosts, where it failed.
    """
    if jax.process_count() == 1:
        return action()
    return _share(lambda: action() if jax.process_index() == 0 else None)[0]


def everywhere(action: Callable[[], Any]) -> list[Any]:
    """Runs `action` on every host.

    Returns:
      What it returned on each, on every host: anything that JSON can hold.

    Raises:
      Exception: what it raised on this host.
      HostFailed: where that happened to another host.
    """
    return [action()] if jax.process_count() == 1 else _share(action)


def agree(what: Mapping[str, Any]) -> None:
    """Refuses hosts that were started with different things.

    Args:
      what: names, and anything that JSON can hold.

    Raises:
      ValueError: on all hosts, naming what differs.
    """
    first, *others = everywhere(lambda: dict(what))
    for host, other in enumerate(others, start=1):
        names = [n for n in {**first, **other} if first.get(n) != other.get(n)]
        if names:
            lines = [
                f"  {n}: {first.get(n)!r} on host 0, {other.get(n)!r} on host {host}" for n in names
            ]
            more = f"\n  and {len(lines) - 5} more" if len(lines) > 5 else ""
            raise ValueError(
                "the hosts of this run were started with different things; give all the same command, and "
                "install the same versions:\n" + "\n".join(lines[:5]) + more
            )


def several() -> bool:
    """Whether there are other hosts."""
    return jax.process_count() > 1


def _share(action: Callable[[], Any], mild: type[Exception] | None = None) -> list[Any]:
    """What `action` returned on each host; raises on all if it failed on any."""
    failure, is_mild = None, False
    try:
        text = json.dumps({"result": action()})
    except Exception as error:  # whatever it is, the others have to hear of it
        failure, is_mild = error, mild is not None and isinstance(error, mild)
        said = {"mild": str(error)} if is_mild else {"failure": f"{type(error).__name__}: {error}"}
        text = json.dumps(said)
    answers = [json.loads(each) for each in _exchange(text)]
    if failure is not None and not is_mild:
        raise failure
    for host, each in enumerate(answers):
        if "failure" in each:
            raise HostFailed(f"host {host} of {len(answers)} failed: {each['failure']}")
    milds = [each["mild"] for each in answers if "mild" in each]
    if mild is not None and milds:
        raise mild("; ".join(dict.fromkeys(milds))) from failure
    return [each["result"] for each in answers]


def _exchange(text: str) -> list[str]:
    """The texts of all hosts."""
    data = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray([len(data)], np.int32))[:, 0]
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(data)] = data
    rows = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]
