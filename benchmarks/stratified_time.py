"""Measures what evenly spread times (`train.time`) save in the variance of the loss and its gradient.

    python -m benchmarks.stratified_time --out=docs/results/stratified_time.md

A network is trained with independent times. With its parameters fixed, loss and gradient of many batches
are computed under both choices, each pair on the same images and with the same key. The variance of the
gradient is the trace of its covariance, E |g - E g|^2. Then networks are trained under either choice and
judged by the mean loss of their moving averages, over the whole data set at times spread over it.
"""

import argparse
import dataclasses
import itertools
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import machine
from configs import digits, edm_digits
from noise_sched import experiment
from noise_sched.data import make_batches, open_source
from noise_sched.data.pipeline import BatchIterator
from noise_sched.diffusion import times
from noise_sched.experiment import Experiment, training
from noise_sched.training.step import compile_step

CONFIGS = {"digits": digits, "edm_digits": edm_digits}
CHOICES = ("uniform()", "stratified()")


@dataclasses.dataclass(frozen=True)
class Spread:
    """Over the batches: mean and variance of the loss, |E g|^2 and E |g - E g|^2."""

    loss: float
    loss_variance: float
    gradient: float
    gradient_variance: float


def build(name: str, choice: str, seed: int, steps: int) -> Experiment:
    """The experiment of a config with one way to draw times."""
    config = CONFIGS[name].get_config()
    config.seed = seed
    config.train.update(time=choice, steps=steps)
    config.optimizer.warmup_steps = min(config.optimizer.warmup_steps, steps // 4)
    return experiment.from_config(config)


def batches_of(exp: Experiment, seed: int) -> BatchIterator:
    """The digits, in the order of a seed."""
    source = open_source("digits", image_size=exp.config.data.image_size)
    return make_batches(source, batch_size=exp.config.train.batch_size, seed=seed, flip=False)


def train(exp: Experiment) -> Any:
    """The moving average of the parameters after the config's steps."""
    state = training.new_state(exp)
    step = compile_step(training.step_of(exp), exp.hyper)
    for batch, _ in zip(
        batches_of(exp, exp.config.seed), range(exp.config.train.steps), strict=False
    ):
        state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
    return state.ema_params


def spread(exp: Experiment, params: Any, count: int) -> Spread:
    """Over `count` batches, drawn from the same seed whatever the choice."""
    gradient = jax.jit(jax.value_and_grad(lambda p, k, b: exp.loss(p, k, b)[0]))
    losses, squares, total = [], [], jax.tree.map(jnp.zeros_like, params)
    for i, batch in zip(range(count), batches_of(exp, 100), strict=False):
        loss, grads = gradient(params, jax.random.fold_in(jax.random.key(200), i), batch)
        losses.append(loss)
        squares.append(optax.global_norm(grads) ** 2)
        total = jax.tree.map(jnp.add, total, grads)
    mean = float(optax.global_norm(total) ** 2) / count**2
    losses = np.asarray(jax.device_get(losses), np.float64)
    return Spread(
        loss=float(losses.mean()),
        loss_variance=float(losses.var(ddof=1)),
        gradient=mean,
        gradient_variance=(float(np.mean(jax.device_get(squares))) - mean) * count / (count - 1),
    )


def judge(exp: Experiment, params: Any, count: int = 112) -> float:
    """The mean loss over four epochs of images, at 64 evenly spread times for each batch."""
    objective = dataclasses.replace(exp.objective, time=times.stratified())
    even = dataclasses.replace(exp, hyper=dataclasses.replace(exp.hyper, objective=objective))
    loss = jax.jit(lambda p, k, b: even.loss(p, k, b)[0])
    keys = jax.random.split(jax.random.key(300), count)
    return float(
        np.mean([loss(params, k, b) for k, b in zip(keys, batches_of(exp, 400), strict=False)])
    )


def variance_table(steps: int, count: int) -> list[str]:
    """One row per config and choice."""
    lines = [
        "| config | time | mean loss | std of the loss | variance of the gradient | relative |",
        "|---|---|---|---|---|---|",
    ]
    for name in CONFIGS:
        params = train(build(name, CHOICES[0], 0, steps))
        found = {c: spread(build(name, c, 0, steps), params, count) for c in CHOICES}
        first = found[CHOICES[0]].gradient_variance
        for choice, row in found.items():
            lines.append(
                f"| {name} | `{choice}` | {row.loss:.4f} | {row.loss_variance**0.5:.4f} | "
                f"{row.gradient_variance:.3g} | {row.gradient_variance / first:.2f} |"
            )
            print(lines[-1], flush=True)
    return lines


def training_table(steps: int, seeds: int) -> list[str]:
    """One row per seed: the loss after training, under either choice."""
    lines = ["| seed | `uniform()` | `stratified()` |", "|---|---|---|"]
    found: dict[str, list[float]] = {choice: [] for choice in CHOICES}
    for seed, choice in itertools.product(range(seeds), CHOICES):
        exp = build("digits", choice, seed, steps)
        found[choice].append(judge(exp, train(exp)))
        print(seed, choice, found[choice][-1], flush=True)
    rows = zip(*found.values(), strict=True)
    return lines + [f"| {i} | {a:.4f} | {b:.4f} |" for i, (a, b) in enumerate(rows)]


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300, help="training steps")
    parser.add_argument("--batches", type=int, default=200, help="batches for the variances")
    parser.add_argument("--seeds", type=int, default=3, help="trainings under each choice")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    said, start = machine.describe(), time.perf_counter()
    text = ["# Evenly spread times", ""]
    text += [
        f"    python -m benchmarks.stratified_time --steps={args.steps} --batches={args.batches} "
        f"--seeds={args.seeds} --out={args.out}",
        "",
    ]
    text += [f"Batches of 64, float32. {said}.", ""]
    text += [
        f"Over {args.batches} batches, the network trained for {args.steps} steps (seed 0):",
        "",
    ]
    text += variance_table(args.steps, args.batches)
    text += [
        "",
        f"`digits` trained for {args.steps} steps, the mean loss of its moving average:",
        "",
    ]
    text += training_table(args.steps, args.seeds)
    text += ["", f"Measured in {time.perf_counter() - start:.0f} s.", ""]
    args.out.write_text("\n".join(text))


if __name__ == "__main__":
    main()
