"""A trained cell -> its figures, its error by noise level, and a picture of samples."""

import json
import pathlib
from typing import Any

import numpy as np

from noise_sched.auditing.text import plain
from noise_sched.evaluation.images import Batch
from noise_sched.experiment import Experiment, sampler
from noise_sched.experiment.hyper import Hyper
from noise_sched.figures.images import labelled_grid
from noise_sched.judging import extraction, in_training, model_images
from noise_sched.judging.judge import Judge
from noise_sched.judging.model_images import ModelImages
from noise_sched.sweeping import record
from noise_sched.sweeping.cells import Cell
from noise_sched.sweeping.shared import Programs
from noise_sched.sweeping.streams import Sources
from noise_sched.training import files

_SHOWN = 60  # samples in a picture
_IMAGES = 128  # with which the error of each noise level is measured


class Judging:
    """Judges the cells of a sweep; what they share is made once."""

    def __init__(self, sweep: pathlib.Path, sources: Sources):
        self._sweep, self._sources = sweep, sources
        self._judges: dict[Any, Judge] = {}
        self._programs: dict[str, Programs] = {}

    def __call__(self, cell: Cell, exp: Experiment, hyper: Hyper) -> None:
        """Draws from the newest checkpoint of a cell, and writes what is found into its folder.

        Args:
          cell: the cell.
          exp: its experiment.
          hyper: its numbers, in the structure of its group.

        Raises:
          ValueError, OSError: what `evaluate` would refuse.
        """
        folder = record.folder_of(self._sweep, cell)
        judge = self._judge(exp)
        step, params, guide = sampler.restore(exp, folder, None)
        programs = self._programs.setdefault(exp.config.sample.guide_workdir, Programs(guide[0]))
        images = model_images.model_images(
            exp,
            params,
            exp.config.eval.num_images,
            cell.name,
            guide=guide,
            run=programs.sampler(exp, hyper),
        )
        first = _First(images)
        report = judge(first)
        extraction.forget(report.generated)
        shown = first.shown()
        picture = labelled_grid(shown, first.labels[: len(shown)])
        with files.whole(folder / record.SAMPLES) as file:
            picture.save(file, format="png")
        source = self._sources.of(exp)
        batch = source.gather(np.arange(min(_IMAGES, len(source))))
        levels = programs.errors(exp, hyper, params, batch)
        _write(folder / record.LEVELS, levels)
        found = {
            "step": step,
            "num_images": len(images),
            "figures": report.figures(),
            "better": judge.directions,
        }
        _write(folder / record.EVALUATION, found)
        record.seal(self._sweep, cell)
        now = record.status(self._sweep, cell)
        record.write_status(self._sweep, cell, now._replace(state="done", message=""))

    def check(self, exp: Experiment) -> None:
        """Refuses what cannot be judged, before anything is trained; raises as a call."""
        self._judge(exp)

    def _judge(self, exp: Experiment) -> Judge:
        data, wanted = exp.config.data, exp.config.eval
        key = (data.to_json(sort_keys=True), wanted.to_json(sort_keys=True))
        if key not in self._judges:
            self._judges[key] = in_training.judge_of(exp, show=False)
        return self._judges[key]


class _First:
    """Images that are passed on, of which the first are kept for a picture."""

    def __init__(self, images: ModelImages):
        self._images = images
        self.name, self.shape, self.labelled = images.name, images.shape, images.labelled
        self.labels, self.piece = images.labels, images.piece
        self._pixels = np.zeros((0, *images.shape), np.uint8)

    def __len__(self) -> int:
        return len(self._images)

    def fingerprint(self) -> str:
        """That of all images."""
        return self._images.fingerprint()

    def read(self, start: int, stop: int) -> Batch:
        """Images start ... stop - 1."""
        batch = self._images.read(start, stop)
        if start == len(self._pixels) < _SHOWN:
            self._pixels = np.concatenate([self._pixels, batch.images])[:_SHOWN]
        return batch

    def shown(self) -> np.ndarray:
        """The first images, at most `_SHOWN`: drawn anew where a judging that was killed had read them."""
        wanted = min(_SHOWN, len(self))
        if len(self._pixels) < wanted:
            self._pixels = self._images.read(0, wanted).images
        return self._pixels


def _write(path: pathlib.Path, content: Any) -> None:
    files.write_text(path, json.dumps(plain(content)) + "\n")
