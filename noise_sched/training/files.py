"""Folders on a disk or in a bucket, and files that are there whole or not at all.

A local folder is a `pathlib.Path`; one in a bucket (`gs://...`) is an `epath.Path`, since `pathlib` would
make `gs:/...` of it. Both have the methods used here.
"""

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator
from typing import IO, TypeAlias

from etils import epath

Folder: TypeAlias = pathlib.Path | epath.Path

# What reads and writes each kind of address, by the name of its package.
_PACKAGES = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs", "hf": "huggingface_hub"}
_TEMPORARY = ".partial-"


def folder(text: str, flag: str) -> Folder:
    """The folder that a flag names: a local one (`~` and `file://` are understood) or a remote one.

    Raises:
      ValueError: if it is empty, of an unknown kind, or remote and cannot be reached from here.
    """
    if not text:
        raise ValueError(f"{flag}= is empty. Give a folder.")
    kind, is_address, rest = text.partition("://")
    if not is_address or kind == "file":
        return pathlib.Path(rest if is_address else text).expanduser()
    if kind not in _PACKAGES:
        known = ", ".join(f"{k}://" for k in _PACKAGES)
        raise ValueError(
            f"{flag}={text}: addresses of the kind {kind}:// are not known. Give a local folder, or one "
            f"of {known}."
        )
    path = epath.Path(text)
    try:
        path.exists()
    except ImportError as error:
        raise ValueError(
            f"{flag}={text} needs a package to read and write {kind}:// addresses: pip install "
            f"{_PACKAGES[kind]} ({error})."
        ) from None
    except Exception as error:  # each package has its own kinds of errors
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{flag}={text} cannot be reached: {type(error).__name__}: {reason}"
        ) from None
    return path


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is an address such as gs://bucket/run."""
    return "://" in os.fspath(path)


def partial(path: pathlib.Path) -> pathlib.Path:
    """A temporary name beside a file, which no other process chooses."""
    return path.with_name(f"{_TEMPORARY}{path.name}-{uuid.uuid4().hex[:12]}")


def is_partial(path: Folder) -> bool:
    """Whether a file has such a name; killed processes may leave some."""
    return path.name.startswith(_TEMPORARY)


@contextlib.contextmanager
def whole(path: Folder) -> Iterator[IO[bytes]]:
    """Opens a file for writing bytes; it appears, or replaces an old one, when all is written.

    On a disk through a temporary file beside it; in a bucket an object appears when it is closed.
    """
    if is_remote(path):
        with path.open("wb") as file:
            yield file
        return
    temporary = partial(pathlib.Path(path))
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Folder, text: str) -> None:
    """Writes a text file, in UTF-8, that is never seen half written."""
    with whole(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def writing(flag: str, path: Folder) -> Iterator[None]:
    """Has an OSError say which flag named the folder that cannot be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        where = f" ({error.filename})" if error.filename else ""
        raise type(error)(
            f"{flag}={path} cannot be written: {reason}{where}. Give another folder, or fix this one."
        ) from error
