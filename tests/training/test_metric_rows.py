"""metrics.jsonl has the rows of an undisturbed run, each once, however a run was stopped."""

import json
import math
import os
import signal

import jax
import pytest
import tiny

from noise_sched.training import loop, metrics
from noise_sched.training.checkpoints import Checkpoints

STEPS, EVERY, SAVED_EVERY = 14, 5, 3  # the last row is of four steps


class Killed(BaseException):
    """Stands for kill -9: nothing of the loop's own is done after it."""


@pytest.fixture(scope="module")
def train_step():
    return tiny.train_step()


def start(folder, train_step, *, log_every=EVERY, hooks=()):
    """One start of the run in `folder`, from whatever it finds there."""
    with Checkpoints(folder / "checkpoints", keep=3) as saved:
        restored = saved.restore(tiny.abstract_state())
        batches, state, step = tiny.Batches(), tiny.init(jax.random.key(0)), 0
        if restored is not None:
            state, step = restored.state, restored.step
            batches.set_state(restored.data)
        with metrics.MetricWriter(folder, resume_step=step, tensorboard=False) as writer:
            return loop.fit(
                state,
                train_step,
                batches,
                steps=STEPS,
                checkpoints=saved,
                checkpoint_every=SAVED_EVERY,
                writer=writer,
                log_every=log_every,
                hooks=hooks,
            )


def rows(folder):
    """The file as a plain one."""
    lines = [json.loads(text) for text in (folder / metrics.METRICS_FILE).read_text().splitlines()]
    return [{name: v for name, v in line.items() if name != "time"} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(train_step, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    start(folder, train_step)
    assert [row["step"] for row in rows(folder)] == [5, 10, 14]
    return rows(folder)


def stop(step, state):
    os.kill(os.getpid(), signal.SIGTERM)


def kill(step, state):
    raise Killed


@pytest.mark.parametrize("at", [1, 4, 6, 12, 13])
def test_sigterm(at, train_step, undisturbed, tmp_path):
    fitted = start(tmp_path, train_step, hooks=[loop.Hook(at, stop)])
    assert fitted.step == at + 1
    assert rows(tmp_path) == [row for row in undisturbed if row["step"] <= at + 1]
    start(tmp_path, train_step)
    assert rows(tmp_path) == undisturbed


@pytest.mark.parametrize("at", [2, 7, 11])
def test_kill(at, train_step, undisturbed, tmp_path):
    with pytest.raises(Killed):
        start(tmp_path, train_step, hooks=[loop.Hook(at, kill)])
    with (tmp_path / metrics.METRICS_FILE).open("a") as file:
        file.write('{"step": 15, "lo')
    start(tmp_path, train_step)
    assert rows(tmp_path) == undisturbed


def test_many_stops_and_a_checkpoint_that_was_lost(train_step, undisturbed, tmp_path):
    start(tmp_path, train_step, hooks=[loop.Hook(3, stop)])
    start(tmp_path, train_step, hooks=[loop.Hook(7, stop)])
    with pytest.raises(Killed):
        start(tmp_path, train_step, hooks=[loop.Hook(11, kill)])
    newest = max((tmp_path / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    newest.rename(tmp_path / "lost")
    start(tmp_path, train_step)
    assert rows(tmp_path) == undisturbed
    start(tmp_path, train_step)  # finished: nothing is added
    assert rows(tmp_path) == undisturbed


def test_another_cadence_after_a_resume(train_step, undisturbed, tmp_path):
    start(tmp_path, train_step, hooks=[loop.Hook(7, stop)])
    start(tmp_path, train_step, log_every=7)
    whole = tmp_path / "whole"
    start(whole, train_step, log_every=7)
    assert [row["step"] for row in rows(tmp_path)] == [5, 14]
    assert rows(tmp_path)[1] == rows(whole)[1]


def test_the_values_of_a_grids_cells_outlive_a_stop(tmp_path):
    rows = [{"loss": [1.0, math.inf], "finite": [1.0, 0.0], "step": 4}]
    with metrics.MetricWriter(tmp_path, tensorboard=False) as writer:
        writer.keep_window(4, rows, [])
        assert writer.window(4) == rows
    assert "Infinity" not in (tmp_path / metrics.WINDOW_FILE).read_text()


def test_files_of_earlier_versions_lose_their_markers(tmp_path):
    path = tmp_path / metrics.METRICS_FILE
    old = [{"step": 5, "loss": 1.0}, {"step": 10, "loss": 2.0}, {"resumed_at": 5}]
    old += [{"step": 10, "loss": 3.0}, {"step": 15, "loss": 4.0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in old))
    assert [line["loss"] for line in metrics.read_metrics(tmp_path)] == [1.0, 3.0, 4.0]
    metrics.MetricWriter(tmp_path, resume_step=10, tensorboard=False).close()
    assert rows(tmp_path) == [{"step": 5, "loss": 1.0}, {"step": 10, "loss": 3.0}]
