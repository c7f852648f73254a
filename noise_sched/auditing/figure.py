"""The audit's picture: two schedules, what training draws, and where the sampling steps fall."""

import pathlib
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from noise_sched.auditing.report import Curve, Report


def draw(report: Report, path: str | pathlib.Path, title: str = "") -> None:
    """Writes the picture of a report as PNG."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    (gamma, logsnr), (density, steps) = figure.subplots(2, 2)
    if title:
        figure.suptitle(title)
    _curves(gamma, report, "gamma")
    _curves(logsnr, report, "logsnr")
    _density(density, report)
    _steps(steps, report)
    figure.savefig(path, dpi=110)


def _curves(axes: Any, report: Report, field: str) -> None:
    for name, curve, style in (
        ("training", report.training_curve, "-"),
        ("sampling", report.sampling_curve, "--"),
    ):
        axes.plot(*_finite(curve, field), style, label=name)
    axes.set(xlabel="t", ylabel={"gamma": r"$\gamma$", "logsnr": "logSNR"}[field])
    axes.legend()


def _finite(curve: Curve, field: str) -> tuple[np.ndarray, np.ndarray]:
    t, values = np.asarray(curve.t), np.asarray(getattr(curve, field))
    seen = np.isfinite(values)
    return t[seen], values[seen]


def _density(axes: Any, report: Report) -> None:
    found = report.density
    width = np.diff(found.edges)
    axes.stairs(np.asarray(found.share) / width, found.edges, fill=True, alpha=0.6)
    axes.set(xlabel="logSNR", ylabel="density in training")
    beyond = [
        f"{share:.1%} {side}"
        for share, side in ((found.noisier, "noisier"), (found.cleaner, "cleaner"))
        if share > 0
    ]
    if beyond:
        axes.set_title(f"beyond the picture: {', '.join(beyond)}", fontsize="medium")


def _steps(axes: Any, report: Report) -> None:
    low, high = report.density.edges[0], report.density.edges[-1]
    called = np.asarray([step.logsnr for step in report.steps[:-1]])
    axes.plot(np.clip(called, low, high), np.arange(len(called)), "o-", markersize=3)
    trained = np.clip(report.agreement.trained, low, high)
    axes.axvspan(*trained, alpha=0.15, label="trained")
    axes.invert_yaxis()
    axes.set(xlabel="logSNR (ends clipped)", ylabel="sampling step", xlim=(low - 1, high + 1))
    axes.legend()
