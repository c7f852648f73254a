"""Where the wall time of a run went, over all its starts.

    init        from the process's start to the first batch: imports, config, data, restoring
    compile     the first call of the step
    input       waiting for a batch
    step        training: the share that counts, the run's goodput
    checkpoint  waiting for a checkpoint to be taken (writing goes on beside the steps)
    evaluation  images drawn and judged, and snapshots
    lost        steps that had to be done again, after a start that was killed
    down        from the last word of one start to the beginning of the next
    other       what is left of the wall time

wall_time.jsonl in the workdir has a line with every line of metrics.jsonl: the seconds of that start so
far. No line of an earlier start is ever changed. Times are those of the first host.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import jax

from noise_sched.training.files import Folder, is_remote, write_text

WALL_FILE = "wall_time.jsonl"
KINDS = ("init", "compile", "input", "step", "checkpoint", "evaluation", "lost", "down", "other")

_IMPORTED = time.time()


class Clock:
    """Counts the seconds of one start by kind; what is counted inside another count is taken out of it."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._began = time.time()
        self._inner = 0.0

    @contextlib.contextmanager
    def __call__(self, kind: str) -> Iterator[None]:
        """Counts the time in the context as `kind`."""
        began, outer = time.perf_counter(), self._inner
        self._inner = 0.0
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self.add(kind, spent - self._inner)
            self._inner = outer + spent

    def add(self, kind: str, seconds: float) -> None:
        """Counts some seconds more."""
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds

    def so_far(self) -> dict[str, float]:
        """The seconds by kind, "other" among them: they make up the wall time since the start."""
        here = {kind: s for kind, s in self.seconds.items() if kind not in ("lost", "down")}
        rest = time.time() - self._began - sum(here.values())
        return self.seconds | {"other": max(rest, 0.0)}

    def totals(self) -> dict[str, float]:
        """The seconds of a run by kind: only `WallTime` knows of one."""
        return {}

    def write(self, step: int) -> None:
        """Writes them to a file: only `WallTime` has one."""


class WallTime(Clock):
    """The clock of a run with a workdir."""

    def __init__(self, workdir: Folder, resume_step: int):
        """Begins a start, at the beginning of this process.

        Args:
          workdir: the run's.
          resume_step: where it goes on; what earlier starts did beyond is lost.
        """
        super().__init__()
        self._began = _process_began()
        self._path = workdir / WALL_FILE
        self._writes = jax.process_index() == 0
        self._before = _read(self._path) if self._writes else []
        self._lines = [json.dumps(row) for row in self._before]
        self.start = max((row["start"] for row in self._before), default=0) + 1
        self.add("init", time.time() - self._began)
        if self._before:
            self.add("lost", _steps_after(self._before, resume_step))
            self.add("down", max(self._began - self._before[-1]["time"], 0.0))

    def write(self, step: int) -> None:
        """Adds a line: where this start stands after a step."""
        if not self._writes:
            return
        seconds = {kind: round(s, 3) for kind, s in self.so_far().items()}
        row = {"start": self.start, "step": step, "time": round(time.time(), 3), "seconds": seconds}
        self._lines.append(json.dumps(row))
        if is_remote(self._path):
            write_text(self._path, "".join(line + "\n" for line in self._lines))
            return
        # A disk that is full is told by what matters more: metrics and checkpoints.
        with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(self._lines[-1] + "\n")

    def totals(self) -> dict[str, float]:
        """The seconds of all starts by kind. Steps that were lost are counted as that alone."""
        starts = [*_last_rows(self._before), {"seconds": self.so_far()}]
        total = {kind: sum(row["seconds"].get(kind, 0.0) for row in starts) for kind in KINDS}
        total["step"] = max(total["step"] - total["lost"], 0.0)
        return total

    def text(self) -> str:
        """One line: the wall time, its number of starts, and the share of each kind."""
        totals = self.totals()
        whole = sum(totals.values()) or 1.0
        shares = [
            f"{kind} {100 * seconds / whole:.0f} %"
            for kind, seconds in sorted(totals.items(), key=lambda each: -each[1])
            if seconds > 0.005 * whole
        ]
        starts = "1 start" if self.start == 1 else f"{self.start} starts"
        return f"{whole:,.0f} s of wall time in {starts}: {', '.join(shares)}."


def read(workdir: Folder) -> list[dict[str, Any]]:
    """The lines of a workdir's wall_time.jsonl, in order; empty without."""
    return _read(workdir / WALL_FILE)


def _read(path: Folder) -> list[dict[str, Any]]:
    rows = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):  # cut off by a kill
            rows.append(json.loads(text))
    return rows


def _last_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last line of each start."""
    return list({row["start"]: row for row in rows}.values())


def _steps_after(rows: list[dict[str, Any]], step: int) -> float:
    """Seconds that the last start spent on steps after `step`, taken as equally long between two lines."""
    last = [row for row in rows if row["start"] == rows[-1]["start"]]
    spent = [row["seconds"].get("step", 0.0) for row in last]
    if last[-1]["step"] <= step:
        return 0.0
    index = next(i for i, row in enumerate(last) if row["step"] > step)
    later, later_spent = last[index]["step"], spent[index]
    earlier, earlier_spent = (last[index - 1]["step"], spent[index - 1]) if index else (0, 0.0)
    share = (step - earlier) / (later - earlier) if step > earlier else 0.0
    return spent[-1] - (earlier_spent + share * (later_spent - earlier_spent))


def _process_began() -> float:
    """When this process was started, in seconds since 1970; unknown to the system, when it got here."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])  # field 22, since the boot
        with open("/proc/uptime", encoding="ascii") as file:
            up = float(file.read().split()[0])
        return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return _IMPORTED
