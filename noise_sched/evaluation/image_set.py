"""Sets of images with their labels: checked, scaled to [0, 1], read from files.

A set is read from an `.npz` with `images` [count, height, width, channels] and `labels` [count], as
`noise_sched.sample` writes it, or from a folder of PNGs whose labels stand in their names
(`000000_label3.png`) or in a `labels.json` beside them.
"""

import dataclasses
import json
import pathlib
import re

import numpy as np
from jaxtyping import Float64, Int64
from PIL import Image

from noise_sched.evaluation import npz
from noise_sched.evaluation.errors import EvaluationInputError as EvaluationInputError
from noise_sched.messages import hint_beside

# How far float images may overshoot [-1, 1]: rounding, but not a wrong scale.
RANGE_TOLERANCE = 1e-3

# Of one image: 8192 x 8192. Pillow warns at 89 million and refuses twice as many.
MAX_PIXELS = 2**26

_LABEL_IN_NAME = re.compile(r"_label(-?\d+)$")
_LABELS_FILE = "labels.json"
_SAMPLES_FILE = "samples.npz"


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in [0, 1] with, where known, their classes.

    Attributes:
      name: where the images are from, for messages and reports.
      images: [count, height, width, channels], 0 is black and 1 white.
      labels: [count], the class that each image shows or was asked to show; None when unknown.
    """

    name: str
    images: Float64[np.ndarray, "count height width channels"]
    labels: Int64[np.ndarray, " count"] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image: height, width, channels."""
        return self.images.shape[1:]

    def __len__(self) -> int:
        return self.images.shape[0]


def image_set(name: str, images: np.ndarray, labels: np.ndarray | None = None) -> ImageSet:
    """Checks and scales images and labels as they come from a model or a file.

    Args:
      name: where they are from, for messages and reports.
      images: uint8 in 0..255 or float in [-1, 1]; [count, height, width, channels], or
        [count, height, width] for one channel.
      labels: integers [count], or None.

    Raises:
      EvaluationInputError: no images, another shape or type, values that are not finite or out of
        range, or labels that are not one integer per image.
    """
    scaled = unit_range(name, images)
    if labels is None:
        return ImageSet(name, scaled)
    labels = np.asarray(labels)
    if labels.shape != scaled.shape[:1]:
        raise EvaluationInputError(
            f"{name}: expected one label per image, {scaled.shape[0]} in all; "
            f"got labels of shape {labels.shape}."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise EvaluationInputError(
            f"{name}: labels must be integers (class numbers); got {labels.dtype}."
        )
    return ImageSet(name, scaled, labels.astype(np.int64))


def unit_range(name: str, images: np.ndarray) -> Float64[np.ndarray, "count height width channels"]:
    """Scales uint8 0..255 or float [-1, 1] images to [0, 1]; see `image_set` for the errors."""
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or 0 in images.shape:
        raise EvaluationInputError(
            f"{name}: expected images of shape [count, height, width, channels], none of them 0; "
            f"got {images.shape}."
        )
    if images.dtype == np.uint8:
        return images.astype(np.float64) / 255
    if not np.issubdtype(images.dtype, np.floating):
        raise EvaluationInputError(
            f"{name}: images must be uint8 (0..255) or float ([-1, 1]); got {images.dtype}. "
            "Convert them to one of the two, so that their scale is known."
        )
    images = images.astype(np.float64)
    finite = np.isfinite(images).all(axis=(1, 2, 3))
    if not finite.all():
        raise EvaluationInputError(
            f"{name}: {np.sum(~finite)} of {len(images)} images hold NaN or infinity, image "
            f"{np.argmin(finite)} first. Images that are not finite cannot be judged."
        )
    low, high = images.min(), images.max()
    if low < -1 - RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise EvaluationInputError(
            f"{name}: float images must lie in [-1, 1]; got {low:.4g} to {high:.4g}. "
            "Rescale or clip them, or give uint8."
        )
    return (np.clip(images, -1, 1) + 1) / 2


def read_image_set(path: str | pathlib.Path) -> ImageSet:
    """Reads an `.npz`, a folder that holds a `samples.npz`, or a folder of PNGs.

    A folder's PNGs are taken from its subfolder `images/` where there is one. Their labels are in
    their names (`000000_label3.png`) or in a `labels.json` in the folder or the one above: a list,
    in the order of the names, or an object of name to label. PNGs without labels are read, too.

    Raises:
      EvaluationInputError: nothing is there, or it cannot be read as images.
    """
    if not str(path).strip() or "\0" in str(path):
        raise EvaluationInputError(
            f"{str(path)!r} names no images: give an .npz file or a folder of PNGs."
        )
    path = pathlib.Path(path)
    if not path.exists():
        raise EvaluationInputError(f"{path} does not exist.{_neighbours(path)}")
    if path.is_dir():
        if (path / _SAMPLES_FILE).is_file():
            return _read_npz(path / _SAMPLES_FILE)
        return _read_folder(path)
    return _read_npz(path)


def _neighbours(path: pathlib.Path) -> str:
    """What is beside a path that does not exist, as a hint."""
    if not path.parent.is_dir():
        return ""
    found = sorted(p.name for p in path.parent.iterdir() if p.is_dir() or p.suffix == ".npz")
    return hint_beside(path, found)


def _read_npz(path: pathlib.Path) -> ImageSet:
    arrays = npz.read(path, ("images", "labels"))
    return image_set(str(path), arrays["images"], arrays.get("labels"))


def _read_folder(path: pathlib.Path) -> ImageSet:
    folder = path / "images" if (path / "images").is_dir() else path
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".png")
    if not files:
        raise EvaluationInputError(
            f"{folder} holds no PNG files, and {path} no {_SAMPLES_FILE}. Expected one of the two."
        )
    images = [_read_png(file) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise EvaluationInputError(
                f"{folder} holds images of different sizes (height, width, channels): "
                f"{files[0].name} is {images[0].shape}, {file.name} is {image.shape}. "
                "Move away what is no sample."
            )
    return image_set(str(folder), np.stack(images), _folder_labels(folder, files))


def _read_png(file: pathlib.Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise EvaluationInputError(
                    f"{file} has {image.width} x {image.height} pixels; samples of at most "
                    f"{MAX_PIXELS:,} pixels are read."
                )
            # Palettes, alpha and 16 bits have no single meaning as 8-bit samples.
            if image.mode not in ("L", "RGB"):
                raise EvaluationInputError(
                    f"{file}: expected an 8-bit grey or RGB image; got the mode {image.mode!r}."
                )
            pixels = np.asarray(image)
    except Image.DecompressionBombError as error:
        raise EvaluationInputError(
            f"{file}: samples of at most {MAX_PIXELS:,} pixels are read ({error})."
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, EvaluationInputError):
            raise
        raise EvaluationInputError(f"{file} cannot be read as an image ({error}).") from error
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _folder_labels(folder: pathlib.Path, files: list[pathlib.Path]) -> np.ndarray | None:
    for place in (folder / _LABELS_FILE, folder.parent / _LABELS_FILE):
        if place.is_file():
            return _labels_from_json(place, files)
    matches = [_LABEL_IN_NAME.search(file.stem) for file in files]
    unlabelled = [file.name for file, match in zip(files, matches, strict=True) if match is None]
    if len(unlabelled) == len(files):
        return None
    if unlabelled:
        raise EvaluationInputError(
            f"{folder}: {len(unlabelled)} of {len(files)} names say no label ({unlabelled[0]} is "
            "the first). Expected all or none to end in _labelN, as in 000000_label3.png."
        )
    return _label_array(str(folder), [int(match.group(1)) for match in matches if match])


def _labels_from_json(place: pathlib.Path, files: list[pathlib.Path]) -> np.ndarray:
    expected = (
        f"Expected a list of {len(files)} integers in the order of the names, or an object of file "
        'name to integer: {"000000.png": 3, ...}.'
    )
    try:
        labels = json.loads(place.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise EvaluationInputError(f"{place} is not JSON ({error}). {expected}") from error
    if isinstance(labels, dict):
        missing = [file.name for file in files if file.name not in labels]
        if missing:
            raise EvaluationInputError(
                f"{place} has no label for {len(missing)} of {len(files)} images ({missing[0]} is "
                f"the first). {expected}"
            )
        labels = [labels[file.name] for file in files]
    # bool is an int to Python; as a class number it is a mistake.
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise EvaluationInputError(f"{place}: not every label is an integer. {expected}")
    return _label_array(str(place), labels)


def _label_array(place: str, labels: list[int]) -> np.ndarray:
    try:
        return np.array(labels, dtype=np.int64)
    except OverflowError:
        most = max(labels, key=abs)
        shown = str(most)[:20] if most.bit_length() < 10_000 else ""
        raise EvaluationInputError(
            f"{place}: the label {shown}... is no class number; it has {most.bit_length()} bits."
        ) from None
