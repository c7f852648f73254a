"""The picture of an evaluation: images beside their nearest real ones, and what a histogram tells."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from noise_sched.evaluation import tones
from noise_sched.evaluation.frechet import Statistics
from noise_sched.evaluation.images import Images
from noise_sched.evaluation.nearest import neighbours
from noise_sched.evaluation.spectrum import mean_decibels
from noise_sched.figures.images import grid
from noise_sched.judging.judge import Report

KINDS = ("pixels", "tones", "spectrum")
"""The features that it needs."""

_PAIRS, _ROWS = 24, 2
_MOST, _BINS = 10_000, 40  # rows for a histogram


def draw(
    images: Images, real: Images | Mapping[str, Statistics], report: Report, path: pathlib.Path
) -> None:
    """Writes the picture of a report, as PNG."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    top, bottom = parts
    axes = top.subplots()
    axes.set_axis_off()
    axes.imshow(_pairs(images, real, report), interpolation="nearest")
    axes.set_title(
        "images" if isinstance(real, Mapping) else "images, below each the nearest real one"
    )
    brightness, contrast, spectrum = bottom.subplots(1, 3)
    sets: dict[str, Mapping[str, Any]] = {"images": report.generated}
    if not isinstance(real, Mapping):
        sets["real"] = report.reference
    for column, axes in ((tones.BRIGHTNESS, brightness), (tones.CONTRAST, contrast)):
        values = {name: f["tones"].values[:_MOST][:, column] for name, f in sets.items()}
        edges = np.histogram_bin_edges(np.concatenate(list(values.values())), _BINS)
        for name, each in values.items():
            axes.hist(each, edges, density=True, histtype="step", label=name)
    for name, features in sets.items():
        levels = mean_decibels(features["spectrum"])
        spectrum.plot(np.arange(1, len(levels) + 1), levels, label=name)
    brightness.set(xlabel="brightness (mean of an image)", ylabel="density")
    contrast.set(xlabel="contrast (standard deviation)")
    spectrum.set(xlabel="spatial frequency (cycles per image)", ylabel="power (dB)")
    brightness.legend()
    figure.savefig(path, dpi=110)


def _pairs(images: Images, real: Any, report: Report) -> np.ndarray:
    """Images in rows, and below each row the nearest real ones."""
    count = min(len(images), _PAIRS)
    if hasattr(images, "piece"):  # a model draws whole batches
        numbers = np.arange(count)
        shown = images.read(0, count).images
    else:  # all over a set, whose classes may follow each other
        numbers = np.linspace(0, len(images) - 1, count).astype(int)
        shown = np.concatenate([images.read(int(i), int(i) + 1).images for i in numbers])
    if isinstance(real, Mapping):
        return np.asarray(grid([shown[i : i + 12] for i in range(0, len(shown), 12)]))
    first = report.generated["pixels"].part(numbers)
    reference: Any = report.reference["pixels"]
    nearest, _ = neighbours(first, reference)
    near = np.concatenate([real.read(int(i), int(i) + 1).images for i in nearest])
    columns = _PAIRS // _ROWS
    rows = []
    for start in range(0, len(shown), columns):
        rows += [shown[start : start + columns], near[start : start + columns]]
    return np.asarray(grid(rows))
