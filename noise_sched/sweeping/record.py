"""A sweep's folder: what it is made of, and where each cell stands.

sweep.json           the base config, the cells, and how they are laid out in a table
cells/NAME/          a workdir like any other: `sample`, `evaluate` and `audit` take it; and besides
  status.json          how far it is
  evaluation.json      its figures; levels.json, samples.png: what the report shows of it
  seal.json            the checksums of what makes it finished
logs/, report/
"""

import json
import pathlib
import time
import zlib
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from ml_collections import ConfigDict

from noise_sched.auditing.text import plain
from noise_sched.experiment import locks, workdir
from noise_sched.experiment.ranges import leaves
from noise_sched.sweeping import cells
from noise_sched.sweeping.cells import Cell
from noise_sched.training import files

RECORD, STATUS, EVALUATION, LEVELS, SAMPLES, SEAL = (
    "sweep.json",
    "status.json",
    "evaluation.json",
    "levels.json",
    "samples.png",
    "seal.json",
)
CELLS = "cells"

# Keys of the base that may change between two starts: no number of any cell depends on them.
_FREE = (
    "train.log_every",
    "train.checkpoint_every",
    "train.keep",
    "train.image_every",
    "train.skip_nonfinite",
    "train.stop_if_unsaved",
    "train.digests",
    "partition.mesh",
    "data.data_dir",
    "eval.weights",
    "sample.batch_size",
)

State = Literal["waiting", "running", "trained", "done", "stopped", "failed"]
STATES: tuple[State, ...] = get_args(State)


class Status(NamedTuple):
    """Where a cell stands.

    Attributes:
      state: "waiting"; "running"; "trained", but not judged; "done"; "stopped", its loss was not finite;
        "failed", it could not be judged.
      step: steps done.
      steps: of how many.
      loss: the mean of the training loss when it was last logged; None before.
      message: why it stopped.
      time: when this was written, in seconds since 1970.
    """

    state: State
    step: int = 0
    steps: int = 0
    loss: float | None = None
    message: str = ""
    time: float = 0.0


class Definition(NamedTuple):
    """What a sweep is.

    Attributes:
      spec: the file that says so, "FILE.py:VARIANT".
      base: the config that all cells start from.
      cells: the cells.
      layout: the axes that are "rows" and "columns" of its table, those "within" whose values alone cells
        can be compared, and the "figures" that matter.
    """

    spec: str
    base: ConfigDict
    cells: list[Cell]
    layout: dict[str, list[str]]


def folder_of(sweep: pathlib.Path, cell: Cell) -> pathlib.Path:
    """A cell's workdir."""
    return sweep / CELLS / cell.name


def claim(sweep: pathlib.Path, wanted: Definition) -> Definition:
    """Writes what a sweep is into a new folder, or adds new cells to a sweep that is there.

    Hold the folder meanwhile (`locks.hold`).

    Returns:
      The sweep with all its cells: those that are wanted, and any that were there before.

    Raises:
      ValueError: if the folder holds a sweep from another base, or something else; nothing is changed.
    """
    there = check(sweep, wanted)
    known = [] if there is None else cells.of_record(wanted.base, cells.as_record(there.cells))
    names = {cell.name for cell in known}
    whole = wanted._replace(cells=known + [cell for cell in wanted.cells if cell.name not in names])
    content = {
        "sweep": whole.spec,
        "layout": whole.layout,
        "base": json.loads(whole.base.to_json()),
        "cells": cells.as_record(whole.cells),
    }
    with files.writing("--workdir", sweep):
        sweep.mkdir(parents=True, exist_ok=True)
        files.write_text(sweep / RECORD, json.dumps(plain(content), indent=1) + "\n")
    return whole


def check(sweep: pathlib.Path, wanted: Definition) -> Definition | None:
    """The sweep that is in a folder, or None in a new one; raises as `claim`."""
    if not (sweep / RECORD).exists():
        if not sweep.is_dir() or any(path.name != locks.NAME for path in sweep.iterdir()):
            workdir.check_unused(sweep)
        return None
    there = load(sweep)
    differences = _differences(there.base, wanted.base)
    if differences:
        raise ValueError(
            f"--workdir={sweep} holds a sweep from another base ({there.spec} there, {wanted.spec} "
            "given):\n  "
            + "\n  ".join(differences)
            + "\nUse another folder, or give the old values to go on with this sweep."
        )
    return there


def load(sweep: pathlib.Path) -> Definition:
    """The sweep in a folder.

    Raises:
      ValueError, FileNotFoundError: if there is none, or it cannot be read.
    """
    path = sweep / RECORD
    if not path.is_file():
        raise FileNotFoundError(
            f"{sweep} is no sweep: it has no {RECORD}. Give the folder that `python -m noise_sched.sweep "
            "--workdir=...` wrote."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        base = workdir.config_of(content["base"])
        found = cells.of_record(base, content["cells"])
        return Definition(content["sweep"], base, found, content["layout"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): restore it, or start anew.") from None


def status(sweep: pathlib.Path, cell: Cell) -> Status:
    """Where a cell stands, as it was last written."""
    try:
        found = json.loads((folder_of(sweep, cell) / STATUS).read_text(encoding="utf-8"))
        return Status(**found)
    except (OSError, ValueError, TypeError):  # not there yet, or damaged: it is found out anew
        return Status("waiting", steps=cell.config.train.steps)


def write_status(sweep: pathlib.Path, cell: Cell, new: Status) -> None:
    """Writes where a cell stands."""
    content = new._replace(time=time.time())._asdict()
    files.write_text(folder_of(sweep, cell) / STATUS, json.dumps(plain(content)) + "\n")


def seal(sweep: pathlib.Path, cell: Cell) -> None:
    """Notes what the files of a finished cell are; `broken` compares them later."""
    folder = folder_of(sweep, cell)
    sums = {str(path.relative_to(folder)): _checksum(path) for path in _sealed(folder)}
    files.write_text(folder / SEAL, json.dumps(sums, indent=0) + "\n")


def broken(sweep: pathlib.Path, cell: Cell) -> str:
    """Which file of a finished cell is not what it was, in words; "" if all are."""
    folder = folder_of(sweep, cell)
    try:
        sums: Mapping[str, int] = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        for name, checksum in sums.items():
            if _checksum(folder / name) != checksum:
                return f"{name} is not what was written"
    except OSError as error:
        return f"{pathlib.Path(error.filename or SEAL).name} is missing"
    except (ValueError, AttributeError):
        return f"{SEAL} cannot be read"
    return ""


def set_aside(sweep: pathlib.Path, cell: Cell) -> pathlib.Path:
    """Renames a cell's folder, so that it can be made anew."""
    folder = folder_of(sweep, cell)
    number = 1
    while (other := folder.with_name(f"{folder.name}.damaged-{number}")).exists():
        number += 1
    return folder.rename(other)


def _sealed(folder: pathlib.Path) -> list[pathlib.Path]:
    kept: list[pathlib.Path] = [folder / "config.json", folder / EVALUATION]
    for place in (workdir.checkpoints(folder), workdir.best(folder)):
        kept += sorted(path for path in pathlib.Path(place).rglob("*") if path.is_file())
    return kept


def _checksum(path: pathlib.Path) -> int:
    found = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            found = zlib.crc32(block, found)
    return found


def _differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    first, second = (dict(leaves(config)) for config in (old, new))
    return [
        f"{key}: {first.get(key, 'absent')!r} there, {second.get(key, 'absent')!r} given"
        for key in sorted(first | second)
        if first.get(key) != second.get(key) and key not in _FREE
    ]
