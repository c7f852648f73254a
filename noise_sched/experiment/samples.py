"""A folder of drawn images.

samples.npz (images uint8 [n, h, w, c], labels int32 [n]), images/000000.png ..., grid.png, and last
samples.json, which says what they were drawn with. Until then unfinished.json says what is being drawn: such
a folder may be written to again by the same command, and by no other.
"""

import json
from typing import Any

import numpy as np

from noise_sched.experiment import locks
from noise_sched.figures.images import labelled_grid, to_pil
from noise_sched.training import files
from noise_sched.training.files import Folder

# Single .png files are written for up to this many images.
_MAX_PNG = 10_000

_FINISHED, _UNFINISHED = "samples.json", "unfinished.json"


def look(out: Folder, settings: dict) -> int | None:
    """The step that `out` was drawn at, where it holds a finished run of these settings.

    Returns:
      None for a folder that may be drawn into: new, empty, or of an equal run that was cut off.

    Raises:
      ValueError: if it holds anything else, which is left as it is.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out={out} is a file. Give a folder.")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    for record in (_FINISHED, _UNFINISHED):
        if record not in names:
            continue
        step = _step_of_equal(out / record, settings)
        if step is None:
            what = "images drawn otherwise" if record == _FINISHED else "a part of another run"
            raise ValueError(
                f"--out={out} holds {what} (see {out / record}). Give another folder: nothing is "
                "overwritten."
            )
        return step if record == _FINISHED else None
    if names - {locks.NAME} - {name for name in names if files.is_partial(out / name)}:
        raise ValueError(
            f"--out={out} is not empty, and what it holds is no run of `sample`. Give a new folder: "
            "nothing is overwritten."
        )
    return None


def _step_of_equal(record: Folder, settings: dict) -> int | None:
    """The step in a record of these settings (-1 where it has none); None in any other record."""
    try:
        old = json.loads(record.read_text())
    except ValueError:  # no JSON
        return None
    if not isinstance(old, dict):
        return None
    step = old.pop("step", -1)
    return step if old == settings else None


def check_same_step(out: Folder, drawn_at: int, step: int) -> None:
    """Refuses a finished run of another checkpoint.

    Raises:
      ValueError: naming both steps.
    """
    if step != drawn_at:
        raise ValueError(
            f"--out={out} holds images drawn otherwise: of step {drawn_at}, not {step}. Give another "
            f"folder, or --step={drawn_at} for those that are there: nothing is overwritten."
        )


def claim(out: Folder, settings: dict) -> None:
    """Marks a held folder as this run's, until it is finished."""
    with files.writing("--out", out):
        files.write_text(out / _UNFINISHED, json.dumps(settings, indent=2) + "\n")


def write(out: Folder, images: np.ndarray, labels: np.ndarray, settings: dict) -> None:
    """samples.json comes last: with it the run counts as finished."""
    with files.writing("--out", out):
        if len(images) <= _MAX_PNG:
            (out / "images").mkdir(exist_ok=True)
            for index, image in enumerate(images):
                _write_png(to_pil(image), out / "images" / f"{index:06d}.png")
        _write_png(labelled_grid(images, labels), out / "grid.png")
        with files.whole(out / "samples.npz") as file:
            np.savez_compressed(file, images=images, labels=labels.astype(np.int32))
        files.write_text(out / _FINISHED, json.dumps(settings, indent=2) + "\n")
        (out / _UNFINISHED).unlink()


def _write_png(picture: Any, path: Folder) -> None:
    with path.open("wb") as file:
        picture.save(file, format="png")
