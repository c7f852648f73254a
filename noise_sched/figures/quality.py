"""Quality against the number of network passes, as the figures of EDM's paper."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from noise_sched.figures import palette

_COLUMNS = 3


def draw(path: pathlib.Path, rows: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> None:
    """Writes a PNG with one panel per figure, in which a line is one sampler at several numbers of steps.

    Args:
      path: of the picture.
      rows: of a table: what `axes` name, "nfe", and figures.
      axes: what tells samplers apart; "steps" among them.
    """
    figures = [name for name in rows[0] if name not in (*axes, "nfe")]
    names = [axis for axis in axes if axis != "steps" and len({row[axis] for row in rows}) > 1]
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault(", ".join(str(row[name]) for name in names), []).append(row)
    height = -(-len(figures) // _COLUMNS)
    figure = Figure(
        figsize=(4 * min(_COLUMNS, len(figures)), 3.2 * height + 0.6), layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(height, min(_COLUMNS, len(figures)), squeeze=False).flat)
    for panel, name in zip(panels, figures, strict=False):
        for number, (label, line) in enumerate(lines.items()):
            line = sorted(line, key=lambda row: row["nfe"])
            passes, values = [row["nfe"] for row in line], [row[name] for row in line]
            panel.plot(passes, values, label=label, **palette.points(number))
        panel.set(title=name, xlabel="network passes for one image (NFE)", xscale="log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_locator(NullLocator())
    for panel in panels[len(figures) :]:
        panel.set_axis_off()
    if names:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", fontsize="small")
    figure.savefig(path, dpi=110)
