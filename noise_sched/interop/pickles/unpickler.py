"""Reads a pickle as data: every name that it mentions must be in a table of inert stand-ins.

A pickle is a program: it names functions and classes and has them called. Here a name is looked up in an
explicit table and nowhere else, and what the table holds only stores its arguments. So the worst that a
hostile file can do is be refused. Besides the names there are three guards:

    opcodes     those of old instances, extension codes and buffers are refused before anything is built
    sizes       a length is compared with the bytes that are there, a memo's index with what was read,
                before either is allocated
    BUILD       stand-ins have no `__dict__` and take a state only where theirs has one
"""

import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_REFUSED = {"INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}
_REFUSED |= {"NEXT_BUFFER", "READONLY_BUFFER"}
# Codes of the NumPy scalars and arrays that settings and statistics hold.
_DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


class ForeignFileError(ValueError):
    """A file that is damaged, another than expected, or holds what this package has no counterpart for."""


class Sealed(type):
    """The type of stand-in classes: a pickle's BUILD may not set their attributes."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise ForeignFileError(
            f"sets {name!r} of a class, which no sound file does; nothing was run."
        )


class Function:
    """A stand-in for a function. Its type is no class, so NEWOBJ refuses it; BUILD is refused here."""

    __slots__ = ("_made",)

    def __init__(self, made: Callable[..., Any]):
        self._made = made

    def __call__(self, *args: Any) -> Any:
        """What the pickle's REDUCE gets."""
        return self._made(*args)

    def __setstate__(self, state: Any) -> None:
        raise ForeignFileError(
            "sets the state of a function, which no sound file does; nothing was run."
        )


File = io.BytesIO | io.BufferedReader
Table = Mapping[str, Any]  # "module.name" -> a Function or a Sealed class


class Restricted(pickle.Unpickler):
    """An unpickler that knows the names of one table."""

    def __init__(self, file: File, table: Table, persistent: Callable[[Any], Any] | None):
        super().__init__(file)
        self._table = table
        self._persistent = persistent

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The stand-in of a name; never what the name means elsewhere."""
        full = f"{module_name}.{global_name}"
        if full not in self._table:
            raise ForeignFileError(
                f"asks for {full[:200]!r}, which no file of its kind contains. It was not "
                "imported and nothing was run."
            )
        return self._table[full]

    def persistent_load(self, pid: Any) -> Any:
        """What a storage's id stands for; only torch's own streams have them."""
        if self._persistent is None:
            raise ForeignFileError("refers to objects outside the file, which no sound file does.")
        return self._persistent(pid)


def load(file: File, table: Table, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The object of the pickle that starts at the file's position, which moves behind it.

    Args:
      file: at the pickle's start.
      table: the names that the pickle may use.
      persistent: what to make of persistent ids; None refuses them.

    Raises:
      ForeignFileError: for anything but a sound pickle of these names.
    """
    start = file.tell()
    _scan(file)
    file.seek(start)
    try:
        return Restricted(file, table, persistent).load()
    except ForeignFileError:
        raise
    # What a sound pickle asks of the wrong objects; the docs of pickle promise no smaller list.
    except Exception as error:
        raise ForeignFileError(f"is damaged or no pickle of this kind ({brief(error)}).") from None


def _scan(file: File) -> None:
    """Reads the opcodes alone: lengths against the file, the memo against their number."""
    count = 0
    try:
        for opcode, arg, _ in pickletools.genops(file):
            count += 1
            if opcode.name in _REFUSED:
                raise ForeignFileError(
                    f"uses the pickle opcode {opcode.name}, which no sound file does; nothing was run."
                )
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(arg or 0) <= count:
                raise ForeignFileError(f"is damaged (entry {arg} of a memo of at most {count}).")
    except ForeignFileError:
        raise
    except Exception as error:  # genops raises many types for text in the wrong place
        raise ForeignFileError(f"is truncated or no pickle ({brief(error)}).") from None


def brief(error: Exception) -> str:
    """One line of an error; its text may come from the file, so only its plain characters."""
    text = ascii(" ".join(str(error).split()))[1:-1]
    return f"{type(error).__name__}: {text[:150]}" if text else type(error).__name__


class EasyDict(dict, metaclass=Sealed):
    """dnnlib's dict with attribute access; here only the dict."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        if state:
            raise ForeignFileError("has a dict with attributes, which no sound file has.")


class Dtype(metaclass=Sealed):
    """A NumPy dtype of plain numbers."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str) or code not in _DTYPES:
            raise ForeignFileError(
                f"has a NumPy array of type {str(code)[:20]!r}: not plain numbers."
            )
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        """(version, byte order, ...)."""
        if not (isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "=")):
            raise ForeignFileError("has a NumPy dtype with fields, which no sound file has.")
        self.dtype = self.dtype.newbyteorder(state[1])


class Array(metaclass=Sealed):
    """A NumPy array; `value` holds it once its state is read."""

    __slots__ = ("value",)

    def __init__(self, *_: Any):
        self.value = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        """(version, shape, dtype, column-major?, bytes)."""
        _, shape, dtype, column_major, raw = state
        if not isinstance(raw, bytes):
            raise ForeignFileError("has a NumPy array that is not bytes: damaged.")
        order = "F" if column_major is True else "C"
        self.value = np.frombuffer(raw, _dtype(dtype)).reshape(shape, order=order)


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
    """A NumPy array, as protocol 5 writes it."""
    made = Array()
    raw = bytes(raw) if isinstance(raw, bytearray) else raw  # bytes(n) would be n zeros
    made.__setstate__((1, shape, dtype, order == "F", raw))
    return made


def _dtype(made: Any) -> np.dtype:
    if not isinstance(made, Dtype):
        raise ForeignFileError("has a NumPy array without a dtype: damaged.")
    return made.dtype


def _scalar(dtype: Any, raw: Any) -> Any:
    """A NumPy scalar as Python's own number."""
    if not isinstance(raw, bytes) or len(raw) != _dtype(dtype).itemsize:
        raise ForeignFileError("has a NumPy number of another length than its type: damaged.")
    return np.frombuffer(raw, _dtype(dtype))[0].item()


def _latin1(text: Any, encoding: Any) -> bytes:
    """Bytes, as protocol 2 writes them."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ForeignFileError("has bytes in an unknown encoding: damaged.")
    return text.encode("latin1")


class OrderedDict(dict, metaclass=Sealed):
    """collections.OrderedDict; here only the dict."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Drops the attributes: torch's state dicts have the modules' versions there."""


def _set(items: Any = ()) -> set:
    if not isinstance(items, list):
        raise ForeignFileError("has a set that is not made of a list: damaged.")
    return set(items)


class _NumpyArray(metaclass=Sealed):
    """The class numpy.ndarray, only ever an argument."""

    __slots__ = ()


_NUMPY = {
    "multiarray.scalar": Function(_scalar),
    "multiarray._reconstruct": Function(Array),
    "numeric._frombuffer": Function(_from_buffer),
}
PLAIN: Table = {
    "builtins.set": Function(_set),
    "__builtin__.set": Function(_set),  # protocol 2
    "_codecs.encode": Function(_latin1),
    "collections.OrderedDict": OrderedDict,
    "dnnlib.util.EasyDict": EasyDict,
    "numpy.dtype": Function(Dtype),
    "numpy.ndarray": _NumpyArray,
    **{f"numpy.{core}.{name}": made for core in ("core", "_core") for name, made in _NUMPY.items()},
}
"""The names of plain data: what settings are made of."""
