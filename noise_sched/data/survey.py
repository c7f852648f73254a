"""What a folder of images is, before a config for it is chosen."""

import dataclasses

import numpy as np

from noise_sched.data import folder, sources

_LOOKED_AT = 256


@dataclasses.dataclass(frozen=True)
class Survey:
    """A folder of images.

    Attributes:
      images: how many there are.
      unreadable: how many files were passed over.
      classes: the names of its first-level subfolders.
      channels: 1 where all images are greyscale, else 3.
      smallest_side: of all images, in pixels.
      image_size: the side that was asked for, or the largest of 8, 16, 32, 64 that enlarges none.
      std: the standard deviation of the pixels at that size, in [-1, 1].
    """

    images: int
    unreadable: int
    classes: tuple[str, ...]
    channels: int
    smallest_side: int
    image_size: int
    std: float


def survey(
    path: str,
    *,
    image_size: int | None = None,
    largest: int = 64,
    skip_unreadable: bool = False,
) -> Survey:
    """Looks at every head in a folder of images, and at the pixels of 256 spread over it.

    Args:
      path: the folder.
      image_size: the side to render them at; None chooses it.
      largest: the largest side that is chosen.
      skip_unreadable: pass over files that cannot be decoded.

    Raises:
      ValueError: what `noise_sched.data.folder.open_folder` says, images smaller than 8 pixels, or of one
        colour.
    """
    records = folder.open_folder(
        path, split="train", channels=None, skip_unreadable=skip_unreadable
    )
    side = records.smallest_side or 0
    fitting = [size for size in (8, 16, 32, 64) if size <= min(side, largest)]
    if image_size is None and not fitting:
        raise ValueError(
            f"{records.name} has images with a side of {side} pixels; give a size, to which they are "
            "enlarged: size=8."
        )
    size = image_size or fitting[-1]
    source = sources.Source(
        records.name, (size, size, records.channels), records.class_names, records, size
    )
    count = min(len(records), _LOOKED_AT)
    pixels = source.gather(np.arange(count) * len(records) // count)["image"]
    std = float(np.std(np.asarray(pixels, np.float64)))
    if std == 0:
        raise ValueError(f"{records.name}: all pixels of the images in it are equal.")
    return Survey(
        images=len(records),
        unreadable=records.unreadable,
        classes=records.class_names,
        channels=records.channels,
        smallest_side=side,
        image_size=size,
        std=std,
    )
