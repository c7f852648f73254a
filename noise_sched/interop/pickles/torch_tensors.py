r"""torch's tensors as they stand in a pickle -> NumPy arrays, without torch.

A tensor is a view of a storage: (storage, offset, shape, strides), all counted in elements. A storage
pickled on its own is a whole `torch.save` file as bytes, in one of two formats:

    legacy    five pickles (magic number, protocol, system, the object, the storages' keys), then each
              storage as int64 length and raw bytes
    zip       NAME/data.pkl is the object, NAME/data/KEY each storage, never compressed

In both the object refers to its storages by persistent ids ("storage", class, key, device, length).
A whole file that `torch.save` wrote has one of these formats too.
"""

import dataclasses
import io
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

from noise_sched.interop.pickles import unpickler
from noise_sched.interop.pickles.unpickler import File, ForeignFileError, Function, Sealed, Table

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number's own pickle
ZIP_START = b"PK\x03\x04"

# torch's little-endian storages.
_DTYPES = {
    "Float": np.dtype("<f4"),
    "Double": np.dtype("<f8"),
    "Half": np.dtype("<f2"),
    "BFloat16": np.dtype(ml_dtypes.bfloat16),
    "Long": np.dtype("<i8"),
    "Int": np.dtype("<i4"),
    "Short": np.dtype("<i2"),
    "Char": np.dtype("i1"),
    "Byte": np.dtype("u1"),
    "Bool": np.dtype("?"),
}


@dataclasses.dataclass(slots=True)
class StorageType:
    """A class of storages, such as torch.HalfStorage; only ever an argument."""

    dtype: np.dtype

    def __setstate__(self, state: Any) -> None:
        raise ForeignFileError("sets the state of a storage class, which no sound file does.")


@dataclasses.dataclass(slots=True)
class Storage:
    """Numbers in a row; `raw` comes last where the file has the storages behind the objects."""

    dtype: np.dtype
    length: int
    raw: bytes = b""

    def __setstate__(self, state: Any) -> None:
        raise ForeignFileError("sets the state of a storage, which no sound file does.")


@dataclasses.dataclass(slots=True)
class Tensor:
    """A view of a storage: offset, shape and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        raise ForeignFileError("sets the state of a tensor, which no sound file does.")

    def array(self) -> np.ndarray:
        """The numbers, a read-only view.

        Raises:
          ForeignFileError: if they reach beyond the storage, or repeat it.
        """
        count = 1
        for size in self.shape:  # Python's integers do not overflow
            count *= size
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if count > self.storage.length or (count and last >= self.storage.length):
            raise ForeignFileError(
                f"has a tensor of shape {list(self.shape)} in a storage of {self.storage.length}: "
                "damaged."
            )
        flat = np.frombuffer(self.storage.raw, self.storage.dtype)
        if len(flat) != self.storage.length:
            raise ForeignFileError(
                f"has {len(flat)} of a storage's {self.storage.length}: truncated."
            )
        steps = [stride * flat.itemsize for stride in self.strides]
        try:
            view = np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps)
        except (ValueError, OverflowError) as error:  # too many axes; strides of an empty tensor
            raise ForeignFileError(
                f"has an odd tensor: damaged ({unpickler.brief(error)})."
            ) from None
        view.flags.writeable = False
        return view


def load_stream(file: File, table: Table) -> Any:
    """The object of a `torch.save` file of either format.

    Args:
      file: at its start.
      table: the names that the object may use.

    Raises:
      ForeignFileError: for a damaged file or other names.
    """
    start = file.read(len(LEGACY_START))
    file.seek(-len(start), io.SEEK_CUR)
    if start.startswith(ZIP_START):
        return _load_zip(file, table)
    if start == LEGACY_START:
        return _load_legacy(file, table)
    raise ForeignFileError("has a storage that is no torch.save stream: damaged.")


def _load_legacy(file: File, table: Table) -> Any:
    storages: dict[str, Storage] = {}
    plain: Table = {}
    magic, protocol, system = (unpickler.load(file, plain) for _ in range(3))
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise ForeignFileError(
            f"has a torch.save stream of protocol {str(protocol)[:20]}, not 1001."
        )
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ForeignFileError("was written on a big-endian machine: write it again on another.")
    made = unpickler.load(file, table, lambda pid: _persistent(pid, storages))
    keys = unpickler.load(file, plain)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ForeignFileError("has a torch.save stream without keys: damaged.")
    for key in keys:
        length = int.from_bytes(file.read(8), "little")
        storage = storages.get(key)
        if storage is None or storage.length != length:
            raise ForeignFileError("has a storage of another length than its tensor's: damaged.")
        storage.raw = _read(file, length * storage.dtype.itemsize)
    return made


def _load_zip(file: File, table: Table) -> Any:
    storages: dict[str, Storage] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            names = {name.partition("/")[2]: name for name in archive.namelist()}
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ForeignFileError("is a compressed zip file, which torch.save never writes.")
            if "data.pkl" not in names:
                raise ForeignFileError(
                    "is a zip file, but none that torch.save wrote (no data.pkl)."
                )
            if "byteorder" in names and archive.read(names["byteorder"]) != b"little":
                raise ForeignFileError(
                    "was written on a big-endian machine: write it again on another."
                )
            data = io.BytesIO(archive.read(names["data.pkl"]))
            made = unpickler.load(data, table, lambda pid: _persistent(pid, storages))
            for key, storage in storages.items():
                storage.raw = archive.read(names[f"data/{key}"])
    except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
        raise ForeignFileError(f"has a damaged zip file ({unpickler.brief(error)}).") from None
    return made


def _read(file: File, size: int) -> bytes:
    position = file.tell()
    available = file.seek(0, io.SEEK_END) - position
    file.seek(position)
    if size > available:
        raise ForeignFileError(f"has {available} bytes of a storage of {size}: truncated.")
    return file.read(size)


def _persistent(pid: Any, storages: dict[str, Storage]) -> Any:
    """("storage", class, key, device, length[, view]), or a module's class with its source."""
    match pid:
        case ("module", Sealed() as kind, *_):
            return kind
        case ("storage", StorageType(dtype), str(key), str(), int(length)) | (
            "storage",
            StorageType(dtype),
            str(key),
            str(),
            int(length),
            None,
        ) if length >= 0:
            return storages.setdefault(key, Storage(dtype, length))
    raise ForeignFileError("refers to something that is no storage, which no sound file does.")


def _load_from_bytes(raw: Any) -> Any:
    if not isinstance(raw, bytes):
        raise ForeignFileError("has a storage that is not bytes: damaged.")
    made = load_stream(io.BytesIO(raw), _STORAGES)
    if not isinstance(made, Storage):
        raise ForeignFileError("has a torch.save stream that is no storage: damaged.")
    return made


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    sizes = [offset, *shape, *strides]
    if (
        not isinstance(storage, Storage)
        or not all(type(n) is int and n >= 0 for n in sizes)
        or len(shape) != len(strides)
    ):
        raise ForeignFileError("has a tensor without a storage or with an odd shape: damaged.")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ForeignFileError("has a parameter that is no tensor: damaged.")
    return data


_STORAGES: Table = {
    f"{module}.{name}Storage": StorageType(dtype)
    for module in ("torch", "torch.cuda")
    for name, dtype in _DTYPES.items()
}
TENSORS: Table = {
    "torch._utils._rebuild_tensor_v2": Function(_tensor),
    "torch._utils._rebuild_parameter": Function(_parameter),
    "torch.storage._load_from_bytes": Function(_load_from_bytes),
    **_STORAGES,
}
"""The names of tensors and storages."""
