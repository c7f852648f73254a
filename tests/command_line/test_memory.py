"""A large buffer that is freed and asked for again costs no new pages; and where nothing can be set."""

import ctypes
import platform
import subprocess
import sys
import types

import pytest

from noise_sched import command_line
from noise_sched.command_line import flags, memory

PROGRAM = """
import importlib.util, resource, sys
import numpy as np
spec = importlib.util.spec_from_file_location("memory", sys.argv[1])
memory = importlib.util.module_from_spec(spec)
spec.loader.exec_module(memory)
done = sys.argv[2] == "kept" and memory.keep_freed()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(40 << 17)
before = faults()
for _ in range(10):
    np.ones(40 << 17)  # 40 MiB, as a training step's temporary buffer
print(done, faults() - before)
"""


def faults(how):
    command = [sys.executable, "-c", PROGRAM, memory.__file__, how]
    done, count = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return done == "True", int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is what is set")
def test_freed_memory_is_kept():
    (_, by_default), (done, kept) = faults("as it is"), faults("kept")
    assert done and by_default > 10 * kept


@pytest.fixture
def calls(monkeypatch):
    """The calls of `mallopt`, of which none is made; `refused` are those that fail."""
    made, refused = [], set()

    def mallopt(name, value):
        made.append((name, value))
        return int((name, value) not in refused)

    for name in (*memory._OWN_SETTINGS, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: types.SimpleNamespace(mallopt=mallopt))
    monkeypatch.setattr(sys, "platform", "linux")
    return types.SimpleNamespace(made=made, refused=refused)


def test_an_older_glibc_is_told_to_map_nothing(calls):
    calls.refused.add((-3, memory.KEPT))
    assert memory.keep_freed()
    assert calls.made == [(-3, memory.KEPT), (-4, 0), (-1, memory.KEPT)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_TRIM_THRESHOLD_", "0"), ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=0")],
)
def test_settings_of_the_environment_are_left_alone(calls, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert not memory.keep_freed() and not calls.made


def test_nothing_happens_elsewhere(calls, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not memory.keep_freed() and not calls.made
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: types.SimpleNamespace())  # musl
    assert not memory.keep_freed()


def test_every_command_sets_it_before_its_work(monkeypatch):
    done = []
    monkeypatch.setattr(memory, "keep_freed", lambda: done.append("kept"))
    monkeypatch.setattr(flags.app, "run", lambda *_, **__: done.append("run"))
    command_line.run(lambda: None, lambda: done.append("flags"))
    assert done == ["kept", "flags", "run"]
