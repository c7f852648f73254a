"""Endless shuffled batches, the same whatever the number of hosts.

The training stream is a sequence of positions p = 0, 1, 2, ...; `noise_sched.data.order` says which
image stands at p and whether it is mirrored. Step k consumes positions k B .. (k+1) B - 1, where B
is the **global** batch size, and of these, host i of n reads

    k B + i b  ..  k B + (i + 1) b - 1,        b = B / n.

So the hosts' rows, put one after the other, are the global batch, which does not depend on n, on
threads, or on where a run was interrupted; each epoch has an order of its own, and batches run
across the ends of epochs, so no image is ever dropped. The position of a run is one number, k.

grain does the iterating: reading ahead, threads, and the position.

Where images are decoded as they are needed, one thread works on one image, and numpy's BLAS should
not start threads of its own inside: with OPENBLAS_NUM_THREADS=1 in the environment resizing is
about twice as fast.
"""

import operator
import os
import sys
from typing import Any

import numpy as np

from noise_sched.data import order, transforms
from noise_sched.data.sources import Source

# Batches of images in memory above this many bytes are gathered ahead in a thread. Below, a thread
# costs more than it hides.
_GATHER_AHEAD_BYTES = 2**20
_MAX_THREADS = 16


class BatchIterator:
    """This host's rows of the global batches, as numpy arrays; never ends.

    Each batch is {"image": float32 [rows, height, width, channels], "label": int32 [rows]}.
    """

    def __init__(self, iterator: Any, elements_per_batch: int, start: int):
        self._iterator = iterator
        self._elements_per_batch = elements_per_batch
        self._next_index = 0
        if start:
            self.set_state({"next_index": start})

    def __iter__(self) -> "BatchIterator":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        batch = next(self._iterator)
        self._next_index += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """The number of the next batch: fit for JSON, and the same on every host."""
        return {"next_index": self._next_index}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues where a state was taken, on this or any other number of hosts.

        Raises:
            ValueError: not a state of `get_state`.
        """
        index = state.get("next_index") if set(state) == {"next_index"} else None
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise ValueError(f"got the state {state!r}; expected {{'next_index': K}} with K >= 0.")
        # grain counts the elements below its last batching.
        self._iterator.set_state({"next_index": index * self._elements_per_batch})
        self._next_index = index

    def close(self) -> None:
        """Stops the reading threads; the iterator cannot be used afterwards."""
        self._iterator.close()


def make_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    flip: bool,
    process_index: int = 0,
    process_count: int = 1,
    start: int = 0,
) -> BatchIterator:
    """Endless batches of a source for one host.

    Args:
        source: the data set.
        batch_size: images per step over all hosts; may exceed the data set's size.
        seed: of the order and the mirroring, 0 .. 2^64 - 1; the same on all hosts.
        flip: mirror each image left-right with probability 1/2, anew in every epoch.
        process_index: which host this is.
        process_count: how many hosts there are; divides `batch_size`.
        start: number of the first batch, as a shorthand for `set_state`.

    Raises:
        ValueError: arguments out of range.
    """
    import grain  # Slow to import, and only training needs it.

    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("process_count", process_count, 1),
        ("start", start, 0),
        ("seed", seed, 0),
    ):
        if operator.index(value) < least:
            raise ValueError(f"got {name}={value}; expected at least {least}.")
    if seed >= 2**64:
        raise ValueError(f"got seed={seed}; expected less than 2^64.")
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"got process_index={process_index}; expected 0 .. {process_count - 1} for "
            f"process_count={process_count}."
        )
    if batch_size % process_count:
        below = batch_size - batch_size % process_count
        near = f"{below} or {below + process_count}" if below else f"{process_count}"
        raise ValueError(
            f"got batch_size={batch_size} for {process_count} hosts; it has to be a multiple of "
            f"{process_count}, such as {near}."
        )
    rows = batch_size // process_count
    shuffle = order.Shuffle(seed, len(source))

    def first_position(step: int) -> int:
        return step * batch_size + process_index * rows

    def gather_batch(step: int) -> dict[str, np.ndarray]:
        position = first_position(step)
        batch = source.gather(shuffle.indices(position, rows))
        if flip:
            transforms.flip_left_right(batch["image"], order.flips_at(seed, position, rows))
        return batch

    def read_row(row: int) -> dict[str, np.ndarray | np.int32]:
        step, offset = divmod(row, rows)
        position = first_position(step) + offset
        image, label = source.read(int(shuffle.indices(position, 1)[0]))
        if flip and order.flips_at(seed, position, 1)[0]:
            image = image[:, ::-1]
        return {"image": image, "label": label}

    steps = sys.maxsize // batch_size
    if source.in_memory:
        # One element is one batch: a vectorised gather, where 64 single look-ups would cost more
        # than the training step of a small model.
        batch_bytes = 4 * rows * int(np.prod(source.image_shape))
        ahead = 2 if batch_bytes > _GATHER_AHEAD_BYTES else 0
        batches = (
            grain.MapDataset.range(steps)
            .map(gather_batch)
            .to_iter_dataset(
                grain.ReadOptions(num_threads=min(1, ahead), prefetch_buffer_size=ahead)
            )
        )
        return BatchIterator(iter(batches), 1, start)
    # One element is one image: the images of a batch are decoded side by side.
    threads = min(_MAX_THREADS, max(2, os.cpu_count() or 1))
    images = (
        grain.MapDataset.range(steps * rows)
        .map(read_row)
        .to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2 * rows, threads))
        )
    )
    return BatchIterator(iter(images.batch(rows)), rows, start)
