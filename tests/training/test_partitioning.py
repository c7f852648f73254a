"""Layouts: on eight simulated devices (in a process of their own) as on one."""

import sys

import jax
import numpy as np
import pytest
import tiny
from jax.sharding import PartitionSpec

from noise_sched.training import partitioning
from noise_sched.training.checkpoints import Checkpoints


@pytest.mark.parametrize(
    "shape, parts, min_size, expected",
    [
        ((64, 32), 1, 1, PartitionSpec()),
        ((64, 32), 4, 1, PartitionSpec("fsdp")),
        ((32, 64), 4, 1, PartitionSpec(None, "fsdp")),
        ((32, 32), 4, 1, PartitionSpec(None, "fsdp")),
        ((3, 3, 30, 16), 4, 1, PartitionSpec(None, None, None, "fsdp")),
        ((7, 9), 4, 1, PartitionSpec()),
        ((64, 32), 4, 2049, PartitionSpec()),
        ((), 4, 1, PartitionSpec()),
    ],
)
def test_rule(shape, parts, min_size, expected):
    assert partitioning._spec(shape, parts, min_size) == expected


def test_refusals():
    with pytest.raises(ValueError, match=r"does not divide the .* device\(s\): use one of 1"):
        partitioning.make_mesh(f"fsdp={2 * len(jax.devices())}")
    mesh = partitioning.make_mesh(devices=jax.devices()[:1])
    partitioning.check_batch(12, mesh)
    with pytest.raises(
        ValueError, match="a batch of 12 .* x 8 microbatches: .* 8, such as 8 or 16"
    ):
        partitioning.check_batch(12, mesh, microbatches=8)
    with pytest.raises(ValueError, match="multiple of 8, such as 8$"):
        partitioning.check_batch(3, mesh, microbatches=8)
    with pytest.raises(ValueError, match="same number of rows"):
        partitioning.to_global({"a": np.zeros(4), "b": np.zeros(3)}, mesh)
    with pytest.raises(ValueError, match="same number of rows"):
        partitioning.to_global({"a": np.zeros(4), "b": np.float32(3)}, mesh)


def test_one_device_has_every_row():
    mesh = partitioning.make_mesh(devices=jax.devices()[:1])
    batch = partitioning.to_global(next(tiny.Batches()), mesh)
    np.testing.assert_array_equal(batch["image"], next(tiny.Batches())["image"])


def train(mesh, steps, min_size=1, microbatches=1):
    """(state, losses) of a run on `mesh`."""
    abstract = jax.eval_shape(tiny.init, jax.random.key(0))
    shardings = partitioning.state_shardings(abstract, mesh, min_size=min_size)
    state = partitioning.create_sharded(tiny.init, shardings, jax.random.key(0))
    step = tiny.train_step(mesh=mesh, state_shardings=shardings, microbatches=microbatches)
    losses = []
    for batch, _ in zip(tiny.Batches(), range(steps), strict=False):
        previous = state
        state, metrics = step(state, partitioning.to_global(batch, mesh))
        losses.append(float(metrics["loss"]))
    assert previous.params["dense"]["kernel"].is_deleted()
    return state, losses, shardings


def on_eight_devices(directory):
    """What the test below runs in a process with eight devices."""
    assert len(jax.devices()) == 8
    for name, fsdp, devices in (("1", 1, 1), ("8", 1, 8), ("8-fsdp4", 4, 8), ("8-fsdp8", 8, 8)):
        mesh = partitioning.make_mesh(f"fsdp={fsdp}", devices=jax.devices()[:devices])
        for microbatches in (1, 2) if name in ("1", "8-fsdp4") else (1,):
            state, losses, _ = train(mesh, 10, microbatches=microbatches)
            file = f"{directory}/{name}-micro{microbatches}.npz"
            np.savez(file, losses, *tiny.plain(state))
    kernel = state.opt_state[0].mu["dense"]["kernel"]
    assert kernel.sharding.spec == state.params["dense"]["kernel"].sharding.spec
    assert not kernel.sharding.is_fully_replicated
    assert kernel.addressable_shards[0].data.size * 8 == kernel.size
    with Checkpoints(f"{directory}/checkpoints") as saved:
        saved.save(10, state, {"next": 10})

    partitioning.check_batch(16, mesh)
    with pytest.raises(ValueError, match="a batch of 12 .* over 8 device.* such as 8 or 16"):
        partitioning.check_batch(12, mesh)
    with pytest.raises(ValueError, match="12 rows do not divide over the 8"):
        partitioning.to_global({"image": np.zeros((12, 2), np.float32)}, mesh)
    with pytest.raises(ValueError, match="fsdp=3 does not divide the 8 .* one of 1, 2, 4, 8"):
        partitioning.make_mesh("fsdp=3")


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    directory = tmp_path_factory.mktemp("eight")
    done = tiny.run_alone(
        __file__,
        directory,
        JAX_NUM_CPU_DEVICES="8",
    )
    assert done.returncode == 0, done.stderr
    assert "donated" not in done.stderr, done.stderr  # "Some donated buffers were not usable"
    return directory


def arrays(eight, name):
    loaded = np.load(eight / f"{name}.npz")
    return [loaded[k] for k in loaded.files]


@pytest.mark.parametrize(
    "name, reference",
    [
        ("8-micro1", "1-micro1"),
        ("8-fsdp4-micro1", "1-micro1"),
        ("8-fsdp8-micro1", "1-micro1"),
        ("8-fsdp4-micro2", "1-micro2"),
    ],
)
def test_eight_devices_train_as_one_does(eight, name, reference):
    for a, b in zip(arrays(eight, name), arrays(eight, reference), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_a_checkpoint_of_eight_devices_restores_on_one(eight):
    with Checkpoints(eight / "checkpoints", read_only=True) as saved:
        restored = saved.restore(tiny.abstract_state())
    assert restored.step == 10
    for a, b in zip(tiny.plain(restored.state), arrays(eight, "8-fsdp8-micro1")[1:], strict=True):
        np.testing.assert_array_equal(a, b)


if __name__ == "__main__":
    on_eight_devices(sys.argv[1])
