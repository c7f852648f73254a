"""Reading arrays out of an .npz file that may be anything.

What its headers claim is checked before memory is asked for, and nothing in it is run.
"""

import pathlib
import struct
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from noise_sched.evaluation.errors import EvaluationInputError

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# Deflate makes at most 1032 bytes of one.
_MOST_INFLATED = 1032
_DAMAGED = (
    ArithmeticError,
    EOFError,
    NotImplementedError,  # an unknown compression
    OSError,
    RuntimeError,  # an encrypted member
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_IMAGES = "`images`, uint8 [count, height, width, channels], and `labels`, integers [count]"
_BEGINNINGS = {
    b"\x80": "a Python pickle. Pickles are not read, since they could run anything: save the images "
    "with numpy.savez(path, images=..., labels=...)",
    b"\x93NUMPY": "a single array (.npy): save it with numpy.savez(path, images=...)",
    b"\x89PNG": "a PNG: give the folder that it is in",
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"PK": "an .npz file that was cut off while being written: make it again",
}


def read(
    path: pathlib.Path, names: Sequence[str], expected: str = _IMAGES
) -> dict[str, np.ndarray]:
    """The arrays of these names that an .npz file holds; the first must be there, `expected` says what it is.

    Raises:
      EvaluationInputError: it is no .npz file, is damaged, holds objects or claims more than it has, or
        lacks the first of `names`.
    """
    if not zipfile.is_zipfile(path):
        raise EvaluationInputError(f"{path} cannot be read as an .npz file: it is {_what(path)}.")
    try:
        with zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
            for name in names:
                if name in keys:
                    _check_claim(
                        path,
                        archive,
                        f"{name}.npy" if f"{name}.npy" in archive.namelist() else name,
                    )
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names if name in keys}
    except MemoryError as error:
        raise EvaluationInputError(f"{path} does not fit into memory ({error}).") from error
    except EvaluationInputError:
        raise
    except _DAMAGED as error:
        raise EvaluationInputError(
            f"{path} cannot be read as an .npz file ({error}). Perhaps it was cut off while being "
            "written: make it again."
        ) from error
    if names[0] not in arrays:
        raise EvaluationInputError(
            f"{path} has no array `{names[0]}`; it has: {', '.join(keys) or 'nothing'}. Expected {expected}."
        )
    return arrays


def _check_claim(path: pathlib.Path, archive: zipfile.ZipFile, member: str) -> None:
    """Compares what an array's header says with the bytes that are there."""
    info = archive.getinfo(member)
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{member} is of the unknown version {version}")
        shape, _, dtype = _HEADERS[version](file)
        has = info.file_size - file.tell()
    if dtype.hasobject:
        raise EvaluationInputError(
            f"{path}: `{member.removesuffix('.npy')}` holds Python objects ({dtype}), which are pickled and "
            "not read. Save arrays of numbers, of one shape each."
        )
    claims = dtype.itemsize
    for length in shape:
        claims *= length
    if claims != has or info.file_size > _MOST_INFLATED * (info.compress_size + 64):
        raise EvaluationInputError(
            f"{path}: the header of `{member.removesuffix('.npy')}` claims {dtype} {list(shape)}, which are "
            f"{claims:,} bytes, but the file holds {min(has, info.compress_size):,}. It is damaged: make it "
            "again."
        )


def _what(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        beginning = file.read(8)
    if not beginning:
        return "empty"
    for signature, what in _BEGINNINGS.items():
        if beginning.startswith(signature):
            return what
    return "another kind of file: expected an .npz file or a folder of PNGs"
