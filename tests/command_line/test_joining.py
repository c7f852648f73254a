"""Joining other hosts: from flags, from variables, from what jax finds; mistakes are told before waiting."""

import jax
import pytest
from absl import flags

from noise_sched.command_line import joining


@pytest.fixture
def joined(monkeypatch):
    """Parses flags, joins, and returns what jax was told."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **known: calls.append(known))
    for name in joining._FROM_ENVIRONMENT.values():
        monkeypatch.delenv(name, raising=False)

    def join(*argv):
        values = flags.FlagValues()
        monkeypatch.setattr(joining.flags, "FLAGS", values)
        define = {}
        for kind in ("bool", "string", "integer"):
            define[kind] = getattr(flags, f"DEFINE_{kind}")
            monkeypatch.setattr(
                joining.flags,
                f"DEFINE_{kind}",
                lambda *a, kind=kind, **k: define[kind](*a, flag_values=values, **k),
            )
        joining.define_hosts()
        values(["command", *argv])
        joining.join_hosts()
        return calls

    return join


def test_one_host_alone_joins_nothing(joined):
    assert joined() == []


def test_flags(joined):
    (known,) = joined("--coordinator=there:1234", "--num_hosts=4", "--host=3")
    assert known == {
        "coordinator_address": "there:1234",
        "num_processes": 4,
        "process_id": 3,
        "heartbeat_timeout_seconds": joining.HEARTBEAT_SECONDS,
    }


def test_variables(joined, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "there:1234")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    (known,) = joined("--host=0")
    assert known["num_processes"] == 2 and known["process_id"] == 0


def test_jax_finds_them(joined):
    (known,) = joined("--distributed")
    assert set(known) == {"heartbeat_timeout_seconds"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--host=1"], "--coordinator and --num_hosts are missing"),
        (["--coordinator=a:1", "--host=1"], "--num_hosts is missing"),
        (
            ["--coordinator=a:1", "--num_hosts=2", "--host=2"],
            "--host=2 of --num_hosts=2: .* from 0",
        ),
    ],
)
def test_mistakes(joined, argv, message):
    with pytest.raises(ValueError, match=message):
        joined(*argv)


def test_nothing_there_to_join(joined, monkeypatch):
    def nothing(**known):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", nothing)
    with pytest.raises(
        ValueError, match="nothing here tells of other hosts .*--coordinator=HOST:PORT"
    ):
        joined("--distributed")
