"""Scalars and pictures of a run: one JSON object per line of metrics.jsonl, and TensorBoard events.

However often a run is stopped, killed and started again, metrics.jsonl ends with the rows of an
undisturbed run, each once. A run that goes back to a checkpoint starts by leaving out the rows after it; and
the steps since the last row are kept with each checkpoint (metrics_window.json), so that a mean over
steps before and after a stop is one mean. TensorBoard is told what is superseded.

In a bucket (`gs://...`) an object cannot be added to: metrics.jsonl is written whole now and then, and with
each checkpoint. TensorBoard events are not written there. Pictures are files in pictures/ too.
"""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from PIL import Image

from noise_sched.training import by_level, faults, files
from noise_sched.training.files import Folder

METRICS_FILE = "metrics.jsonl"
PICTURES = "pictures"
WINDOW_FILE = "metrics_window.json"

_UPLOAD_SECONDS = 60.0  # between two writings of the whole file in a bucket


class MetricWriter:
    """Writes to `WORKDIR/metrics.jsonl` and to TensorBoard events in `WORKDIR/tensorboard`.

    Only the first process of a run writes; elsewhere every method does nothing.
    """

    def __init__(
        self,
        workdir: str | Folder,
        *,
        resume_step: int = 0,
        tensorboard: bool = True,
        go_on: bool = False,
    ):
        """Leaves out the rows after `resume_step`, and opens the files for more.

        Args:
          workdir: the run's directory; made if needed.
          resume_step: the step restored from, 0 for a fresh start.
          tensorboard: write TensorBoard events too (with tensorboardX; no TensorFlow needed).
          go_on: keep what a full disk does not take until it does, instead of raising.
        """
        self._lines: _Lines | None = None
        self._known: set[tuple[int, str]] = set()
        self._events: Any = None
        self._thread: Any = None  # writes the events
        self._workdir = workdir if isinstance(workdir, Folder) else files.folder(workdir, "workdir")
        if jax.process_index() != 0:
            return
        self._workdir.mkdir(parents=True, exist_ok=True)
        path = self._workdir / METRICS_FILE
        found = _counting(path.read_text(encoding="utf-8")) if path.exists() else []
        kept = [text for line, text in found if line["step"] <= resume_step]
        self._known = {(line["step"], name) for line, _ in found for name in line}
        self._lines = _Lines(path, kept, go_on)
        if tensorboard and files.is_remote(self._workdir):
            logging.warning(
                "no TensorBoard events are written in %s: the numbers are in %s, the pictures in pictures/",
                self._workdir,
                METRICS_FILE,
            )
        elif tensorboard:
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(
                str(self._workdir / "tensorboard"),
                purge_step=resume_step + 1 if found else None,
                flush_secs=30,
            )
            events: Any = self._events.file_writer
            self._thread = events.event_writer._worker

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    def scalars(
        self,
        step: int,
        values: Mapping[str, Any],
        *,
        wall: Mapping[str, float] | None = None,
        levels: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        """Writes named numbers of one step, each a scalar or an array of one per cell of a grid.

        JSON has those that are not finite as strings, and those of the cells as a list; TensorBoard has a
        series for each cell, "loss/3". `wall` are the run's seconds so far, by what they were spent on, for
        JSON alone. `levels` are figures by noise level (`by_level.taken`), in TensorBoard "levels/loss/-3.5".
        """
        if self._lines is None:
            return
        values = {name: plain(value) for name, value in values.items()}
        line: dict[str, Any] = {"step": int(step), **_as_json(values)}
        line["time"] = round(time.time(), 3)
        if wall:
            line["wall"] = {kind: round(seconds, 3) for kind, seconds in wall.items()}
        if levels:
            line["levels"] = _as_json({name: list(row) for name, row in levels.items()})
        self._lines.add(json.dumps(line))
        if self._can_take_events():
            for name, value in values.items():
                cells = enumerate(value) if isinstance(value, list) else ()
                series = {f"{name}/{cell}": v for cell, v in cells} or {name: value}
                for each, number in series.items():
                    self._events.add_scalar(each, number, int(step))
            for tag, number in by_level.series(levels or {}):
                self._events.add_scalar(tag, number, int(step))

    def has(self, step: int, prefix: str) -> bool:
        """Whether the file held a value of that step, its name beginning so, when it was opened."""
        return any(at == step and name.startswith(prefix) for at, name in self._known)

    def picture(self, step: int, name: str, picture: Image.Image) -> None:
        """Writes a picture to `WORKDIR/pictures/NAME_STEP.png`, and where there are events to TensorBoard."""
        if self._can_take_events():
            pixels = np.asarray(picture.convert("RGB"))
            self._events.add_image(name, pixels, int(step), dataformats="HWC")
        if self._lines is not None:
            self._write_picture(f"{name}_{step:08d}.png", picture)

    def _write_picture(self, name: str, picture: Image.Image) -> None:
        """A picture is no reason to end a training: what stops it being written is said."""
        folder = self._workdir / PICTURES
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with files.whole(folder / name) as file:
                picture.save(file, format="png")
        except OSError as error:
            logging.warning("the picture %s is not written: %s", folder / name, error)

    def _can_take_events(self) -> bool:
        """Whether TensorBoard events can be written; a thread of tensorboardX that has died takes no more."""
        if self._events is None or self._thread is None or self._thread.is_alive():
            return self._events is not None
        logging.warning(
            "TensorBoard events cannot be written any more; %s has the rows", METRICS_FILE
        )
        _abandon(self._events)
        self._events = None
        return False

    def keep_window(self, step: int, rows: Sequence[Mapping[str, Any]], steps: Sequence[int]):
        """Keeps the values of the steps since the last line, for a resume from the checkpoint of `step`.

        Call it before that checkpoint is saved.

        Args:
          step: the checkpoint's.
          rows: per step its values, and its number as "step".
          steps: of the other checkpoints there are, whose windows stay.
        """
        if self._lines is None:
            return
        self._lines.sync()
        path = self._workdir / WINDOW_FILE
        old = _windows(path)
        kept = {str(s): old[str(s)] for s in steps if old.get(str(s)) and s != step}
        if rows:
            kept[str(step)] = [_as_json(row) for row in rows]
        if kept != old:
            files.write_text(path, json.dumps(kept) + "\n")

    def window(self, step: int) -> list[dict[str, Any]]:
        """What `keep_window` kept with the checkpoint of `step`; empty if nothing, and on other hosts."""
        if self._lines is None:
            return []
        rows = _windows(self._workdir / WINDOW_FILE).get(str(step), [])
        return [{name: plain(value) for name, value in row.items()} for row in rows]

    def close(self) -> None:
        """Flushes and closes the files."""
        if self._lines is not None:
            self._lines.close()
        if self._events is not None:
            try:
                self._events.close()
            except OSError:
                _abandon(self._events)
                raise


def _abandon(events: Any) -> None:
    """Has tensorboardX let go of a file that cannot be written: it tries again as Python ends, at length."""
    writer = events.file_writer.event_writer
    if writer._worker.is_alive():
        writer._worker.stop()
    writer._closed = True


class _Lines:
    """A file of lines: added to on a disk, written whole again in a bucket."""

    def __init__(self, path: Folder, lines: Sequence[str], go_on: bool = False):
        self._path, self._lines, self._go_on = path, list(lines), go_on
        self._file: Any = None
        self._write_whole()
        if not files.is_remote(path):
            self._file = Path(path).open("a", encoding="utf-8")

    def add(self, line: str) -> None:
        if self._file is not None:
            self._file.write(line + "\n")
            try:
                self._file.flush()
            except OSError as error:
                if not self._go_on or faults.full_disk(error) is None:
                    raise
                logging.warning("%s: %s; its rows are kept until there is room", self._path, error)
            return
        self._lines.append(line)
        if time.monotonic() - self._written_at > _UPLOAD_SECONDS:
            self._write_whole()

    def sync(self) -> None:
        """Has the lines outlive this process and this machine."""
        if self._file is None:
            self._write_whole()
        elif not self._file.closed:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self.sync()
        if self._file is not None:
            self._file.close()

    def _write_whole(self) -> None:
        files.write_text(self._path, "".join(line + "\n" for line in self._lines))
        self._written_at = time.monotonic()


def read_metrics(workdir: str | Folder) -> list[dict[str, Any]]:
    """The lines of `WORKDIR/metrics.jsonl`, in order; empty if there is no such file.

    A line cut off by a kill is left out, and in files of earlier versions what their markers
    `{"resumed_at": k}` say is superseded.
    """
    folder = workdir if isinstance(workdir, Folder) else files.folder(workdir, "workdir")
    path = folder / METRICS_FILE
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line, _ in _counting(text)]


def _counting(text: str) -> list[tuple[dict[str, Any], str]]:
    """The lines that count, read and as they stand."""
    lines: list[tuple[dict[str, Any], str]] = []
    for each in text.splitlines():
        try:
            line = json.loads(each)
        except json.JSONDecodeError:
            continue
        if "resumed_at" in line:
            lines = [kept for kept in lines if kept[0]["step"] <= line["resumed_at"]]
        else:
            lines.append((line, each))
    return lines


def _windows(path: Folder) -> dict[str, list[dict[str, Any]]]:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except json.JSONDecodeError:
        return {}


def plain(value: Any) -> Any:
    """A number as a float, one per cell as a list of them; what JSON has as a string included."""
    return np.asarray(value, np.float64).tolist()


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    def each(value: Any) -> Any:
        if isinstance(value, list):
            return [each(v) for v in value]
        return value if math.isfinite(value) else str(value)

    return {name: each(value) for name, value in values.items()}
