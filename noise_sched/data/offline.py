"""Data sets of our own: prepared as TFDS data sets on first use, from nothing but installed packages.

    prepare("digits", data_dir)

To add one, write its builder in a module beside this one and name it in `MODULES`.

A builder imports TFDS when it is imported: it is imported only on use.
"""

import contextlib
import functools
import importlib
import io
import re
from collections.abc import Iterator
from typing import Any

from absl import logging

# Data set -> the module with its builder, which is called BUILDER there.
MODULES = {
    "brightness": "noise_sched.data.brightness",
    "dead_leaves": "noise_sched.data.dead_leaves",
    "digits": "noise_sched.data.digits",
    "large_leaves": "noise_sched.data.large_leaves",
    "mnist5k": "noise_sched.data.mnist5k",
    "photo_crops": "noise_sched.data.photo_crops",
    "random_fields": "noise_sched.data.random_fields",
}


def is_ours(name: str) -> bool:
    """Whether "name", "name/config" or "name:version" is one of `MODULES`; TFDS knows it from then on."""
    base = re.split("[/:]", name)[0]
    if base in MODULES:
        importlib.import_module(MODULES[base])
    return base in MODULES


def prepare(name: str, data_dir: str | None = None) -> str:
    """Writes a data set below `data_dir` as array_record, unless it is there already.

    Args:
        name: one of `MODULES`, or "name/config" of one that has configs.
        data_dir: TFDS's folder; None is its default (`TFDS_DATA_DIR` or ~/tensorflow_datasets).

    Returns:
        The folder that it lies in.

    Raises:
        ValueError: the folder cannot be written, or a package that has the images is not installed.
    """
    base, _, config = name.partition(":")[0].partition("/")
    make = functools.partial(importlib.import_module(MODULES[base]).BUILDER, config=config or None)
    with _quiet():
        builder = make(data_dir=data_dir)
        if not builder.is_prepared():
            _write(make, builder, data_dir)
    return builder.data_dir


def _write(make: Any, builder: Any, data_dir: str | None) -> None:
    import tensorflow_datasets as tfds

    try:
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )
    except Exception as error:
        # Several processes may start at once on one disk. The finished folder appears in one
        # rename, so whoever comes second fails there and finds the data complete.
        if make(data_dir=data_dir).is_prepared():
            return
        if isinstance(error, OSError):
            raise ValueError(
                f"cannot write the {builder.name} data set to {builder.data_dir}: {error}. Give a "
                "folder that can be written as data_dir."
            ) from error
        raise


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without TFDS's progress bars, which say 'downloading' where nothing is."""
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    nowhere = io.StringIO()
    try:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield
    finally:
        logging.set_verbosity(level)
