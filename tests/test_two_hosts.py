"""Two processes on one machine train, draw and fail together as one process does.

Also a program: one of the two processes.
"""

import json
import pathlib
import sys

import host_pair
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import digits
from noise_sched import evaluate, train
from noise_sched.experiment import sampler, samples, workdir
from noise_sched.judging import model_images, sources
from noise_sched.training import hosts, partitioning

COUNT = 10  # images: the second batch of 8 is filled up
GRID = "grids.npz"


def config() -> ConfigDict:
    made = digits.get_config("tiny")
    made.train.image_every = 6
    made.sample.solver = "ddpm(variance='large')"
    return made


class Grids:
    """Keeps the pictures that training writes, on the host that writes them."""

    def __init__(self, monkeypatch_setattr, folder):
        self.folder = folder
        monkeypatch_setattr(train.MetricWriter, "picture", self.picture)

    def picture(self, step, name, picture):
        if jax.process_index() == 0:
            np.savez(self.folder / GRID, step=step, picture=np.asarray(picture, np.int32))


def told(action) -> str:
    """What an action that must fail said."""
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("nothing was raised")


def fail_on(host):
    if jax.process_index() == host:
        raise OSError(f"no such data on {host}")
    return {"not": {"json"}}


def judge(folder: pathlib.Path, directory: pathlib.Path) -> None:
    """Draws images on all hosts, has all extract their features, and the first write the figures."""
    images = model_images.of_workdir(workdir.load_config(folder), str(folder), COUNT, None)
    real = sources.training_data_of(str(folder))
    evaluate.evaluate(
        images, real, ["contrast"], out=directory / "judged", cache=directory / "c", draw=False
    )


def one_host(directory: pathlib.Path, index: int, port: str) -> None:
    jax.distributed.initialize(f"localhost:{port}", 2, index)
    assert jax.process_count() == 2 and len(jax.devices()) == 4
    folder, out = directory / "run", directory / "run" / "samples"
    Grids(setattr, directory)
    assert train.run(config(), folder).step == config().train.steps
    saved = workdir.load_config(folder)
    assert sampler.run(saved, folder, out, COUNT)
    assert not sampler.run(saved, folder, out, COUNT)
    judge(folder, directory)
    samples.MOST_IN_ONE, samples._SHARD_IMAGES = COUNT - 1, 6
    assert sampler.run(saved, folder, directory / "sharded", COUNT)
    assert not sampler.run(saved, folder, directory / "sharded", COUNT)

    # What fails on one host fails on both, at once.
    assert hosts.together(lambda: {1: "not JSON"}) == {1: "not JSON"}
    assert hosts.first(lambda: [jax.process_index()]) == [0]
    failures = [told(lambda h=h: hosts.together(lambda: fail_on(h))) for h in (0, 1)]
    failures += [told(lambda: hosts.first(lambda: fail_on(0)))]
    failures += [told(lambda: sampler.run(saved, folder, directory / "mine", COUNT))]
    other = config()
    other.seed = 5
    failures += [told(lambda: train.run(other, folder))]
    mine = config()
    mine.seed = index
    failures += [told(lambda: train.run(mine, directory / "unlike"))]
    unseen = directory / ("seen" if index == 0 else "elsewhere")
    failures += [told(lambda: train.run(config(), unseen))]
    (directory / f"failures_{index}.json").write_text(json.dumps(failures))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Where the two hosts have been at work."""
    folder = tmp_path_factory.mktemp("two_hosts")
    (folder / "mine").mkdir()
    (folder / "mine" / "grid.png").write_text("mine")
    host_pair.run(
        __file__,
        str(folder),
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    return folder


def assert_close(one, other):
    """As uint8, to rounding."""
    gap = np.abs(one.astype(int) - other.astype(int))
    assert gap.max() <= 1 and (gap > 0).mean() < 0.02, (gap.max(), (gap > 0).mean())


def test_samples_are_those_of_one_process(directory, tmp_path):
    folder = directory / "run"
    assert sampler.run(workdir.load_config(folder), folder, tmp_path / "out", COUNT)
    here = np.load(tmp_path / "out" / "samples.npz")
    there = np.load(folder / "samples" / "samples.npz")
    np.testing.assert_array_equal(here["labels"], there["labels"])
    assert there["images"].shape == (COUNT, 4, 4, 1) and there["images"].std() > 10
    assert_close(here["images"], there["images"])
    record = (folder / "samples" / "samples.json").read_text()
    assert record == (tmp_path / "out" / "samples.json").read_text()
    assert len(list((folder / "samples" / "images").iterdir())) == COUNT
    assert not list(folder.rglob(".*"))  # neither locks nor partial files


def test_shards_hold_what_one_file_would(directory):
    whole = np.load(directory / "run" / "samples" / "samples.npz")
    sharded = sources.open_images(str(directory / "sharded"))
    assert len(sharded.parts) == 2
    np.testing.assert_array_equal(sharded.read(0, COUNT).labels, whole["labels"])
    assert_close(sharded.read(0, COUNT).images, whole["images"])


def test_figures_are_those_of_one_process(directory, tmp_path, capsys):
    judge(directory / "run", tmp_path)
    here, there = (
        json.loads((place / "judged" / "metrics.json").read_text())
        for place in (tmp_path, directory)
    )
    assert here["images"] == there["images"] and here["extractors"] == there["extractors"]
    for name, value in there["metrics"]["contrast"].items():
        assert here["metrics"]["contrast"][name] == pytest.approx(value, abs=2e-3), name
    assert here["real_against_real"] == there["real_against_real"]


def test_training_draws_its_grid_on_all_hosts(directory, tmp_path, monkeypatch):
    Grids(monkeypatch.setattr, tmp_path)
    train.run(config(), tmp_path / "run")
    here, there = np.load(tmp_path / GRID), np.load(directory / GRID)
    assert here["step"] == there["step"] == 6
    assert there["picture"].std() > 0
    np.testing.assert_allclose(here["picture"], there["picture"], atol=1)
    mine, theirs = (
        [json.loads(line) for line in (path / "run" / "metrics.jsonl").read_text().splitlines()]
        for path in (tmp_path, directory)
    )
    assert [row["step"] for row in mine] == [row["step"] for row in theirs] == [2, 4, 6]
    np.testing.assert_allclose(
        [row["loss"] for row in mine], [row["loss"] for row in theirs], rtol=2e-4
    )


def test_a_failure_on_one_host_reaches_all(directory):
    zero, one = (json.loads((directory / f"failures_{index}.json").read_text()) for index in (0, 1))
    assert zero[0] == zero[2] == "OSError: no such data on 0"
    assert one[0] == one[2] == "HostFailed: host 0 of 2 failed: OSError: no such data on 0"
    assert one[1] == "OSError: no such data on 1"
    assert zero[1] == "HostFailed: host 1 of 2 failed: OSError: no such data on 1"
    assert "is no run of `sample`" in zero[3] and zero[3] in one[3]
    assert "seed: 0 there, 5 given" in zero[4] and zero[4] in one[4]
    assert (directory / "mine" / "grid.png").read_text() == "mine"
    for said in (zero[5], one[5]):
        assert "started with different things" in said
        assert "config.seed: '0' on host 0, '1' on host 1" in said
    assert not (directory / "unlike").exists()
    assert "elsewhere is not there on every host of this run" in one[6] and "elsewhere" in zero[6]


def test_rows_that_do_not_divide_are_copied_to_every_device():
    mesh = partitioning.make_mesh()
    rows = np.arange(3 * mesh.size + 1, dtype=np.int32)
    np.testing.assert_array_equal(partitioning.gather(partitioning.split_rows(rows, mesh)), rows)


if __name__ == "__main__":
    one_host(pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
