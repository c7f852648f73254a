"""What a run's own record says of its schedules: where draws are spent, what is learnt, what is skipped.

Read from the rows "levels" of metrics.jsonl (`training.by_level`): nothing is drawn or trained for it.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from noise_sched.diffusion.process import NoiseLevel

KNOWN = 0.99
"""Above this share of the variance explained a level teaches little more."""
_FALLS = 0.03  # of the loss, between the second and the last third of the run
_RARE = 0.002  # of the draws: what is recorded there is mostly chance
_WIDTH = 2.0  # of a band, in logSNR


class Band(NamedTuple):
    """A range of logSNR.

    Attributes:
      low, high: its ends.
      draws: the share of training's draws.
      loss: the mean weighted loss there, in the last third of the run.
      fell: by which share it fell since the third before.
      explained: the share of the images' variance that is explained, in the last third.
      adaptive: the share of draws that `adaptive()` would move there, by the mean loss.
      steps: how many sampling steps start there.
    """

    low: float
    high: float
    draws: float
    loss: float
    fell: float
    explained: float
    adaptive: float
    steps: int


class TooFewRows(ValueError):
    """A run has recorded too little to say what it has learnt."""


def bands(rows: Sequence[Mapping[str, Any]], path: NoiseLevel) -> list[Band]:
    """The record of a run, band by band, noise first.

    Args:
      rows: of metrics.jsonl.
      path: the levels of a sampling run, [steps + 1].

    Raises:
      TooFewRows: if there are fewer than three rows with a record.
    """
    recorded = [row["levels"] for row in rows if "levels" in row]
    if len(recorded) < 3:
        raise TooFewRows(
            f"metrics.jsonl has {len(recorded)} rows with losses by noise level, and at least 3 are needed: "
            "train on, or with a smaller train.log_every. Runs of earlier versions have none."
        )
    third = len(recorded) // 3
    before, last = recorded[third : 2 * third], recorded[2 * third :]
    started = np.asarray(path.logsnr, np.float64)[:-1]
    places = np.asarray([place for row in last for place in row["logsnr"]])
    edges = np.arange(np.floor(places.min() / _WIDTH), np.ceil(places.max() / _WIDTH) + 1) * _WIDTH
    outer = np.concatenate([[-np.inf], edges[1:-1], [np.inf]])
    found = []
    for low, high, begin, end in zip(edges[:-1], edges[1:], outer[:-1], outer[1:], strict=True):
        draws, loss, explained = _mean(last, low, high)
        if draws == 0:
            continue
        _, earlier, _ = _mean(before, low, high)
        fell = 1.0 - loss / earlier if earlier else 0.0
        steps = int(np.sum((started >= begin) & (started < end)))
        found.append(Band(low, high, draws, loss, fell, explained, draws * loss, steps))
    total = sum(band.adaptive for band in found)
    return [band._replace(adaptive=band.adaptive / total) for band in found]


def as_text(found: Sequence[Band], workdir: str, config: ConfigDict) -> str:
    """The table, what is remarkable in it, and what to run next with the run's own data and steps."""
    lines = [
        "What training learnt, by logSNR (noise first; last third of the run)",
        "",
        "      logSNR   draws  adaptive()    loss   fell  explained  steps",
    ]
    for b in found:
        lines.append(
            f"  {b.low:4.0f} .. {b.high:3.0f}  {b.draws:6.1%}  {b.adaptive:10.1%}  {b.loss:6.4g}  "
            f"{b.fell:5.1%}  {b.explained:9.1%}  {b.steps:5d}"
        )
    return "\n".join(
        [*lines, "", *(f"- {each}" for each in remarks(found)), "", _next(workdir, config)]
    )


def remarks(found: Sequence[Band]) -> list[str]:
    """What is remarkable, in sentences."""
    told = []
    known = sum(b.draws for b in found if b.explained > KNOWN)
    if known > 0.05:
        told.append(
            f"{known:.0%} of the draws are at levels where {KNOWN:.0%} of the variance is explained already: "
            "a noisier schedule, or a smaller input scale, would spend them elsewhere."
        )
    falling = [b for b in found if b.fell > _FALLS and b.draws > _RARE]
    if falling:
        where = _ranges(falling)
        told.append(
            f"the loss still falls at logSNR {where}: these levels get "
            f"{sum(b.draws for b in falling):.0%} of the draws."
        )
    else:
        told.append(
            "the loss has stopped falling everywhere: more steps of the same will help little."
        )
    moved = 0.5 * sum(abs(b.adaptive - b.draws) for b in found)
    told.append(
        f"--config.train.density='adaptive()' would move about {moved:.0%} of the draws, to where the loss "
        "is large; the loss that is minimized stays the same."
    )
    often = [b for b in found if b.draws > _RARE]
    lowest = min((b.explained for b in often), default=1.0)
    skipped = [b for b in often if b.steps == 0 and KNOWN > b.explained > lowest + 0.02]
    if skipped:
        told.append(
            f"sampling starts no step at logSNR {_ranges(skipped)}, where the image takes shape."
        )
    return told


def _ranges(some: Sequence[Band]) -> str:
    """Their ends, neighbours as one range."""
    merged: list[list[float]] = []
    for band in some:
        if merged and merged[-1][1] == band.low:
            merged[-1][1] = band.high
        else:
            merged.append([band.low, band.high])
    return ", ".join(f"{low:.0f} .. {high:.0f}" for low, high in merged)


def _next(workdir: str, config: ConfigDict) -> str:
    size = config.data.image_size
    return (
        "Next: levels for sampling, fitted to this model:\n"
        f"  python -m noise_sched.fit_steps --workdir={workdir} --steps={min(config.sample.steps, 10)}\n"
        "and an input scale, from the images alone, given a size at which a good b is known (here "
        f"{size // 2} px):\n"
        f"  python -m noise_sched.calibrate --data={shlex.quote(config.data.name)} --size={size} "
        f"--anchor_size={size // 2}"
    )


def _mean(rows: Sequence[Mapping[str, Any]], low: float, high: float) -> tuple[float, float, float]:
    """(share of draws, mean loss, mean explained) of a band."""
    sums = np.zeros(3)
    for row in rows:
        place, draws, loss, explained = (
            np.asarray(row[name], float) for name in ("logsnr", "draws", "loss", "explained")
        )
        inside = (place >= low) & (place < high)
        draws = np.where(inside, draws, 0.0)
        sums += [draws.sum(), np.sum(draws * loss), np.sum(draws * explained)]
    draws = sums[0]
    if draws == 0:
        return 0.0, 0.0, 0.0
    return float(draws / len(rows)), float(sums[1] / draws), float(sums[2] / draws)
