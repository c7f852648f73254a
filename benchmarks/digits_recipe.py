"""Measures the digits recipe: one table of trainings, one of ways to sample from them.

    python -m benchmarks.digits_recipe --out=docs/results/digits_recipe.jsonl
    python -m benchmarks.digits_recipe --out=docs/results/digits_recipe.jsonl --table > table.md

Each training is configs/digits.py with other choices; each row of the output is one training sampled
one way, judged by the measures of `noise_sched.evaluation`. Rows that are in the file are not measured
again, so a stopped run goes on. About a minute a training on two CPU cores.
"""

import itertools
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from configs import digits
from noise_sched import experiment
from noise_sched.data import make_batches, open_source
from noise_sched.diffusion.sampling import example_keys
from noise_sched.evaluation import class_agreement, contrast, kernel_distance
from noise_sched.evaluation.image_set import image_set
from noise_sched.evaluation.references import digits as real_digits
from noise_sched.experiment import training
from noise_sched.figures.images import to_uint8
from noise_sched.training.step import compile_step

_OUT = flags.DEFINE_string("out", "docs/results/digits_recipe.jsonl", "One JSON object per row.")
_STEPS = flags.DEFINE_integer("steps", 1500, "Training steps.")
_TABLE = flags.DEFINE_bool("table", False, "Only print the file as Markdown.")
_GROUPS = flags.DEFINE_list("groups", ["training", "sampling", "seeds"], "Which rows to measure.")

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
        best = [c for c in main if c["input_scale"] == "none()" and c["parametrization"] != "eps()"]
        rows += [(choice | dict(seed=seed), [PLAIN, GUIDED]) for seed in (1, 2) for choice in best]
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


def judge(images: np.ndarray, labels: np.ndarray) -> dict:
    """The figures of one table row."""
    generated = image_set("generated", images, labels)
    real = real_digits()
    return dict(
        agreement=class_agreement.class_agreement(images, labels).agreement,
        washed_out=contrast.contrast(generated, real).washed_out,
        kernel_distance=kernel_distance.kernel_distance(generated, real).distance,
    )


def measure(path: pathlib.Path) -> None:
    """Adds the rows that are missing."""
    known = {_name(row) for row in _read(path)}
    merged: dict[str, tuple[dict, list[dict]]] = {}
    for choice, ways in trainings():
        merged.setdefault(json.dumps(choice), (choice, []))[1].extend(ways)
    for choice, ways in merged.values():
        missing = [how for how in ways if _name(choice | how) not in known]
        if not missing:
            continue
        params, loss, seconds = train(choice)
        for how in missing:
            if _name(choice | how) in known:
                continue
            row = choice | how | judge(*draw(choice, how, params))
            row |= dict(loss=loss, train_seconds=round(seconds, 1), train_steps=_STEPS.value)
            known.add(_name(row))
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


def table(path: pathlib.Path) -> str:
    """The rows as Markdown."""
    figures = ("agreement", "washed_out", "kernel_distance")
    lines = ["| " + " | ".join(KEYS + figures) + " |", "|---" * (len(KEYS) + len(figures)) + "|"]
    for row in _read(path):
        cells = [str(row[key]) for key in KEYS] + [f"{row[key]:.3f}" for key in figures]
        lines.append("| " + " | ".join(cells) + " |")
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
