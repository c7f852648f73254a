"""One command at a time in a folder, and locks that die with their holders."""

import contextlib
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from configs import digits
from noise_sched import train
from noise_sched.experiment import locks, workdir

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE", 0.0)


def test_a_held_folder_is_refused_and_a_released_one_is_clean(tmp_path):
    folder = tmp_path / "new" / "run"
    with locks.hold(folder, "--out"):
        message = rf"--out=.*run is in use by process {os.getpid()} on host .*kill {os.getpid()}"
        with pytest.raises(ValueError, match=message), locks.hold(folder, "--out"):
            pass
    assert not folder.exists(), "made for nothing"
    with locks.hold(folder, "--out"):
        (folder / "file").write_text("a")
    assert [path.name for path in folder.iterdir()] == ["file"]
    with locks.hold(folder, "--out"):
        pass
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_kill_9_leaves_no_lock(tmp_path):
    program = (
        "import sys, time, pathlib\n"
        "from noise_sched.experiment import locks\n"
        "with locks.hold(pathlib.Path(sys.argv[1]), '--workdir'):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"in use by process {holder.pid} on host"):
            with locks.hold(tmp_path, "--workdir"):
                pass
    finally:
        holder.kill()
        holder.wait()
    assert (tmp_path / locks.NAME).exists()  # the file is there and means nothing
    with locks.hold(tmp_path, "--workdir"):
        pass


def test_a_holder_that_is_going_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE", 30.0)
    held, going = threading.Event(), threading.Event()

    def hold():
        with locks.hold(tmp_path, "--workdir"):
            held.set()
            going.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    threading.Timer(0.2, going.set).start()
    with locks.hold(tmp_path, "--workdir"):
        assert going.is_set()
    thread.join()


def test_many_at_once_exclude_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE", 60.0)
    monkeypatch.setattr(locks, "_PAUSE", 0.001)
    inside, most = [], []

    def hold():
        for _ in range(20):
            with locks.hold(tmp_path, "--workdir"):
                inside.append(1)
                time.sleep(0.002)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80


def test_a_file_that_its_holder_removed_meanwhile_is_not_the_lock(tmp_path, monkeypatch):
    flock, calls, holder = locks.fcntl.flock, [], contextlib.ExitStack()
    holder.enter_context(locks.hold(tmp_path, "--workdir"))

    def late(handle, how):
        calls.append(handle)
        if len(calls) == 1:
            holder.close()  # after the file was opened, before it is locked
        return flock(handle, how)

    monkeypatch.setattr(locks.fcntl, "flock", late)
    with locks.hold(tmp_path, "--workdir"):
        assert len(calls) == 2 and (tmp_path / locks.NAME).exists()


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch, caplog):
    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with locks.hold(tmp_path, "--workdir"):
        pass
    assert "is on a file system without locks" in caplog.text


def test_a_second_training_is_refused_and_changes_nothing(tmp_path):
    config = digits.get_config("tiny")
    with workdir.hold(tmp_path, config):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(ValueError, match=f"--workdir={tmp_path} is in use by process"):
            train.run(config, tmp_path)
        assert sorted(tmp_path.iterdir()) == before


def test_no_lock_is_put_into_a_foreign_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty and not a workdir"):
        with workdir.hold(tmp_path, digits.get_config("tiny")):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_workdir_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="--workdir=.*file/run cannot be written: Not a directory"):
        with workdir.hold(tmp_path / "file" / "run", digits.get_config("tiny")):
            pass
