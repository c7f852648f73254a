"""Where the wall time went: counted by kind, over starts, with what a kill cost."""

import json
import time

import jax
import pytest
import tiny

from noise_sched.training import goodput, loop, metrics
from noise_sched.training.goodput import KINDS, WALL_FILE, Clock, WallTime


@pytest.fixture
def now(monkeypatch):
    """The time of day, which goes on only where a test says so."""

    class Now:
        seconds = 1000.0

        def __call__(self):
            return self.seconds

    clock = Now()
    monkeypatch.setattr(time, "time", clock)
    monkeypatch.setattr(time, "perf_counter", clock)
    monkeypatch.setattr(goodput, "_process_began", lambda: clock.seconds)
    return clock


def test_what_is_counted_inside_is_taken_out(now):
    clock = Clock()
    with clock("evaluation"):
        now.seconds += 3
        with clock("checkpoint"):
            now.seconds += 2
        now.seconds += 1
        with clock("step"):
            now.seconds += 4
    with clock("step"):
        now.seconds += 1
    now.seconds += 7
    assert clock.seconds == {"evaluation": 4, "checkpoint": 2, "step": 5}
    assert clock.so_far() == {"evaluation": 4, "checkpoint": 2, "step": 5, "other": 7}
    with pytest.raises(KeyError), clock("step"):
        now.seconds += 1
        raise KeyError
    assert clock.seconds["step"] == 6


def steps(wall, now, numbers, seconds=2.0):
    for number in numbers:
        with wall("step"):
            now.seconds += seconds
        wall.write(number)


def test_a_start_after_a_kill_counts_what_was_lost(now, tmp_path):
    first = WallTime(tmp_path, 0)
    steps(first, now, range(1, 11))
    now.seconds += 60  # killed, and found dead a minute later
    second = WallTime(tmp_path, 7)
    now.seconds += 1
    assert second.start == 2 and second.seconds == {"init": 0, "lost": 6, "down": 60}
    steps(second, now, range(8, 21))
    totals = second.totals()
    assert totals["step"] == 2 * 20 and totals["lost"] == 6 and totals["down"] == 60
    assert sum(totals.values()) == pytest.approx(now.seconds - 1000)
    assert second.text().startswith(
        "107 s of wall time in 2 starts: down 56 %, step 37 %, lost 6 %"
    )

    third = WallTime(tmp_path, 20)  # all was saved
    assert third.seconds == {"init": 0, "lost": 0, "down": 0}
    assert third.totals() == pytest.approx(totals)
    rows = goodput.read(tmp_path)
    assert [row["step"] for row in rows] == [*range(1, 11), *range(8, 21)]
    assert set(rows[-1]["seconds"]) <= set(KINDS)


def test_between_two_lines_steps_are_taken_as_equally_long(now, tmp_path):
    first = WallTime(tmp_path, 0)
    steps(first, now, [10, 20], seconds=10)
    assert WallTime(tmp_path, 15).seconds["lost"] == 5
    assert WallTime(tmp_path, 0).seconds["lost"] == 20
    assert WallTime(tmp_path, 25).seconds["lost"] == 0


def test_a_line_that_a_kill_cut_off_is_passed_over(now, tmp_path):
    steps(WallTime(tmp_path, 0), now, [1, 2])
    path = tmp_path / WALL_FILE
    path.write_text(path.read_text()[:-20])
    assert WallTime(tmp_path, 1).seconds["lost"] == 0
    assert [row["step"] for row in goodput.read(tmp_path)] == [1]


def test_a_full_disk_does_not_stop_the_count(now, tmp_path):
    wall = WallTime(tmp_path, 0)
    (tmp_path / WALL_FILE).mkdir()
    wall.write(1)
    assert WallTime(tmp_path / "none", 0).start == 1


def test_training_tells_it_with_its_metrics(tmp_path):
    wall = WallTime(tmp_path, 0)
    with metrics.MetricWriter(tmp_path, tensorboard=False) as writer:
        loop.fit(
            tiny.init(jax.random.key(0)),
            tiny.train_step(),
            tiny.Batches(),
            steps=6,
            log_every=3,
            writer=writer,
            clock=wall,
            hooks=[loop.Hook(2, lambda step, state: time.sleep(0.05))],
        )
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [set(row["wall"]) for row in rows] == [set(KINDS)] * 2
    assert rows[1]["wall"]["compile"] > 0 and rows[1]["wall"]["evaluation"] > 0.09
    # The process had begun long before.
    assert rows[0]["wall"]["init"] > 0.1
    assert sum(rows[1]["wall"].values()) <= time.time() - goodput._process_began() + 0.1
