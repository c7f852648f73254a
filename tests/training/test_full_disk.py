"""A full disk: one message, nothing half-written among the steps, and on it goes once there is room.

Also a program, `python tests/training/test_full_disk.py DIRECTORY`, which trains into a file system with
little room left (of its own, where it may mount one), and again after making room.
"""

import ctypes
import errno
import os
import resource
import sys
from pathlib import Path

import jax
import orbax.checkpoint as ocp
import pytest
import tiny

from noise_sched import command_line
from noise_sched.training import faults
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.faults import OutOfSpace
from noise_sched.training.metrics import MetricWriter
from noise_sched.training.snapshots import Snapshots

NO_SPACE = "Failed to write 45471 bytes to file 4: No space left on device [os_error_code='28']"


def wrapped(inner):
    outer = Exception("Encountered error")
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded"),
        (
            ValueError(f'RESOURCE_EXHAUSTED: Error writing "w/0": {NO_SPACE}'),
            "No space left on device",
        ),
        (wrapped(ValueError(NO_SPACE)), "No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied"), None),
        (ValueError("RESOURCE_EXHAUSTED: Out of memory"), None),
    ],
)
def test_a_full_disk_is_told_from_other_failures(error, reason):
    assert faults.full_disk(error) == reason
    assert not faults.is_damage(error)


@pytest.mark.parametrize("method", ["save", "wait_until_finished", "close"])
def test_it_is_told_wherever_it_shows(tmp_path, monkeypatch, method):
    """orbax raises at the save itself, at the next one, or when it is waited for."""

    def full(*args, **kwargs):
        raise ValueError(NO_SPACE)

    state = tiny.init(jax.random.key(0))
    with Checkpoints(tmp_path / "checkpoints") as saved:
        saved.save(0, state)
    saved, kept = Checkpoints(tmp_path / "checkpoints"), Snapshots(tmp_path / "snapshots")
    monkeypatch.setattr(ocp.CheckpointManager, method, full)
    message = (
        r"no space left in .*checkpoints \(No space left on device\): the last checkpoint is that"
    )
    with pytest.raises(
        OutOfSpace, match=message + r" of step [01]. Free some and run the same command"
    ):
        saved.save(1, state.replace(step=state.step + 1))
        saved.wait()
        saved.close()
    with pytest.raises(
        OutOfSpace, match="no space left in .*snapshots .*: there is no snapshot yet"
    ):
        with kept:
            kept.save(1, state.ema_params)


def test_a_disk_that_is_full(tmp_path):
    done = tiny.run_alone(__file__, tmp_path, JAX_ENABLE_COMPILATION_CACHE="0")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    last = max(i for i, line in enumerate(lines) if line.startswith("exit"))
    code, *steps = lines[last].split()[1:]
    assert code == "2"
    (message,) = done.stderr.splitlines()
    kept = (
        f"the last checkpoint is that of step {steps[-1]}"
        if steps
        else "there is no checkpoint yet"
    )
    assert message.startswith(f"error: no space left in {tmp_path}/disk/checkpoints (")
    assert f"): {kept}. Free some and run the same command again." in message
    # With room it goes on from that step, to the same end.
    assert lines[last + 1] == f"step {int(steps[-1]) + 1 if steps else 1}"
    assert lines[-1] == "done 8"


def mount(folder: Path) -> bool:
    """A file system of 1000 KiB for this process alone, if the system lets it."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, private = 0x00020000, (1 << 18) | (1 << 14)  # CLONE_NEWNS; MS_PRIVATE, MS_REC
    return (
        libc.unshare(new_namespace) == 0
        and libc.mount(b"none", b"/", None, private, None) == 0
        and libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"size=1000k") == 0
    )


def program(directory: Path) -> None:
    disk = directory / "disk"
    disk.mkdir()
    mounted = sys.platform == "linux" and mount(disk)
    tiny.run(disk / "checkpoints", 2)
    if mounted:
        (disk / "ballast").write_bytes(bytes(720 * 1024))
    else:  # no file may be larger than this
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
    try:
        with command_line.clear_errors():
            tiny.run(disk / "checkpoints", 8)
    except SystemExit as error:
        steps = sorted(int(p.name) for p in (disk / "checkpoints").iterdir() if p.name.isdigit())
        print("exit", error.code, *steps, flush=True)
    if mounted:
        (disk / "ballast").unlink()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    print("done", tiny.run(disk / "checkpoints", 8).step, flush=True)


def test_what_is_written_beside_the_checkpoints_is_told_alike():
    message = "no space left in runs/x .*: the last checkpoint is that of step 7. Free some"
    with pytest.raises(OutOfSpace, match=message):
        with faults.told_if_full("runs/x", "checkpoint", lambda: [3, 7]):
            raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="Permission denied") as other:
        with faults.told_if_full("runs/x", "checkpoint", lambda: []):
            raise PermissionError(errno.EACCES, "Permission denied")
    assert not isinstance(other.value, OutOfSpace)


def test_events_that_cannot_be_written_are_let_go(tmp_path, monkeypatch):
    """tensorboardX would try again when Python ends, and print what it then meets."""

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    metrics = MetricWriter(tmp_path)
    events = metrics._events.file_writer.event_writer
    monkeypatch.setattr(events._ev_writer, "flush", full)
    metrics.scalars(1, {"loss": 1.0})
    with pytest.raises(OSError, match="No space left"):
        metrics.close()
    assert not events._worker.is_alive()
    events.close()  # as at the end: nothing more is tried


if __name__ == "__main__":
    program(Path(sys.argv[1]))
