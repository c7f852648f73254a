"""The report of a sweep: a table for the terminal, and a folder with a page, pictures, CSV and JSON.

report.html      everything, in one file that needs no other
FIGURE.png       the heat maps of each figure; loss.png and levels.png, curves
cells.csv        a line for each cell; settings.csv, a line for each setting and figure
report.json      both
"""

import csv
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from noise_sched.auditing.text import plain
from noise_sched.messages import did_you_mean
from noise_sched.sweeping import page, pictures, results, table
from noise_sched.sweeping.results import Sweep
from noise_sched.training import files

NAME = "report"


def write(sweep: pathlib.Path, figures: Sequence[str] = ()) -> str:
    """Writes the report of a sweep, which may still be running, into SWEEP/report.

    Args:
      sweep: its folder.
      figures: those that matter, the first one first; none are all.

    Returns:
      What to print.

    Raises:
      ValueError, FileNotFoundError: if it is no sweep, or has no such figure.
    """
    found = results.read(sweep)
    names = _names(found, figures)
    out = sweep / NAME
    out.mkdir(exist_ok=True)
    maps = {name: pictures.figure_map(found, name) for name in names}
    others = {
        "Error by noise level": pictures.level_curves(found),
        "Training loss": pictures.loss_curves(found),
    }
    drawn = {heading: picture for heading, picture in others.items() if picture is not None}
    _write_pictures(out, {**maps, **_by_file(drawn)})
    files.write_text(out / "report.html", page.make(found, maps, drawn))
    cells, settings = _cells(found), _settings(found, names)
    files.write_text(out / "cells.csv", _csv(cells))
    files.write_text(out / "settings.csv", _csv(settings))
    content = {"sweep": found.spec, "better": found.better, "cells": cells, "settings": settings}
    files.write_text(out / "report.json", json.dumps(plain(content), indent=1) + "\n")
    shown = [name for name in names if name in (figures or table.headline(found))]
    tables = [table.text(found, name) for name in shown]
    head = f"{found.name}: {table.counts(found.results)} of {len(found.results)} cells"
    tables = tables or ["No cell is judged yet."]
    return "\n\n".join([head, *tables, f"to look at: {out}/report.html"])


def _names(sweep: Sweep, wanted: Sequence[str]) -> list[str]:
    known = table.names(sweep)
    for name in wanted:
        if name not in known:
            raise ValueError(
                f"--figures: there is no figure {name!r} yet. {did_you_mean(name, known)}"
            )
    return list(wanted) or known


def _by_file(drawn: Mapping[str, Figure]) -> dict[str, Figure]:
    short = {"Error by noise level": "levels", "Training loss": "loss"}
    return {short[heading]: picture for heading, picture in drawn.items()}


def _write_pictures(out: pathlib.Path, drawn: Mapping[str, Figure]) -> None:
    for name, picture in drawn.items():
        (out / f"{name.replace('/', '_')}.png").write_bytes(page.png(picture))


def _cells(sweep: Sweep) -> list[dict[str, Any]]:
    return [
        {
            "name": result.name,
            **result.labels,
            "state": result.state,
            "step": result.step,
            "loss": result.loss,
            **result.figures,
        }
        for result in sweep.results
    ]


def _settings(sweep: Sweep, names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"figure": name, **dict(line.setting), **line.summary._asdict(), "chance": line.chance}
        for name in names
        for line in table.lines(sweep, name)
    ]


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
