"""What sweep files are written with: products, zips and seeds of dicts of config keys.

    product(choices("schedule", ["linear()", "cosine()"]), seeds(3))      6 cells
    zipped(choices("schedule", [...]), choices("process", [...]))         pairs

A cell is a dict from config keys to values, and its keys are the axes of the grid. Where one choice means
several keys, `named` gives it a short name, under which it stands in tables and folders:

    named("size", 16, {"data.image_size": 16, "network.patch_size": 4})
"""

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

Cell = dict[str, Any]


class Named(NamedTuple):
    """Several config keys that are one choice: what it is called, and what it changes."""

    label: str | int | float | bool
    overrides: Cell


def choices(key: str, values: Iterable[Any]) -> list[Cell]:
    """One config key with each of some values."""
    return [{key: value} for value in values]


def named(axis: str, label: str | int | float | bool, overrides: Cell) -> Cell:
    """One choice that changes several keys, called `axis=label`."""
    return {axis: Named(label, overrides)}


def seeds(count: int) -> list[Cell]:
    """Training seeds 0 .. count - 1: initial parameters, order of the images, and noise."""
    return choices("seed", range(count))


def product(*axes: Iterable[Cell]) -> list[Cell]:
    """Every combination of one cell of each axis, the last axis running fastest."""
    return [_together(parts) for parts in itertools.product(*axes)]


def zipped(*axes: Iterable[Cell]) -> list[Cell]:
    """The first cells of all axes together, then the second, and so on.

    Raises:
      ValueError: if the axes differ in length.
    """
    return [_together(parts) for parts in zip(*axes, strict=True)]


def difference(base: ConfigDict, other: ConfigDict) -> Cell:
    """The keys in which another config differs from the base, for `named`.

    Raises:
      ValueError: if one has keys that the other lacks: no overrides lead from one to the other.
    """
    old, new = _flat(base), _flat(other)
    if unlike := sorted(set(old) ^ set(new)):
        raise ValueError(f"the two configs do not have the same keys: {', '.join(unlike)}.")
    return {key: value for key, value in new.items() if old[key] != value}


def _together(parts: Iterable[Cell]) -> Cell:
    whole: Cell = {}
    for part in parts:
        if twice := sorted(set(whole) & set(part)):
            raise ValueError(f"two axes of one product or zip both set {', '.join(twice)}.")
        whole |= part
    return whole


def _flat(config: ConfigDict) -> Cell:
    flat: Cell = {}
    for key, value in config.items():
        inside = _flat(value) if isinstance(value, ConfigDict) else {"": value}
        flat |= {f"{key}.{name}".rstrip("."): each for name, each in inside.items()}
    return flat
