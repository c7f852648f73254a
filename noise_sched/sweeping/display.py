"""One display of a sweep's progress, whatever trains it: read from the cells' own files."""

import pathlib
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from noise_sched.sweeping import record
from noise_sched.sweeping.cells import Cell
from noise_sched.sweeping.record import Status

_EVERY = {True: 1.0, False: 20.0}  # seconds, on a terminal and in a log
_JUDGING = 0.15  # what judging a cell takes, as a share of training it


class Display:
    """On a terminal a block that is drawn again and again; in a log a line now and then.

    The time that is left assumes that cells go on as fast as they did since this process began.
    """

    def __init__(self, sweep: pathlib.Path, cells: Sequence[Cell], file: Any = None):
        self._sweep, self._cells = sweep, cells
        self._file = sys.stdout if file is None else file
        self._live = self._file.isatty()
        self._began, self._shown = time.monotonic(), 0.0
        self._before = self._work(self._statuses())
        self._lines = 0

    def poll(self) -> None:
        """Shows where things stand, if it is time to."""
        if time.monotonic() - self._shown > _EVERY[self._live]:
            self.show()

    def show(self) -> None:
        """Shows where things stand."""
        self._shown = time.monotonic()
        statuses = self._statuses()
        lines = [self._summary(statuses)]
        if self._live:
            lines += self._running(statuses)
            self._file.write(f"\x1b[{self._lines}F\x1b[J" if self._lines else "")
            self._lines = len(lines)
        self._file.write("".join(line + "\n" for line in lines))
        self._file.flush()

    def say(self, text: str) -> None:
        """Prints something that stays."""
        if self._live and self._lines:
            self._file.write(f"\x1b[{self._lines}F\x1b[J")
            self._lines = 0
        print(text, file=self._file, flush=True)

    def _statuses(self) -> list[Status]:
        return [record.status(self._sweep, cell) for cell in self._cells]

    def _summary(self, statuses: Sequence[Status]) -> str:
        count = {state: sum(s.state == state for s in statuses) for state in record.STATES}
        parts = [f"{count['done']} of {len(statuses)} cells done"]
        for state in ("running", "trained", "stopped", "failed"):
            if count[state]:
                parts.append(f"{count[state]} {state}")
        losses = [s.loss for s in statuses if s.state == "running" and s.loss is not None]
        if losses:
            steps = [s.step for s in statuses if s.state == "running"]
            most = max(s.steps for s in statuses)
            parts.append(
                f"step {min(steps)} of {most}, loss {min(losses):.4f} to {max(losses):.4f}"
            )
        return f"{', '.join(parts)}{self._left(statuses)}"

    def _left(self, statuses: Sequence[Status]) -> str:
        work = self._work(statuses)
        done, seconds = work - self._before, time.monotonic() - self._began
        if done <= 0 or work >= len(statuses):
            return ""
        return f", about {_duration(seconds * (len(statuses) - work) / done)} left"

    def _work(self, statuses: Sequence[Status]) -> float:
        return sum(
            1.0 if s.state in ("done", "stopped") else (1 - _JUDGING) * s.step / max(s.steps, 1)
            for s in statuses
        )

    def _running(self, statuses: Sequence[Status]) -> list[str]:
        """A line for each cell that is running, as many as the terminal has room for."""
        size = shutil.get_terminal_size()
        pairs = zip(self._cells, statuses, strict=True)
        lines = [_line(cell, status) for cell, status in pairs if status.state == "running"]
        room = max(size.lines - 4, 1)
        if len(lines) > room:
            lines = [*lines[: room - 1], f"  and {len(lines) - room + 1} more"]
        return [line[: size.columns - 1] for line in lines]


def table(sweep: pathlib.Path, cells: Sequence[Cell]) -> str:
    """Every cell with its state, step and loss."""
    return "\n".join(_line(cell, record.status(sweep, cell)) for cell in cells)


def _line(cell: Cell, status: Status) -> str:
    loss = "" if status.loss is None else f"loss {status.loss:.4f}"
    why = f"  {status.message}" if status.message else ""
    return f"  {status.state:8} {status.step:>7}/{status.steps:<7} {loss:12} {cell.name}{why}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
