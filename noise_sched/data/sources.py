"""Opening a data set by name: every picture with random access, decoded and at its final size.

    open_source("digits", image_size=8)
    open_source("imagenet2012", image_size=64, data_dir="gs-or-local/folder")
    open_source("folder:~/pictures", image_size=128)

A source is finite, ordered and pure: `source[i]` is always the same. Shuffling, mirroring, batching
and repetition belong to `noise_sched.data.pipeline`.

Images that differ from the training size are cut to the largest centre square and resized
(`noise_sched.data.transforms`); smaller ones are **enlarged**, with a warning where that is known
beforehand, because the published ImageNet models above 256 pixels do the same.

A data set that fits the memory budget when decoded (all of digits and CIFAR-10 do) is decoded and
resized once, when it is opened; a batch is then one gather. Others are decoded as they are needed.
"""

import concurrent.futures
import dataclasses
import os
import warnings
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8

from noise_sched.data import folder, offline, tfds_dataset, transforms

# Bytes up to which a decoded data set is kept in memory.
MEMORY_BUDGET = 256 * 2**20


@runtime_checkable
class Records(Protocol):
    """Encoded images in a fixed order: what a new kind of data set has to offer."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Empty where images have no label."""
        ...

    @property
    def channels(self) -> int:
        """1 or 3."""
        ...

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of every image, or None where they differ or nobody knows."""
        ...

    @property
    def smallest_side(self) -> int | None:
        """Shortest side over all images, or None where nobody knows."""
        ...

    @property
    def mixed_sizes(self) -> str:
        """A clause for messages: why `size` is None."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[UInt8[np.ndarray, "height width channels"], int]:
        """Decoded bytes and label (-1: none)."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A data set of images at their final size, with random access.

    Attributes:
        name: the data set's full name.
        image_shape: (height, width, channels) of every image.
        class_names: one name per class; empty where images are unlabelled (every label is -1).
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    _records: Records
    _image_size: int | None
    _images: np.ndarray | None = None
    _labels: np.ndarray | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 where images are unlabelled."""
        return len(self.class_names)

    @property
    def smallest_side(self) -> int | None:
        """Shortest side over all images before they are resized, or None where nobody knows."""
        return self._records.smallest_side

    @property
    def in_memory(self) -> bool:
        """Whether all images were decoded when the source was opened."""
        return self._images is not None

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, np.ndarray | np.int32]:
        """{"image": float32 [height, width, channels] in about [-1, 1], "label": int32}."""
        image, label = self.read(index)
        return {"image": image, "label": label}

    def read(self, index: int) -> tuple[Float32[np.ndarray, "height width channels"], np.int32]:
        """What `source[index]` holds, as a pair."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {self.name}, which has {len(self)}")
        if self.in_memory:
            batch = self.gather(np.array([index]))
            return batch["image"][0], batch["label"][0]
        pixels, label = self._records.read(index)
        return transforms.preprocess(pixels, self._image_size), np.int32(label)

    def gather(
        self, indices: Int[np.ndarray, "batch"]
    ) -> dict[str, Float32[np.ndarray, "batch height width channels"] | Int32[np.ndarray, "batch"]]:
        """Many images at once, as new arrays: {"image": [batch, h, w, c], "label": [batch]}."""
        if self._images is None or self._labels is None:
            images, labels = zip(*(self.read(int(index)) for index in indices), strict=True)
            return {"image": np.stack(images), "label": np.stack(labels)}
        images = self._images[indices]
        if images.dtype == np.uint8:
            images = transforms.to_model_range(images)
        return {"image": images, "label": self._labels[indices]}


def open_source(
    name: str,
    *,
    image_size: int | None,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    channels: int | None = None,
    memory_budget: int = MEMORY_BUDGET,
    skip_unreadable: bool = False,
) -> Source:
    """Opens a data set by name.

    Args:
        name: "digits", "mnist5k", "dead_leaves", "photo_crops" or "brightness" (prepared on first
            use, offline), "folder:PATH" (any folder of images, see `noise_sched.data.folder`), or a TFDS
            data set that was prepared as array_record, such as "cifar10", "imagenet2012",
            "downsampled_imagenet" (unlabelled), "celeb_a_hq", as "name", "name/config" or with
            ":version".
        image_size: side of the square images. None keeps the images' own size, which has to be one
            and the same for all.
        split: TFDS split; slices such as "train[:90%]" are fine. Folders have "train" only.
        data_dir: TFDS's folder; None is its default (`TFDS_DATA_DIR` or ~/tensorflow_datasets).
        channels: 1 (greyscale) or 3 (RGB); None is what the data set has.
        memory_budget: bytes up to which the decoded data set is kept in memory; 0 never keeps it.
        skip_unreadable: of a folder, pass over files that cannot be decoded.

    Raises:
        DatasetNotPreparedError: a TFDS data set that is not on disk; says what to run.
        ValueError: unknown name (with the nearest one), split or config; a folder with files that
            are not images; images of several sizes and image_size=None.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"got image_size={image_size}; expected a positive number or None.")
    if channels not in (None, 1, 3):
        raise ValueError(f"got channels={channels}; expected 1 (greyscale), 3 (RGB) or None.")

    if data_dir is not None and os.path.isfile(os.path.expanduser(data_dir)):
        raise ValueError(f"got data_dir={str(data_dir)!r}, which is a file; expected a folder.")
    if name.startswith("folder:"):
        records = folder.open_folder(
            name.removeprefix("folder:"),
            split=split,
            channels=channels,
            skip_unreadable=skip_unreadable,
        )
    else:
        folder_of_tfds = os.path.expanduser(data_dir) if data_dir else None
        if offline.is_ours(name):
            tfds_dataset.check_known(name)
            name = tfds_dataset.resolve_name(name, image_size)
            offline.prepare(name, folder_of_tfds)
        records = tfds_dataset.open_tfds(
            name, image_size=image_size, split=split, data_dir=folder_of_tfds, channels=channels
        )
    return from_records(records, image_size=image_size, memory_budget=memory_budget)


def from_records(
    records: Records, *, image_size: int | None, memory_budget: int = MEMORY_BUDGET
) -> Source:
    """A source of any records at a final size; see `open_source` for the arguments."""
    if len(records) == 0:
        raise ValueError(f"data set {records.name!r} is empty.")
    size = records.size if image_size is None else (image_size, image_size)
    if size is None:
        raise ValueError(
            f"{records.mixed_sizes}. Give image_size: each image is then cut to its centre square "
            "and resized."
        )
    if image_size is not None and (records.smallest_side or image_size) < image_size:
        warnings.warn(
            f"{records.name} has images with a side of {records.smallest_side} pixels, which are "
            f"enlarged to {image_size}.",
            stacklevel=3,
        )
    shape = (*size, records.channels)
    source = Source(records.name, shape, records.class_names, records, image_size)

    # Bytes stay bytes where nothing is resized; a resized image is not a whole number of bytes.
    dtype = np.uint8 if records.size == size else np.float32
    if len(records) * int(np.prod(shape)) * np.dtype(dtype).itemsize > memory_budget:
        return source
    images = np.empty((len(records), *shape), dtype)
    labels = np.empty(len(records), np.int32)

    def fill(index: int) -> None:
        pixels, labels[index] = records.read(index)
        resized = dtype == np.float32
        images[index] = transforms.preprocess(pixels, image_size) if resized else pixels

    # Pillow decodes outside of Python's lock.
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(fill, range(len(records))):
            pass
    return dataclasses.replace(source, _images=images, _labels=labels)
