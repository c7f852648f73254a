"""Images to judge: a finite, ordered set that is read in pieces, so that it never has to fit into memory."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8


class Batch(NamedTuple):
    """Neighbouring images of a set.

    Attributes:
      images: uint8 [n, height, width, channels], 0 is black and 255 white.
      labels: int64 [n], the class that each shows or was asked to show; -1 where it is not known.
    """

    images: UInt8[np.ndarray, "n height width channels"]
    labels: Int64[np.ndarray, " n"]


@runtime_checkable
class Images(Protocol):
    """A set of images of one size: what every kind of source offers to the evaluation."""

    @property
    def name(self) -> str:
        """Where the images are from, for messages and reports."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image: height, width, channels (1 or 3)."""
        ...

    @property
    def labelled(self) -> bool:
        """Whether the class of every image is known."""
        ...

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Batch:
        """Images start ... stop - 1, always the same ones; reading them in order is fastest.

        Raises:
          EvaluationInputError: a file that cannot be read, or values that no image has.
        """
        ...

    def fingerprint(self) -> str:
        """A digest of the content: equal sets have equal ones, wherever they lie."""
        ...
