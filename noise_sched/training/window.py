"""The means of the metrics over the steps since they were last written."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from noise_sched.training import by_level
from noise_sched.training.goodput import Clock
from noise_sched.training.metrics import MetricWriter, plain
from noise_sched.training.progress import Progress


class Window:
    """The means of the metrics over the finite steps since they were last written.

    Attributes:
      means: the last ones; empty before there are any.
    """

    def __init__(
        self,
        every: int,
        writer: MetricWriter | None,
        progress: Progress | None,
        start: int,
        clock: Clock | None = None,
    ):
        """Begins after step `start`, with what `writer` kept for a resume from there."""
        self._clock = Clock() if clock is None else clock
        self.means: dict[str, Any] = {}
        self._every, self._writer, self._progress = every, writer, progress
        kept = [] if writer is None else writer.window(start)
        # Another cadence than before the resume may have its last line elsewhere.
        self._rows = [row for row in kept if row["step"] > start // every * every]

    def add(self, step: int, values: dict[str, Any]) -> None:
        """Takes the metrics of a step, and writes the means where a line is due."""
        row = {name: plain(value) for name, value in values.items()}
        finite = np.asarray(row["finite"]) > 0
        self._rows.append((row if finite.any() else {"finite": row["finite"]}) | {"step": step})
        if self._progress is not None:
            losses = np.asarray(row["loss"])
            loss = float(np.mean(losses[finite] if finite.any() else losses))
            self._progress.set_postfix_str(f"step {step}, loss {loss:.4f}", refresh=False)
            self._progress.update()
        if step % self._every == 0:
            self.flush(step)

    def flush(self, step: int) -> None:
        """Writes the means of the steps since the last line."""
        finite = [row for row in self._rows if np.any(row["finite"])]
        names = [n for n in finite[-1] if n not in ("finite", "step")] if finite else []
        means = {n: _mean(n, [row for row in finite if n in row]) for n in names}
        means, levels = by_level.taken(means)
        skipped = sum(1 - np.asarray(row["finite"]) for row in self._rows)
        if np.any(skipped):
            means["skipped"] = skipped
        if means and self._writer is not None:
            self._writer.scalars(step, means, wall=self._clock.totals(), levels=levels)
            self._clock.write(step)
        self.means = means or self.means
        self._rows.clear()

    def keep(self, step: int, steps: Sequence[int]) -> None:
        """Keeps the values since the last line for a resume from a checkpoint, besides those of `steps`."""
        if self._writer is not None:
            self._writer.keep_window(step, self._rows, steps)


def _mean(name: str, rows: Sequence[dict[str, Any]]) -> Any:
    """The mean over the finite steps; in a grid of each cell, NaN of one that has none."""
    values, finite = (np.asarray([row[n] for row in rows]) for n in (name, "finite"))
    finite = finite.reshape(finite.shape + (1,) * (values.ndim - finite.ndim))  # bins of a level
    count = np.sum(finite, axis=0)
    total = np.sum(np.where(finite > 0, values, 0.0), axis=0)
    return total / np.where(count > 0, count, np.nan)
