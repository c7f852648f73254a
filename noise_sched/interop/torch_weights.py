"""Published weights -> NumPy arrays by name, without torch: a `.pth` or `.pt` state dict, or safetensors.

A state dict is what `torch.save(module.state_dict(), path)` wrote, in either of torch's formats
(`pickles.torch_tensors`); nothing that it names is imported or called. A safetensors file is

    int64 length | JSON {name: {dtype, shape, data_offsets: [start, stop]}} | raw little-endian numbers

(https://github.com/huggingface/safetensors), the offsets counted in bytes from the end of the JSON.
"""

import json
import math
import pathlib
from typing import Any

import ml_dtypes
import numpy as np

from noise_sched.interop.pickles import torch_tensors, unpickler
from noise_sched.interop.pickles.unpickler import File, ForeignFileError

_NAMES: unpickler.Table = {**unpickler.PLAIN, **torch_tensors.TENSORS}
_MOST_HEADER = 100_000_000  # bytes of JSON, the format's own limit
_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a file of weights, read-only, by torch's names.

    Raises:
      ForeignFileError: another kind of file, a damaged one, or one that names anything but tensors; the
        message names the file.
      OSError: if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return _read(file)
    except ForeignFileError as error:
        raise ForeignFileError(f"{path}: {error}") from None


def _read(file: File) -> dict[str, np.ndarray]:
    start = file.read(16)
    file.seek(0)
    if start.startswith((torch_tensors.ZIP_START, torch_tensors.LEGACY_START)):
        return _arrays(torch_tensors.load_stream(file, _NAMES))
    if start[8:9] == b"{":
        return _safetensors(file)
    raise ForeignFileError(
        f"is neither a state dict of torch.save nor safetensors: it starts with {start[:8]!r}. Check that "
        "the download is complete and no web page."
    )


def _arrays(made: Any) -> dict[str, np.ndarray]:
    if not isinstance(made, dict) or not made:
        raise ForeignFileError(f"is no state dict: it holds a {type(made).__name__}.")
    for name, value in made.items():
        if not isinstance(name, str) or not isinstance(value, torch_tensors.Tensor):
            raise ForeignFileError(
                f"is no state dict of tensors: {ascii(name)[:50]} is a {type(value).__name__}."
            )
    return {name: tensor.array() for name, tensor in made.items()}


def _safetensors(file: File) -> dict[str, np.ndarray]:
    length = int.from_bytes(file.read(8), "little")
    header = file.read(min(length, _MOST_HEADER))
    body = file.read()
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        return {name: _entry(entry, body) for name, entry in entries.items()}
    # What JSON of another kind raises, one type for each way of being wrong.
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ForeignFileError(
            f"is a damaged or truncated safetensors file ({unpickler.brief(error)})."
        ) from None


def _entry(entry: dict[str, Any], body: bytes) -> np.ndarray:
    dtype, shape, (start, stop) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if not 0 <= start <= stop <= len(body) or math.prod(shape) * dtype.itemsize != stop - start:
        raise ValueError(f"{dtype} {shape} in the bytes {start} to {stop} of {len(body)}")
    return np.frombuffer(body, dtype, math.prod(shape), start).reshape(shape)
