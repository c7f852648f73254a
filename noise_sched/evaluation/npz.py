"""Images out of an .npz file that may be anything, a piece at a time.

What its headers claim is checked before memory is asked for, and nothing in it is run.
"""

import contextlib
import io
import math
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from noise_sched.evaluation import image_set
from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.images import Batch

# Names of the images, and of the labels that belong to each.
_IMAGES, _LABELS = ("images", "arr_0"), ("labels", "arr_1")

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
_BEGINNINGS = {
    b"\x80": "a Python pickle. Pickles are not read, since they could run anything: save the images "
    "with numpy.savez(path, images=..., labels=...)",
    b"\x93NUMPY": "a single array (.npy): save it with numpy.savez(path, images=...)",
    b"\x89PNG": "a PNG: give the folder that it is in",
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"PK": "an .npz file that was cut off while being written: make it again",
}


class NpzImages:
    """The images of an .npz file; see `images.Images`. Reading backwards starts from the beginning.

    `images`, uint8 or float in [-1, 1], [count, height, width, channels] or without the last axis; `labels`,
    integers [count], may be missing. `arr_0` and `arr_1` are read for them, as published sets have it.

    Raises:
      EvaluationInputError: it is no .npz file, is damaged, holds objects or claims more than it has, or
        has no images.
    """

    def __init__(self, path: pathlib.Path):
        self.name = str(path)
        self._path = path
        with _told(path), zipfile.ZipFile(_archive(path)) as archive:
            names = {name.removesuffix(".npy"): name for name in archive.namelist()}
            key = next((key for key in _IMAGES if key in names), None)
            if key is None:
                raise EvaluationInputError(
                    f"{path} has no array `images`; it has: {', '.join(names) or 'nothing'}. Expected "
                    "`images`, uint8 [count, height, width, channels], and `labels`, integers [count]."
                )
            self._member = names[key]
            found, self._dtype, self._offset, by_column = _header(path, archive, self._member)
            if by_column:
                raise EvaluationInputError(
                    f"{path}: `{key}` is stored column by column, which cannot be read image by image. Save "
                    "numpy.ascontiguousarray(images)."
                )
            full = (*found, 1) if len(found) == 3 else found
            image_set.check_shape(self.name, full)
            image_set.check_dtype(self.name, self._dtype)
            self._count, self.shape = full[0], (full[1], full[2], full[3])
            self.labels = self._read_labels(archive, names.get(_LABELS[_IMAGES.index(key)]))
        self.labelled = self.labels is not None and bool((self.labels >= 0).all())
        self._stream: io.BufferedIOBase | None = None
        self._next = 0

    def __len__(self) -> int:
        return self._count

    def read(self, start: int, stop: int) -> Batch:
        """Images start ... stop - 1."""
        stop = min(stop, self._count)
        labels = np.full(stop - start, image_set.NO_LABEL)
        if self.labels is not None:
            labels = self.labels[start:stop]
        with _told(self._path):
            raw = self._bytes(start, stop)
        images = np.frombuffer(raw, self._dtype).reshape(-1, *self.shape)
        return Batch(image_set.to_bytes(self.name, images, start), labels)

    def fingerprint(self) -> str:
        """A digest of the content, which reads and checks all of it."""
        return image_set.digest(self)

    def _bytes(self, start: int, stop: int) -> bytes:
        """Reads on where the last piece ended: what is compressed has no other order."""
        each = self._dtype.itemsize * int(np.prod(self.shape))
        if self._stream is None or start < self._next:
            self._stream = zipfile.ZipFile(self._path).open(self._member)
            _skip(self._stream, self._offset)
            self._next = 0
        _skip(self._stream, (start - self._next) * each)
        raw = self._stream.read((stop - start) * each)
        if len(raw) != (stop - start) * each:
            raise EOFError(f"it ends within image {start + len(raw) // each}")
        self._next = stop
        if stop == self._count:  # thousands of shards may be open otherwise
            self._stream.close()
            self._stream = None
        return raw

    def _read_labels(self, archive: zipfile.ZipFile, member: str | None) -> np.ndarray | None:
        if member is None:
            return None
        shape, dtype, offset, _ = _header(self._path, archive, member)
        image_set.check_labels(self.name, self._count, shape, dtype)
        with archive.open(member) as stream:
            _skip(stream, offset)
            return np.frombuffer(stream.read(), dtype).astype(np.int64)


def read(path: pathlib.Path, names: Sequence[str], expected: str) -> dict[str, np.ndarray]:
    """Whole arrays of these names; the first must be there, and `expected` says what it is.

    Raises:
      EvaluationInputError: it is no .npz file, is damaged, holds objects or claims more than it has, or
        lacks the first of `names`.
    """
    with _told(path), zipfile.ZipFile(_archive(path)) as archive:
        there = {name.removesuffix(".npy"): name for name in archive.namelist()}
        for name in names:
            if name in there:
                _header(path, archive, there[name])
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names if name in there}
    if names[0] not in arrays:
        raise EvaluationInputError(
            f"{path} has no array `{names[0]}`; it has: {', '.join(there) or 'nothing'}. Expected {expected}."
        )
    return arrays


@contextlib.contextmanager
def _told(path: pathlib.Path) -> Iterator[None]:
    """Turns what a damaged file raises into one message."""
    try:
        yield
    except EvaluationInputError:
        raise
    except MemoryError as error:
        raise EvaluationInputError(f"{path} does not fit into memory ({error}).") from error
    except _DAMAGED as error:
        raise EvaluationInputError(
            f"{path} cannot be read as an .npz file ({error}). Perhaps it was cut off while being "
            "written: make it again."
        ) from error


def _archive(path: pathlib.Path) -> pathlib.Path:
    if not zipfile.is_zipfile(path):
        raise EvaluationInputError(f"{path} cannot be read as an .npz file: it is {_what(path)}.")
    return path


def _skip(stream: io.BufferedIOBase, count: int) -> None:
    while count:
        skipped = len(stream.read(min(count, 2**20)))
        if not skipped:
            raise EOFError("it ends too early")
        count -= skipped


def _header(
    path: pathlib.Path, archive: zipfile.ZipFile, member: str
) -> tuple[tuple[int, ...], np.dtype, int, bool]:
    """Shape, type, length of the header of an array, whether it is by column; it claims what is there.

    Raises:
      EvaluationInputError: it holds objects, or claims more.
    """
    info, name = archive.getinfo(member), member.removesuffix(".npy")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{member} is of the unknown version {version}")
        shape, fortran, dtype = _HEADERS[version](file)
        offset = file.tell()
    if dtype.hasobject:
        raise EvaluationInputError(
            f"{path}: `{name}` holds Python objects ({dtype}), which are pickled and not read. Save arrays "
            "of numbers, of one shape each."
        )
    claims, has = dtype.itemsize * math.prod(shape), info.file_size - offset
    if claims != has or info.file_size > _MOST_INFLATED * (info.compress_size + 64):
        raise EvaluationInputError(
            f"{path}: the header of `{name}` claims {dtype} {list(shape)}, which are {claims:,} bytes, but "
            f"the file holds {min(has, info.compress_size):,}. It is damaged: make it again."
        )
    return shape, dtype, offset, fortran and len(shape) > 1


def _what(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        beginning = file.read(8)
    if not beginning:
        return "empty"
    for signature, what in _BEGINNINGS.items():
        if beginning.startswith(signature):
            return what
    return "another kind of file: expected an .npz file or a folder of images"
