"""Two processes of four devices train, save, fall back and restore as one process of one does.

And they go the same way when only one of them finds damage, or cannot read.
"""

import contextlib
import sys
from pathlib import Path

import host_pair
import jax
import numpy as np
import pytest
import tiny
from jax.experimental import multihost_utils

from noise_sched.training import hosts, loop, partitioning
from noise_sched.training.checkpoints import Checkpoints, UnreadableCheckpoints
from noise_sched.training.faults import Damaged
from noise_sched.training.hosts import HostFailed
from noise_sched.training.store import Store

STEPS = 8


class Rows:
    """This process's rows of the global batches."""

    def __init__(self):
        self.batches = tiny.Batches()
        count = tiny.BATCH // jax.process_count()
        self.rows = slice(jax.process_index() * count, (jax.process_index() + 1) * count)

    def __iter__(self):
        return self

    def __next__(self):
        return {name: x[self.rows] for name, x in next(self.batches).items()}

    def get_state(self):
        return self.batches.get_state()


def one_process(directory, index, port):
    jax.distributed.initialize(f"localhost:{port}", 2, index)
    assert len(jax.devices()) == 8 and len(jax.local_devices()) == 4
    mesh = partitioning.make_mesh("fsdp=4")
    abstract = jax.eval_shape(tiny.init, jax.random.key(0))
    shardings = partitioning.state_shardings(abstract, mesh, min_size=1)
    with Checkpoints(f"{directory}/checkpoints") as saved:
        assert saved.restore(partitioning.with_shardings(abstract, shardings)) is None
        fitted = loop.fit(
            partitioning.create_sharded(tiny.init, shardings, jax.random.key(0)),
            tiny.train_step(mesh=mesh, state_shardings=shardings),
            Rows(),
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


def a_state(step):
    return tiny.init(jax.random.key(step)).replace(step=jax.numpy.int32(step))


def another_process(directory, index, port):
    """What each host does where the hosts see different things; arrays are split over both."""
    jax.distributed.initialize(f"localhost:{port}", 2, index)
    abstract = jax.eval_shape(a_state, 0)
    layouts = partitioning.state_shardings(abstract, partitioning.make_mesh("fsdp=8"), min_size=1)
    wanted = partitioning.with_shardings(abstract, layouts)
    folder = Path(directory) / "checkpoints"
    with Checkpoints(folder) as saved:
        for step in (1, 2, 3):
            whole = a_state(step)
            state = jax.tree.map(
                lambda x, s: jax.make_array_from_callback(x.shape, s, lambda i: x[i]),
                whole,
                layouts,
            )
            saved.save(step, state, {"next": step})
    assert not state.params["dense"]["kernel"].is_fully_addressable

    # Only host 1 cannot read: both stop, and say of what.
    with failing_on(1, MemoryError("too little"), steps=(3,), index=index) as restore:
        with pytest.raises(MemoryError if index == 1 else HostFailed) as raised:
            restore(folder, wanted)
    assert index == 1 or "host 1 of 2 failed: MemoryError: too little" in str(raised.value)
    multihost_utils.sync_global_devices("nothing was renamed")
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "3"]

    # Each host finds damage of its own, and host 1 does not see the newest step at all.
    damage = Damaged("host's own")
    listing = lambda self: [1, 2] if index == 1 else [1, 2, 3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "steps", listing)
        with failing_on(0, damage, steps=(2,), index=index, read_only=True) as restore:
            assert restore(folder, wanted).step == 3
    with failing_on(index, damage, steps=(3 - index,), index=index) as restore:
        restored = restore(folder, wanted)
    assert restored.step == 1 and restored.data == {"next": 1}
    kernel = restored.state.params["dense"]["kernel"]
    for shard in kernel.addressable_shards:
        np.testing.assert_array_equal(shard.data, a_state(1).params["dense"]["kernel"][shard.index])
    multihost_utils.sync_global_devices("set aside")
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["1", "2.unreadable", "3.unreadable"]

    # Without layouts, as sampling asks: full copies on the devices of both.
    with Checkpoints(folder, read_only=True) as saved:
        step, params = saved.restore_ema(abstract.params)
    assert step == 1 and len(params["dense"]["kernel"].sharding.device_set) == 8
    with failing_on(1, damage, steps=(1,), index=index) as restore:
        with pytest.raises(UnreadableCheckpoints, match="step 1: host's own"):
            restore(folder, wanted)


@contextlib.contextmanager
def failing_on(host, error, *, steps, index, read_only=False):
    """`restore` with an error of one host's reads of some steps."""
    read = Store._read_tree

    def failing(self, folder, name, abstract):
        if index == host and int(folder.name) in steps:
            raise error
        return read(self, folder, name, abstract)

    def restore(folder, wanted):
        with Checkpoints(folder, read_only=read_only) as saved:
            return saved.restore(wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "_read_tree", failing)
        yield restore


def test_hosts_that_see_different_things_go_the_same_way(tmp_path):
    host_pair.run(__file__, "another_process", str(tmp_path), JAX_NUM_CPU_DEVICES="4")
    # What both wrote, with the digests that both made, one device reads.
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as saved:
        tiny.assert_same(saved.restore(tiny.abstract_state()).state, a_state(1))


def test_one_host_alone_exchanges_nothing(monkeypatch):
    monkeypatch.setattr(hosts, "_exchange", None)
    assert hosts.together(lambda: 3, mild=Damaged) == 3
    with pytest.raises(Damaged, match="it"):
        hosts.together(lambda: (_ for _ in ()).throw(Damaged("it")), mild=Damaged)
    with pytest.raises(TimeoutError):
        hosts.together(lambda: (_ for _ in ()).throw(TimeoutError()), mild=Damaged)


@pytest.mark.slow
def test_two_processes(tmp_path):
    host_pair.run(__file__, "one_process", str(tmp_path), JAX_NUM_CPU_DEVICES="4")
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
    globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]), sys.argv[4])
