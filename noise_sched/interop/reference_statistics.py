"""Published statistics of a data set's features: mean and covariance, what a Frechet distance compares with.

    EDM           .npz   mu, sigma
    pytorch-fid   .npz   mu, sigma; clean-fid writes the same
    ADM           .npz   mu, sigma; mu_s, sigma_s of the spatial features; arr_0, images of another count
    EDM2          .pkl   {num_images: N, fid: {mu, sigma}, fd_dinov2: {mu, sigma}}

They are read as data: nothing in them is run. A file does not say how its images were resized, and only
EDM2's says how many there were.
"""

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float64

from noise_sched.evaluation import npz
from noise_sched.interop.pickles import unpickler
from noise_sched.interop.pickles.unpickler import Array, ForeignFileError

Mean = Float64[np.ndarray, " length"]
Covariance = Float64[np.ndarray, "length length"]
Statistics = dict[str, tuple[Mean, Covariance, int | None]]  # by the kind of features

_INCEPTION = {length: f"inception/{length}" for length in (64, 192, 768, 2048)}
# Where the mean is: the kinds of features by their length.
_KINDS = {
    "mu": _INCEPTION,
    "mu_s": {2023: "inception/spatial"},
    "fid": _INCEPTION,
    "fd_dinov2": {1024: "dinov2"},
}
# Of the largest covariance: how far a product in float32 may be from symmetric.
_ASYMMETRY = 1e-5


def read(path: pathlib.Path) -> Statistics:
    """The statistics in a file, by kind of features ("inception/2048"): mean, covariance, count of images.

    Raises:
      ValueError: no file of statistics, a damaged one, or numbers that are none; the message names it.
      OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        pickled = file.read(1) == b"\x80"
    try:
        return _from_pickle(path) if pickled else _from_npz(path)
    except ForeignFileError as error:
        raise ForeignFileError(f"{path}: {error}") from None


def _from_npz(path: pathlib.Path) -> Statistics:
    arrays = npz.read(
        path,
        ("mu", "sigma", "mu_s", "sigma_s"),
        expected="`mu`, the mean of the features, and `sigma`, their covariance",
    )
    found = _checked("mu", arrays["mu"], arrays.get("sigma"), None)
    if "mu_s" in arrays:
        found |= _checked("mu_s", arrays["mu_s"], arrays.get("sigma_s"), None)
    return found


def _from_pickle(path: pathlib.Path) -> Statistics:
    with open(path, "rb") as file:
        made = unpickler.load(file, unpickler.PLAIN)
    if not isinstance(made, dict):
        raise ForeignFileError(f"is a pickle of a {type(made).__name__}, not of statistics.")
    count = made.get("num_images")
    if count is not None and (type(count) is not int or count < 2):
        raise ForeignFileError(f"has {ascii(count)[:50]} as its number of images: damaged.")
    found: Statistics = {}
    for name in ("fid", "fd_dinov2"):
        match made.get(name):
            case {"mu": Array() as mean, "sigma": Array() as covariance}:
                found |= _checked(name, mean.value, covariance.value, count)
            case None:
                pass
            case _:
                raise ForeignFileError(f"has a {name!r} without arrays `mu` and `sigma`: damaged.")
    if not found:
        raise ForeignFileError(
            "is a pickle without statistics: expected 'fid' or 'fd_dinov2', as EDM2 writes them. It holds "
            f"{', '.join(ascii(key)[:30] for key in list(made)[:8]) or 'nothing'}."
        )
    return found


def _checked(name: str, mean: Any, covariance: Any, count: int | None) -> Statistics:
    """One entry, in float64, where it can be the mean and covariance of known features."""
    kind = _KINDS[name].get(mean.size) if mean.ndim == 1 else None
    if kind is None:
        raise ForeignFileError(
            f"has a mean `{name}` of shape {list(mean.shape)}; known lengths are "
            f"{', '.join(map(str, _KINDS[name]))}."
        )
    if covariance is None or covariance.shape != (mean.size, mean.size):
        shape = "none" if covariance is None else list(covariance.shape)
        raise ForeignFileError(
            f"has a mean `{name}` of {mean.size} numbers, but its covariance is {shape}."
        )
    if mean.dtype.kind != "f" or covariance.dtype.kind != "f":
        raise ForeignFileError(
            f"has statistics `{name}` of type {mean.dtype} and {covariance.dtype}, not numbers."
        )
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ForeignFileError(f"has statistics `{name}` that are not finite: make them again.")
    largest = np.abs(covariance).max()
    if np.abs(covariance - covariance.T).max() > _ASYMMETRY * largest:
        raise ForeignFileError(f"has a covariance for `{name}` that is not symmetric: damaged.")
    if covariance.diagonal().min() < -_ASYMMETRY * largest:
        raise ForeignFileError(f"has a covariance for `{name}` with negative variances: damaged.")
    return {kind: (mean, covariance, count)}
