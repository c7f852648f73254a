"""The cells of a sweep: what a sweep file writes -> configs, each checked, with a name of its own.

A cell is written as a dict {config key: value}; a value may be a pair (label, {key: value}), which is several
keys that are one choice (`configs.sweeps.cells.named`). The keys of that dict are the sweep's axes, in order.
"""

import copy
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from noise_sched import experiment
from noise_sched.experiment import ranges
from noise_sched.experiment.ranges import ConfigError
from noise_sched.messages import did_you_mean, shown

SEED = "seed"
"""The axis over which results are averaged."""

_LONGEST = 100  # characters of a folder's name before the digest
_SHOWN = 10  # mistakes in one message


@dataclasses.dataclass(frozen=True)
class Cell:
    """One config of a sweep.

    Attributes:
      name: of its folder: its labels, and a digest of what it changes. It does not depend on other cells.
      labels: its value on each axis, for tables.
      overrides: every config key that it changes.
      config: the base with these.
    """

    name: str
    labels: dict[str, Any]
    overrides: dict[str, Any]
    config: ConfigDict


def make(base: ConfigDict, written: Iterable[Mapping[str, Any]]) -> list[Cell]:
    """The cells that a sweep file wrote.

    Raises:
      ConfigError: an override that names no config key, a value that is out of range or does not go with
        the others, two cells that are the same, no cell at all. All mistakes are named in one message.
    """
    found = [_cell(base, dict(each)) for each in written]
    if not found:
        raise ConfigError("the sweep has no cells: its sweep() yields nothing.")
    _check_names(found)
    _check_configs(found)
    return found


def of_record(base: ConfigDict, record: Sequence[Mapping[str, Any]]) -> list[Cell]:
    """The cells that `as_record` described; they were checked when it was written."""
    return [
        Cell(
            each["name"],
            dict(each["labels"]),
            dict(each["overrides"]),
            _with(base, {key: _tuple(value) for key, value in each["overrides"].items()}),
        )
        for each in record
    ]


def as_record(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The cells as JSON has them, without their configs."""
    return [
        {"name": cell.name, "labels": cell.labels, "overrides": cell.overrides} for cell in cells
    ]


def _cell(base: ConfigDict, written: dict[str, Any]) -> Cell:
    labels: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for axis, value in written.items():
        named = isinstance(value, tuple) and hasattr(value, "overrides")
        labels[axis] = _label(value.label if named else value)
        for key, each in (value.overrides if named else {axis: value}).items():
            if key in overrides:
                raise ConfigError(f"a cell of the sweep sets {key} twice: {shown(written)}.")
            overrides[key] = each
    _check_keys(base, overrides, labels)
    return Cell(_name(labels, overrides), labels, overrides, _with(base, overrides))


def _label(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) else repr(value)


def _with(base: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    config = copy.deepcopy(base)
    with config.unlocked(), config.ignore_type():
        for key, value in overrides.items():
            section, _, name = key.rpartition(".")
            part = config[section] if section else config
            # A whole number where the config has a fraction is meant as one.
            whole = type(value) is int and isinstance(part[name], float)
            part[name] = float(value) if whole else value
    return config


def _name(labels: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    text = ",".join(f"{axis}={label}" for axis, label in labels.items())
    text = re.sub(r"[^A-Za-z0-9.,=+-]+", "_", text.replace("()", "").replace(", ", ","))
    text = text.replace("_,", ",")
    content = json.dumps(overrides, sort_keys=True, default=repr)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return f"{text[:_LONGEST].rstrip('_,.=')}-{digest}"


def _check_keys(base: ConfigDict, overrides: Mapping[str, Any], labels: Mapping[str, Any]) -> None:
    known = dict(ranges.leaves(base))
    for key in overrides:
        if key not in known:
            raise ConfigError(
                f"the cell {_text(labels)}: its override {key!r} names no key of the config. "
                f"{did_you_mean(key, known)}"
            )


def _check_names(cells: Sequence[Cell]) -> None:
    first: dict[str, int] = {}
    for number, cell in enumerate(cells):
        if cell.name in first:
            raise ConfigError(
                f"cells {first[cell.name]} and {number} of the sweep are the same: {_text(cell.labels)}. "
                "Each cell has to differ from all others; leave one out."
            )
        first[cell.name] = number


def _check_configs(cells: Sequence[Cell]) -> None:
    """Builds every cell: what cannot work is named before anything is compiled."""
    wrong: dict[str, list[Cell]] = {}
    for cell in cells:
        try:
            experiment.from_config(cell.config)
        except ValueError as error:
            wrong.setdefault(str(error), []).append(cell)
    if not wrong:
        return
    lines = [f"  {_text(found[0].labels)}{_others(found)}: {e}" for e, found in wrong.items()]
    more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    count = sum(map(len, wrong.values()))
    verb = "cannot work" if count > 1 else "cannot work:"
    raise ConfigError(
        "\n".join(
            [f"{count} of {len(cells)} cells {verb}".rstrip(":") + ":", *lines[:_SHOWN], *more]
        )
    )


def _others(cells: Sequence[Cell]) -> str:
    return f" (and {len(cells) - 1} like it)" if len(cells) > 1 else ""


def _text(labels: Mapping[str, Any]) -> str:
    return ", ".join(f"{axis}={label}" for axis, label in labels.items())


def _tuple(value: Any) -> Any:
    """JSON knows no tuples, and configs no lists."""
    return tuple(value) if isinstance(value, list) else value
