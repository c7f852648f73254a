"""Weights read without torch. `weights/` holds one state dict, written by torch 2.13 in both of its formats
and by safetensors 0.8: a linear layer, a batch norm, numbers of two short types and a view that strides.
"""

import os
import pathlib
import pickle
import re
import zipfile

import numpy as np
import pytest

from noise_sched.interop import torch_weights
from noise_sched.interop.pickles.unpickler import ForeignFileError

FILES = sorted((pathlib.Path(__file__).parent / "weights").iterdir())
WHOLE = np.arange(12, dtype=np.float32).reshape(3, 4)
HELD = {
    "0.weight": WHOLE[:2, :3],
    "0.bias": np.float32([0.5, -0.5]),
    "1.weight": np.ones(2, np.float32),
    "1.bias": np.zeros(2, np.float32),
    "1.running_mean": np.zeros(2, np.float32),
    "1.running_var": np.ones(2, np.float32),
    "1.num_batches_tracked": np.int64(0),
    "half": np.arange(4, dtype=np.float16),
    "brain": np.arange(4),
    "view": WHOLE.T[1:, ::2],
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_arrays_are_those_that_torch_wrote(path):
    found = torch_weights.read(path)
    assert found.keys() == HELD.keys()
    for name, expected in HELD.items():
        assert found[name].dtype == ("bfloat16" if name == "brain" else expected.dtype)
        np.testing.assert_array_equal(found[name].astype(expected.dtype), expected)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, path):
    whole, cut = path.read_bytes(), tmp_path / "cut"
    for end in np.linspace(0, len(whole) - 1, 25).astype(int):
        cut.write_bytes(whole[:end])
        with pytest.raises(ForeignFileError, match=f"^{re.escape(str(cut))}: "):
            torch_weights.read(cut)


class Command:
    def __reduce__(self):
        return os.system, ("touch marker",)


def zipped(content):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(content))

    return write


def safetensors(header):
    return lambda path: path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (zipped({"w": Command()}), "asks for '.*system'.*nothing was run"),
        (zipped([1]), "no state dict: it holds a list"),
        (zipped({"w": 1.0}), "'w' is a float"),
        (zipped({"w": np.array([None])}), "not plain numbers"),
        (lambda path: path.write_text("<!DOCTYPE html>"), "starts with .*no web page"),
        (
            lambda path: path.write_bytes(pickle.dumps({"w": 1.0})),
            "neither a state dict of torch.save",
        ),
        (safetensors(b'{"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}'), "damaged"),
        (safetensors(b'{"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}'), "damaged"),
        (safetensors(b'{"w": {"dtype": "O", "shape": [1], "data_offsets": [0, 8]}}'), "damaged"),
        (
            safetensors(b'{"w": {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]}}'),
            "damaged",
        ),
        (safetensors(b"{[]}"), "damaged"),
    ],
)
def test_another_file_is_refused_in_one_message(tmp_path, monkeypatch, write, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "file")
    with pytest.raises(ForeignFileError, match=message) as error:
        torch_weights.read(pathlib.Path("file"))
    assert str(error.value).startswith("file: ") and "\n" not in str(error.value)
    assert not (tmp_path / "marker").exists()
