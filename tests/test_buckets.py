"""Folders in a bucket, gs://..., on a stand-in that keeps its objects in a local folder.

Checkpoints are left out: tensorstore reaches a bucket by itself.
"""

import contextlib
import io
import json
import os

import numpy as np
import pytest
from etils.epath import backend, gpath
from PIL import Image

from configs import digits
from noise_sched.experiment import locks, sampler, workdir
from noise_sched.training import files, metrics

RUN = "gs://bucket/run"


class Bucket(backend._OsPathBackend):
    """Objects: written whole when closed, never added to or renamed."""

    def __init__(self, root):
        self.root, self.puts = os.fspath(root), []

    def place(self, path):
        path = os.fspath(path)
        assert path.startswith("gs://"), path
        return os.path.join(self.root, path.removeprefix("gs://"))

    def open(self, path, mode):
        if "r" in mode:
            return super().open(self.place(path), mode)
        assert mode in ("w", "wb"), f"an object cannot be opened with mode {mode!r}"
        return self.put(path, mode)

    @contextlib.contextmanager
    def put(self, path, mode):
        buffer = io.BytesIO() if "b" in mode else io.StringIO()
        yield buffer
        self.puts.append(os.fspath(path))
        place = self.place(path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        data = buffer.getvalue()
        with open(place, "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())

    def exists(self, path):
        return super().exists(self.place(path))

    def isdir(self, path):
        return super().isdir(self.place(path))

    def listdir(self, path):
        return super().listdir(self.place(path))

    def makedirs(self, path, *, exist_ok=False, mode=None):
        return super().makedirs(self.place(path), exist_ok=exist_ok)

    def mkdir(self, path, *, exist_ok=False, mode=None):
        return super().makedirs(self.place(path), exist_ok=exist_ok)

    def remove(self, path):
        return super().remove(self.place(path))

    def rename(self, path, dst):
        raise AssertionError("an object cannot be renamed")

    replace = rename


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    made = Bucket(tmp_path / "objects")
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", made)
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    monkeypatch.chdir(tmp_path)
    yield made
    assert not (tmp_path / "gs:").exists()  # what pathlib would make of it


def test_a_workdir(bucket):
    folder, config = files.folder(RUN, "--workdir"), digits.get_config("tiny")
    assert str(workdir.checkpoints(folder)) == f"{RUN}/checkpoints"
    with workdir.hold(folder, config):
        assert workdir.load_config(folder).to_dict() == config.to_dict()
    config.seed = 1
    with pytest.raises(ValueError, match=f"--workdir={RUN} holds a run with another config"):
        workdir.claim(folder, config)
    with pytest.raises(ValueError, match=f"--workdir={RUN} is not empty"):
        workdir.check_unused(folder)
    with workdir.building(folder.parent / "new") as made:
        files.write_text(made / "file", "a")
    assert (folder.parent / "new" / "file").read_text() == "a"


def test_metrics(bucket, caplog):
    folder = files.folder(RUN, "--workdir")
    with metrics.MetricWriter(folder) as writer:
        assert "no TensorBoard events are written" in caplog.text
        for step in (10, 20, 30):
            writer.scalars(step, {"loss": step / 10})
        put = bucket.puts.count(f"{RUN}/metrics.jsonl")
        writer.keep_window(33, [{"step": 31, "loss": 0.1}, {"step": 32, "loss": float("nan")}], [])
        assert [line["step"] for line in metrics.read_metrics(RUN)] == [10, 20, 30]
        writer.scalars(40, {"loss": 4.0})
        assert bucket.puts.count(f"{RUN}/metrics.jsonl") == put + 1  # not with every line
        writer.picture(40, "samples", Image.new("L", (4, 4)))
    assert [line["step"] for line in metrics.read_metrics(RUN)] == [10, 20, 30, 40]
    assert (folder / "pictures" / "samples_00000040.png").read_bytes().startswith(b"\x89PNG")
    with metrics.MetricWriter(folder, resume_step=33) as writer:
        window = writer.window(33)
        assert window[0] == {"step": 31.0, "loss": 0.1} and np.isnan(window[1]["loss"])
    assert [line["step"] for line in metrics.read_metrics(RUN)] == [10, 20, 30]


def test_samples(bucket, monkeypatch):
    folder, config = files.folder(RUN, "--workdir"), digits.get_config("tiny")
    workdir.claim(folder, config)
    monkeypatch.setattr(sampler, "_restore", lambda exp, folder, step: (3, None))
    images = np.arange(5 * 16, dtype=np.uint8).reshape(5, 4, 4, 1)
    monkeypatch.setattr(sampler, "by_number", lambda *_: (lambda a, b: images[a:b], 5))
    out = files.folder(f"{RUN}/samples", "--out")
    assert sampler.run(config, folder, out, 5)
    with (out / "samples.npz").open("rb") as file:
        np.testing.assert_array_equal(np.load(file)["images"], images)
    assert json.loads((out / "samples.json").read_text())["workdir"] == "run"
    names = {path.name for path in out.iterdir()}
    assert names == {"images", "grid.png", "samples.npz", "samples.json"}
    assert (out / "images" / "000004.png").read_bytes().startswith(b"\x89PNG")
    assert not sampler.run(config, folder, out, 5)
    assert locks.NAME not in names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--out= is empty"),
        ("gcs://bucket/run", "kind gcs:// are not known.*gs://"),
        ("s3://bucket/run", "needs a package.*pip install s3fs"),
    ],
)
def test_addresses_that_cannot_work(text, message, monkeypatch):
    def missing(self, path):
        raise ImportError("no module")

    monkeypatch.setattr(backend._FileSystemSpecBackend, "exists", missing)
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    with pytest.raises(ValueError, match=message):
        files.folder(text, "--out")


def test_a_bucket_that_cannot_be_reached(bucket, monkeypatch):
    def refused(path):
        raise RuntimeError("401: Invalid\ncredentials")

    monkeypatch.setattr(bucket, "exists", refused)
    with pytest.raises(ValueError, match="gs://b/x cannot be reached: RuntimeError: 401: Invalid"):
        files.folder("gs://b/x", "--out")


def test_local_folders_are_plain_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.folder(f"file://{tmp_path}/run", "--out") == tmp_path / "run"
    assert files.folder("~/run", "--out") == tmp_path / "run"
    assert str(files.folder("runs/digits", "--out")) == "runs/digits"
