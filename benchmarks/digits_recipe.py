"""Measures the digits recipe: one table of trainings, one of ways to sample from them.

    python -m benchmarks.digits_recipe --groups=seeds --out=docs/results/digits_seeds.jsonl
    python -m benchmarks.digits_recipe --groups=seeds --out=docs/results/digits_seeds.jsonl --table

Each training is configs/digits.py with other choices; each row of the output is one training sampled
one way, under every metric that needs no weights. Rows that are in the file are not measured again, and
images that are in --images are not drawn again: a stopped run goes on, another judge needs no training.
About two minutes a training on two CPU cores.
"""

import functools
import itertools
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from configs import digits
from noise_sched import experiment
from noise_sched.data import make_batches, open_source
from noise_sched.diffusion.sampling import example_keys
from noise_sched.evaluation.image_set import image_set
from noise_sched.experiment import training
from noise_sched.figures.images import to_uint8
from noise_sched.judging import catalogue, extraction, sources
from noise_sched.judging.judge import Judge
from noise_sched.training.step import compile_step

_OUT = flags.DEFINE_string("out", "docs/results/digits_seeds.jsonl", "One JSON object per row.")
_IMAGES = flags.DEFINE_string("images", "runs/digits_recipe", "A folder to keep the images in.")
_STEPS = flags.DEFINE_integer("steps", 1500, "Training steps.")
_TABLE = flags.DEFINE_bool("table", False, "Only print the file as Markdown.")
_GROUPS = flags.DEFINE_list("groups", ["seeds"], "Which rows: seeds, training, sampling.")

PARAMETRIZATIONS = ("eps()", "x0()", "v()")
SCHEDULES = ("linear()", "cosine()", "sigmoid(-3, 3, tau=0.9)")
PLAIN = dict(solver="ddim()", steps=50, guidance="none()")
GUIDED = dict(solver="ddim()", steps=50, guidance="cfg(w=2.0)")
SAMPLERS = [
    dict(solver=solver, steps=steps, guidance=guidance)
    for solver, steps, guidance in itertools.product(
        ("ddim()", "ddpm('large')"),
        (10, 50, 100),
        ("none()", "cfg(w=2.0)"),
    )
]
COUNT = 1000
KEYS = ("parametrization", "input_scale", "schedule", "seed", "solver", "steps", "guidance")


def trainings() -> list[tuple[dict, list[dict]]]:
    """(choices of a training, the ways it is sampled), in the order they are measured."""
    start = dict(parametrization="v()", input_scale="none()", schedule="linear()", seed=0)
    main = [
        start | dict(parametrization=p, input_scale=i)
        for p, i in itertools.product(PARAMETRIZATIONS, ("none()", "per_example_std()"))
    ]
    rows = []
    if "training" in _GROUPS.value:
        others = [start | dict(input_scale="analytic(sigma_data=0.75)")]
        others += [start | dict(schedule=s) for s in SCHEDULES if s != "linear()"]
        rows += [(choice, [PLAIN, GUIDED]) for choice in main + others]
    if "sampling" in _GROUPS.value:
        rows += [(choice, SAMPLERS) for choice in main if choice["parametrization"] != "x0()"]
    if "seeds" in _GROUPS.value:
        rows += [(choice | dict(seed=seed), [PLAIN]) for seed in range(3) for choice in main]
    return rows


def config_of(choice: dict):
    """configs/digits.py with a training's choices."""
    config = digits.get_config()
    config.update(choice)
    config.loss.space = choice["parametrization"]
    config.train.steps = _STEPS.value
    # Nothing is known of the image at zero SNR by an eps-prediction: it starts just before.
    eps = choice["parametrization"] == "eps()"
    config.sample.schedule = "plain_cosine()" if eps else "cosine()"
    return config


def train(choice: dict):
    """The moving average of the parameters after training, the mean of the last losses, seconds."""
    config = config_of(choice)
    exp = experiment.from_config(config)
    state = jax.jit(lambda: training.new_state(exp))()
    step = compile_step(training.step_of(exp), exp.hyper)
    batches = make_batches(
        open_source("digits", image_size=8),
        batch_size=config.train.batch_size,
        seed=config.seed,
        flip=False,
    )
    losses, start = [], time.perf_counter()
    for _ in range(config.train.steps):
        state, metrics = step(state, next(batches))
        losses.append(metrics["loss"])
        if len(losses) % 50 == 0:
            jax.block_until_ready(metrics)
    loss = float(np.mean(jax.device_get(losses[-200:])))
    return state.ema_params, loss, time.perf_counter() - start


def draw(choice: dict, how: dict, params) -> tuple[np.ndarray, np.ndarray]:
    """COUNT images, equal numbers of each class."""
    config = config_of(choice)
    config.sample.update(how)
    run = experiment.from_config(config).sampler()
    labels = np.arange(COUNT, dtype=np.int32) % 10
    size = config.sample.batch_size
    images = [
        run(
            params,
            example_keys(jax.random.key(1), jnp.arange(i, i + size)),
            jnp.asarray(labels[i : i + size]),
        )
        for i in range(0, COUNT, size)
    ]
    return to_uint8(np.concatenate(images)), labels


@functools.cache
def judge() -> Judge:
    """Of all metrics that need no weights, beside the real digits."""
    real = sources.open_images("digits")
    metrics = catalogue.without_weights(COUNT, True, real)
    return Judge(real, real.shape, metrics, pathlib.Path(_IMAGES.value) / "features", beside=True)


def images_of(choice: dict, how: dict, trained: Callable[[], Any]) -> tuple[np.ndarray, np.ndarray]:
    """The images of a row, drawn unless they are kept."""
    name = "-".join(str(value) for value in (choice | how).values())
    path = pathlib.Path(_IMAGES.value) / f"{name}.npz"
    if not path.exists():
        images, labels = draw(choice, how, trained())
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, images=images, labels=labels)
    with np.load(path) as kept:
        return kept["images"], kept["labels"]


def measure(path: pathlib.Path) -> None:
    """Adds the rows that are missing."""
    known = {_name(row) for row in _read(path)}
    merged: dict[str, tuple[dict, list[dict]]] = {}
    for choice, ways in trainings():
        merged.setdefault(json.dumps(choice), (choice, []))[1].extend(ways)
    for choice, ways in merged.values():
        trained = functools.cache(lambda choice=choice: train(choice)[0])
        for how in ways:
            if _name(choice | how) in known:
                continue
            report = judge()(image_set("drawn", *images_of(choice, how, trained)))
            extraction.forget(report.generated)
            row = choice | how | report.figures() | dict(train_steps=_STEPS.value)
            known.add(_name(row))
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


FIGURES = {
    "class_agreement/agreement": "agreement",
    "class_fd/distance": "class FD",
    "swd/distance": "SWD",
    "spectrum/distance": "spectrum (dB)",
    "brightness/distance": "brightness",
    "contrast/washed_out": "washed out",
    "nearest/far": "far",
    "nearest/copies": "copies",
    "kernel_distance/distance": "kernel distance",
}


def table(path: pathlib.Path) -> str:
    """The rows as Markdown: mean ± standard deviation over the seeds."""
    names = [key for key in KEYS if key != "seed"]
    groups: dict[tuple, list[dict]] = {}
    for row in _read(path):
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    lines = ["| " + " | ".join([*names, "seeds", *FIGURES.values()]) + " |"]
    lines.append("|---" * (len(names) + 1 + len(FIGURES)) + "|")
    for group, rows in groups.items():
        values = np.array([[row[figure] for figure in FIGURES] for row in rows])
        std = values.std(axis=0, ddof=1) if len(rows) > 1 else np.zeros(len(FIGURES))
        cells = [f"{m:.3g} ± {s:.1g}" for m, s in zip(values.mean(axis=0), std, strict=True)]
        lines.append("| " + " | ".join([*map(str, group), str(len(rows)), *cells]) + " |")
    return "\n".join(lines)


def _read(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _name(row: dict) -> tuple:
    return tuple(row[key] for key in KEYS)


def main(_) -> None:
    """Measures, or prints the table."""
    logging.set_verbosity(logging.WARNING)
    path = pathlib.Path(_OUT.value)
    if not _TABLE.value:
        measure(path)
    print(table(path))


if __name__ == "__main__":
    app.run(main)
