"""One command at a time in a folder: a lock that dies with the process that holds it.

    with locks.hold(folder, "--workdir"):
        ...

The lock is the kernel's (`flock` on the file `.lock` in the folder), so a `kill -9` or a crash cannot
leave it behind; the file itself may stay and means nothing. Who holds it is written in the file, for the
message that another command gets. On several hosts the first of them holds it for the run. Reading
a folder needs no lock.

In a bucket (`gs://...`) there are no locks: two commands in one folder are not noticed there.
"""

import contextlib
import datetime
import errno
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator

from absl import logging

from noise_sched.training import files, hosts
from noise_sched.training.files import Folder

NAME = ".lock"

# How long to wait for a holder: a process that was just killed may take a moment to be gone.
_PATIENCE = 3.0  # seconds
_PAUSE = 0.05  # between two attempts

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextlib.contextmanager
def hold(folder: Folder, flag: str) -> Iterator[None]:
    """Holds a folder, which is made if needed, for as long as the context lasts.

    A folder that was made for it, and that nothing was put into, is removed at the end. All hosts of a
    run have to call it.

    Args:
      folder: what to hold.
      flag: the command's flag that named it, for the messages.

    Raises:
      ValueError: if another process holds it.
      OSError: if the folder cannot be written.
    """
    held: list[int] = []
    is_new = not folder.exists()

    def take() -> None:
        with files.writing(flag, folder):
            folder.mkdir(parents=True, exist_ok=True)
            if fcntl is not None and not files.is_remote(folder):
                held.extend(_take(pathlib.Path(folder) / NAME, flag))

    hosts.first(take)
    try:
        yield
    finally:
        for handle in held:
            # Removed while still held, so that whoever locks this file now finds it gone and opens the next.
            (pathlib.Path(folder) / NAME).unlink(missing_ok=True)
            os.close(handle)
        if is_new and held:
            with contextlib.suppress(OSError):  # it is not empty
                pathlib.Path(folder).rmdir()


def _take(path: pathlib.Path, flag: str) -> list[int]:
    """The locked file's descriptor; none where the file system has no locks."""
    assert fcntl is not None
    deadline = time.monotonic() + _PATIENCE
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)  # its holder may have removed it
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # removed just now
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                os.ftruncate(handle, 0)
                os.write(handle, json.dumps(_about_us()).encode())
                return [handle]
            os.close(handle)  # its holder removed it meanwhile
        except BlockingIOError:
            holder = os.read(handle, 4096).decode(errors="replace")
            os.close(handle)
            if time.monotonic() > deadline:
                raise ValueError(_in_use(path.parent, flag, holder)) from None
            time.sleep(_PAUSE)
        except OSError as error:
            os.close(handle)
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            logging.warning(
                "%s=%s is on a file system without locks: do not start a second command in it",
                flag,
                path.parent,
            )
            return []


def _is_at(handle: int, path: pathlib.Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _about_us() -> dict:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.datetime.now().isoformat(sep=" ", timespec="seconds"),
    }


def _in_use(folder: pathlib.Path, flag: str, holder: str) -> str:
    try:
        found = json.loads(holder)
        who = f"process {found['pid']} on host {found['host']}, since {found['since']}"
        stop = f"stop it (kill {found['pid']} on that host)"
    except (ValueError, KeyError, TypeError):  # it is just writing this
        who, stop = "another process", "stop it"
    return (
        f"{flag}={folder} is in use by {who}. Wait until it ends, {stop}, or give another folder: two "
        "commands cannot write to one."
    )
