"""Two processes of four devices train, save, fall back and restore as one process of one does."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from jax.experimental import multihost_utils

from noise_sched.training import loop, partitioning
from noise_sched.training.checkpoints import Checkpoints

STEPS = 8


class Rows:
    """This process's rows of the global batches."""

    def __init__(self, mesh):
        self.batches = tiny.Batches()
        self.rows = partitioning.process_rows(tiny.BATCH, mesh)

    def __iter__(self):
        return self

    def __next__(self):
        return {name: x[self.rows] for name, x in next(self.batches).items()}

    def get_state(self):
        return self.batches.get_state()


def one_process(directory, index, port):
    jax.distributed.initialize(f"localhost:{port}", 2, index)
    assert len(jax.devices()) == 8 and len(jax.local_devices()) == 4
    mesh = partitioning.make_mesh(4)
    abstract = jax.eval_shape(tiny.init, jax.random.key(0))
    shardings = partitioning.state_shardings(abstract, mesh, min_size=1)
    with Checkpoints(f"{directory}/checkpoints") as saved:
        assert saved.restore(partitioning.with_shardings(abstract, shardings)) is None
        fitted = loop.fit(
            partitioning.create_sharded(tiny.init, shardings, jax.random.key(0)),
            tiny.train_step(mesh=mesh, state_shardings=shardings),
            Rows(mesh),
            steps=STEPS,
            place=lambda batch: partitioning.to_global(batch, mesh),
            checkpoints=saved,
            checkpoint_every=3,
        )
        assert fitted.step == STEPS
        assert saved.steps() == [3, 6, 8]
    if index == 0:
        (Path(directory) / "checkpoints/8/state/manifest.ocdbt").write_bytes(b"")
    multihost_utils.sync_global_devices("damaged")
    with Checkpoints(f"{directory}/checkpoints") as saved:
        restored = saved.restore(partitioning.with_shardings(abstract, shardings))
        assert restored.step == 6 and restored.data == {"next": 6}
        assert saved.steps() == [3, 6]
        saved.save(8, fitted.state, {"next": 8})


@pytest.mark.slow
def test_two_processes(tmp_path):
    here = Path(__file__)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, str(here), str(tmp_path), str(index), str(port)],
            env={
                **os.environ,
                "PYTHONPATH": f"{here.parents[2]}{os.pathsep}{here.parent}",
                "JAX_PLATFORMS": "cpu",
                "JAX_NUM_CPU_DEVICES": "4",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output

    here = loop.fit(
        tiny.init(jax.random.key(0)), tiny.train_step(), tiny.Batches(), steps=STEPS
    ).state
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as saved:
        there = saved.restore(tiny.abstract_state())
    assert there.step == STEPS
    assert (tmp_path / "checkpoints" / "8.unreadable").is_dir()
    for a, b in zip(tiny.plain(there.state), tiny.plain(here), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


if __name__ == "__main__":
    one_process(sys.argv[1], int(sys.argv[2]), sys.argv[3])
