"""The loop, and what it writes: metrics, markers, pictures, the progress line."""

import io
import os
import re
import signal
import time
import types

import jax
import numpy as np
import pytest
import tiny
from absl import logging as absl_logging
from PIL import Image

from noise_sched.training import loop, metrics
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.progress import Progress
from noise_sched.training.step import make_step


@pytest.fixture(scope="module")
def train_step():
    return tiny.train_step()


def fit(train_step, *, batches=None, **kwargs):
    batches = tiny.Batches() if batches is None else batches
    return loop.fit(tiny.init(jax.random.key(0)), train_step, batches, **kwargs)


def test_fit_writes_means_over_the_steps_since_the_last_time(train_step, tmp_path):
    state, losses = tiny.init(jax.random.key(0)), []
    for batch, _ in zip(tiny.Batches(), range(7), strict=False):
        state, values = train_step(state, batch)
        losses.append(float(values["loss"]))
    with metrics.MetricWriter(tmp_path) as writer:
        fitted = fit(train_step, steps=7, writer=writer, log_every=3)
    tiny.assert_same(fitted.state, state)
    lines = metrics.read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [3, 6, 7]
    expected = [np.mean(losses[:3]), np.mean(losses[3:6]), losses[6]]
    np.testing.assert_allclose([line["loss"] for line in lines], expected, rtol=1e-6)
    assert {"grad_norm", "param_norm", "mean_out"} <= set(lines[0])
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_hooks_run_when_they_are_due(train_step):
    seen = []
    hook = loop.Hook(3, lambda step, state: seen.append((step, int(state.step))))
    fit(train_step, steps=10, hooks=[hook])
    assert seen == [(3, 3), (6, 6), (9, 9)]


@pytest.fixture
def warnings(monkeypatch):
    texts = []

    def warning(text, *args):
        if "not finite" in text % args:  # orbax warns through the same logger
            texts.append(text % args)

    monkeypatch.setattr(absl_logging, "warning", warning)
    return texts


def stopped(train_step, **kwargs):
    with pytest.raises(loop.NonFiniteLoss) as caught:
        fit(train_step, **kwargs)
    return caught.value


def test_a_loss_that_is_not_finite_stops_and_the_last_finite_state_is_saved(train_step, tmp_path):
    expected = fit(train_step, steps=5).state
    # Batch 5, the one of step 6, is bad; a checkpoint is due at steps 2, 4 and 6.
    with Checkpoints(tmp_path) as saved:
        error = stopped(
            train_step,
            batches=tiny.Batches(poison={5}),
            steps=100,
            checkpoints=saved,
            checkpoint_every=2,
        )
        assert saved.steps() == [2, 4, 6]
        restored = saved.restore(tiny.abstract_state())
    assert error.step == 6
    for part in (
        r"step 6 is not finite \(loss nan, gradient norm nan, ",
        r"more in a row than skip_nonfinite=0 allows\. No such update was applied",
        rf"saved as step 6 in {tmp_path}: the same command goes on from there",
        r"if they grow, a lower learning rate",
    ):
        assert re.search(part, str(error)), str(error)
    for state in (error.state, restored.state):
        assert int(state.step) == 6
        tiny.assert_same(state.replace(step=expected.step), expected)
    assert restored.data == {"next": 6}


def test_not_finite_without_checkpoints_and_off_their_cadence(train_step):
    error = stopped(train_step, batches=tiny.Batches(poison={3}), steps=100)
    assert error.step == 4 and "Nothing was saved." in str(error)
    # Seen one step late, but never applied.
    assert all(np.isfinite(leaf).all() for leaf in tiny.plain(error.state))


def by_hand(train_step, batches, steps):
    """The steps one after the other, whatever becomes of them."""
    state, losses = tiny.init(jax.random.key(0)), []
    for batch, _ in zip(batches, range(steps), strict=False):
        state, values = train_step(state, batch)
        losses.append(float(values["loss"]))
    return state, losses


def test_a_few_steps_that_are_not_finite_are_passed_over(train_step, tmp_path, warnings):
    poison = {2, 3, 7}
    expected, losses = by_hand(train_step, tiny.Batches(poison=poison), 10)
    with metrics.MetricWriter(tmp_path) as writer:
        fitted = fit(
            train_step,
            batches=tiny.Batches(poison=poison),
            steps=10,
            skip_nonfinite=2,
            writer=writer,
            log_every=5,
        )
    tiny.assert_same(fitted.state, expected)
    assert np.isfinite(losses).sum() == 7
    first, second = metrics.read_metrics(tmp_path)
    assert (first["skipped"], second["skipped"]) == (2, 1)
    np.testing.assert_allclose(first["loss"], np.nanmean(losses[:5]), rtol=1e-6)
    np.testing.assert_allclose(second["loss"], np.nanmean(losses[5:]), rtol=1e-6)
    assert [text[: len("step 0 is not finite")] for text in warnings] == [
        f"step {number} is not finite" for number in (3, 4, 8)
    ]


def test_a_window_of_nothing_finite_says_only_that(train_step, tmp_path):
    with metrics.MetricWriter(tmp_path) as writer:
        batches = tiny.Batches(poison={1})
        fit(train_step, batches=batches, steps=3, skip_nonfinite=1, writer=writer, log_every=1)
    lines = metrics.read_metrics(tmp_path)
    assert set(lines[1]) == {"step", "time", "skipped"} and lines[1]["skipped"] == 1
    assert all("skipped" not in lines[i] for i in (0, 2))


CELLS = 3


class GridBatches(tiny.Batches):
    """`fails` says in which cells of a grid the loss of batch k is NaN."""

    def __init__(self, fails):
        super().__init__()
        self.fails = fails

    def __next__(self):
        offset = np.zeros(CELLS, np.float32)
        offset[list(self.fails(self.position))] = np.nan
        return super().__next__() | {"offset": offset}


@pytest.fixture(scope="module")
def grid():
    """The states of three models, and their step as one program."""

    def loss_fn(cell, params, key, batch):
        loss, values = tiny.loss_fn(None, params, key, batch)
        return loss + batch["offset"][cell], values

    one = make_step(
        loss_fn, lambda cell: tiny.optimizer(), lambda cell, step: jax.numpy.float32(0.1)
    )
    step = jax.jit(jax.vmap(one, in_axes=(0, None, 0)))
    states = jax.vmap(tiny.init)(jax.random.split(jax.random.key(0), CELLS))
    return states, lambda state, batch: step(state, batch, np.arange(CELLS))


def test_the_cells_of_a_grid_have_means_and_failures_of_their_own(grid, tmp_path, warnings):
    """Cell 0 fails at step 2, cell 2 from step 4 on: never all at once, so that nothing stops."""
    state, step = grid
    fails = lambda k: {1: {0}}.get(k, {2} if k >= 3 else set())
    losses = []
    for batch, _ in zip(GridBatches(fails), range(6), strict=False):
        state, values = step(state, batch)
        losses.append(np.asarray(values["loss"], np.float64))
    series, shown = [], []
    progress = Progress(6, file=io.StringIO())
    progress.set_postfix_str = lambda text, refresh: shown.append(float(text.split()[-1]))
    with metrics.MetricWriter(tmp_path, tensorboard=False) as writer:
        writer._events = types.SimpleNamespace(
            add_scalar=lambda *row: series.append(row), close=lambda: None
        )
        options = dict(steps=6, log_every=3, writer=writer, progress=progress)
        fitted = loop.fit(grid[0], step, GridBatches(fails), **options)
    tiny.assert_same(fitted.state, state)
    first, second = metrics.read_metrics(tmp_path)
    np.testing.assert_allclose(first["loss"], np.nanmean(losses[:3], axis=0), rtol=1e-12)
    np.testing.assert_allclose(second["loss"][:2], np.mean(losses[3:], axis=0)[:2], rtol=1e-12)
    assert second["loss"][2] == "nan" and len(first["grad_norm"]) == CELLS
    assert first["skipped"] == [1.0, 0.0, 0.0] and second["skipped"] == [0.0, 0.0, 3.0]
    assert ("loss/1", first["loss"][1], 3) in series
    np.testing.assert_allclose(shown, np.nanmean(losses, axis=1), atol=1e-4)
    assert [text[: text.index(" (")] for text in warnings] == [
        "step 2 is not finite in the cells [0] of 3",
        "step 4 is not finite in the cells [2] of 3",
    ]


def test_a_grid_stops_where_no_cell_is_finite(grid):
    state, step = grid
    fails = lambda k: range(CELLS) if k in (4, 5) else {1}
    with pytest.raises(loop.NonFiniteLoss) as caught:
        loop.fit(state, step, GridBatches(fails), steps=20, skip_nonfinite=1)
    assert caught.value.step == 6
    expected = r"step 6 is not finite in the cells \[0, 1, 2\] of 3 \(loss \[nan, nan, nan\], "
    assert re.match(expected, str(caught.value)), str(caught.value)


def restarted(train_step, directory, poison, stops, **kwargs):
    """A run started again after each of its `stops`; (final state, the steps it stopped with)."""
    found = []
    for _ in range(stops + 1):
        with Checkpoints(directory, keep=2) as saved:
            restored = saved.restore(tiny.abstract_state())
            state = tiny.init(jax.random.key(0)) if restored is None else restored.state
            batches = tiny.Batches(poison=poison)
            batches.set_state({"next": 0} if restored is None else restored.data)
            try:
                done = loop.fit(state, train_step, batches, checkpoints=saved, **kwargs)
                return done.state, found
            except loop.NonFiniteLoss as error:
                found.append((error.step, tuple(saved.steps()), str(error)))
    raise AssertionError(f"never done: {found}")


def test_a_restart_goes_on_behind_the_steps_that_stopped_it(train_step, tmp_path):
    """Bit for bit as a run that is never stopped; however few steps it may pass over."""
    poison = {4, *range(9, 16)}
    expected, _ = by_hand(train_step, tiny.Batches(poison=poison), 20)
    for allowed, stops in ((0, 5), (2, 2), (7, 0)):
        state, found = restarted(
            train_step,
            tmp_path / str(allowed),
            poison,
            stops,
            steps=20,
            checkpoint_every=8,
            skip_nonfinite=allowed,
        )
        tiny.assert_same(state, expected)
        steps = [step for step, *_ in found]
        assert len(steps) == stops and steps == sorted(set(steps)), steps


def test_restarts_that_get_nowhere_keep_the_older_checkpoint(train_step, tmp_path):
    """Two are kept; however often it is tried again, one of them is of before."""
    poison = set(range(9, 30))
    _, found = restarted(
        train_step,
        tmp_path,
        poison,
        stops=5,
        steps=40,
        checkpoint_every=8,
        skip_nonfinite=3,
    )
    assert [kept for _, kept, _ in found] == [(8, 14), (8, 19), (8, 24), (8, 29)]
    assert "No step since step 14 was finite, so rare draws are not the cause" in found[1][2]


def test_a_signal_stops_after_the_step_and_saves(train_step, tmp_path):
    def stop(step, state):
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with Checkpoints(tmp_path) as saved:
        fitted = fit(train_step, steps=100, checkpoints=saved, hooks=[loop.Hook(3, stop)])
        assert fitted.step == 4  # the step after the one whose hook it was
        assert saved.steps() == [4]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_is_immediate(train_step):
    def stop(step, state):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(train_step, steps=100, hooks=[loop.Hook(3, stop)])


def test_refusals(train_step):
    with pytest.raises(ValueError, match="the data ended after step 2 of 5"):
        fit(train_step, batches=iter([next(tiny.Batches())] * 2), steps=5)
    with pytest.raises(ValueError, match="log_every must be at least 1"):
        fit(train_step, steps=5, log_every=0)
    with pytest.raises(ValueError, match="skip_nonfinite must be at least 0, got -1"):
        fit(train_step, steps=5, skip_nonfinite=-1)


def test_the_host_costs_little_per_step(train_step):
    fit(train_step, steps=5)
    batch = next(tiny.Batches())
    rates = []
    for _ in range(3):
        began = time.perf_counter()
        fit(train_step, batches=iter([batch] * 300), steps=300)
        rates.append((time.perf_counter() - began) / 300)
    assert min(rates) < 5e-3  # below 1 ms on a quiet machine


def test_resumed_metrics_supersede_what_was_beyond(tmp_path):
    with metrics.MetricWriter(tmp_path, tensorboard=False) as writer:
        for step in (10, 20, 30):
            writer.scalars(step, {"loss": step / 10})
    with (tmp_path / metrics.METRICS_FILE).open("a") as file:
        file.write('{"step": 40, "lo')  # killed
    with metrics.MetricWriter(tmp_path, resume_step=20, tensorboard=False) as writer:
        writer.scalars(30, {"loss": np.nan})
    lines = metrics.read_metrics(tmp_path)
    assert [(line["step"], line["loss"]) for line in lines] == [(10, 1.0), (20, 2.0), (30, "nan")]
    assert len((tmp_path / metrics.METRICS_FILE).read_text().splitlines()) == 3
    assert metrics.read_metrics(tmp_path / "nowhere") == []


def test_a_picture_is_written(tmp_path):
    with metrics.MetricWriter(tmp_path) as writer:
        writer.picture(3, "samples", Image.new("L", (4, 6)))
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"samples" in events.read_bytes()


def bar(total, terminal, **options):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    return Progress(total, file=stream, unit="image", **options), stream


def test_progress_without_a_terminal_prints_whole_lines():
    progress, stream = bar(100, False, unit_scale=64, initial=10, mininterval=0.0, miniters=1)
    for step in range(11, 101):
        progress.set_postfix_str(f"step {step}", refresh=False)
        progress.update()
    progress.close()
    assert "\r" not in stream.getvalue()
    lines = [line for line in stream.getvalue().splitlines() if line.strip()]
    assert "640/6400" in lines[0] and "6400/6400" in lines[-1] and "step 100" in lines[-1]
    quiet, stream = bar(1000, False)
    for _ in range(900):
        quiet.update()
    assert len(stream.getvalue().splitlines()) == 1, "a line every ten seconds"


def test_progress_on_a_terminal_rewrites_its_line():
    progress, stream = bar(3, True, mininterval=0.0)
    progress.update()
    progress.close()
    progress.close()
    assert stream.getvalue().count("\n") == 1 and "\r" in stream.getvalue()
