"""A calibration's picture: the images' spectrum, and what is explained at which noise."""

import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from noise_sched.calibration import explained
from noise_sched.calibration.calibration import Calibration

_LEVELS = np.linspace(-12, 8, 81)
_MOST_MODES = 2**16  # of a curve; every n-th of more


def draw(found: Calibration, path: pathlib.Path, title: str = "") -> None:
    """Writes it as PNG."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    spectrum, share = figure.subplots(1, 2)
    if title:
        figure.suptitle(title)
    for each, size in ((found.anchor_spectrum, found.anchor_size), (found.spectrum, found.size)):
        spectrum.loglog(
            each.cycles, each.variance, label=f"{size} px, falls with {each.exponent:.2f}"
        )
    spectrum.set(xlabel="cycles across the image", ylabel="variance of a mode")
    spectrum.legend()

    anchor, variances = _thinned(found.anchor_variances), _thinned(found.variances)
    curves = (
        (f"{found.anchor_size} px, b = {found.anchor_scale:.3g}", anchor, found.anchor_scale, "k-"),
        (f"{found.size} px, b = {found.scale:.3g}", variances, found.scale, "C0-"),
        (f"{found.size} px, b = {found.anchor_scale:.3g}", variances, found.anchor_scale, "C1--"),
        (f"{found.size} px, b = {found.inverse_size:.3g}", variances, found.inverse_size, "C2:"),
    )
    for label, modes, scale, style in curves:
        share.plot(-_LEVELS, explained.explained_at(modes, scale, _LEVELS), style, label=label)
    share.set(
        xlabel=r"$-\log(\gamma / (1 - \gamma))$ of the schedule, more noise to the right",
        ylabel="share of the variance explained",
        ylim=(0, 1),
    )
    share.legend()
    figure.savefig(path, dpi=110)


def _thinned(variances: np.ndarray) -> np.ndarray:
    """The modes sorted, every n-th: the curve of all, for a fraction of the time."""
    ordered = np.sort(variances.ravel())
    step = -(-len(ordered) // _MOST_MODES)
    return ordered[step // 2 :: step]
