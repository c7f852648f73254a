"""Reports: the table that is printed, and the JSON that is kept."""

import importlib.metadata
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from noise_sched.auditing.text import plain
from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.judging.catalogue import METRICS
from noise_sched.judging.judge import Report
from noise_sched.training import files

NAME = "metrics.json"
_VERSIONS = ("noise_sched", "jax", "numpy", "pillow", "scikit-learn")


def place_of(out: str | pathlib.Path) -> pathlib.Path:
    """The file of a report: `out` itself where that is a .json file, else metrics.json in that folder."""
    out = pathlib.Path(out).expanduser()
    return out if out.suffix == ".json" else out / NAME


def check_place(path: pathlib.Path, request: Mapping[str, Any], overwrite: bool) -> None:
    """Refuses, before the work, a place where another report or something else is.

    Args:
      path: where a report is to be written.
      request: what it will be of; an earlier one of the same may be written again.
      overwrite: whether another report may be replaced.

    Raises:
      EvaluationInputError: it is a folder, or holds something else and `overwrite` is not set.
    """
    if path.parent.exists() and not path.parent.is_dir():
        raise EvaluationInputError(
            f"--out={path.parent} is a file. Give a folder, or the name of a .json file."
        )
    if path.is_dir():
        raise EvaluationInputError(f"{path} is a folder. Name a file: {path / 'report.json'}.")
    if not path.exists() or overwrite:
        return
    try:
        same = json.loads(path.read_text(encoding="utf-8"))["request"] == plain(request)
    except (ValueError, TypeError, KeyError, RecursionError):  # no JSON, or no report
        same = False
    if not same:
        raise EvaluationInputError(
            f"{path} is there and holds another report: it was left as it is. Name another place, remove it, "
            "or pass --overwrite."
        )


def as_json(report: Report, request: Mapping[str, Any]) -> str:
    """The text of a report."""
    content = {
        "request": request,
        **report.about,
        "metrics": report.results,
        "real_against_real": report.real,
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
    }
    return json.dumps(plain(content), indent=2, allow_nan=False) + "\n"


def write(path: pathlib.Path, text: str) -> None:
    """Writes a report, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, text)


def table(report: Report) -> str:
    """What people read: a line for each figure, with that of real images beside it."""
    rows = [("metric", "", "images", "real", "better")]
    for name, result in report.results.items():
        for index, (field, better) in enumerate(METRICS[name].shows.items()):
            real = report.real.get(name)
            rows.append(
                (
                    "" if index else name,
                    field.replace("_", " "),
                    figure(result, field),
                    "" if real is None else figure(real, field),
                    better,
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        f"{name:<{widths[0]}}  {field:<{widths[1]}}  {value:>{widths[2]}}  {real:>{widths[3]}}  {better}"
        for name, field, value, real, better in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def figure(result: Any, field: str) -> str:
    """A figure with four digits, and how sure it is where the metric says so: an interval or an error."""
    value = getattr(result, field)
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    if field == "distance" and hasattr(result, "low"):
        return f"{text} [{result.low:.3g}, {result.high:.3g}]"
    error = getattr(result, f"{field}_error", getattr(result, "error", None))
    return text if error is None else f"{text} ± {error:.2g}"
