r"""Figures of noise schedules: what the papers draw, for any of our objects.

    (axes,) = curves.panels(1)
    curves.gamma(axes, {"cosine": ns.cosine(), "sigmoid": ns.sigmoid()})
    axes.figure.savefig("gamma.png")

    gamma     how much signal is left            gamma(t)
    logsnr    the same, on the scale that counts logsnr(t), of any process
    noised    images at growing noise            x_t, one row per image and process
    density   where training looks               density of logSNR, or EDM's p(sigma)
    steps     where sampling looks               the levels of a path

In all of them noise grows to the right. Each function draws into the matplotlib axes that it is given and
returns them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from noise_sched.diffusion.process import NoiseLevel, Process, diffuse, vp
from noise_sched.diffusion.schedules import Schedule
from noise_sched.figures import palette

Axes: TypeAlias = Any  # matplotlib.axes.Axes, which its own stubs know half of

_TIMES = 2001  # points of a curve
_UNSCALED = vp()
_TALLEST = 20.0  # |logSNR| up to which axes reach where a schedule goes on to infinity


def panels(columns: int, rows: int = 1, *, width: float = 4.5, height: float = 3.4) -> list[Axes]:
    """New axes beside and below each other, row by row.

    Args:
      columns: how many beside each other.
      rows: how many below each other.
      width: of each, in inches.
      height: of each, in inches.
    """
    import matplotlib.pyplot as plt  # it chooses a window system when it is imported

    size = (columns * width, rows * height)
    _, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    return list(axes.flat)


def gamma(axes: Axes, schedules: Mapping[str, Schedule]) -> Axes:
    """How much signal is left, one line per schedule (as in Chen 2023, arXiv 2301.10972)."""
    t = _times()
    for number, (name, schedule) in enumerate(schedules.items()):
        axes.plot(t, schedule.gamma(t), label=name, **palette.crossing(number))
    axes.set(xlabel="t", ylabel="gamma(t)", xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize="small")
    return axes


def logsnr(
    axes: Axes,
    schedules: Mapping[str, Schedule],
    process: Process = _UNSCALED,
    limit: float = _TALLEST,
) -> Axes:
    """The logSNR of x_t, one line per schedule; infinite ends leave the picture.

    Args:
      axes: to draw into.
      schedules: by the name in the legend.
      process: moves the logSNR where it scales the data (Chen 2023's b).
      limit: the axis runs from -limit to limit.
    """
    t = _times()
    for number, (name, schedule) in enumerate(schedules.items()):
        values = np.asarray(process.level(schedule.logsnr(t)).logsnr)
        # A line to infinity is not drawn at all, one that leaves the picture is.
        axes.plot(
            t, np.clip(values, -10 * limit, 10 * limit), label=name, **palette.crossing(number)
        )
    axes.set(xlabel="t", ylabel="logSNR", xlim=(0, 1), ylim=(-limit, limit))
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.legend(fontsize="small")
    return axes


def density(
    axes: Axes,
    schedules: Mapping[str, Schedule],
    process: Process = _UNSCALED,
    *,
    per: str = "logsnr",
    limit: float = _TALLEST,
) -> Axes:
    """How often training meets each noise level, with t uniform: dt / d logSNR.

    Args:
      axes: to draw into.
      schedules: by the name in the legend.
      process: moves the logSNR where it scales the data.
      per: "logsnr" for the density of logSNR; "sigma" for that of ln(sigma / alpha) over a
        logarithmic axis of sigma / alpha, which is how EDM draws p(sigma) (arXiv 2206.00364).
      limit: levels with |logSNR| up to this are drawn.

    Raises:
      ValueError: another `per`.
    """
    _check_per(per)
    for number, (name, schedule) in enumerate(schedules.items()):
        level, height = training_density(schedule, process)
        inside = np.isfinite(height) & (np.abs(level) <= limit)
        level, height = level[inside], height[inside]
        if per == "sigma":
            level, height = np.exp(-0.5 * level), 2.0 * height
        axes.plot(level, height, label=name, **palette.crossing(number))
    if per == "sigma":
        axes.set(xlabel="sigma / alpha", ylabel="density of ln(sigma / alpha)", xscale="log")
    else:
        axes.set(xlabel="logSNR", ylabel="density in training", xlim=(limit, -limit))
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    return axes


def training_density(
    schedule: Schedule, process: Process = _UNSCALED
) -> tuple[Float[np.ndarray, "times"], Float[np.ndarray, "times"]]:
    """(logSNR, its density in training) along t inside (0, 1), with t uniform.

    The density is 1 / |d logsnr / dt|: infinite where a schedule stands still.
    """
    t = _times()[1:-1]
    values, slope = jax.jvp(
        lambda t: process.level(schedule.logsnr(t)).logsnr, (t,), (jnp.ones_like(t),)
    )
    with np.errstate(divide="ignore"):
        return np.asarray(values), 1.0 / np.abs(np.asarray(slope))


def steps(
    axes: Axes, paths: Mapping[str, NoiseLevel], *, per: str = "logsnr", limit: float = _TALLEST
) -> Axes:
    """Where the steps of sampling paths fall, one row of marks per path, noise at the right.

    Levels beyond `limit`, zero SNR and clean data included, are arrows at the edge.

    Args:
      axes: to draw into.
      paths: levels with fields of shape [steps + 1], by the name at the left.
      per: "logsnr", or "sigma" for a logarithmic axis of sigma / alpha.
      limit: largest |logSNR| drawn in its place.

    Raises:
      ValueError: another `per`.
    """
    _check_per(per)
    place = (lambda logsnr: np.exp(-0.5 * logsnr)) if per == "sigma" else (lambda logsnr: logsnr)
    for row, levels in enumerate(paths.values()):
        values = np.asarray(levels.logsnr)
        inside = values[np.abs(values) <= limit]
        axes.plot(
            place(inside), np.full(len(inside), row), "|", markersize=12, color=palette.colour(row)
        )
        for beyond, edge, mark in ((values < -limit, -limit, ">"), (values > limit, limit, "<")):
            if beyond.any():
                axes.plot(
                    place(np.asarray([edge])), [row], mark, color=palette.colour(row), clip_on=False
                )
    axes.set_yticks(range(len(paths)), list(paths))
    axes.set_ylim(len(paths) - 0.5, -0.5)
    if per == "sigma":
        axes.set(xscale="log", xlabel="sigma / alpha", xlim=(place(limit), place(-limit)))
    else:
        axes.set(xlabel="logSNR", xlim=(limit, -limit))
    return axes


def noised(
    axes: Axes,
    rows: Mapping[str, tuple[Float[np.ndarray, "height width channels"], Process]],
    schedule: Schedule,
    times: Sequence[float],
    key: Key[Array, ""],
) -> Axes:
    """Images at growing noise, one row each: x_t / sqrt(alpha^2 + sigma^2), cut to [-1, 1].

    The same image at several sizes, or with several input scales b, is Chen 2023's argument (arXiv
    2301.10972, section 2): noise of one gamma hides a small image and leaves a large one legible.

    Args:
      axes: to draw into.
      rows: (image in [-1, 1], square or not, 1 or 3 channels; process), by the name at the left.
      schedule: t -> logSNR.
      times: t of each column.
      key: of the noise.
    """
    t = jnp.asarray(times, float)
    side = max(max(image.shape[:2]) for image, _ in rows.values())
    whole = np.ones((len(rows) * side, len(times) * side, 3))
    for row, (image, process) in enumerate(rows.values()):
        level = process.level(schedule.logsnr(t))
        x0 = jnp.broadcast_to(jnp.asarray(image, t.dtype), (len(times), *image.shape))
        eps = jax.random.normal(jax.random.fold_in(key, row), x0.shape, t.dtype)
        norm = jnp.hypot(level.alpha, level.sigma).reshape(-1, 1, 1, 1)
        shown = np.clip(np.asarray(diffuse(level, x0, eps) / norm), -1, 1) / 2 + 0.5
        for column, picture in enumerate(shown):
            height, width = picture.shape[:2]
            factor = max(1, math.floor(side / max(height, width)))
            picture = np.repeat(np.repeat(picture, factor, axis=0), factor, axis=1)
            top, left = row * side, column * side
            whole[top : top + height * factor, left : left + width * factor] = picture
    axes.imshow(whole, interpolation="nearest")
    centres = (np.arange(max(len(rows), len(times))) + 0.5) * side - 0.5
    axes.set_xticks(centres[: len(times)], [f"{each:g}" for each in times])
    axes.set_yticks(centres[: len(rows)], list(rows))
    axes.tick_params(length=0)
    axes.set_xlabel("t")
    return axes


def _times() -> Float[Array, "times"]:
    return jnp.linspace(0.0, 1.0, _TIMES)


def _check_per(per: str) -> None:
    if per not in ("logsnr", "sigma"):
        raise ValueError(f"per must be 'logsnr' or 'sigma', got {per!r}.")
