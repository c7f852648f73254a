"""The images of a folder, walked recursively, with the labels that names, folders or a labels.json give."""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re

import numpy as np
from PIL import Image

from noise_sched.data import images as decoding
from noise_sched.data import transforms
from noise_sched.evaluation import image_set
from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.images import Batch
from noise_sched.figures.images import to_uint8

# Of one image: 8192 x 8192. Pillow warns at 89 million and refuses twice as many.
MAX_PIXELS = 2**26
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

_LABEL_IN_NAME = re.compile(r"_label(-?\d+)$")
_LABELS_FILE = "labels.json"
_THREADS = 16  # small reads, often over a network: waiting, not computing


class FolderImages:
    """The images below a folder, in the order of their paths; see `evaluation.images.Images`.

    They are taken from the subfolder `images/` where there is one. Labels are those of a `labels.json` in the
    folder or the one above (a list, in the order of the names, or an object of name to label), or of the
    names (`000000_label3.png`), or else the subfolders of the first level are the classes, by sorted name.
    The head of every file is read at once, so that a bad file is named before any work.

    Args:
      path: the folder.
      size: cut every image to its centre square and resize it to this side; None keeps them, and then all
        have to be of one size.

    Raises:
      EvaluationInputError: no images, a file that is none, images of several sizes without `size`, or
        labels that do not fit.
    """

    def __init__(self, path: pathlib.Path, size: int | None = None):
        root = path / "images" if (path / "images").is_dir() else path
        self.name = str(root)
        self._files = sorted(_files_below(root), key=lambda file: file.as_posix())
        if not self._files:
            kinds = ", ".join(SUFFIXES)
            raise EvaluationInputError(
                f"{root} holds no images ({kinds}), and {path} no samples.npz. Expected one of the two."
            )
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            heads = list(pool.map(_head, self._files))
        self._size = size
        self.shape = self._shape_of(root, heads)
        labels = _labels(root, self._files)
        self.labelled = labels is not None and bool((labels >= 0).all())
        self.labels = np.full(len(self._files), image_set.NO_LABEL) if labels is None else labels
        # Pillow decodes outside of Python's lock.
        self._pool = concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1))

    def __len__(self) -> int:
        return len(self._files)

    def read(self, start: int, stop: int) -> Batch:
        """Images start ... stop - 1."""
        images = list(self._pool.map(self._read, self._files[start:stop]))
        return Batch(np.stack(images), self.labels[start:stop])

    def fingerprint(self) -> str:
        """A digest of the files' bytes, the labels and the size."""
        found = hashlib.sha256(repr((self.shape, len(self))).encode())
        found.update(self.labels.astype("<i8").data)
        for digest in self._pool.map(_digest, self._files):
            found.update(digest)
        return found.hexdigest()

    def _read(self, file: pathlib.Path) -> np.ndarray:
        try:
            pixels = decoding.decode(file, self.shape[2], apply_rotation=True)
        except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
            raise EvaluationInputError(f"{file} cannot be read as an image ({error}).") from error
        if self._size is None:
            return pixels
        return to_uint8(transforms.preprocess(pixels, self._size))

    def _shape_of(
        self, root: pathlib.Path, heads: list[tuple[int, int, bool]]
    ) -> tuple[int, int, int]:
        channels = 1 if all(grey for *_, grey in heads) else 3
        if self._size is not None:
            return self._size, self._size, channels
        height, width, _ = heads[0]
        for file, (other_height, other_width, _) in zip(self._files, heads, strict=True):
            if (other_height, other_width) != (height, width):
                raise EvaluationInputError(
                    f"{root} holds images of different sizes: {self._files[0].name} is {height}x{width} "
                    f"(height x width), {file.name} is {other_height}x{other_width}. Move away what is no "
                    "sample, or give --resize=antialias:64 (or another side) to cut each to its centre "
                    "square and resize it."
                )
        return height, width, channels


def _files_below(root: pathlib.Path) -> list[pathlib.Path]:
    found = []
    for parent, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            pathlib.Path(parent, name)
            for name in names
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return found


def _head(file: pathlib.Path) -> tuple[int, int, bool]:
    """(height, width, is greyscale); refuses what has no single meaning as 8-bit pixels."""
    try:
        height, width, grey = decoding.read_header(file)
        with Image.open(file) as image:
            mode = image.mode
    except Image.DecompressionBombError as error:
        raise EvaluationInputError(
            f"{file}: samples of at most {MAX_PIXELS:,} pixels are read ({error})."
        ) from error
    except Exception as error:
        raise EvaluationInputError(f"{file} cannot be read as an image ({error}).") from error
    if height * width > MAX_PIXELS:
        raise EvaluationInputError(
            f"{file} has {width} x {height} pixels; samples of at most {MAX_PIXELS:,} pixels are read."
        )
    if mode not in ("L", "RGB", "CMYK", "YCbCr"):
        raise EvaluationInputError(
            f"{file}: expected an 8-bit grey or RGB image; got the mode {mode!r}. Save it as one, or give "
            f"folder:{file.parent}, which drops transparency and palettes as training does."
        )
    return height, width, grey


def _digest(file: pathlib.Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _labels(root: pathlib.Path, files: list[pathlib.Path]) -> np.ndarray | None:
    for place in (root / _LABELS_FILE, root.parent / _LABELS_FILE):
        if place.is_file():
            return _labels_from_json(place, files)
    matches = [_LABEL_IN_NAME.search(file.stem) for file in files]
    unlabelled = [file.name for file, match in zip(files, matches, strict=True) if match is None]
    if not unlabelled:
        return _label_array(str(root), [int(match.group(1)) for match in matches if match])
    if len(unlabelled) < len(files):
        raise EvaluationInputError(
            f"{root}: {len(unlabelled)} of {len(files)} names say no label ({unlabelled[0]} is the first). "
            "Expected all or none to end in _labelN, as in 000000_label3.png."
        )
    parts = [file.relative_to(root).parts for file in files]
    if any(len(each) == 1 for each in parts):
        return None
    classes = sorted({each[0] for each in parts})
    return np.array([classes.index(each[0]) for each in parts], np.int64)


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
    image_set.check_labels(str(place), len(files), (len(labels),), np.dtype(np.int64))
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
