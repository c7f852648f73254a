"""Written by n devices, read by m: resumed, sampled and reconstructed, for n and m in 1, 4, 8.

Also a program, `python tests/training/test_device_counts.py DIRECTORY [write]`: it does its part with the
devices that it has. A process with fewer devices than the one that wrote is what this is about: within one
process the devices that the files tell of are always there.
"""

import sys
from pathlib import Path

import jax
import numpy as np
import tiny

from noise_sched.training import partitioning
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.snapshots import Snapshots

STDS = (0.05, 0.1)
WRITTEN = [(1, 1), (4, 1), (4, 4), (8, 1), (8, 4)]  # devices, fsdp


def a_state(step):
    state = tiny.init(jax.random.key(step), ema_stds=STDS)
    moved = jax.tree.map(lambda x: x + 0.25, state.ema_params["0.1"])
    return state.replace(step=state.step + step, ema_params={**state.ema_params, "0.1": moved})


def layouts(mesh):
    return partitioning.state_shardings(jax.eval_shape(a_state, 0), mesh, min_size=1)


def write(directory):
    for devices, fsdp in WRITTEN:
        mesh = partitioning.make_mesh(f"fsdp={fsdp}", devices=jax.devices()[:devices])
        folder = Path(directory) / f"{devices}-{fsdp}"
        with Checkpoints(folder / "checkpoints") as saved, Snapshots(folder / "snapshots") as kept:
            for step in (1, 2):
                state = jax.device_put(a_state(step), layouts(mesh))
                saved.save(step, state, {"next": step})
                kept.save(step, state.ema_params)


def read(directory):
    """Everything that is read from a run's folder, with the devices of this process."""
    shapes, expected = jax.eval_shape(a_state, 0), a_state(2)
    everywhere = set(jax.devices())
    for devices, fsdp in WRITTEN:
        folder = Path(directory) / f"{devices}-{fsdp}"
        with Checkpoints(folder / "checkpoints", read_only=True) as saved:
            for parts in {1, min(4, len(jax.devices()))}:  # to train on
                wanted = layouts(partitioning.make_mesh(f"fsdp={parts}"))
                restored = saved.restore(partitioning.with_shardings(shapes, wanted))
                assert (restored.step, restored.data) == (2, {"next": 2})
                tiny.assert_same(restored.state, expected)
                kernel = restored.state.params["dense"]["kernel"]
                assert kernel.sharding == wanted.params["dense"]["kernel"]
            step, averages = saved.restore_ema(shapes.ema_params)  # to sample with
            assert step == 2
            same(averages, expected.ema_params)
            assert {d for x in jax.tree.leaves(averages) for d in x.devices()} == everywhere
        with Snapshots(folder / "snapshots", read_only=True) as kept:
            same(kept.read(1, shapes.ema_params), a_state(1).ema_params)
            _, made = kept.reconstruct(shapes.params, STDS, std=0.1)
            same(made, expected.ema_params["0.1"], atol=1e-6)


def same(got, expected, atol=0.0):
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol)
    jax.tree.map(close, got, expected)


def start(directory, devices, *args):
    return tiny.run_alone(__file__, directory, *args, JAX_NUM_CPU_DEVICES=str(devices))


def test_any_number_of_devices_reads_what_any_number_wrote(tmp_path):
    done = start(tmp_path, 8, "write")  # and read by 8
    assert done.returncode == 0, done.stdout + done.stderr
    done = start(tmp_path, 4)
    assert done.returncode == 0, done.stdout + done.stderr
    if len(jax.devices()) == 1:
        read(tmp_path)
    else:
        done = start(tmp_path, 1)
        assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    if sys.argv[2:] == ["write"]:
        write(sys.argv[1])
    read(sys.argv[1])
