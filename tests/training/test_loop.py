"""The loop, and what it writes: metrics, markers, pictures, the progress line."""

import io
import os
import signal
import time

import jax
import numpy as np
import pytest
import tiny

from noise_sched.training import loop, metrics
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.progress import Progress


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


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(train_step, tmp_path):
    expected = fit(train_step, steps=5).state
    # Batch 5, the one of step 6, is bad; a checkpoint is due at steps 2, 4 and 6.
    with Checkpoints(tmp_path) as saved:
        with pytest.raises(
            loop.NonFiniteLoss, match=r"step 6 is not finite \(loss nan.*that of step 4, in"
        ) as caught:
            fit(
                train_step,
                batches=tiny.Batches(poison=5),
                steps=100,
                checkpoints=saved,
                checkpoint_every=2,
            )
        assert saved.steps() == [2, 4]
    assert caught.value.step == 6
    tiny.assert_same(caught.value.state.replace(step=expected.step), expected)


def test_not_finite_without_checkpoints_and_off_their_cadence(train_step):
    with pytest.raises(loop.NonFiniteLoss, match="step 4 is not finite.*no checkpoint yet") as e:
        fit(train_step, batches=tiny.Batches(poison=3), steps=100)
    # Seen one step late, but never applied.
    assert all(np.isfinite(leaf).all() for leaf in tiny.plain(e.value.state))


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


def test_images_are_written_and_laid_out_in_a_grid(tmp_path):
    images = np.stack([np.full((4, 6, 1), v, np.float32) for v in (-1.0, 0.0, 1.0, 5.0, -1.0)])
    grid = metrics.image_grid(images, columns=3)
    assert grid.shape == (2 * 4 + 1, 3 * 6 + 2, 3)
    assert grid.dtype == np.uint8
    assert grid[0, 0, 0] == 0 and grid[0, 7, 0] == 128 and (grid[:4, 14:] == 255).all()
    assert (grid[5:, :6] == 255).all() and (grid[5:, 13:] == 0).all()
    with metrics.MetricWriter(tmp_path) as writer:
        writer.images(3, "samples", images)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        metrics.image_grid(np.zeros((1, 2, 2, 2), np.float32))


def test_progress_without_a_terminal_prints_a_line_now_and_then(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    progress = Progress(1000, images_per_step=64, every_seconds=10.0, stream=stream)
    clock[0] += 30.0  # compiling
    progress.update(1, 1.0)
    for step in range(2, 501):
        clock[0] += 0.125
        progress.update(step, 0.25)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[0] == "step 81/1000  loss 0.2500  512 images/s  1 min 55 s to go"
    progress.update(1000, 0.125)
    progress.close()
    assert stream.getvalue().splitlines()[-1].startswith("step 1000/1000  loss 0.1250")
    assert "to go" not in stream.getvalue().splitlines()[-1]


def test_progress_on_a_terminal_rewrites_its_line(monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    progress = Progress(3, start_step=1, every_seconds=0.0, stream=stream)
    progress.update(2, 1.0)
    assert stream.getvalue().startswith("\rstep 2/3")
    progress.close()
    progress.close()
    assert stream.getvalue().count("\n") == 1
