"""Scalars and pictures of a run: TensorBoard events, and one JSON object per line.

Both files are only ever appended to. A run that goes back to a checkpoint writes the steps after it
a second time; a marker line `{"resumed_at": k}` then says that what was written above it for steps
beyond k is superseded. `read_metrics` applies the markers, and TensorBoard is told the same thing.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

METRICS_FILE = "metrics.jsonl"


class MetricWriter:
    """Writes to `WORKDIR/metrics.jsonl` and to TensorBoard events in `WORKDIR/tensorboard`.

    Only the first process of a run writes; elsewhere every method does nothing. Local directories
    only.
    """

    def __init__(self, workdir: str | Path, *, resume_step: int = 0, tensorboard: bool = True):
        """Opens the files for appending.

        Args:
          workdir: the run's directory; made if needed.
          resume_step: the step restored from, 0 for a fresh start.
          tensorboard: write TensorBoard events too (with tensorboardX; no TensorFlow needed).
        """
        self._file = self._events = None
        if jax.process_index() != 0:
            return
        workdir = Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / METRICS_FILE
        resumed = path.exists() and path.stat().st_size > 0
        self._file = path.open("a", encoding="utf-8")
        if resumed:
            with path.open("rb") as f:
                f.seek(-1, 2)
                cut_off = f.read(1) != b"\n"  # the run was killed in the middle of a line
            self._file.write("\n" * cut_off + json.dumps({"resumed_at": resume_step}) + "\n")
            self._file.flush()
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(
                str(workdir / "tensorboard"),
                purge_step=resume_step + 1 if resumed else None,
                flush_secs=30,
            )

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes named numbers of one step; JSON has those that are not finite as strings."""
        if self._file is None:
            return
        values = {name: float(value) for name, value in values.items()}
        line = {
            "step": int(step),
            **{name: v if math.isfinite(v) else str(v) for name, v in values.items()},
            "time": round(time.time(), 3),
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, int(step))

    def images(
        self,
        step: int,
        name: str,
        images: Float[np.ndarray, "count height width channels"],
        *,
        columns: int | None = None,
    ) -> None:
        """Writes one picture, a grid of images in [-1, 1] (see `image_grid`), to TensorBoard."""
        if self._events is not None:
            grid = image_grid(images, columns=columns)
            self._events.add_image(name, grid, int(step), dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes the files."""
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            self._events.close()


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """The lines of `WORKDIR/metrics.jsonl` that count, in order.

    Lines that a resumed run superseded are left out, as are the markers and a line cut off by a
    kill. Empty if there is no such file.
    """
    path = Path(workdir) / METRICS_FILE
    lines: list[dict[str, Any]] = []
    if not path.exists():
        return lines
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if "resumed_at" in line:
            lines = [kept for kept in lines if kept["step"] <= line["resumed_at"]]
        else:
            lines.append(line)
    return lines


def image_grid(
    images: Float[np.ndarray, "count height width channels"], *, columns: int | None = None
) -> UInt8[np.ndarray, "grid_height grid_width 3"]:
    """Images side by side, row by row, with a thin dark line between them.

    Args:
      images: in [-1, 1] (values outside are clipped), 1 or 3 channels.
      columns: images per row; None for a grid that is about square.

    Returns:
      One RGB picture, uint8.

    Raises:
      ValueError: if there is no image, or the channels are neither 1 nor 3.
    """
    images = np.asarray(images)
    count, height, width, channels = images.shape
    if count < 1 or channels not in (1, 3):
        raise ValueError(
            f"a grid needs at least one image of 1 or 3 channels, got shape {list(images.shape)}"
        )
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    pixels = np.round((np.clip(images, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
    pixels = np.broadcast_to(pixels, (count, height, width, 3))
    line = 1
    grid = np.zeros((rows * (height + line) - line, columns * (width + line) - line, 3), np.uint8)
    for index, image in enumerate(pixels):
        top = index // columns * (height + line)
        left = index % columns * (width + line)
        grid[top : top + height, left : left + width] = image
    return grid
