"""What a sweep's folder holds of each cell, for the report; also while it is running."""

import json
import pathlib
from typing import Any, NamedTuple

from noise_sched.evaluation.metric import Better
from noise_sched.sweeping import record
from noise_sched.sweeping.cells import SEED
from noise_sched.sweeping.record import State
from noise_sched.training.metrics import read_metrics


class Result(NamedTuple):
    """One cell.

    Attributes:
      name: of its folder.
      labels: its value on each axis.
      state, step, steps, message: see `record.Status`.
      losses: (step, mean training loss) of each line of its log.
      figures: by "metric/field"; empty before it is judged.
      levels: {"logsnr": [...], "error": [...]}, or None.
      picture: samples, or None.
    """

    name: str
    labels: dict[str, Any]
    state: State
    step: int
    steps: int
    message: str
    losses: list[tuple[int, float]]
    figures: dict[str, float]
    levels: dict[str, list[float]] | None
    picture: pathlib.Path | None

    @property
    def loss(self) -> float | None:
        """The last mean of the training loss."""
        return self.losses[-1][1] if self.losses else None

    @property
    def setting(self) -> tuple[tuple[str, Any], ...]:
        """Its labels but for the training seed: cells of one setting are repetitions."""
        return tuple((axis, label) for axis, label in self.labels.items() if axis != SEED)

    @property
    def seed(self) -> Any:
        """Its training seed; 0 where the sweep has no such axis."""
        return self.labels.get(SEED, 0)


class Sweep(NamedTuple):
    """A sweep, as far as it is.

    Attributes:
      name: of its folder.
      spec: the file that it was made from.
      layout: see `record.Definition`.
      results: of all its cells.
      better: which way each figure is better.
    """

    name: str
    spec: str
    layout: dict[str, list[str]]
    results: list[Result]
    better: dict[str, Better]


def read(sweep: pathlib.Path) -> Sweep:
    """Reads a sweep's folder.

    Raises:
      ValueError, FileNotFoundError: if it is none.
    """
    definition = record.load(sweep)
    results, better = [], {}
    for cell in definition.cells:
        folder = record.folder_of(sweep, cell)
        status = record.status(sweep, cell)
        judged = _json(folder / record.EVALUATION) if status.state == "done" else None
        better |= (judged or {}).get("better", {})
        picture = folder / record.SAMPLES
        results.append(
            Result(
                cell.name,
                cell.labels,
                status.state,
                status.step,
                status.steps,
                status.message,
                _losses(folder),
                {name: float(value) for name, value in (judged or {}).get("figures", {}).items()},
                _json(folder / record.LEVELS),
                picture if picture.is_file() else None,
            )
        )
    name = sweep.resolve().name
    return Sweep(name, definition.spec, definition.layout, results, better)


def _losses(folder: pathlib.Path) -> list[tuple[int, float]]:
    rows = read_metrics(folder) if folder.is_dir() else []
    return [(row["step"], float(row["loss"])) for row in rows if "loss" in row]


def _json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there yet
        return None
