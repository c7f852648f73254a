"""Fitted sampling levels: the error of the images against the number of steps, and where the steps fall."""

import pathlib
from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from noise_sched.figures import palette


def draw(
    path: pathlib.Path,
    errors: Mapping[str, Mapping[int, float]],
    levels: Mapping[int, np.ndarray],
) -> None:
    """Writes it as PNG.

    Args:
      path: of the picture.
      errors: by the name of the levels, by the number of steps.
      levels: the fitted logSNR, noisiest first, by the number of steps.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for number, (name, row) in enumerate(errors.items()):
        left.plot(list(row), list(row.values()), label=name, **palette.points(number))
    left.set(xlabel="steps", ylabel="distance to the exact flow (rms)", yscale="log")
    left.legend()
    for row, found in enumerate(levels.values()):
        finite = found[np.isfinite(found)]
        right.plot(finite, np.full(len(finite), row), "|", markersize=14, markeredgewidth=2)
    right.set_yticks(range(len(levels)), [f"{steps} steps" for steps in levels])
    right.set(xlabel="logSNR of the fitted levels, more noise to the right")
    right.set_ylim(len(levels) - 0.5, -0.5)
    right.invert_xaxis()
    figure.savefig(path, dpi=110)
