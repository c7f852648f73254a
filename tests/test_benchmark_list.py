"""`python -m benchmarks`: every benchmark is listed, a wrong name is told."""

import sys

import pytest

from benchmarks import __main__ as entry


def test_every_benchmark_says_what_it_is():
    found = entry.known()
    assert {"networks", "solvers", "faults", "saving"} <= set(found)
    assert "machine" not in found and all(len(what) > 20 for what in found.values())


def test_a_wrong_name_gets_the_nearest(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "network"])
    with pytest.raises(SystemExit, match="unknown benchmark 'network'. Did you mean 'networks'"):
        entry.main()
