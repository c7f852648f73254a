"""A snapshot of EDM or EDM2: which network, made with which arguments, and its arrays.

A snapshot is a pickled dict, {"ema": network, "loss_fn": ..., "dataset_kwargs": ...}, EDM2's with an
"encoder". NVlabs' `persistence` pickles an object as its module's source, its class's name and its
state; the source is dropped here, the name and state are all that is kept. A torch module's state holds
its parameters, buffers and modules by name, and `persistence` adds the constructor's arguments.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from noise_sched.interop.pickles import torch_tensors, unpickler
from noise_sched.interop.pickles.torch_tensors import LEGACY_START, ZIP_START, Tensor
from noise_sched.interop.pickles.unpickler import (
    Array,
    File,
    ForeignFileError,
    Function,
    Sealed,
    Table,
)

_PLAIN = (type(None), bool, int, float, str)
_DEEPEST = 16  # modules within modules; the published networks have 4


@dataclasses.dataclass(slots=True)
class Persistent:
    """An object that `persistence` pickled: its class's name and its attributes."""

    class_name: str
    state: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        raise ForeignFileError("sets the state of an object twice, which no snapshot does.")

    def arguments(self) -> dict[str, Any]:
        """What the constructor was called with, by name, as the published training does.

        Raises:
          ForeignFileError: if that was not recorded.
        """
        args, kwargs = self.state.get("_init_args"), self.state.get("_init_kwargs")
        if args or not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
            raise ForeignFileError(
                f"has a {self.class_name[:50]!r} whose arguments were not recorded by name: damaged, or "
                "not of the published training."
            )
        return {key: plain(value) for key, value in kwargs.items()}


class Container(metaclass=Sealed):
    """A torch.nn container; the modules in it are its state."""

    __slots__ = ("state",)

    def __init__(self):
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        """The attributes of the module."""
        if not isinstance(state, dict):
            raise ForeignFileError("has a torch container without attributes: damaged.")
        self.state = state


def _persistent(meta: Any) -> Persistent:
    match meta:
        case {"type": "class", "class_name": str(name), "state": dict() | None as state}:
            return Persistent(name, dict(state or {}))
    raise ForeignFileError("has a persistent object without a class name or state: damaged.")


NAMES: Table = {
    **unpickler.PLAIN,
    **torch_tensors.TENSORS,
    "torch_utils.persistence._reconstruct_persistent_obj": Function(_persistent),
    "torch.nn.modules.container.ModuleDict": Container,
    "torch.nn.modules.container.ModuleList": Container,
    "torch.nn.modules.container.Sequential": Container,
}
"""All that a snapshot may name."""


def read(path: pathlib.Path) -> dict[str, Any]:
    """The dict of a snapshot file.

    Raises:
      ForeignFileError: if the file is none; the message names it.
      OSError: if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            made = _load(file)
    except ForeignFileError as error:
        raise ForeignFileError(f"{path}: {error}") from None
    if not isinstance(made, dict) or not isinstance(made.get("ema"), Persistent):
        raise ForeignFileError(
            f"{path}: is a pickle, but no snapshot of EDM or EDM2, which has a network under 'ema'. "
            f"It holds {_kind(made)}."
        )
    return made


def _load(file: File) -> Any:
    start = file.read(len(LEGACY_START))
    if start[:1] != b"\x80" and not start.startswith(ZIP_START):
        raise ForeignFileError(
            f"is no pickle: it starts with {start[:8]!r}. Check that the download is complete and "
            "no web page."
        )
    file.seek(0)
    if start == LEGACY_START or start.startswith(ZIP_START):
        return torch_tensors.load_stream(file, NAMES)  # written again by torch.save
    return unpickler.load(file, NAMES)


def _kind(made: Any) -> str:
    if isinstance(made, dict):
        return "a dict of " + (
            ", ".join(sorted(ascii(key)[:30] for key in list(made)[:8])) or "nothing"
        )
    return (
        f"a {made.class_name[:50]}" if isinstance(made, Persistent) else f"a {type(made).__name__}"
    )


def state_dict(module: Persistent | Container) -> dict[str, np.ndarray]:
    """Name -> array of every parameter and buffer, as torch's `state_dict` names them.

    Raises:
      ForeignFileError: if the tree of modules is none.
    """
    found: dict[str, np.ndarray] = {}
    _collect(module, "", found, set())
    return found


def _collect(module: Any, prefix: str, found: dict[str, np.ndarray], seen: set[int]) -> None:
    # Every module once: a file that refers to one again and again cannot make this long.
    if id(module) in seen or prefix.count(".") > _DEEPEST:
        raise ForeignFileError(f"has a module within itself or twice, at {prefix[:50]!r}.")
    seen.add(id(module))
    for group in ("_parameters", "_buffers"):
        for name, tensor in _entries(module, group):
            if isinstance(tensor, Tensor):
                found[prefix + name] = tensor.array()
            elif tensor is not None:
                raise ForeignFileError(
                    f"has {prefix[:50] + name[:50]!r}, which is no tensor: damaged."
                )
    for name, child in _entries(module, "_modules"):
        if isinstance(child, Persistent | Container):
            _collect(child, f"{prefix}{name}.", found, seen)
        elif child is not None:
            raise ForeignFileError(f"has {prefix[:50] + name[:50]!r}, which is no module: damaged.")


def _entries(module: Persistent | Container, group: str) -> list[tuple[str, Any]]:
    entries = module.state.get(group, {})
    if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries):
        raise ForeignFileError(f"has a module whose {group} is no dict of names: damaged.")
    return list(entries.items())


def child(module: Persistent, name: str) -> Persistent:
    """The module of that name within another.

    Raises:
      ForeignFileError: if there is none.
    """
    found = dict(_entries(module, "_modules")).get(name)
    if not isinstance(found, Persistent):
        raise ForeignFileError(f"has a {module.class_name[:50]!r} without a network {name!r}.")
    return found


def plain(value: Any) -> Any:
    """A setting as Python's own number, string or flat tuple of them.

    Raises:
      ForeignFileError: for anything else.
    """
    if isinstance(value, Array):
        value = value.value.ravel().tolist()
    if isinstance(value, list | tuple) and all(isinstance(item, _PLAIN) for item in value):
        return tuple(value)
    if isinstance(value, _PLAIN):
        return value
    raise ForeignFileError(f"has a setting that is a {type(value).__name__}: numbers are known.")
