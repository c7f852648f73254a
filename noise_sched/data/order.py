"""Which image, and mirrored or not, stands at position p of the endless training stream.

Both are pure functions of (seed, p), from the counter-based generator Philox: nothing is drawn in
sequence, so any process may ask for any position, in any order, and a resumed run needs to know
nothing but the position. Epoch e holds positions e*N .. (e+1)*N - 1 and is a permutation of the N
images of its own.

Raw Philox words are used, and not numpy's `permutation` or `random`, because numpy promises
that raw words never change between its versions and promises no such thing for the others.
"""

import threading

import numpy as np
from jaxtyping import Bool, Int64

# Second key word of the flips; epochs use their own number.
_FLIP_STREAM = 2**64 - 1
_WORDS_PER_COUNTER = 4


def _philox(seed: int, stream: int, counter: int = 0) -> np.random.Philox:
    return np.random.Philox(
        key=np.array([seed, stream], np.uint64), counter=np.array([counter, 0, 0, 0], np.uint64)
    )


def epoch_permutation(seed: int, epoch: int, length: int) -> Int64[np.ndarray, "{length}"]:
    """The order of the images in one epoch."""
    return np.argsort(_philox(seed, epoch).random_raw(length), kind="stable")


def flips_at(seed: int, start: int, count: int) -> Bool[np.ndarray, "{count}"]:
    """Whether the images at positions start .. start + count - 1 are mirrored; half of them are."""
    counter, skip = divmod(start, _WORDS_PER_COUNTER)
    words = _philox(seed, _FLIP_STREAM, counter).random_raw(skip + count)[skip:]
    return words >= 2**63


class Shuffle:
    """Looks up stream positions; keeps the few permutations in use, safe to share among threads."""

    def __init__(self, seed: int, length: int):
        self._seed = seed
        self._length = length
        self._epochs: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def indices(self, start: int, count: int) -> Int64[np.ndarray, "{count}"]:
        """Image numbers at positions start .. start + count - 1, which may span epochs."""
        pieces = []
        position, stop = start, start + count
        while position < stop:
            epoch, offset = divmod(position, self._length)
            taken = min(self._length - offset, stop - position)
            pieces.append(self._permutation(epoch)[offset : offset + taken])
            position += taken
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _permutation(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._epochs:
                # Readers of neighbouring batches are at most an epoch apart, unless the data set
                # is smaller than a batch; then recomputing is cheap.
                if len(self._epochs) >= 2:
                    self._epochs.pop(min(self._epochs))
                self._epochs[epoch] = epoch_permutation(self._seed, epoch, self._length)
            return self._epochs[epoch]
