"""What `sample` does with its output folder, before and after it draws; nothing is drawn here."""

import json
import shutil

import numpy as np
import pytest

from configs import digits
from noise_sched.evaluation import image_set
from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.experiment import locks, sampler, samples, workdir
from noise_sched.judging import sources
from noise_sched.training.checkpoints import Checkpoints


class Drawer:
    """Counts what is restored and drawn."""

    def __init__(self, monkeypatch):
        self.restored, self.drawn, self.newest, self.killed = 0, 0, 3, False
        self.batches = []
        monkeypatch.setattr(sampler, "_restore", self.restore)
        monkeypatch.setattr(sampler, "by_number", self.draw)

    def restore(self, exp, folder, step):
        self.restored += 1
        return self.newest if step is None else step, None

    def draw(self, exp, params, key, labels, guide):
        def images(start, stop):
            self.drawn += 1
            self.batches.append((start, stop))
            if self.killed:
                raise KeyboardInterrupt
            return np.tile(
                np.arange(start, stop, dtype=np.uint8)[:, None, None, None], (1, 4, 4, 1)
            )

        return images, 64


@pytest.fixture
def drawer(monkeypatch):
    return Drawer(monkeypatch)


@pytest.fixture
def trained(tmp_path):
    folder = tmp_path / "run"
    workdir.claim(folder, digits.get_config("tiny"))
    return folder


def draw(trained, out, *, step=None, **changes):
    config = workdir.load_config(trained)
    config.sample.update(changes)
    return sampler.run(config, trained, out, 5, step)


def contents(folder):
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
    }


def test_a_run_is_drawn_once(drawer, trained, tmp_path):
    assert draw(trained, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"images", "grid.png", "samples.npz", "samples.json"}
    assert samples.place(tmp_path / "out") == tmp_path / "out" / "samples.npz"
    record = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert record["step"] == 3 and record["num_images"] == 5 and record["workdir"] == "run"
    before = contents(tmp_path / "out")
    assert not draw(trained, tmp_path / "out")
    assert not draw(trained, tmp_path / "out", step=3, batch_size=2)
    assert drawer.drawn == 1 and contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("grid.png", "is no run of `sample`"),
        ("samples.npz", "is no run of `sample`"),
        ("samples.json", "images drawn otherwise"),
        ("unfinished.json", "a part of another run"),
    ],
)
def test_a_foreign_folder_is_refused_before_anything_is_read(
    name, message, drawer, trained, tmp_path
):
    out = tmp_path / "mine"
    out.mkdir()
    (out / name).write_text("[1]")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"--out={out} .*{message}"):
        draw(trained, out)
    assert drawer.restored == 0 and contents(tmp_path) == before


def test_another_run_is_refused(drawer, trained, tmp_path):
    draw(trained, tmp_path / "out")
    restored, before = drawer.restored, contents(tmp_path)
    with pytest.raises(ValueError, match="holds images drawn otherwise .see .*samples.json"):
        draw(trained, tmp_path / "out", seed=1)
    with pytest.raises(ValueError, match="of step 3, not 2.*--step=3"):
        draw(trained, tmp_path / "out", step=2)
    assert drawer.restored == restored
    drawer.newest = 6  # trained on meanwhile
    with pytest.raises(ValueError, match="of step 3, not 6"):
        draw(trained, tmp_path / "out")
    assert drawer.drawn == 1 and contents(tmp_path) == before


def test_a_run_that_was_cut_off_can_be_run_again(drawer, trained, tmp_path):
    out, drawer.killed = tmp_path / "out", True
    with pytest.raises(KeyboardInterrupt):
        draw(trained, out)
    assert [path.name for path in out.iterdir()] == ["unfinished.json"]
    (out / "grid.png").write_bytes(b"half")
    (out / ".partial-samples.npz-0123456789ab").write_bytes(b"half")
    drawer.killed = False
    with pytest.raises(ValueError, match="holds a part of another run"):
        draw(trained, out, seed=1)
    assert draw(trained, out)
    assert np.load(out / "samples.npz")["images"].shape == (5, 4, 4, 1)
    assert not draw(trained, out)


def test_two_at_once(drawer, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE", 0.0)
    with locks.hold(tmp_path / "out", "--out"):
        with pytest.raises(ValueError, match="--out=.* is in use by process"):
            draw(trained, tmp_path / "out")
    assert drawer.restored == 0
    assert draw(trained, tmp_path / "out")


def test_what_another_process_drew_meanwhile_is_kept(drawer, trained, tmp_path, monkeypatch):
    draw(trained, tmp_path / "out")
    before, look, looks = contents(tmp_path / "out"), samples.look, []

    def late(out, settings):  # it was not there when first looked at
        looks.append(out)
        return None if len(looks) == 1 else look(out, settings)

    monkeypatch.setattr(samples, "look", late)
    assert not draw(trained, tmp_path / "out")
    assert drawer.drawn == 1 and contents(tmp_path / "out") == before


def test_an_output_that_cannot_be_written_is_told_first(drawer, trained, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="--out=.*file/out cannot be written: Not a directory"):
        draw(trained, tmp_path / "file" / "out")
    with pytest.raises(ValueError, match="--out=.*file is a file"):
        draw(trained, tmp_path / "file")
    assert drawer.restored == 0


def test_sampling_reads_beside_a_live_training(drawer, trained, tmp_path):
    with workdir.hold(trained, workdir.load_config(trained)):
        assert draw(trained, trained / "samples")


def test_a_failed_write_names_the_flag(drawer, trained, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="--out=.*out cannot be written: No space left on device"):
        draw(trained, tmp_path / "out")
    monkeypatch.undo()
    Drawer(monkeypatch)
    assert draw(trained, tmp_path / "out")  # the same command again


def test_reconstruct_looks_at_its_output_first(tmp_path, monkeypatch):
    from noise_sched import reconstruct

    def never(*_, **__):
        raise AssertionError("read before --out was looked at")

    workdir.claim(tmp_path / "run", digits.get_config("tiny"))
    monkeypatch.setattr(reconstruct, "Snapshots", never)
    monkeypatch.setattr(Checkpoints, "save_ema", never)
    (tmp_path / "file").write_text("")
    for out, error in ((tmp_path / "run", "not empty"), (tmp_path / "file" / "x", "cannot be")):
        with pytest.raises((ValueError, OSError), match=f"--out={out} .*{error}"):
            reconstruct.run(tmp_path / "run", out, 0.1)


@pytest.fixture
def many(monkeypatch):
    """As if 250 images were many: shards of 100."""
    monkeypatch.setattr(samples, "MOST_IN_ONE", 200)
    monkeypatch.setattr(samples, "_SHARD_IMAGES", 100)


def draw_many(trained, out, count=250):
    return sampler.run(workdir.load_config(trained), trained, out, count)


def test_many_images_are_written_in_shards(drawer, trained, tmp_path, many):
    out = tmp_path / "out"
    assert draw_many(trained, out)
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert names == ["grid.png", "samples.json", *(f"shards/0000{n}.npz" for n in range(3))]
    record = json.loads((out / "samples.json").read_text())
    assert record["num_images"] == 250 and record["shard_size"] == 100
    assert samples.place(out) == out / "shards"
    # Batches begin with each shard.
    assert drawer.batches == [(0, 64), (64, 100), (100, 164), (164, 200), (200, 250)]
    images = sources.open_images(str(out))
    assert len(images) == 250 and images.shape == (4, 4, 1) and images.labelled
    np.testing.assert_array_equal(images.read(95, 205).images[:, 0, 0, 0], np.arange(95, 205))
    whole = images.read(0, 250)
    assert images.fingerprint() == image_set.image_set("all", *whole).fingerprint()
    before = contents(out)
    assert not draw_many(trained, out) and contents(out) == before


def test_many_images_go_on_after_the_last_shard(drawer, trained, tmp_path, many, caplog):
    out, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    draw_many(trained, undisturbed)
    batches, drawer.batches = drawer.batches, []
    write = samples.write_shard

    def killed(out, number, *args):
        if number == 1:
            raise KeyboardInterrupt
        write(out, number, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            draw_many(trained, out)
    with pytest.raises(EvaluationInputError, match="holds a part of a run of `sample`"):
        sources.open_images(str(out))
    first = contents(out / "shards")
    assert list(first) == ["00000.npz"]
    drawer.batches = []
    assert draw_many(trained, out)
    assert drawer.batches == batches[2:]  # the same batches as undisturbed
    assert contents(out / "shards")["00000.npz"] == first["00000.npz"]
    for shard in ("00000", "00001", "00002"):
        one, other = (np.load(o / "shards" / f"{shard}.npz") for o in (out, undisturbed))
        np.testing.assert_array_equal(one["images"], other["images"])
        np.testing.assert_array_equal(one["labels"], other["labels"])


def test_a_damaged_shard_is_drawn_again(drawer, trained, tmp_path, many, caplog):
    out = tmp_path / "out"
    draw_many(trained, out)
    (out / "samples.json").rename(out / "unfinished.json")
    record = json.loads((out / "unfinished.json").read_text())
    record.pop("step"), record.pop("shard_size")
    (out / "unfinished.json").write_text(json.dumps(record))
    shard = out / "shards" / "00001.npz"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:200] + b"x" + whole[201:])
    np.savez(
        out / "shards" / "00002.npz", images=np.zeros((7, 4, 4, 1), np.uint8), labels=np.zeros(7)
    )
    drawer.batches = []
    assert draw_many(trained, out)
    assert drawer.batches[0] == (100, 164) and drawer.batches[-1] == (200, 250)
    assert "00001.npz is damaged" in caplog.text and "holds 7 images, not 50" in caplog.text
    assert len(sources.open_images(str(out))) == 250


def test_a_disk_without_room_is_told_before_anything_is_read(
    drawer, trained, tmp_path, many, monkeypatch
):
    room = shutil.disk_usage(tmp_path)._replace(free=3000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    with pytest.raises(
        ValueError, match=r"--num_images=250: .* has room for, at most 187 of 4x4x1"
    ):
        draw_many(trained, tmp_path / "new" / "out")
    assert drawer.restored == 0 and not (tmp_path / "new").exists()


def test_the_size_of_a_shard():
    assert samples.shard_size((64, 64, 3)) == 2048
    assert samples.shard_size((256, 256, 3)) == 341
    assert samples.shard_size((8192, 8192, 3)) == 1
