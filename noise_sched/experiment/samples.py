"""A folder of drawn images.

Up to 10,000 of them: samples.npz (images uint8 [n, h, w, c], labels int32 [n]), images/000000.png ...,
grid.png, and last samples.json, which says what they were drawn with. More: shards/00000.npz ..., each
as samples.npz, grid.png of the first, and samples.json. Until then unfinished.json says what is being
drawn: such a folder may be written to again by the same command, and by no other.
"""

import json
import zipfile
import zlib
from typing import Any

import numpy as np
from absl import logging

from noise_sched.experiment import locks
from noise_sched.figures.images import labelled_grid, to_pil
from noise_sched.training import files
from noise_sched.training.files import Folder

MOST_IN_ONE = 10_000
"""Images up to which one file and single .png files are written; beyond them shards."""

SHARDS = "shards"
_SHARD_BYTES, _SHARD_IMAGES = 64 * 2**20, 2048  # the most that a shard has
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
    old.pop("shard_size", None)
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
        (out / "images").mkdir(exist_ok=True)
        for index, image in enumerate(images):
            _write_png(to_pil(image), out / "images" / f"{index:06d}.png")
        _write_png(labelled_grid(images, labels), out / "grid.png")
        _write_npz(out / "samples.npz", images, labels)
        _finish(out, settings)


def _finish(out: Folder, settings: dict) -> None:
    files.write_text(out / _FINISHED, json.dumps(settings, indent=2) + "\n")
    (out / _UNFINISHED).unlink()


def _write_npz(path: Folder, images: np.ndarray, labels: np.ndarray) -> None:
    with files.whole(path) as file:
        np.savez_compressed(file, images=images, labels=labels.astype(np.int32))


def shard_size(image_shape: tuple[int, ...]) -> int:
    """Images in a shard: of their shape alone, so that a run may go on with other batches or devices."""
    return max(1, min(_SHARD_IMAGES, _SHARD_BYTES // int(np.prod(image_shape))))


def is_finished(out: Folder) -> bool:
    """Whether a folder holds all that its run was asked for."""
    return (out / _FINISHED).is_file()


def place(out: Folder) -> Folder:
    """What holds the images of a finished run: samples.npz, or the folder of shards."""
    return out / SHARDS if (out / SHARDS).is_dir() else out / "samples.npz"


def shard_paths(out: Folder) -> list[Folder]:
    """The shards that are there, in order; none for a run that was written as one file."""
    folder = out / SHARDS
    return sorted(folder.glob("*.npz"), key=lambda path: path.name) if folder.is_dir() else []


def missing_shards(out: Folder, count: int, size: int) -> list[int]:
    """The numbers of the shards that are not there, or are damaged, which is told."""
    sizes = [min(size, count - start) for start in range(0, count, size)]
    return [n for n, images in enumerate(sizes) if not _is_sound(_shard(out, n), images)]


def _is_sound(path: Folder, count: int) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = len(arrays["images"]), len(arrays["labels"])  # verifies their check sums
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        logging.warning("%s is damaged (%s): it is drawn again", path, error)
        return False
    if found != (count, count):
        logging.warning("%s holds %d images, not %d: it is drawn again", path, found[0], count)
    return found == (count, count)


def write_shard(out: Folder, number: int, images: np.ndarray, labels: np.ndarray) -> None:
    """Writes one shard, whole or not at all."""
    with files.writing("--out", out):
        (out / SHARDS).mkdir(exist_ok=True)
        _write_npz(_shard(out, number), images, labels)


def finish_shards(out: Folder, settings: dict) -> None:
    """Writes the grid, of the first shard, and samples.json, with which the run counts as finished."""
    with _shard(out, 0).open("rb") as file, np.load(file) as first:
        images, labels = first["images"], first["labels"]
    with files.writing("--out", out):
        _write_png(labelled_grid(images, labels), out / "grid.png")
        _finish(out, settings)


def _shard(out: Folder, number: int) -> Folder:
    return out / SHARDS / f"{number:05d}.npz"


def _write_png(picture: Any, path: Folder) -> None:
    with path.open("wb") as file:
        picture.save(file, format="png")
