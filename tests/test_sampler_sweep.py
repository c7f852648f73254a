"""One model under many samplers: a row each, its cost counted, programs shared, and a sweep that goes on."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from configs import digits
from noise_sched import experiment, sampler_sweep, train
from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.experiment import workdir
from noise_sched.experiment.ranges import ConfigError
from noise_sched.judging import model_images, sampler_cells
from noise_sched.sweeping.shared import Programs

METRICS = ["contrast", "spectrum"]
CHOICES = {
    "steps": [2, 3],
    "solver": ["ddim()", "heun()"],
    "schedule": ["cosine()", "sigmoid(-3, 3, tau=0.9)"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    config = digits.get_config("tiny")
    config.train.steps = 2
    train.run(config, folder)
    return folder


def swept(run, out, choices=CHOICES, **options):
    options = dict(num_images=20, metrics=METRICS, cache=run.parent / "features") | options
    return sampler_sweep.sweep(workdir.load_config(run), run, out, choices, **options)


def test_a_sweep_that_is_killed_goes_on(run, tmp_path, monkeypatch):
    out, drawn, made = tmp_path / "sweep", [], []
    real = model_images.model_images

    def dying(exp, *args, **options):
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(exp.config.sample)
        return real(exp, *args, **options)

    sampler = experiment.Experiment.sampler
    monkeypatch.setattr(
        experiment.Experiment,
        "sampler",
        lambda self, guide: made.append(self) or sampler(self, guide),
    )
    monkeypatch.setattr(model_images, "model_images", dying)
    with pytest.raises(KeyboardInterrupt):
        swept(run, out)
    first = (out / "sweep.csv").read_text().splitlines()
    assert len(first) == 4 and len(drawn) == 3
    monkeypatch.setattr(model_images, "model_images", real)
    rows = swept(run, out)
    lines = (out / "sweep.csv").read_text().splitlines()
    assert lines[:4] == first and len(lines) == 9 and len(rows) == 8
    assert [(row["solver"], row["steps"], row["nfe"]) for row in rows[:4]] == [
        ("ddim()", 2, 2),
        ("ddim()", 3, 3),
        ("heun()", 2, 2),
        ("heun()", 3, 4),
    ]
    # Schedules share a program; each of the two starts made those that it needed.
    assert len(made) == 4 + 4
    with (out / "sweep.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert read[-1]["schedule"] == "sigmoid(-3, 3, tau=0.9)"
    assert float(read[-1]["spectrum/distance"]) == rows[-1]["spectrum/distance"]
    with Image.open(out / "sweep.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10
    assert {path.name for path in out.iterdir()} == {"sweep.csv", "sweep.png", "sweep.json"}
    # More samplers may be added; another number of images makes another sweep.
    assert len(swept(run, out, CHOICES | {"steps": [2, 3], "schedule": ["cosine()"]})) == 8
    with pytest.raises(
        EvaluationInputError, match="holds another sweep:\n  num_images: 20 there, 30 g"
    ):
        swept(run, out, num_images=30)


def test_shared_programs_draw_the_same_images(run):
    config = workdir.load_config(run)
    params = experiment.from_config(config).init_params(experiment.keys.of_training(0)[0])
    programs = Programs()
    for schedule in CHOICES["schedule"]:
        cell = {"schedule": schedule, "steps": 3, "solver": "ddim()"}
        exp = experiment.from_config(sampler_cells.config_of(config, cell))
        own = model_images.model_images(exp, params, 8, "own")
        shared = model_images.model_images(
            exp, params, 8, "shared", run=programs.sampler(exp, exp.hyper)
        )
        gap = own.read(0, 8).images.astype(int) - shared.read(0, 8).images
        assert np.abs(gap).max() <= 1
    assert len(programs) == 1


@pytest.mark.parametrize(
    ("sample", "passes"),
    [
        (dict(solver="ddim()", steps=6), 6),
        (
            dict(solver="heun()", steps=6),
            10,
        ),  # one at the noisy end, where the path begins at zero SNR
        (dict(solver="ddim()", steps=6, guidance="cfg(3)"), 12),
        (dict(solver="pndm()", steps=6), 6),
    ],
)
def test_network_passes_are_counted(sample, passes):
    config = digits.get_config("tiny")
    config.sample.update(sample)
    assert sampler_cells.network_passes(experiment.from_config(config)) == passes


def test_every_sampler_that_cannot_work_is_named_before_anything_is_drawn(run, tmp_path):
    with pytest.raises(
        ConfigError, match="2 of 3 samplers cannot work:(.|\n)*eulr(.|\n)*dim\\(eta=2"
    ) as told:
        swept(run, tmp_path / "out", {"solver": ["ddim()", "eulr()", "ddim(eta=2)"]})
    assert "Did you mean 'euler'" in str(told.value) and not (tmp_path / "out").exists()


def test_a_foreign_folder_is_left_alone(run, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(EvaluationInputError, match="is not empty and holds no sweep"):
        swept(run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "mine.txt").unlink()
    (tmp_path / "sweep.json").write_text(json.dumps({"step": 1}))
    with pytest.raises(EvaluationInputError, match="holds another sweep"):
        swept(run, tmp_path)
