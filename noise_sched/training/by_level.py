"""Figures by noise level: the metrics "levels/..." of a step, averaged over steps, as what people read.

    levels/logsnr               [bins] the place of each bin
    levels/draws, weight        [bins] the share of the batch that fell into it, counted and weighed
    levels/loss, x0_error       [bins] the sums there, weighed, divided by the batch
    levels/variance             of the images

They are means over a batch, so their means over steps are the same of many batches, and a quotient of two is
a pooled mean.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

PREFIX = "levels/"


def taken(
    means: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, list[float]] | None]:
    """(the other metrics, the figures by level); None for a grid, whose metrics are one per cell.

    The figures are lists over the bins in which there were draws: "logsnr", "draws" (the share of all),
    "loss" (the mean weighted loss there) and "explained", the share of the images' variance that the
    predicted x0 explains, 1 - E|x0 - prediction|^2 / Var(x0).
    """
    others = {name: value for name, value in means.items() if not name.startswith(PREFIX)}
    rows = {n.removeprefix(PREFIX): np.asarray(v) for n, v in means.items() if n not in others}
    if not rows or rows["draws"].ndim > 1:
        return others, None
    return others, figures(rows)


def figures(rows: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """The figures of `taken`, from the means without their prefix."""
    some = rows["weight"] > 0
    weight, loss, error = (rows[name][some] for name in ("weight", "loss", "x0_error"))
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = 1.0 - error / weight / rows["variance"]
    return {
        "logsnr": rows["logsnr"][some].tolist(),
        "draws": rows["draws"][some].tolist(),
        "loss": (loss / weight).tolist(),
        "explained": explained.tolist(),
    }


def series(levels: Mapping[str, Sequence[float]]) -> Iterator[tuple[str, float]]:
    """Tags and numbers for TensorBoard: ("levels/loss/-3.5", 0.2)."""
    for name in ("loss", "explained"):
        for place, value in zip(levels.get("logsnr", ()), levels.get(name, ()), strict=True):
            yield f"{PREFIX}{name}/{place:+.1f}", value
