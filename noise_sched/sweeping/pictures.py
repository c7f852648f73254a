"""The pictures of a sweep's report, from its results."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from noise_sched.figures.heatmaps import Curve, Entry, Panel, curves, heat_maps
from noise_sched.sweeping import table
from noise_sched.sweeping.results import Result, Sweep
from noise_sched.sweeping.table import Line, Setting, part


def figure_map(sweep: Sweep, name: str) -> Figure:
    """The heat maps of one figure, in the arrangement that the sweep's file asks for."""
    axes = table.axes_of(sweep)
    lines = table.lines(sweep, name)
    rows = _labels(sweep, axes.rows)
    columns = _labels(sweep, axes.columns)
    panels = []
    for panel in dict.fromkeys(part(line.setting, axes.panels) for line in lines):
        entries = {
            (_label(line.setting, axes.rows), _label(line.setting, axes.columns)): _entry(line)
            for line in lines
            if part(line.setting, axes.panels) == panel
        }
        title = table.words(panel)
        panels.append(
            Panel(title, rows, columns, entries, ", ".join(axes.rows), ", ".join(axes.columns))
        )
    better = sweep.better[name]
    title = f"{name}, {better} is better. Framed: the best (dotted: not told apart from it)"
    return heat_maps(
        panels,
        title,
        low_is_good=better == "lower",
        apart=bool(set(axes.within) & set(axes.columns)),
    )


def loss_curves(sweep: Sweep) -> Figure | None:
    """The training loss of each setting, the mean over its seeds."""
    return _curves(
        sweep,
        lambda result: result.losses and tuple(zip(*result.losses, strict=True)),
        "Training loss",
        x="step",
        y="loss",
    )


def level_curves(sweep: Sweep) -> Figure | None:
    """The error of the predicted x0 by noise level, the mean over a setting's seeds."""
    return _curves(
        sweep,
        lambda result: result.levels and (result.levels["logsnr"], result.levels["error"]),
        "Error of the predicted x0 by noise level, on training images",
        x="logSNR, input scale included (more noise to the right)",
        y="mean squared error",
        reverse_x=True,
    )


def _curves(sweep: Sweep, of: Any, title: str, *, x: str, y: str, **more: bool) -> Figure | None:
    axes = table.axes_of(sweep)
    apart = [*axes.columns, *axes.panels]
    panels: dict[str, list[Curve]] = {}
    for setting in dict.fromkeys(result.setting for result in sweep.results):
        found = [of(r) for r in sweep.results if r.setting == setting and of(r)]
        if not found:
            continue
        # A sweep that is running has some seeds that are not as far.
        length = min(len(ys) for _, ys in found)
        ys = np.mean([ys[:length] for _, ys in found], axis=0)
        label = table.words(part(setting, axes.rows)) or "all"
        curve = Curve(label, list(found[0][0][:length]), ys.tolist())
        panels.setdefault(table.words(part(setting, apart)), []).append(curve)
    if not panels:
        return None
    return curves(panels, title, x=x, y=y, log_y=True, **more)


def _entry(line: Line) -> Entry:
    summary = line.summary
    mark = {"best": "best", "inconclusive": "tied"}.get(summary.verdict, "")
    return Entry(summary.mean, table.value(summary).replace(" ± ", "\n±"), mark)


def _labels(sweep: Sweep, axes: Sequence[str]) -> list[str]:
    """The labels along some axes, in the order of the sweep's cells."""
    return list(dict.fromkeys(_label(result.setting, axes) for result in sweep.results))


def _label(setting: Setting, axes: Sequence[str]) -> str:
    return ", ".join(str(label) for axis, label in setting if axis in axes)


def with_samples(results: Iterable[Result]) -> list[Result]:
    """One cell of each setting that has samples: the first seed's."""
    found: dict[Setting, Result] = {}
    for result in results:
        if result.picture is not None:
            found.setdefault(result.setting, result)
    return list(found.values())
