"""Every mesh of 1, 2, 4 and 8 devices trains a RIN as one device does, images split over devices included.

Also a program, `python tests/experiment/test_meshes.py FILE DENSITY MESH...`: it trains on these meshes and
writes the losses.
"""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import digits
from noise_sched import experiment
from noise_sched.data import make_batches
from noise_sched.experiment import training, training_images
from noise_sched.training import partitioning
from noise_sched.training.step import compile_step

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 20
SOME = ("data=1", "data=2,fsdp=2,tokens=2", "tokens=8")
FIXED, ADAPTIVE = "fixed()", "adaptive(bins=16)"


def every_mesh():
    """All ways to share 1, 2, 4 and 8 devices between three axes."""
    powers = (1, 2, 4, 8)
    shapes = [(d, f, t) for d in powers for f in powers for t in powers if d * f * t <= 8]
    return [f"data={d},fsdp={f},tokens={t}" for d, f, t in shapes]


def config(density=FIXED):
    """Images of 16 x 16 patches, so that eight devices have two rows of them each."""
    made = digits.get_config("tiny")
    made.data.image_size = 16
    made.network.update(patch_size=1, tape_dim=16)
    made.train.update(batch_size=8, steps=STEPS, density=density)
    return made


def losses(mesh_text, density, min_size=64):
    """The losses of a run on the first devices, its larger arrays split."""
    made = config(density)
    made.partition.mesh = mesh_text
    exp = experiment.from_config(made)
    count = int(np.prod(list(partitioning.parse_mesh(mesh_text).values())))
    mesh = training.mesh_of(exp, jax.devices()[:count])
    abstract = jax.eval_shape(lambda: training.new_state(exp))
    rules = exp.network.partition_rules
    shardings = partitioning.state_shardings(abstract, mesh, rules, min_size=min_size)
    state = partitioning.create_sharded(lambda: training.new_state(exp), shardings)
    position = state.params["tape_position"]
    assert position.addressable_shards[0].data.shape[0] * mesh.shape["tokens"] == 256
    step = compile_step(
        training.step_of(exp, mesh), exp.hyper, mesh=mesh, state_shardings=shardings
    )
    batches = make_batches(
        training_images.opened(made), batch_size=made.train.batch_size, seed=0, flip=False
    )
    found = []
    for _ in range(STEPS):
        batch = partitioning.to_global(next(batches), mesh)
        rows = batch["image"].addressable_shards[0].data.shape
        assert rows[0] * partitioning.rows_of(mesh) == 8 and rows[1] * mesh.shape["tokens"] == 16
        state, metrics = step(state, batch)
        found.append(float(metrics["loss"]))
    return found


def on_meshes(path, density, texts):
    done = subprocess.run(
        [sys.executable, __file__, str(path), density, *texts],
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text())


def check(found, rtol=1e-5):
    for text, each in found.items():
        np.testing.assert_allclose(each, found["data=1"], rtol=rtol, err_msg=text)
    assert np.ptp(found["data=1"]) > 0.01  # it has learned something


def test_some_meshes(tmp_path):
    check(on_meshes(tmp_path / "losses.json", ADAPTIVE, SOME))


# The adaptive density draws t by the losses so far, and so feeds their rounding back: on one of 20 meshes
# losses were 1.1e-5 apart after 8 steps.
@pytest.mark.slow
@pytest.mark.parametrize(("density", "rtol"), [(FIXED, 1e-5), (ADAPTIVE, 3e-5)])
def test_every_mesh(tmp_path, density, rtol):
    check(on_meshes(tmp_path / "losses.json", density, ("data=1", *every_mesh())), rtol)


def test_a_mesh_that_cannot_share_the_images():
    made = config()
    made.partition.mesh = "tokens=3"
    exp = experiment.from_config(made)
    with pytest.raises(experiment.ConfigError, match="tokens=3 does not divide the 1 device"):
        training.mesh_of(exp)


if __name__ == "__main__":
    path, density, *texts = sys.argv[1:]
    pathlib.Path(path).write_text(json.dumps({text: losses(text, density) for text in texts}))
