"""Each fault, once, done to a real training process: what is left goes on to the end of an undisturbed run.

docs/results/faults.md has larger numbers, by the same code: python -m benchmarks.faults.
"""

import os
import random
import shutil
import signal

import pytest

from benchmarks import faults

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return faults.Bench(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal(bench, number):
    assert bench.signalled(number, random.Random(1)) == faults.SAME


@pytest.mark.parametrize("change", [faults.flip_a_byte, faults.truncate])
def test_damage_to_each_file_of_a_checkpoint(bench, change):
    assert {how for _, how in bench.damaged(change)} == {faults.SAME}


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="root alone can mount")
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_full_disk(bench, share):
    assert bench.full_disk(share) == f"told in 1 line; with room again {faults.SAME}"


def test_two_at_once(bench):
    assert bench.two_trainings() in (faults.ONE_REFUSED, faults.ONE_WAITED)


def test_a_file_of_the_data_cut_off(bench):
    assert bench.unreadable_image().endswith(f"put back, {faults.SAME}")


def test_a_host_is_killed_or_told_to_stop(bench):
    killed, stopped = [how for _, how in bench.hosts(1, random.Random(1))]
    assert killed == f"{faults.SAME}, the other host ended within a minute"
    assert stopped == f"{faults.SAME}, both hosts ended with {faults.AGAIN}"
