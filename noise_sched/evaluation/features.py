"""Features: rows of numbers, one row per image, which is all that a metric sees of images.

An `Extractor` makes them on the device, batch by batch; `Features` may lie in a file and are read in
blocks, so that a metric needs no more memory for 50,000 images than for 1,000.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

BLOCK = 1024  # rows that are read at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Extractor:
    """A pure function of images to one or more kinds of features.

    Attributes:
      name: for progress and reports.
      outputs: how many numbers each kind of features has per image, by the kind's name ("inception/2048").
      apply: (params, images uint8 [n, h, w, c], numbers int32 [n]) -> {kind: float32 [n, length]}, to be
        jitted; an image's features depend on it and its number alone.
      params: the arrays of a network, an argument so that they are not compiled into the program.
      settings: whatever else moves the features, as JSON: the digest of the weights, the way of resizing.
      batch: images that go well through one device at once.
      most: how many images are enough; the rest is not extracted. None is all.
    """

    name: str
    outputs: Mapping[str, int]
    apply: Callable[..., Any]
    params: Any = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    batch: int = 64
    most: int | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """A matrix of float32 in a file, of which only the rows asked for are read.

    Attributes:
      path: raw little-endian numbers, row after row.
      shape: rows, numbers per row.
      owner: what has to live as long as the file, such as a temporary folder.
    """

    path: pathlib.Path
    shape: tuple[int, int]
    owner: Any = None

    def __getitem__(self, wanted: slice | np.ndarray) -> np.ndarray:
        """Neighbouring rows, or those of an array of numbers in any order."""
        length = self.shape[1]
        if isinstance(wanted, slice):
            start, stop, step = wanted.indices(self.shape[0])
            assert step == 1
            count = max(0, stop - start) * length
            return np.fromfile(self.path, "<f4", count, offset=start * length * 4).reshape(
                -1, length
            )
        found = np.empty((len(wanted), length), np.float32)
        with self.path.open("rb") as file:
            for row, index in zip(found, wanted, strict=True):
                file.seek(int(index) * length * 4, os.SEEK_SET)
                row[:] = np.frombuffer(file.read(length * 4), "<f4")
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Picked:
    """Some rows of another matrix, in an order of their own; read when they are asked for."""

    rows: "np.ndarray | Rows"
    indices: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, numbers per row."""
        return len(self.indices), self.rows.shape[1]

    def __getitem__(self, wanted: slice | np.ndarray) -> np.ndarray:
        """Neighbouring rows, or those of an array of numbers."""
        return self.rows[self.indices[wanted]]


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """The features of a set of images.

    Attributes:
      name: whose, for messages and reports.
      values: [count, length], float; an array in memory, or `Rows` in a file.
      labels: int64 [count], the classes of the images; None where they are not known.
    """

    name: str
    values: np.ndarray | Rows | Picked
    labels: Int64[np.ndarray, " count"] | None = None

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def length(self) -> int:
        """Numbers per image."""
        return self.values.shape[1]

    def blocks(self, rows: int = BLOCK) -> Iterator[Float64[np.ndarray, "rows length"]]:
        """All rows in order, at most `rows` at a time, in float64."""
        for start in range(0, len(self), rows):
            yield np.asarray(self.values[start : start + rows], np.float64)

    def take(self, indices: np.ndarray) -> Float64[np.ndarray, "rows length"]:
        """The rows of these numbers, in float64."""
        return np.asarray(self.values[np.asarray(indices)], np.float64)

    def part(self, indices: np.ndarray, name: str | None = None) -> "Features":
        """A subset."""
        labels = None if self.labels is None else self.labels[indices]
        values = self.values
        if isinstance(values, Picked):
            values, indices = values.rows, values.indices[indices]
        return Features(name or self.name, Picked(values, indices), labels)
