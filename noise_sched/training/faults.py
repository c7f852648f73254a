"""What went wrong with a folder of arrays: it is damaged, the disk is full, or something around it failed.

Only damage is a reason to pass a checkpoint over. A time-out, lack of memory, a missing permission or a
network that is down say nothing about the files, and the next attempt may read them.

orbax and tensorstore raise few types of their own: most failures are a ValueError, whose text begins with
a status and ends with the number of the system's error.
"""

import contextlib
import errno
import logging as python_logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import logging


class Damaged(ValueError):
    """Files that are missing, cut off or changed since they were written; the message names them."""


class OutOfSpace(OSError):
    """The disk, or the share of it that this user may fill, is full."""


# What reading a missing, cut off or changed file raises, by a test that changes every file. Not among
# them: MemoryError, RuntimeError (which jax's own are) and every other OSError.
_OF_DAMAGE = (
    FileNotFoundError,
    NotADirectoryError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    NotImplementedError,
)
# tensorstore's statuses for failures that are not the files'.
_AROUND = re.compile(
    r"\b(PERMISSION_DENIED|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED|UNAVAILABLE|UNAUTHENTICATED|ABORTED"
    r"|CANCELLED)\b"
)
_SYSTEM_ERROR = re.compile(r"os_error_code='(\d+)'|OS error (\d+)|\[Errno (\d+)\]")
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_damage(error: BaseException) -> bool:
    """Whether an error of reading says that the files are damaged."""
    chain = list(_causes(error))
    if any(isinstance(e, Damaged) for e in chain):
        return True
    codes = [code for e in chain if (code := _system_error(e)) is not None]
    if any(code not in _MISSING for code in codes) or any(_AROUND.search(str(e)) for e in chain):
        return False
    # orbax wraps in bare Exception: what it wraps decides.
    found = [e for e in chain if type(e) is not Exception]
    return bool(found) and all(isinstance(e, _OF_DAMAGE) for e in found)


def full_disk(error: BaseException) -> str | None:
    """What the system says, such as "No space left on device", if that is why writing failed."""
    codes = [_system_error(e) for e in _causes(error)]
    return next((os.strerror(code) for code in codes if code in _FULL), None)


@contextlib.contextmanager
def told_if_full(folder: object, kind: str, steps: Callable[[], Sequence[int]]) -> Iterator[None]:
    """Turns the many ways in which a full disk shows into one message.

    Args:
      folder: what is being written.
      kind: what a saved step is called: "checkpoint".
      steps: the finished ones, asked where the disk is full.

    Raises:
      OutOfSpace: in the place of any error that says so.
    """
    try:
        yield
    except OutOfSpace:
        raise
    except Exception as error:
        reason = full_disk(error)
        if reason is None:
            raise
        last = f"the last {kind} is that of step {max(found)}" if (found := steps()) else ""
        raise OutOfSpace(
            f"no space left in {folder} ({reason}): {last or f'there is no {kind} yet'}. Free some and run "
            "the same command again."
        ) from error


def brief(error: BaseException, folder: object = "") -> str:
    """An error in one line of at most about 200 characters, with paths seen from `folder`."""
    text = " ".join(str(error).split())
    text = text.replace(f"{folder}/", "") if str(folder) else text
    return f"{type(error).__name__}: {text[:200]}{'...' if len(text) > 200 else ''}"


def quiet_background() -> None:
    """Keeps what orbax leaves running from printing tracebacks of errors that are raised here as well.

    Its threads log what they raise. And it starts the reads or writes of all arrays at once and gives up
    at the first that fails: the others find, long after, that nobody waits for them, which Python prints
    as exceptions that cannot be raised anywhere.
    """
    logging.get_absl_logger().addFilter(_not_told_elsewhere)
    python_logging.getLogger("asyncio").addFilter(_not_told_elsewhere)
    warnings.filterwarnings("ignore", "coroutine 'Store\\._get_array_metadatas' was never awaited")
    if not isinstance(sys.unraisablehook, _WithoutAbandoned):
        sys.unraisablehook = _WithoutAbandoned(sys.unraisablehook)


class _WithoutAbandoned:
    def __init__(self, previous: Any):
        self._previous = previous

    def __call__(self, unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        of_orbax = code is not None and _is_orbax(code.co_filename)
        if not (of_orbax or str(unraisable.exc_value) == "Event loop is closed"):
            self._previous(unraisable)


def _not_told_elsewhere(record: python_logging.LogRecord) -> bool:
    """Whether a message of absl's or asyncio's log is to be printed."""
    trace = record.exc_info[2] if record.exc_info else None
    if record.name == "asyncio":  # an exception or a task that nobody waits for
        frames = (frame.f_code.co_filename for frame, _ in traceback.walk_tb(trace))
        text = record.getMessage()
        of_tensorstore = "tensorstore" in text or "OCDBT" in text
        return not (of_tensorstore or _is_orbax(text) or any(map(_is_orbax, frames)))
    return trace is None or not _is_orbax(record.pathname)


def _is_orbax(path: str) -> bool:
    return f"{os.sep}orbax{os.sep}" in path


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _system_error(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _SYSTEM_ERROR.search(str(error))
    return int(next(filter(None, found.groups()))) if found else None
