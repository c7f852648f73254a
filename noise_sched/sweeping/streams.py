"""The images of many cells: one stream for all that see the same images in the same order."""

import collections
import concurrent.futures
from collections.abc import Sequence
from typing import Any

import numpy as np

from noise_sched.data import make_batches
from noise_sched.data.sources import Source
from noise_sched.experiment import Experiment, training_images

_MOST_BYTES = 64 * 2**20  # of the batches of one call
_MOST_STEPS = 100


def room(exp: Experiment, streams: int) -> int:
    """How many steps of batches, of so many streams, one call of a program gets."""
    size = exp.config.train.batch_size * int(np.prod(exp.image_shape))
    return int(np.clip(_MOST_BYTES // (4 * streams * size), 1, _MOST_STEPS))


class Sources:
    """Data sets that are opened once for all cells that train on them."""

    def __init__(self):
        self._known: dict[Any, Source] = {}

    def of(self, exp: Experiment) -> Source:
        """The images that an experiment trains on; raises as `training_images.opened`."""
        data = exp.config.data
        key = (data.name, data.split, data.image_size, data.channels, data.data_dir)
        if key not in self._known:
            self._known[key] = training_images.opened(exp.config)
        return self._known[key]


class Streams:
    """Batches for a stack of cells, gathered in a thread ahead of the device.

    Attributes:
      of_cell: int32 [cells], which stream each cell reads.
    """

    def __init__(self, experiments: Sequence[Experiment], sources: Sources, start: int):
        """Opens a stream for each data set, seed and mirroring there is, all after step `start`."""
        numbers: dict[Any, int] = {}
        self._batches: list[Any] = []
        of_cell = []
        for exp in experiments:
            source, config = sources.of(exp), exp.config
            key = (id(source), config.seed, config.data.flip, config.train.batch_size)
            if key not in numbers:
                numbers[key] = len(numbers)
                self._batches.append(
                    make_batches(
                        source,
                        batch_size=config.train.batch_size,
                        seed=config.seed,
                        flip=config.data.flip,
                        start=start,
                    )
                )
            of_cell.append(numbers[key])
        self.of_cell = np.asarray(of_cell, np.int32)
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._ahead: collections.deque[concurrent.futures.Future] = collections.deque()

    def __enter__(self) -> "Streams":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._thread.shutdown(cancel_futures=True)
        for each in self._batches:
            each.close()

    def take(self, count: int, streams: int, most: int) -> dict[str, np.ndarray]:
        """The batches of the next `count` steps; as many again are gathered ahead.

        Returns:
          {"image": float32 [streams, most, batch, h, w, c], "label": int32 [streams, most, batch]}; 0 where
          there are fewer streams or steps.
        """
        while len(self._ahead) < count:
            self._ahead.append(self._thread.submit(self._gather))
        steps = [self._ahead.popleft().result() for _ in range(count)]
        self._ahead.extend(
            self._thread.submit(self._gather) for _ in range(count - len(self._ahead))
        )
        return {
            name: _filled_up(np.stack([step[name] for step in steps], axis=1), streams, most)
            for name in steps[0]
        }

    def _gather(self) -> dict[str, np.ndarray]:
        """The batches of one step, of all streams."""
        rows = [next(each) for each in self._batches]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _filled_up(rows: np.ndarray, streams: int, most: int) -> np.ndarray:
    if rows.shape[:2] == (streams, most):
        return rows
    whole = np.zeros((streams, most, *rows.shape[2:]), rows.dtype)
    whole[: rows.shape[0], : rows.shape[1]] = rows
    return whole
