"""Reports: the table that is printed and the JSON that is kept."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from noise_sched.evaluation.class_agreement import ClassAgreement
from noise_sched.evaluation.image_set import EvaluationInputError


def as_json(report: Mapping[str, Any]) -> str:
    """The text of a report: metrics are dataclasses, whatever else is JSON already."""
    plain = {
        name: dataclasses.asdict(value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type)
        else value
        for name, value in report.items()
    }
    return json.dumps(plain, indent=2, allow_nan=False) + "\n"


def check_place(
    path: str | pathlib.Path, reference: str, metrics: Sequence[str], overwrite: bool
) -> None:
    """Refuses, before the work, a place where another report or something else is.

    Args:
      path: where a report is to be written.
      reference: the real images that it will be of.
      metrics: the metrics that it will hold.
      overwrite: whether another report may be replaced.

    Raises:
      EvaluationInputError: it is a folder, or holds something else and `overwrite` is not set.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise EvaluationInputError(f"{path} is a folder. Name a file: {path / 'report.json'}.")
    if not path.exists() or overwrite:
        return
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        same = set(metrics) < set(old) and old["reference"] == reference
    except (ValueError, TypeError, KeyError, RecursionError):  # no JSON, or no report
        same = False
    if not same:
        raise EvaluationInputError(_taken(path))


def _taken(path: pathlib.Path) -> str:
    return (
        f"{path} is there and holds another report: it was left as it is. Name another file, remove it, or "
        "pass --overwrite."
    )


def write(path: str | pathlib.Path, text: str, overwrite: bool = False) -> None:
    """Writes a report, whole or not at all; another report is overwritten only if that is asked for.

    Raises:
      EvaluationInputError: the file is there with other content and `overwrite` is not set.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise EvaluationInputError(f"{path} is a folder. Name a file: {path / 'report.json'}.")
    if path.exists():
        if path.read_bytes() == text.encode("utf-8"):
            return
        if not overwrite:
            raise EvaluationInputError(_taken(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def table(metric: str, result: Any) -> str:
    """A metric's result as lines of text, for people."""
    rows = _class_agreement_rows(result) if isinstance(result, ClassAgreement) else _rows(result)
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:<{width}}  {value}".rstrip() for name, value in rows]
    return "\n".join([metric, *lines])


def _rows(result: Any, prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for field in dataclasses.fields(result):
        value, name = getattr(result, field.name), prefix + field.name.replace("_", " ")
        if dataclasses.is_dataclass(value):
            rows += _rows(value, prefix=f"{name}: ")
        else:
            rows.append((name, f"{value:.4g}" if isinstance(value, float) else str(value)))
    return rows


def _class_agreement_rows(result: ClassAgreement) -> list[tuple[str, str]]:
    shares = ("-" if share is None else f"{share:.3f}" for share in result.per_class)
    return [
        (
            "agreement with the requested class",
            f"{result.agreement:.4f}  ({result.agreeing} of {result.images})",
        ),
        (
            "the classifier's accuracy on held-out real digits",
            f"{result.held_out_accuracy:.4f}  ({result.held_out_images} digits)",
        ),
        ("classes that the classifier sees", f"{result.classes_seen} of {len(result.seen)}"),
        ("class", _columns(range(len(result.seen)))),
        ("  requested", _columns(result.requested)),
        ("  seen", _columns(result.seen)),
        ("  agreement", _columns(shares)),
    ]


def _columns(values: Any) -> str:
    return " ".join(f"{value!s:>6}" for value in values)
