"""Checkpoints: exact resume, damage of every kind, kills, moves, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny
from absl import logging as absl_logging

from noise_sched.training import loop
from noise_sched.training.checkpoints import (
    CheckpointMismatch,
    Checkpoints,
    UnreadableCheckpoints,
)


@pytest.fixture(scope="module")
def train_step():
    return tiny.train_step()


@pytest.fixture(scope="module")
def three(tmp_path_factory, train_step):
    """A directory with the checkpoints of steps 1, 2 and 3, and the states they should hold."""
    directory = tmp_path_factory.mktemp("three") / "checkpoints"
    state, batches, kept = tiny.init(jax.random.key(0)), tiny.Batches(), {}
    with Checkpoints(directory) as saved:
        for step in (1, 2, 3):
            state, _ = train_step(state, next(batches))
            kept[step] = jax.tree.map(jnp.copy, state)
            assert saved.save(step, state, batches.get_state())
    return directory, kept


@pytest.fixture
def copy(three, tmp_path):
    directory, kept = three
    return shutil.copytree(directory, tmp_path / "checkpoints"), kept


@pytest.fixture
def warnings(monkeypatch):
    texts = []

    def warning(text, *args):
        if "going back" in text:  # orbax warns through the same logger
            texts.append(text % args)

    monkeypatch.setattr(absl_logging, "warning", warning)
    return texts


def restore(directory):
    with Checkpoints(directory) as saved:
        return saved.restore(tiny.abstract_state())


def largest_file(folder):
    return max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def test_restores_the_newest(three):
    directory, kept = three
    restored = restore(directory)
    assert restored.step == 3
    assert restored.data == {"next": 3}
    tiny.assert_same(restored.state, kept[3])
    assert jnp.issubdtype(restored.state.key.dtype, jax.dtypes.prng_key)


def test_nothing_saved_is_a_fresh_start(tmp_path):
    assert restore(tmp_path / "new") is None
    with Checkpoints(tmp_path / "absent", read_only=True) as saved:
        assert saved.latest_step() is None
        assert saved.restore(tiny.abstract_state()) is None
        with pytest.raises(ValueError, match="no checkpoint in .*absent.*train first"):
            saved.restore_ema(tiny.abstract_state().params)
    assert not (tmp_path / "absent").exists()


def test_resume_is_bit_for_bit_what_never_stopping_is(tmp_path, train_step):
    def fit(directory, steps):
        with Checkpoints(directory) as saved:
            restored = saved.restore(tiny.abstract_state())
            state, batches = tiny.init(jax.random.key(0)), tiny.Batches()
            if restored is not None:
                state = restored.state
                batches.set_state(restored.data)
            return loop.fit(
                state, train_step, batches, steps=steps, checkpoints=saved, checkpoint_every=4
            )

    whole = fit(tmp_path / "whole", 11)
    for steps in (3, 8, 11):
        parts = fit(tmp_path / "parts", steps)
    assert parts.step == whole.step == 11
    tiny.assert_same(parts.state, whole.state)
    one, other = restore(tmp_path / "whole"), restore(tmp_path / "parts")
    assert one.data == other.data == {"next": 11}
    tiny.assert_same(one.state, other.state)


def test_a_save_is_not_disturbed_by_donation(tmp_path, train_step):
    state, batches = tiny.init(jax.random.key(0)), tiny.Batches()
    with Checkpoints(tmp_path, keep=1) as saved:
        state, _ = train_step(state, next(batches))
        expected = tiny.plain(jax.tree.map(jnp.copy, state))
        saved.save(1, state)
        for _ in range(20):
            state, _ = train_step(state, next(batches))
    for a, b in zip(tiny.plain(restore(tmp_path).state), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_keeps_the_newest_and_never_overwrites(copy):
    directory, kept = copy
    with Checkpoints(directory, keep=2) as saved:
        before = (directory / "3" / "data" / "metadata").read_bytes()
        assert not saved.save(3, kept[1], {"next": 99})
        assert (directory / "3" / "data" / "metadata").read_bytes() == before
        assert saved.save(4, kept[3].replace(step=jnp.int32(4)))
        saved.wait()
        assert saved.steps() == [3, 4]
        assert saved.latest_step() == 4


def test_ema_alone(copy):
    directory, kept = copy
    for step in (1, 2, 3):
        shutil.rmtree(directory / str(step) / "state")
    with Checkpoints(directory, read_only=True) as saved:
        abstract = tiny.abstract_state().params
        step, params = saved.restore_ema(abstract)
        assert step == 3
        np.testing.assert_array_equal(
            params["dense"]["kernel"], kept[3].ema_params["dense"]["kernel"]
        )
        step, params = saved.restore_ema(abstract, step=1)
        assert step == 1
        np.testing.assert_array_equal(
            params["dense"]["kernel"], kept[1].ema_params["dense"]["kernel"]
        )
        with pytest.raises(ValueError, match="no checkpoint of step 7 .* those of 1, 2, 3"):
            saved.restore_ema(abstract, step=7)
        with pytest.raises(ValueError, match="opened read-only"):
            saved.save(9, kept[3])


def remove_state(folder):
    shutil.rmtree(folder / "state")


def remove_ema(folder):
    shutil.rmtree(folder / "ema")


def empty_folder(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def truncate_arrays(folder):
    file = largest_file(folder / "state" / "d")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def delete_arrays(folder):
    largest_file(folder / "ema" / "d").unlink()


def empty_manifest(folder):
    (folder / "state" / "manifest.ocdbt").write_bytes(b"")


def truncate_structure(folder):
    file = folder / "state" / "_METADATA"
    file.write_bytes(file.read_bytes()[:100])


def remove_structure(folder):
    (folder / "state" / "_METADATA").unlink()


def truncate_data(folder):
    file = folder / "data" / "metadata"
    file.write_bytes(file.read_bytes()[:3])


def swap_steps(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "1", folder)


def other_position(folder):
    file = folder / "data" / "metadata"
    file.write_text(file.read_text().replace('"next": 3', '"next": 7'))


def other_values(folder):
    shutil.rmtree(folder / "ema")
    shutil.copytree(folder.parent / "2" / "ema", folder / "ema")


def remove_digests(folder):
    shutil.rmtree(folder / "digests")


@pytest.mark.parametrize(
    "damage",
    [
        remove_state,
        remove_ema,
        empty_folder,
        truncate_arrays,
        delete_arrays,
        empty_manifest,
        truncate_structure,
        remove_structure,
        truncate_data,
        swap_steps,
        other_position,
        other_values,
        remove_digests,
    ],
)
def test_damage_falls_back_to_the_previous_one(copy, warnings, damage):
    directory, kept = copy
    damage(directory / "3")
    with Checkpoints(directory) as saved:
        restored = saved.restore(tiny.abstract_state())
        assert restored.step == 2
        tiny.assert_same(restored.state, kept[2])
        (warning,) = warnings
        assert "checkpoint of step 3" in warning
        assert "going back to that of step 2" in warning
        assert "kept as 3.unreadable" in warning
        # The run goes on and saves step 3 anew.
        assert saved.steps() == [1, 2]
        assert saved.save(3, kept[3], {"next": 3})
    assert (directory / "3.unreadable").is_dir()
    tiny.assert_same(restore(directory).state, kept[3])


def a_state(step):
    """With an array large enough for a file of its own, which no checksum of the file format covers."""
    table = {"table": jax.random.normal(jax.random.key(step), (40, 20))}
    state = tiny.init(jax.random.key(0)).replace(opt_state=(), params=table, ema_params=table)
    return state.replace(step=jnp.int32(step))


def test_one_byte_of_every_file_and_half_of_every_file(tmp_path, warnings, capfd):
    """The same values (of a file that is not needed), or the step before and the file's name."""
    directory, shapes = tmp_path / "checkpoints", jax.eval_shape(lambda: a_state(1))
    with Checkpoints(directory) as saved:
        for step in (1, 2):
            saved.save(step, a_state(step), {"next": step})
    kept, unharmed = {step: a_state(step) for step in (1, 2)}, []
    for file in filter(Path.is_file, sorted((directory / "2").rglob("*"))):
        whole = file.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for content in (flipped, whole[:middle]):
            file.write_bytes(content)
            warnings.clear()
            with Checkpoints(directory, read_only=True) as saved:
                restored = saved.restore(shapes)
            tiny.assert_same(restored.state, kept[restored.step])
            assert restored.data == {"next": restored.step}
            if restored.step == 2:
                assert not warnings
                unharmed.append(file.relative_to(directory / "2"))
            else:
                name = file.relative_to(directory / "2").as_posix()
                array = f"the array {file.relative_to(directory / '2').parts[0]}"
                assert name in warnings[0] or array in warnings[0], (name, warnings)
        file.write_bytes(whole)
    # All that hold what was saved are among those that are missed.
    needed = {"data/metadata", "digests/metadata", "ema/manifest.ocdbt", "state/manifest.ocdbt"}
    assert not needed & {path.as_posix() for path in unharmed}
    assert "Traceback" not in "".join(capfd.readouterr())


def test_values_that_decompress_but_differ_are_found(tmp_path, warnings):
    """What the file format takes for sound: another array of the same shape, in the same place."""
    for name, values in (("one", 0.0), ("other", 1.0)):
        state = a_state(2)
        changed = jax.tree.map(lambda x, v=values: x.at[3, 5].add(v), state.ema_params)
        with Checkpoints(tmp_path / name) as saved:
            saved.save(1, a_state(1))
            saved.save(2, state.replace(ema_params=changed))
    shutil.rmtree(tmp_path / "one" / "2" / "ema")
    shutil.copytree(tmp_path / "other" / "2" / "ema", tmp_path / "one" / "2" / "ema")
    with Checkpoints(tmp_path / "one", read_only=True) as saved:
        step, _ = saved.restore_ema(jax.eval_shape(lambda: a_state(1).ema_params))
    assert step == 1
    assert "not what was written: the array ema/table" in warnings[0]


def test_parameters_alone_are_verified_and_not_trained_on(tmp_path):
    abstract = tiny.abstract_state()
    with Checkpoints(tmp_path) as saved:
        saved.save_ema(5, jax.tree.map(np.asarray, tiny.init(jax.random.key(0)).params))
        saved.wait()
        assert saved.restore_ema(abstract.params)[0] == 5
        with pytest.raises(CheckpointMismatch, match="step 5 in .* holds no state, only ema"):
            saved.restore(abstract)
        file = tmp_path / "5" / "digests" / "metadata"
        file.write_text(file.read_text().replace("dense", "dance"))
        with pytest.raises(UnreadableCheckpoints, match="digests/metadata is not what was written"):
            saved.restore_ema(abstract.params)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("out of memory"),
        TimeoutError("nobody answers"),
        PermissionError(13, "Permission denied"),
        ConnectionResetError(104, "Connection reset by peer"),
        OSError(5, "Input/output error"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17 bytes."),
        ValueError("PERMISSION_DENIED: Error opening local file \"d/1\" [os_error_code='13']"),
        ValueError("Error reading local file \"d/1\": Too many open files [os_error_code='24']"),
        ValueError("UNAVAILABLE: CURL error[6] Could not resolve host"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["", "wrapped"])
def test_what_is_no_damage_is_raised_and_changes_nothing(
    copy, warnings, monkeypatch, error, wrapped
):
    """Here while the newest is read: those before it can be, and yet none of them is used."""
    directory, _ = copy
    before, read = sorted(directory.rglob("*")), ocp.StandardCheckpointHandler.restore

    def restore(self, folder, *args, **kwargs):
        if "3" not in Path(folder).parts:
            return read(self, folder, *args, **kwargs)
        if wrapped:
            raise Exception("Encountered error while reading array index") from error
        raise error

    monkeypatch.setattr(ocp.StandardCheckpointHandler, "restore", restore)
    abstract = tiny.abstract_state()
    for read_only in (False, True):
        with pytest.raises(BaseException) as raised:
            with Checkpoints(directory, read_only=read_only) as saved:
                saved.restore_ema(abstract.params) if read_only else saved.restore(abstract)
        assert (raised.value.__cause__ if wrapped else raised.value) is error
        assert not isinstance(raised.value, UnreadableCheckpoints)
    assert not warnings
    assert sorted(directory.rglob("*")) == before


def without_digests(directory):
    """As they were written before there were digests."""
    for folder in directory.iterdir():
        shutil.rmtree(folder / "digests")
        listing = folder / "_CHECKPOINT_METADATA"
        content = json.loads(listing.read_text())
        del content["item_handlers"]["digests"]
        listing.write_text(json.dumps(content))


def test_checkpoints_from_before_digests_are_read_and_their_damage_found(copy, warnings):
    directory, kept = copy
    without_digests(directory)
    tiny.assert_same(restore(directory).state, kept[3])
    abstract = tiny.abstract_state()
    wider = abstract.replace(params={**abstract.params, "more": abstract.step})
    with Checkpoints(directory) as saved:
        with pytest.raises(CheckpointMismatch, match="params/more: absent in"):
            saved.restore(wider)
    (directory / "3" / "data" / "metadata").write_text('{"stup": 3}')
    truncate_structure(directory / "2")
    assert restore(directory).step == 1
    assert "data/metadata is not what was written" in warnings[0]
    assert "state/_METADATA" in warnings[1]


def test_reading_only_leaves_damage_where_it_is(copy, warnings):
    directory, kept = copy
    delete_arrays(directory / "3")
    (directory / "4.orbax-checkpoint-tmp").mkdir()  # a save in progress
    before = sorted((f, f.stat().st_mtime_ns) for f in directory.rglob("*"))
    with Checkpoints(directory, read_only=True) as saved:
        step, params = saved.restore_ema(tiny.abstract_state().params)
    assert step == 2
    assert len(warnings) == 1
    assert sorted((f, f.stat().st_mtime_ns) for f in directory.rglob("*")) == before


def test_all_damaged_is_an_error_that_changes_nothing(copy):
    directory, _ = copy
    for step in "123":
        truncate_arrays(directory / step)
    before = sorted(directory.rglob("*"))
    message = "(?s)no checkpoint in .* can be read; nothing was changed.*step 3.*step 2.*step 1"
    with pytest.raises(UnreadableCheckpoints, match=message):
        restore(directory)
    assert sorted(directory.rglob("*")) == before


def test_another_network_is_not_taken_for_damage(copy):
    directory, _ = copy
    abstract = tiny.abstract_state()
    wider = abstract.replace(
        params={**abstract.params, "more": abstract.step},
        ema_params={**abstract.ema_params, "more": abstract.step},
    )
    with Checkpoints(directory) as saved:
        with pytest.raises(CheckpointMismatch, match=r"params/more: absent in .* int32\[\] wanted"):
            saved.restore(wider)
        with pytest.raises(CheckpointMismatch, match="another network or optimizer"):
            saved.restore_ema(wider.params)
        assert saved.steps() == [1, 2, 3]


def test_a_moved_directory_restores(copy, tmp_path):
    directory, kept = copy
    moved = directory.rename(tmp_path / "elsewhere")
    tiny.assert_same(restore(moved).state, kept[3])


def test_what_a_killed_save_left_is_ignored_and_cleared_away(copy):
    directory, kept = copy
    half = directory / "4.orbax-checkpoint-tmp"
    shutil.copytree(directory / "3" / "ema", half / "ema.orbax-checkpoint-tmp")
    with Checkpoints(directory, read_only=True) as saved:
        assert saved.steps() == [1, 2, 3]
    assert half.exists()
    tiny.assert_same(restore(directory).state, kept[3])
    assert not half.exists()


def test_data_position_must_be_json(tmp_path, three):
    with Checkpoints(tmp_path) as saved, pytest.raises(ValueError, match="JSON can hold"):
        saved.save(1, three[1][1], {"next": object()})
    with pytest.raises(ValueError, match="keep must be at least 1"):
        Checkpoints(tmp_path, keep=0)


def program(directory, steps, **kwargs):
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, str(Path(tiny.__file__)), str(directory), str(steps)],
        env={**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **kwargs,
    )


def signal_after(wanted, process, number):
    for line in process.stdout:
        if line.strip() == wanted:
            process.send_signal(number)
            break


def test_kill_9_in_the_middle_of_a_save(tmp_path):
    """The program saves after every step, in the background: it is always in the middle of one."""
    directory = tmp_path / "checkpoints"
    with program(directory, 10_000) as process:
        signal_after("step 6", process, signal.SIGKILL)
    left = sorted(p.name for p in directory.iterdir())
    newest = max(int(name) for name in left if name.isdigit())
    assert 3 <= newest <= 7, left
    resumed = tiny.run(directory, 12)
    whole = tiny.run(tmp_path / "whole", 12)
    tiny.assert_same(resumed.state, whole.state)
    assert json.loads((directory / "12" / "data" / "metadata").read_text())["position"] == {
        "next": 12
    }
    assert not list(directory.glob("*tmp*"))


def test_sigterm_saves_and_leaves(tmp_path):
    directory = tmp_path / "checkpoints"
    with program(directory, 10_000) as process:
        signal_after("step 3", process, signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert "stopped by a signal after step" in output
    step = restore(directory).step
    assert step >= 3
    assert f"after step {step} of 10000" in output
