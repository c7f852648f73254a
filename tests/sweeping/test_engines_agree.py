"""Every engine gives the cells of a sweep the same numbers: four cells, in real processes.

The stack engine's own ways are compared in test_stack.py.
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from noise_sched.sweeping import record
from noise_sched.training.metrics import read_metrics

ROOT = pathlib.Path(__file__).parents[2]


def run(folder, *options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "noise_sched.sweep", f"--workdir={folder}"]
        + ["--sweep=configs/sweeps/input_scale_grid.py:tiny", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 cells done" in done.stdout


def numbers(folder):
    """The figures, losses and averaged weights of each cell, by its name."""
    found = {}
    for cell in record.load(folder).cells:
        place = record.folder_of(folder, cell)
        figures = json.loads((place / record.EVALUATION).read_text())["figures"]
        losses = [row["loss"] for row in read_metrics(place)]
        digests = json.loads((place / "checkpoints" / "6" / "digests" / "metadata").read_text())
        found[cell.name] = figures, losses, digests["arrays"]
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack")
    run(folder, "--stack=shared")
    return numbers(folder)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--engine=local", "--processes=2"], marks=pytest.mark.slow, id="local"),
        pytest.param(["--engine=ray", "--ray=num_cpus=1"], marks=pytest.mark.cluster, id="ray"),
        pytest.param(["--engine=slurm", "--slurm=time=10"], marks=pytest.mark.cluster, id="slurm"),
        pytest.param(["--stack=vmap"], marks=pytest.mark.slow, id="vmap"),
    ],
)
def test_an_engine_gives_the_numbers_of_the_stack(tmp_path, expected, options):
    run(tmp_path, *options)
    found = numbers(tmp_path)
    assert set(found) == set(expected) and len(found) == 4
    for name, (figures, losses, arrays) in found.items():
        if "--stack=vmap" not in options:
            assert (figures, losses, arrays) == expected[name]
        np.testing.assert_allclose(losses, expected[name][1], rtol=3e-5)
