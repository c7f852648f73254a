"""Tables of a grid as pictures: heat maps, curves of many settings, and samples."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from noise_sched.figures import palette

_LETTERS = 11  # of a title, to the inch


class Entry(NamedTuple):
    """One place of a heat map.

    Attributes:
      value: decides its colour.
      text: written in it.
      mark: "best" is framed, "tied" is framed by a broken line.
    """

    value: float
    text: str
    mark: str = ""


class Panel(NamedTuple):
    """One heat map: entries by row and column; places without one are left empty."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    entries: Mapping[tuple[str, str], Entry]
    row_axis: str = ""
    column_axis: str = ""


def heat_maps(panels: Sequence[Panel], title: str, *, low_is_good: bool, apart: bool) -> Figure:
    """Heat maps beside each other; the brighter, the better.

    Args:
      panels: the heat maps.
      title: above all of them.
      low_is_good: whether small values are bright.
      apart: whether colours are scaled in each column by itself, since columns cannot be compared.
    """
    widths = [_label_width(panel) + 1.15 * len(panel.columns) for panel in panels]
    height = 1.3 + 0.42 * max(len(panel.rows) for panel in panels)
    width = max(sum(widths), 4.5)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(textwrap.fill(title, int(_LETTERS * width)), fontsize=11)
    all_axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)
    for axes, panel in zip(all_axes.flat, panels, strict=True):
        _heat_map(axes, panel, low_is_good, apart)
    return figure


def _label_width(panel: Panel) -> float:
    """Inches that the names of the rows take, and the axis beside them."""
    return 0.6 + max(map(len, map(str, panel.rows)), default=0) / 13


def _heat_map(axes: Any, panel: Panel, low_is_good: bool, apart: bool) -> None:
    values = np.full((len(panel.rows), len(panel.columns)), np.nan)
    for (row, column), entry in panel.entries.items():
        values[panel.rows.index(row), panel.columns.index(column)] = entry.value
    goodness = _scaled(-values if low_is_good else values, apart)
    axes.imshow(goodness, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), entry in panel.entries.items():
        y, x = panel.rows.index(row), panel.columns.index(column)
        dark = not goodness[y, x] > 0.55
        axes.text(
            x,
            y,
            entry.text,
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if dark else "black",
        )
        if entry.mark:
            _frame(axes, x, y, "-" if entry.mark == "best" else ":", "white" if dark else "black")
    axes.set_title(panel.title, fontsize=9)
    axes.set_xticks(range(len(panel.columns)), panel.columns, fontsize=8)
    axes.set_yticks(range(len(panel.rows)), panel.rows, fontsize=8)
    axes.set_xlabel(panel.column_axis, fontsize=8)
    axes.set_ylabel(panel.row_axis, fontsize=8)
    axes.tick_params(length=0)


def _frame(axes: Any, x: int, y: int, style: str, colour: str) -> None:
    edge = 0.44
    xs, ys = [x - edge, x + edge, x + edge, x - edge, x - edge], [y - edge] * 2 + [y + edge] * 2
    axes.plot(xs, [*ys, y - edge], style, color=colour, linewidth=1.6, clip_on=False)


def _scaled(values: np.ndarray, apart: bool) -> np.ndarray:
    """To 0 ... 1; by rank half-way, so that one outlier does not make all others look alike."""
    parts = values.T if apart else values.reshape(1, -1)
    scaled = []
    for part in parts:
        known = np.isfinite(part)
        made = np.full(part.shape, np.nan)
        if known.any():
            least, most = part[known].min(), part[known].max()
            linear = (
                (part[known] - least) / (most - least) if most > least else np.ones(known.sum())
            )
            ranks = np.argsort(np.argsort(part[known])) / max(known.sum() - 1, 1)
            made[known] = 0.5 * linear + 0.5 * ranks
        scaled.append(made)
    whole = np.stack(scaled)
    return whole.T if apart else whole.reshape(values.shape)


class Curve(NamedTuple):
    """A line of a figure."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


def curves(
    panels: Mapping[str, Sequence[Curve]],
    title: str,
    *,
    x: str,
    y: str,
    log_y: bool = False,
    reverse_x: bool = False,
) -> Figure:
    """Lines of many settings, a panel for each part; one legend for all."""
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    labels = list(dict.fromkeys(curve.label for found in panels.values() for curve in found))
    below = 0.19 * math.ceil(len(labels) / 3)
    figure = Figure(figsize=(4.4 * columns, 3.1 * rows + 0.4 + below), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    all_axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    style = {label: palette.line(i) for i, label in enumerate(labels)}
    shown: dict[str, Any] = {}
    for axes, (name, found) in zip(all_axes, panels.items(), strict=False):
        for curve in found:
            (shown[curve.label],) = axes.plot(
                curve.x, curve.y, label=curve.label, linewidth=1.3, **style[curve.label]
            )
        axes.set_title(name, fontsize=9)
        axes.set_xlabel(x, fontsize=8)
        axes.set_ylabel(y, fontsize=8)
        axes.tick_params(labelsize=7)
        if log_y:
            axes.set_yscale("log")
        if reverse_x:
            axes.invert_xaxis()
    for axes in all_axes[len(panels) :]:
        axes.set_axis_off()
    if len(labels) > 1:
        figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=3, fontsize=7)
    return figure
