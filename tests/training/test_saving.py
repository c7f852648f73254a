"""A save that fails in the background is noticed, told, done again, and never listed as a step."""

import errno

import jax
import pytest
import tiny
from absl import logging as absl_logging

from noise_sched.training import loop, store
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.faults import OutOfSpace

BROKEN = OSError(errno.EIO, "Input/output error")
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture(scope="module")
def train_step():
    return tiny.train_step()


@pytest.fixture
def failing(monkeypatch):
    """Makes the saves of some steps fail, in orbax's thread, so many times each."""
    begin = store._begin_record

    def set_up(error, **steps):
        left = {int(name[4:]): times for name, times in steps.items()}

        def record(trees, data):
            made, step = begin(trees, data), data["step"]

            def work():
                if left.get(step, 0):
                    left[step] -= 1
                    raise error
                return made()

            return work

        monkeypatch.setattr(store, "_begin_record", record)

    return set_up


@pytest.fixture
def warnings(monkeypatch):
    texts = []
    monkeypatch.setattr(absl_logging, "warning", lambda text, *args: texts.append(text % args))
    return texts


def fit(train_step, saved, steps=10, seen=None, **kwargs):
    def look(step, state):
        saved._store._manager.is_saving_in_progress() or seen.append((step, saved.steps()))

    hooks = [] if seen is None else [loop.Hook(1, look)]
    return loop.fit(
        tiny.init(jax.random.key(0)),
        train_step,
        tiny.Batches(),
        steps=steps,
        checkpoints=saved,
        checkpoint_every=4,
        hooks=hooks,
        **kwargs,
    )


def ours(texts):
    return [text for text in texts if "checkpoint could not" in text]


def test_it_is_done_again_with_the_next_state(train_step, tmp_path, failing, warnings):
    failing(BROKEN, step4=1)
    with Checkpoints(tmp_path, keep=9) as saved:
        done = fit(train_step, saved)
        steps = saved.steps()
        assert steps[0] in (5, 6, 7, 8) and steps[-2:] == [8, 10]  # when it is noticed is chance
        tiny.assert_same(saved.restore(tiny.abstract_state()).state, done.state)
    (text,) = ours(warnings)
    assert (
        "(OSError: [Errno 5] Input/output error); there is none yet. Saving again, after step"
        in text
    )
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == steps


def test_the_second_failure_in_a_row_stops_training(train_step, tmp_path, failing, warnings):
    failing(BROKEN, step4=1, step5=1, step6=1, step7=1, step8=1)
    with Checkpoints(tmp_path) as saved:
        saved.save(0, tiny.init(jax.random.key(0)), {"next": 0})
        with pytest.raises(OSError, match="Input/output error"):
            fit(train_step, saved)
        assert saved.steps() == [0]
    assert len(ours(warnings)) == 1 and "the last one is that of step 0" in ours(warnings)[0]


def test_a_full_disk_stops_it_at_once(train_step, tmp_path, failing, warnings):
    failing(FULL, step4=1)
    with Checkpoints(tmp_path) as saved:
        with pytest.raises(OutOfSpace, match="there is no checkpoint yet"):
            fit(train_step, saved)
    assert not ours(warnings)


def test_or_training_goes_on_and_saves_when_it_is_due(train_step, tmp_path, failing, warnings):
    failing(FULL, **{f"step{n}": 9 for n in range(1, 12)})
    with Checkpoints(tmp_path) as saved:
        done = fit(train_step, saved, steps=16, go_on_unsaved=True)
        assert done.step == 16 and saved.steps() == [12, 16]
    texts = ours(warnings)
    assert len(texts) >= 2 and "Training goes on, and saves again when it is due." in texts[-1]


@pytest.mark.parametrize("go_on", [False, True])
def test_the_last_state_is_tried_twice(train_step, tmp_path, failing, warnings, go_on):
    failing(BROKEN, step10=1)
    with Checkpoints(tmp_path / "once") as saved:
        fit(train_step, saved, go_on_unsaved=go_on)
        assert saved.steps() == [4, 8, 10]
    failing(BROKEN, step10=2)
    with Checkpoints(tmp_path / "twice") as saved:
        with pytest.raises(OSError, match="Input/output error"):
            fit(train_step, saved, go_on_unsaved=go_on)
        assert saved.steps() == [4, 8]


def test_a_failed_step_is_never_the_latest(train_step, tmp_path, failing, warnings):
    failing(BROKEN, step4=1)
    seen = []
    with Checkpoints(tmp_path) as saved:
        fit(train_step, saved, seen=seen)
    # Before the loop has looked the failure may be unknown, for a step at most.
    listed = [step for step, steps in seen if steps and steps[-1] == 4]
    assert len(listed) <= 1


class Unreadable(tiny.Batches):
    """Fails once, at one position."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def __next__(self):
        if self.position == self.at:
            raise OSError("cannot decode the image seven.png")
        return super().__next__()


def test_unreadable_data_ends_it_with_its_state_saved(train_step, tmp_path):
    with Checkpoints(tmp_path) as saved:
        with pytest.raises(OSError, match="seven.png"):
            loop.fit(
                tiny.init(jax.random.key(0)),
                train_step,
                Unreadable(at=6),
                steps=10,
                checkpoints=saved,
                checkpoint_every=4,
            )
        assert saved.steps() == [4, 6]
        restored = saved.restore(tiny.abstract_state())
    expected = loop.fit(tiny.init(jax.random.key(0)), train_step, tiny.Batches(), steps=6)
    tiny.assert_same(restored.state, expected.state)
    assert restored.data == {"next": 6}
