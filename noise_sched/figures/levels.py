"""What a model learns at which noise level: loss, explained variance, training draws and sampling steps."""

import pathlib
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from noise_sched.figures import curves, palette


class Curve(NamedTuple):
    """One line of the two upper panels.

    Attributes:
      name: in the legend.
      logsnr, loss, explained: arrays of one length.
    """

    name: str
    logsnr: np.ndarray
    loss: np.ndarray
    explained: np.ndarray


def draw(
    path: pathlib.Path,
    found: list[Curve],
    density: tuple[np.ndarray, np.ndarray],
    steps: Any,
    title: str = "",
) -> None:
    """Writes it as PNG, noise growing to the right.

    Args:
      path: of the picture.
      found: the lines.
      density: (logSNR, how often training draws it), `curves.training_density`.
      steps: the levels of a sampling path.
      title: above it.
    """
    figure = Figure(figsize=(8, 9), layout="constrained")
    FigureCanvasAgg(figure)
    loss, explained, drawn, visited = figure.subplots(
        4, 1, sharex=True, height_ratios=(3, 3, 2, 0.8)
    )
    if title:
        figure.suptitle(title)
    for number, curve in enumerate(found):
        style = dict(**palette.points(number), markersize=3, label=curve.name)
        loss.plot(curve.logsnr, curve.loss, **style)
        explained.plot(curve.logsnr, np.clip(curve.explained, 0, 1), **style)
    loss.set(ylabel="weighted loss", yscale="log")
    loss.legend()
    explained.set(ylabel="share of the images'\nvariance explained", ylim=(0, 1.02))
    place, height = density
    inside = np.isfinite(place) & np.isfinite(height)
    drawn.fill_between(place[inside], height[inside], alpha=0.5)
    drawn.set(ylabel="density of\ntraining draws", ylim=(0, None))
    limit = float(np.max(np.abs(np.concatenate([curve.logsnr for curve in found])))) + 1.0
    curves.steps(visited, {"sampling\nsteps": steps}, limit=limit)
    visited.set(xlabel="logSNR of x_t, more noise to the right", xlim=(limit, -limit))
    for axes in (loss, explained, drawn):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
