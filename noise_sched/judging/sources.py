"""Names on a command line -> images: a folder, an .npz, drawn samples, or a data set by name and split.

    open_images("photos")                  a folder of images, see `folders`
    open_images("samples.npz")             `images` and `labels`
    open_images("runs/digits/samples")     what `python -m noise_sched.sample` drew
    open_images("digits")                  a data set, as `config.data.name`; "cifar10@test" is another split
    open_images("folder:photos", size=64)  as training reads it

A trained model's folder is no set of images yet: `drawing` draws from it, `training_data` is what it learnt.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from noise_sched.data import sources as data_sources
from noise_sched.data import transforms
from noise_sched.evaluation import image_set
from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.images import Batch, Images
from noise_sched.evaluation.npz import NpzImages
from noise_sched.experiment import samples, workdir
from noise_sched.figures.images import to_uint8
from noise_sched.judging.folders import FolderImages
from noise_sched.messages import hint_beside

CACHE = os.path.join(os.environ.get("NOISE_SCHED_CACHE", "~/.cache/noise_sched"), "features")
"""Where features are kept unless told otherwise."""

_SAMPLES = "samples.npz"
# A data set of more bytes is known by its name, split and size, not by its pixels: reading them takes hours.
_MOST_HASHED = 4 * 2**30


def open_images(
    text: str, flag: str = "--images", *, size: int | None = None, data_dir: str = ""
) -> Images:
    """Opens images by a name.

    Args:
      text: a path, or a data set's name.
      flag: the command's flag that gave it, for messages.
      size: cut images to their centre square and resize them to this side, as training does; None keeps
        them.
      data_dir: TFDS's folder; "" is its default.

    Raises:
      EvaluationInputError: nothing is there, or it cannot be read as images.
    """
    if not text.strip() or "\0" in text:
        raise EvaluationInputError(
            f"{flag}={text!r} names no images: give a folder, an .npz file, or a data set such as digits."
        )
    path = pathlib.Path(text).expanduser()
    if text.startswith("folder:") or not path.exists():
        return _data_set(text, flag, size, data_dir)
    if path.is_dir() and (shards := samples.shard_paths(path)):
        if not samples.is_finished(path):
            raise EvaluationInputError(
                f"{flag}={text} holds a part of a run of `sample`: the same command draws the rest."
            )
        opened: Images = Joined(str(path), tuple(map(NpzImages, map(pathlib.Path, shards))))
    elif path.is_dir() and not (path / _SAMPLES).is_file():
        return FolderImages(path, size)
    else:
        opened = NpzImages(path / _SAMPLES if path.is_dir() else path)
    return opened if size is None else resized(opened, size)


def is_workdir(text: str) -> bool:
    """Whether a name is that of a folder that training wrote."""
    return (pathlib.Path(text).expanduser() / "config.json").is_file()


def training_data(config: ConfigDict) -> Images:
    """The images that a model was trained on, as it saw them but for mirroring.

    Raises:
      EvaluationInputError: they cannot be opened.
    """
    data = config.data
    return _opened(
        data.name, data.split, data.image_size, data.data_dir, data.channels, "--reference"
    )


def training_data_of(text: str) -> Images:
    """`training_data` of a workdir by its path."""
    return training_data(workdir.load_config(pathlib.Path(text).expanduser()))


def _data_set(text: str, flag: str, size: int | None, data_dir: str) -> Images:
    """A data set by its name, which may be a path that does not exist."""
    name, _, split = text.partition("@")
    path = pathlib.Path(text).expanduser()
    looks_like_a_path = path.suffix or text[0] in "~./" or ("/" in text and path.parent.is_dir())
    if looks_like_a_path and not text.startswith("folder:"):
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise EvaluationInputError(f"{flag}={text} does not exist.{hint_beside(path, near)}")
    return _opened(name, split or "train", size, data_dir, None, flag)


def _opened(
    name: str, split: str, size: int | None, data_dir: str, channels: int | None, flag: str
) -> Images:
    try:
        source = data_sources.open_source(
            name,
            image_size=size,
            split=split,
            data_dir=data_dir or None,
            channels=channels,
            memory_budget=0,  # they are read once, in order
        )
    except (ValueError, OSError) as error:
        raise EvaluationInputError(f"{flag}={name}: {error}") from None
    return DataImages(source, split)


@dataclasses.dataclass(frozen=True, eq=False)
class DataImages:
    """A data set as images to judge, rounded to bytes as samples are; see `evaluation.images.Images`."""

    source: data_sources.Source
    split: str

    @property
    def name(self) -> str:
        """The data set's name and split."""
        return f"{self.source.name}@{self.split}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image."""
        return self.source.image_shape

    @property
    def classes(self) -> int:
        """How many classes it has."""
        return self.source.num_classes

    @property
    def labelled(self) -> bool:
        """Whether it has classes."""
        return self.classes > 0

    def __len__(self) -> int:
        return len(self.source)

    def read(self, start: int, stop: int) -> Batch:
        """Images start ... stop - 1."""
        try:
            rows = self.source.gather(np.arange(start, min(stop, len(self))))
        except ValueError as error:
            raise EvaluationInputError(str(error)) from error
        return Batch(to_uint8(rows["image"]), rows["label"].astype(np.int64))

    def fingerprint(self) -> str:
        """A digest of the pixels; of a very large set of its name, split and size."""
        if len(self) * int(np.prod(self.shape)) <= _MOST_HASHED:
            return image_set.digest(self)
        about = (self.name, len(self), self.shape, self.source.class_names)
        return hashlib.sha256(repr(about).encode()).hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class Joined:
    """Sets of images one after the other, of one size; see `evaluation.images.Images`."""

    name: str
    parts: tuple[Images, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image."""
        return self.parts[0].shape

    @property
    def labelled(self) -> bool:
        """Whether all of them are."""
        return all(part.labelled for part in self.parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def read(self, start: int, stop: int) -> Batch:
        """Images start ... stop - 1."""
        found, first = [], 0
        for part in self.parts:
            here = max(start - first, 0), min(stop - first, len(part))
            if here[0] < here[1]:
                found.append(part.read(*here))
            first += len(part)
        images, labels = zip(*found, strict=True)
        return Batch(np.concatenate(images), np.concatenate(labels))

    def fingerprint(self) -> str:
        """A digest of the content, that of the same images in one set."""
        return image_set.digest(self)


@dataclasses.dataclass(frozen=True, eq=False)
class Mapped:
    """Images that go through a function of single images, [h, w, c] -> `shape`, when they are read."""

    images: Images
    function: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, int, int]
    about: str

    @property
    def name(self) -> str:
        """The name of the images themselves."""
        return self.images.name

    @property
    def labelled(self) -> bool:
        """Whether the images are."""
        return self.images.labelled

    def __len__(self) -> int:
        return len(self.images)

    def read(self, start: int, stop: int) -> Batch:
        """Images start ... stop - 1."""
        batch = self.images.read(start, stop)
        return Batch(np.stack([self.function(image) for image in batch.images]), batch.labels)

    def fingerprint(self) -> str:
        """That of the images, and what is done to them."""
        return hashlib.sha256(f"{self.images.fingerprint()} {self.about}".encode()).hexdigest()


def resized(images: Images, size: int) -> Images:
    """The images cut to their centre square and resized, antialiased, as training does; then bytes."""
    if images.shape[:2] == (size, size):
        return images
    return Mapped(
        images,
        lambda image: to_uint8(transforms.preprocess(image, size)),
        (size, size, images.shape[2]),
        f"antialias:{size}",
    )
