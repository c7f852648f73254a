"""Extracting features: images stream through the devices, batch by batch, and their features into files.

Nothing is held in memory but the piece at hand. The features of each extractor lie in a folder of their
own, named by a digest of the images and of all that moves the extractor's numbers: what is there already
is used again, and an extraction that was killed goes on where it was.
"""

import hashlib
import importlib.metadata
import json
import pathlib
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jaxlib
import numpy as np
from jax.sharding import Mesh

from noise_sched.evaluation.features import Extractor, Features, Rows
from noise_sched.evaluation.images import Images
from noise_sched.experiment import locks
from noise_sched.training import files, hosts, partitioning
from noise_sched.training.progress import Progress, Silent

_PIECE = 128  # images that are read at a time, at least
_SAVE_EVERY = 5.0  # seconds between notes of how far it is
_DONE = "done.json"
_LABELS = "labels"


def extract(
    images: Images,
    extractors: Sequence[Extractor],
    cache: pathlib.Path,
    mesh: Mesh | None = None,
    content: str = "",
    show: bool = True,
) -> dict[str, Features]:
    """The features of all images, of every kind that the extractors make.

    On several hosts all have to call it; each reads all images, the devices of all work on each batch, and
    the first host writes.

    Args:
      images: the images, which are read once, however many extractors there are.
      extractors: what to extract.
      cache: where the features' folders are.
      mesh: the devices; None for all.
      content: the images' fingerprint, where it is known already.
      show: whether a progress bar is shown.

    Returns:
      Features by kind, which lie in files below `cache`; on other hosts than the first nothing.

    Raises:
      EvaluationInputError: an image that cannot be read; what was extracted before is kept.
      OSError: `cache` cannot be written.
    """
    mesh = partitioning.make_mesh() if mesh is None else mesh
    content = content or images.fingerprint()
    jobs = [_Job(images, content, each, cache, mesh) for each in extractors]
    try:
        _run(images, [job for job in jobs if job.done < job.count], show)
    finally:
        for job in jobs:
            job.close()
    found: dict[str, Features] = {}
    for job in jobs if jax.process_index() == 0 else []:
        found |= job.features()
    return found


def forget(features: Mapping[str, Features]) -> None:
    """Removes the files of features that will not be asked for again."""
    for each in features.values():
        if isinstance(each.values, Rows) and jax.process_index() == 0:
            shutil.rmtree(each.values.path.parent, ignore_errors=True)


def _run(images: Images, jobs: list["_Job"], show: bool) -> None:
    if not jobs:
        return
    # Pieces begin where they would without a kill, so that the same batches give the same bits.
    own = getattr(images, "piece", _PIECE)
    piece = own * -(-max(_PIECE, *(job.size for job in jobs)) // own)
    first, last = min(job.done for job in jobs) // piece * piece, max(job.count for job in jobs)
    names = ", ".join(job.extractor.name for job in jobs)
    progress = Progress(last, initial=first, unit="image", desc=names) if show else Silent()
    with progress as bar:
        for start in range(first, last, piece):
            batch = images.read(start, min(start + piece, last))
            for job in jobs:  # the devices begin with this piece while the last one is written
                job.begin(start, batch.images, batch.labels)
            for job in jobs:
                job.write_previous()
            bar.update(len(batch.images))
        for job in jobs:
            job.finish()


def _compiler_options() -> dict[str, str] | None:
    """On CPUs jaxlib 0.10's newer kernels halve the speed of Inception (docs/results/evaluation_speed.md).

    XLA ends the process at an option that it does not know, so it is given to that version only.
    """
    if jax.default_backend() != "cpu" or not jaxlib.__version__.startswith("0.10."):
        return None
    return {"xla_cpu_experimental_ynn_fusion_type": ""}


class _Job:
    """One extractor at work on one set of images."""

    def __init__(
        self, images: Images, content: str, extractor: Extractor, cache: pathlib.Path, mesh: Mesh
    ):
        self.extractor, self._images, self._mesh = extractor, images, mesh
        self.count = min(len(images), extractor.most or len(images))
        self._writes = jax.process_index() == 0
        self.about = {
            "version": importlib.metadata.version("noise_sched"),  # another may extract otherwise
            "images": content,
            "count": self.count,
            "extractor": extractor.name,
            "outputs": dict(extractor.outputs),
            "settings": dict(extractor.settings),
        }
        key = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()[:32]
        self._folder = cache / f"{extractor.name}-{key}"
        self._open_folder(cache)
        self.done = hosts.first(self._read_done)
        self._widths = {_LABELS: 2} | dict(extractor.outputs)  # an int64 label is as two float32
        self._streams: dict[str, Any] = {}
        self._pending: list[tuple[int, int, np.ndarray, Any]] = []
        self._latest = 0  # batches of the piece that was begun last
        self._begun = self.done
        self._noted = time.monotonic()
        self.size = min(extractor.batch, -(-self.count // mesh.size)) * mesh.size
        self._apply = jax.jit(extractor.apply, compiler_options=_compiler_options())
        self._params: Any = None

    def _open_folder(self, cache: pathlib.Path) -> None:
        """Holds the folder for this process; where another is at work in it, works in one of its own."""
        self._lock = self._own = None
        if hosts.first(self._read_done) == self.count:
            return
        try:
            lock = locks.hold(self._folder, "--cache")
            lock.__enter__()
            self._lock = lock
        except (ValueError, hosts.HostFailed):
            self._own = tempfile.TemporaryDirectory(dir=cache, prefix=f"{self.extractor.name}-own-")
            self._folder = pathlib.Path(self._own.name)

    def _read_done(self) -> int:
        try:
            return int(json.loads((self._folder / _DONE).read_text())["done"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def begin(self, start: int, images: np.ndarray, labels: np.ndarray) -> None:
        """Has the devices begin with the images of a piece that are not done yet."""
        skip = max(0, self._begun - start)
        images, labels = images[skip : self.count - start], labels[skip : self.count - start]
        start += skip
        if self._params is None and len(images):
            self._params = jax.device_put(
                self.extractor.params, partitioning.replicated(self._mesh)
            )
        self._latest = -(-len(images) // self.size)
        for begin in range(0, len(images), self.size):
            piece = images[begin : begin + self.size]
            # The last batch is filled up, so that one compiled program serves all.
            rows = np.arange(self.size) % len(piece)
            numbers = (start + begin + rows).astype(np.int32)
            placed = partitioning.split_rows((piece[rows], numbers), self._mesh)
            made = self._apply(self._params, *placed)
            self._pending.append(
                (start + begin, len(piece), labels[begin : begin + self.size], made)
            )
        self._begun = max(self._begun, start + len(images))

    def write_previous(self) -> None:
        """Writes what was begun with the piece before, which the devices have finished meanwhile."""
        before = len(self._pending) - self._latest
        self._write(self._pending[:before])
        del self._pending[:before]
        if time.monotonic() - self._noted > _SAVE_EVERY:
            self._note()

    def finish(self) -> None:
        """Writes the rest."""
        self._write(self._pending)
        self._pending.clear()
        self._note()

    def _write(self, pending: list[tuple[int, int, np.ndarray, Any]]) -> None:
        for start, count, labels, made in pending:
            values = {kind: partitioning.gather(array) for kind, array in made.items()}
            if not self._writes:
                continue
            if start != self.done:
                raise AssertionError(f"{self.extractor.name}: row {start} after {self.done}")
            self._stream(_LABELS).write(labels.astype("<i8").tobytes())
            for kind, rows in values.items():
                self._stream(kind).write(rows[:count].astype("<f4").tobytes())
            self.done = start + count

    def _stream(self, kind: str) -> Any:
        """The file of a kind, cut to the rows that are known to be whole."""
        if kind not in self._streams:
            self._folder.mkdir(parents=True, exist_ok=True)
            stream = self._path(kind).open("ab")
            stream.truncate(self.done * self._widths[kind] * 4)
            self._streams[kind] = stream
        return self._streams[kind]

    def _path(self, kind: str) -> pathlib.Path:
        return self._folder / kind.replace("/", "-")

    def _note(self) -> None:
        """Notes how far it is, when that much is in the files."""
        self._noted = time.monotonic()
        if not self._writes:
            return
        for stream in self._streams.values():
            stream.flush()
        files.write_text(
            self._folder / _DONE, json.dumps({"done": self.done, **self.about}, indent=1) + "\n"
        )

    def close(self) -> None:
        """Closes the files; an extraction that was cut off notes what it has."""
        if self._streams:
            self._note()
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()
        if self._lock is not None:
            self._lock.__exit__(None, None, None)
            self._lock = None

    def features(self) -> dict[str, Features]:
        """What was extracted."""
        labels = np.fromfile(self._path(_LABELS), "<i8").astype(np.int64)
        known = labels if self._images.labelled else None
        return {
            kind: Features(
                self._images.name, Rows(self._path(kind), (self.count, width), self._own), known
            )
            for kind, width in self.extractor.outputs.items()
        }
