"""Files of statistics, as other projects publish them, in place of real images."""

import pathlib
import zipfile
from collections.abc import Mapping

from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.frechet import Statistics
from noise_sched.interop import reference_statistics

_PICKLE = b"\x80"  # how a pickle begins


def is_statistics(text: str) -> bool:
    """Whether a name is that of a file of statistics: a pickle, or an .npz with `mu`."""
    path = pathlib.Path(text).expanduser()
    if not path.is_file():
        return False
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "mu.npy" in archive.namelist()
    with path.open("rb") as file:
        return file.read(1) == _PICKLE


def read(text: str) -> Mapping[str, Statistics]:
    """The statistics of a file, by kind of features.

    Raises:
      EvaluationInputError: it cannot be read as such.
    """
    path = pathlib.Path(text).expanduser()
    try:
        found = reference_statistics.read(path)
    except (ValueError, OSError) as error:
        raise EvaluationInputError(f"--reference={text}: {error}") from None
    return {kind: Statistics(*each) for kind, each in found.items()}
