"""Images in memory, and the checks that images of every kind go through."""

import dataclasses
import hashlib
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from noise_sched.evaluation.errors import EvaluationInputError as EvaluationInputError
from noise_sched.evaluation.images import Batch, Images

# How far float images may overshoot [-1, 1]: rounding, but not a wrong scale.
RANGE_TOLERANCE = 1e-3

NO_LABEL = -1


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images that are in memory; see `images.Images`.

    Attributes:
      name: where they are from, for messages and reports.
      images: [count, height, width, channels], 0 is black and 255 white.
      labels: [count], the class that each shows or was asked to show; None where they are not known.
    """

    name: str
    images: UInt8[np.ndarray, "count height width channels"]
    labels: Int64[np.ndarray, " count"] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    @property
    def labelled(self) -> bool:
        """Whether the class of every image is known."""
        return self.labels is not None and bool((self.labels >= 0).all())

    def __len__(self) -> int:
        return self.images.shape[0]

    def read(self, start: int, stop: int) -> Batch:
        """Images start ... stop - 1."""
        images = self.images[start:stop]
        labels = np.full(len(images), NO_LABEL) if self.labels is None else self.labels[start:stop]
        return Batch(images, labels)

    def fingerprint(self) -> str:
        """A digest of the content."""
        return digest(self)


def image_set(name: str, images: Any, labels: Any = None) -> ImageSet:
    """Checks images and labels as they come from a model or a file.

    Args:
      name: where they are from, for messages and reports.
      images: uint8 in 0..255 or float in [-1, 1], which is rounded to bytes; [count, height, width,
        channels], or [count, height, width] for one channel.
      labels: integers [count], or None.

    Raises:
      EvaluationInputError: no images, another shape or type, values that are not finite or out of
        range, or labels that are not one integer per image.
    """
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    check_shape(name, images.shape)
    check_dtype(name, images.dtype)
    if labels is not None:
        labels = np.asarray(labels)
        check_labels(name, len(images), labels.shape, labels.dtype)
        labels = labels.astype(np.int64)
    return ImageSet(name, to_bytes(name, images), labels)


def check_shape(name: str, shape: tuple[int, ...]) -> None:
    """Refuses what are no images by their shape.

    Raises:
      EvaluationInputError: not [count, height, width, channels], something is 0, or other than 1 or 3
        channels.
    """
    if len(shape) != 4 or 0 in shape or shape[3] not in (1, 3):
        raise EvaluationInputError(
            f"{name}: expected images of shape [count, height, width, channels], none of them 0, with 1 "
            f"(grey) or 3 (RGB) channels last; got {shape}."
        )


def check_dtype(name: str, dtype: np.dtype) -> None:
    """Refuses types whose scale is not known.

    Raises:
      EvaluationInputError: neither uint8 nor float.
    """
    if dtype != np.uint8 and not np.issubdtype(dtype, np.floating):
        raise EvaluationInputError(
            f"{name}: images must be uint8 (0..255) or float ([-1, 1]); got {dtype}. "
            "Convert them to one of the two, so that their scale is known."
        )


def check_labels(name: str, count: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuses labels that are not one integer per image.

    Raises:
      EvaluationInputError: another shape or type.
    """
    if shape != (count,):
        raise EvaluationInputError(
            f"{name}: expected one label per image, {count} in all; got labels of shape {shape}."
        )
    if not np.issubdtype(dtype, np.integer):
        raise EvaluationInputError(f"{name}: labels must be integers (class numbers); got {dtype}.")


def to_bytes(
    name: str, images: np.ndarray, first: int = 0
) -> UInt8[np.ndarray, "count height width channels"]:
    """Bytes as they are; float [-1, 1] rounded to 0..255.

    Args:
      name: for messages.
      images: uint8 or float, [count, height, width, channels].
      first: the number of the first of them, for messages.

    Raises:
      EvaluationInputError: values that are not finite, or out of range.
    """
    if images.dtype == np.uint8:
        return images
    finite = np.isfinite(images).all(axis=(1, 2, 3))
    if not finite.all():
        raise EvaluationInputError(
            f"{name}: {np.sum(~finite)} of {len(images)} images hold NaN or infinity, image "
            f"{first + np.argmin(finite)} first. Images that are not finite cannot be judged."
        )
    low, high = images.min(), images.max()
    if low < -1 - RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise EvaluationInputError(
            f"{name}: float images must lie in [-1, 1]; got {low:.4g} to {high:.4g}. "
            "Rescale or clip them, or give uint8."
        )
    return np.round((np.clip(images.astype(np.float64), -1, 1) + 1) * 127.5).astype(np.uint8)


def digest(images: Images, piece: int = 256) -> str:
    """A digest of all pixels and labels, which reads all images once."""
    found = hashlib.sha256(repr((len(images), images.shape)).encode())
    for start in range(0, len(images), piece):
        batch = images.read(start, min(start + piece, len(images)))
        found.update(np.ascontiguousarray(batch.images).data)
        found.update(batch.labels.astype("<i8").data)
    return found.hexdigest()
