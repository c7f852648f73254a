"""Whether what a command is asked for fits into the machine's memory or disk, checked before the work."""

import os
import pathlib
import shutil

from noise_sched.experiment import samples
from noise_sched.training import files
from noise_sched.training.files import Folder


def check_images(flag: str, count: int, image_shape: tuple[int, ...], out: Folder) -> None:
    """Refuses a number of images that cannot be held, as bytes, before they are written, or not be written.

    Those that are written as one file are held twice, in batches and as one array (uint8), with a label and a
    number each (int32); of more one shard is held, and the disk has to have room for all, which compressing
    them can only make smaller.

    Raises:
      ValueError: naming the flag and how many fit.
    """
    each = image_shape[0] * image_shape[1] * image_shape[2]
    size = "x".join(map(str, image_shape))
    fewer = "Draw fewer, or several times with another --config.sample.seed."
    if count <= samples.MOST_IN_ONE:
        has, each, where = (
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            2 * each + 8,
            "machine holds",
        )
    elif files.is_remote(out):
        has, where = 2**63, ""
    else:
        has, where = (
            shutil.disk_usage(_existing(pathlib.Path(out))).free,
            f"disk of {out} has room for",
        )
    most = min(has // each, 2**31 - 1)  # images are numbered in int32
    if count > most:
        raise ValueError(
            f"--{flag}={count}: {count * each / 2**30:,.0f} GiB of images are more than this {where}, "
            f"at most {most:,} of {size}. {fewer}"
        )


def _existing(path: pathlib.Path) -> pathlib.Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
