"""Evaluation during training: figures among the metrics, the best step kept, and a resume that loses none."""

import importlib
import json
import shutil

import numpy as np
import pytest

from configs import digits
from noise_sched import train
from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.experiment import sampler, workdir
from noise_sched.experiment.ranges import ConfigError
from noise_sched.interop import published_weights
from noise_sched.judging import in_training, sources
from noise_sched.training.best import Best
from noise_sched.training.metrics import read_metrics

sample = importlib.import_module("noise_sched.sample")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(sources, "CACHE", str(tmp_path_factory.getbasetemp() / "features"))
    monkeypatch.setattr(published_weights, "_FOLDERS", ("/nowhere",))
    monkeypatch.delenv(published_weights.VARIABLE, raising=False)


def config(**changes):
    made = digits.get_config("tiny")
    made.train.update(eval_every=2, checkpoint_every=2)
    made.eval.update(num_images=20, metrics="contrast, spectrum", best="spectrum/distance")
    made.eval.update(changes)
    return made.lock()


def figures(folder):
    return {
        row["step"]: row["eval/spectrum/distance"]
        for row in read_metrics(folder)
        if "eval/spectrum/distance" in row
    }


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A finished run that was evaluated three times."""
    folder = tmp_path_factory.mktemp("runs") / "judged"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CACHE", str(folder.parent / "features"))
        train.run(config(), folder)
    return folder


def test_figures_the_best_step_and_a_resume(judged, tmp_path):
    folder = shutil.copytree(judged, tmp_path / "run")
    rows = read_metrics(folder)
    found = figures(folder)
    assert list(found) == [2, 4, 6] and all(
        "eval/contrast/washed_out" in r for r in rows if "loss" not in r
    )
    record = json.loads((folder / "best.json").read_text())
    best = min(found, key=found.get)
    assert record == {"step": best, "figure": "spectrum/distance", "value": found[best]}

    # Images of the best step, of the newest one if that is the best.
    saved = workdir.load_config(folder)
    assert sampler.run(saved, folder, tmp_path / "best", 4, "best")
    assert json.loads((tmp_path / "best" / "samples.json").read_text())["step"] == best
    assert sampler.run(saved, folder, tmp_path / "same", 4, best)
    images = [np.load(tmp_path / name / "samples.npz")["images"] for name in ("best", "same")]
    np.testing.assert_array_equal(*images)
    assert not sampler.run(saved, folder, tmp_path / "best", 4, "best")

    # Killed between the last checkpoint and its evaluation.
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    assert 6 not in figures(folder)
    train.run(config(), folder)
    assert figures(folder) == found and json.loads((folder / "best.json").read_text()) == record


def test_it_changes_nothing_in_the_run_and_may_be_turned_on_later(judged, tmp_path):
    folder = tmp_path / "run"
    train.run(digits.get_config("tiny"), folder)
    losses, with_figures = (
        [r["loss"] for r in read_metrics(f) if "loss" in r] for f in (folder, judged)
    )
    assert losses == with_figures and len(losses) == 3
    saved = workdir.load_config(folder)
    with pytest.raises(FileNotFoundError, match="--step=best: .* has none. Train with"):
        sampler.run(saved, folder, tmp_path / "o", 4, "best")
    assert not (tmp_path / "o").exists()
    train.run(config(), folder)
    assert list(figures(folder)) == [6]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(metrics="contrst"), EvaluationInputError, "Did you mean 'contrast'"),
        (dict(best="swd/distance"), ConfigError, "no figure of the metrics.*spectrum/distance"),
        (dict(best="spectrum"), ConfigError, "Did you mean"),
        (dict(reference="digit"), EvaluationInputError, "config.eval.reference=digit"),
        (
            dict(metrics="class_fd", best=""),
            EvaluationInputError,
            "eval.num_images: class_fd needs at",
        ),
        (dict(metrics="kid", best=""), EvaluationInputError, "inception-2015-12-05-.*.pth"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_training(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        train.run(config(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_all_metrics_without_weights_unless_told(monkeypatch):
    exp = importlib.import_module("noise_sched.experiment").from_config(config(metrics="", best=""))
    seen = []
    monkeypatch.setattr(
        in_training, "Judge", lambda real, shape, metrics, *a, **k: seen.append(metrics)
    )
    with pytest.raises(AttributeError):  # no judge was made
        in_training.evaluation(exp)
    assert "spectrum" in seen[0] and "class_agreement" in seen[0] and "fid" not in seen[0]
    assert "swd" not in seen[0], "its patches are larger than these images"


def test_the_best_so_far(tmp_path):
    params = {"w": np.ones(3, np.float32)}
    for way, values, expected in (
        ("lower", [3.0, 2.0, 2.0, float("nan"), 5.0], 2),
        ("higher", [3.0, 4.0, float("inf"), 1.0], 2),
    ):
        best = Best(tmp_path / way, "a/b", way)
        taken = [best.offer(step, value, params) for step, value in enumerate(values, start=1)]
        assert taken == [True, True] + [False] * (len(values) - 2)
        again = Best(tmp_path / way, "a/b", way)  # after a resume
        assert not again.offer(3, values[0], params) and not again.offer(3, None, params)
        assert json.loads((tmp_path / f"{way}.json").read_text())["step"] == expected
        assert [p.name for p in (tmp_path / way).iterdir() if p.name.isdigit()] == [str(expected)]
    assert Best(tmp_path / "lower", "another", "lower").offer(9, 100.0, params)
