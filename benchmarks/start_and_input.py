"""How long a training takes to its first step, and how much faster batches are made than steps consume them.

    python -m benchmarks.start_and_input --out=docs/results/start_and_input.md

The quickstart's config, configs/digits.py. Start: from the process's beginning to the end of the first
call of the step, as wall_time.jsonl has it, with a filled cache of compiled programs. Input: batches made
with nothing else at work, against steps taken on a batch that is there; interleaved, medians.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import jax

from benchmarks import machine
from configs import digits
from noise_sched import experiment
from noise_sched.data import make_batches
from noise_sched.experiment import training, training_images
from noise_sched.training import goodput
from noise_sched.training.step import compile_step

ROOT = pathlib.Path(__file__).parents[1]


def start(cache: str) -> dict[str, float]:
    """The seconds before the first step of a run, by kind."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "noise_sched.train", "--config=configs/digits.py"]
        command += [
            f"--workdir={folder}/run",
            "--config.train.steps=1",
            "--config.train.log_every=1",
        ]
        command += ["--config.optimizer.warmup_steps=0"]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
        # As launch/env.sh: modules are compiled once, not at each start.
        if environment.pop("PYTHONDONTWRITEBYTECODE", None):
            environment["PYTHONPYCACHEPREFIX"] = str(ROOT / ".cache" / "python")
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        seconds = goodput.read(pathlib.Path(folder) / "run")[0]["seconds"]
    return {kind: seconds.get(kind, 0.0) for kind in ("init", "compile", "input")}


def input_and_step(repeats: int, count: int) -> tuple[float, float]:
    """Milliseconds of a batch and of a step: medians over repeats of `count` each."""
    config = digits.get_config()
    exp = experiment.from_config(config)
    size = config.train.batch_size
    batches = make_batches(training_images.opened(config), batch_size=size, seed=0, flip=False)
    state = jax.jit(lambda: training.new_state(exp))()
    step = compile_step(training.step_of(exp), exp.hyper)
    batch = jax.device_put(next(batches))
    state, metrics = step(state, batch)
    made, taken = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(count):
            next(batches)
        made.append((time.perf_counter() - began) / count)
        began = time.perf_counter()
        for _ in range(count):
            state, metrics = step(state, batch)
        jax.block_until_ready(metrics)
        taken.append((time.perf_counter() - began) / count)
    return 1e3 * statistics.median(made), 1e3 * statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        cold = start(cache)
        warm = [start(cache) for _ in range(options.repeats)]
    middle = {kind: statistics.median(each[kind] for each in warm) for kind in cold}
    batch, step = input_and_step(options.repeats, 40)
    rows = [
        ("start to the first step, warm cache", f"{sum(middle.values()):.1f} s"),
        ("... imports, config, data, state", f"{middle['init']:.1f} s"),
        ("... the step's program, from the cache", f"{middle['compile']:.1f} s"),
        ("start to the first step, empty cache", f"{sum(cold.values()):.1f} s"),
        (f"a batch of {digits.get_config().train.batch_size}, made", f"{batch:.2f} ms"),
        ("a step", f"{step:.1f} ms"),
        ("step / batch", f"{step / batch:.0f} x"),
    ]
    lines = ["| what | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    command = "    python -m benchmarks.start_and_input --out=docs/results/start_and_input.md"
    text = "\n".join(["# Start and input", "", command, "", *lines, "", machine.describe(), ""])
    print(text)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
