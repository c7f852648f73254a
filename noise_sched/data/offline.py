"""Data sets of our own: prepared as TFDS data sets on first use, from nothing but installed packages.

    prepare("digits", data_dir)

To add one, write its builder in a module beside this one and name it in `MODULES`.

A builder imports TFDS when it is imported: it is imported only on use.
"""

import contextlib
import importlib
import io
from collections.abc import Iterator
from typing import Any

from absl import logging

# Data set -> the module with its builder, which is called BUILDER there.
MODULES = {
    "brightness": "noise_sched.data.brightness",
    "digits": "noise_sched.data.digits",
}


def prepare(name: str, data_dir: str | None = None) -> str:
    """Writes a data set below `data_dir` as array_record, unless it is there already.

    Args:
        name: one of `MODULES`.
        data_dir: TFDS's folder; None is its default (`TFDS_DATA_DIR` or ~/tensorflow_datasets).

    Returns:
        The folder that it lies in.

    Raises:
        ValueError: the folder cannot be written.
    """
    made = importlib.import_module(MODULES[name]).BUILDER
    with _quiet():
        builder = made(data_dir=data_dir)
        if not builder.is_prepared():
            _write(made, builder, data_dir)
    return builder.data_dir


def _write(made: Any, builder: Any, data_dir: str | None) -> None:
    import tensorflow_datasets as tfds

    try:
        builder.download_and_prepare(
            file_format="array_record",
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )
    except Exception as error:
        # Several processes may start at once on one disk. The finished folder appears in one
        # rename, so whoever comes second fails there and finds the data complete.
        if made(data_dir=data_dir).is_prepared():
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
