import importlib.util
import pathlib
import shutil
import subprocess
import sys

import in_process
import pytest

from noise_sched import prepare
from noise_sched.data import open_source


def test_digits(tmp_path, capsys):
    assert in_process.run(prepare, ["--dataset=digits", f"--data_dir={tmp_path}"]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    assert len(open_source("digits", image_size=8, data_dir=tmp_path)) == 1797


def test_any_data_set_and_its_configs(tiny_builders, tmp_path, capsys):
    options = ["--dataset=tiny_downsampled/4x4", f"--data_dir={tmp_path}"]
    assert in_process.run(prepare, options) == 0
    assert len(open_source("tiny_downsampled", image_size=4, data_dir=tmp_path)) == 6
    (file,) = tmp_path.rglob("*.array_record*")
    before = file.stat().st_mtime_ns
    assert in_process.run(prepare, options) == 0  # Nothing is done twice.
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar1O", "did you mean 'cifar10'"),
        ("tiny_downsampled/8", "no config '8'; did you mean '8x8'"),
    ],
)
def test_unknown_names(tiny_builders, tmp_path, capsys, name, message):
    assert in_process.run(prepare, [f"--dataset={name}", f"--data_dir={tmp_path}"]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_tensorflow_is_asked_for_before_anything_is_downloaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert in_process.run(prepare, ["--dataset=cifar10", f"--data_dir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert "tensorflow" in error and "pip install 'noise_sched[tf]'" in error
    assert not list(tmp_path.iterdir())


def test_another_file_format_is_not_mistaken_for_done(tiny_dir, tmp_path, capsys):
    shutil.copytree(pathlib.Path(tiny_dir, "tiny_photos"), tmp_path / "tiny_photos")
    (info,) = tmp_path.rglob("dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    assert in_process.run(prepare, ["--dataset=tiny_photos", f"--data_dir={tmp_path}"]) == 2
    assert "as tfrecord. Give another --data_dir" in capsys.readouterr().err


def test_missing_manual_files_are_an_error_message(tiny_builders, tmp_path, capsys, monkeypatch):
    photos, _ = tiny_builders

    def refuse(self, dl_manager):
        raise AssertionError("Manual directory does not exist. Create it and download the images.")

    monkeypatch.setattr(photos, "_split_generators", refuse)
    assert in_process.run(prepare, ["--dataset=tiny_photos", f"--data_dir={tmp_path}"]) == 2
    assert "download the images" in capsys.readouterr().err


def test_the_command_is_found_under_its_first_name():
    command = [sys.executable, "-m", "noise_sched.data.prepare", "--dataset="]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("error: --dataset= is empty"), run.stderr
