"""Times a grid trained by the stack engine against one run of `train` for each cell, compiling included.

    python -m benchmarks.grids --out=docs/results/grid_speed.md

The cells are those of the digits size of configs/sweeps/input_scale_grid.py (8 x 8 digits, batches of 32)
with the network of configs/digits.py, a RIN of 0.4 M parameters; one per seed. Three ways, each from
nothing, without a cache of compiled programs:

    train      a process of `python -m noise_sched.train` for each cell, one after the other
    shared     one process with one compiled step, whose numbers are arguments, called step by step from
               Python; nothing is saved
    stack      one process of `python -m noise_sched.sweep --train_only`, which saves each cell's workdir

Repeats are interleaved, and medians are given. Of `train` the runs are timed one by one, spread over the
whole time; their median, of nine at most, stands for every cell of that many steps. Peak memory is
the process's own, by wait4.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from benchmarks import machine

ROOT = pathlib.Path(__file__).parents[1]
SHARED = "benchmarks.grids"


class Timed(NamedTuple):
    """Wall time in seconds and peak memory in MiB of a process."""

    seconds: float
    memory: float


def run(argv: list[str]) -> Timed:
    """Runs a process to its end."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    began = time.monotonic()
    process = subprocess.Popen(
        argv, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(argv)} failed:\n{said.decode()}")
    return Timed(time.monotonic() - began, usage.ru_maxrss / 1024)


NETWORK = {"num_layers": (2, 2), "latent_mlp_ratio": 4}  # of configs/digits.py


def overrides(steps: int) -> list[str]:
    """What all three ways change of the base."""
    network = [f"--config.network.{key}={value}" for key, value in NETWORK.items()]
    return [f"--config.train.steps={steps}", "--config.train.checkpoint_every=1000", *network]


def stack(cells: int, steps: int, folder: pathlib.Path) -> Timed:
    """One run of the stack engine."""
    path = folder / "sweep.py"
    path.write_text(
        "from configs.sweeps import small\n"
        "from configs.sweeps.cells import choices\n\n\n"
        "def get_config():\n    return small.base('digits')\n\n\n"
        "def sweep():\n"
        f"    return choices('seed', range({cells}))\n"
    )
    command = [sys.executable, "-m", "noise_sched.sweep", f"--sweep={path}", "--train_only"]
    return run([*command, f"--workdir={folder / 'out'}", *overrides(steps)])


def train(seed: int, steps: int, folder: pathlib.Path) -> Timed:
    """One run of the train binary."""
    path = folder / "base.py"
    path.write_text(
        "from configs.sweeps import small\n\n\ndef get_config():\n    return small.base('digits')\n"
    )
    command = [sys.executable, "-m", "noise_sched.train", f"--config={path}"]
    place = f"--workdir={folder / 'out'}"
    return run([*command, place, *overrides(steps), f"--config.seed={seed}"])


def shared(cells: int, steps: int) -> Timed:
    """One process with one compiled step; it is this file, called with --shared."""
    return run([sys.executable, "-m", SHARED, f"--shared={cells}", f"--steps={steps}"])


def train_shared(cells: int, steps: int) -> None:
    """Trains cells one after the other with one compiled step, called step by step."""
    import jax

    from configs.sweeps import small
    from noise_sched import experiment
    from noise_sched.data import make_batches
    from noise_sched.experiment import keys, training, training_images
    from noise_sched.experiment.hyper import stack as stacked

    config = small.base("digits")
    config.train.steps = steps
    config.network.update(NETWORK)
    exp = experiment.from_config(config)
    source = training_images.opened(config)
    hyper = jax.tree.map(lambda x: x[0], stacked([exp.hyper]))
    new_state = jax.jit(lambda pair: training.new_state(exp, pair))
    step = jax.jit(training.step_of(exp), donate_argnums=0)
    for seed in range(cells):
        state = new_state(keys.of_training(seed))
        batches = make_batches(source, batch_size=config.train.batch_size, seed=seed, flip=False)
        for _ in range(steps):
            state, metrics = step(state, jax.device_put(next(batches)), hyper)
        jax.block_until_ready(metrics)


def rows(sizes: list[tuple[int, int]], repeats: int) -> list[str]:
    """The table: for each number of cells and steps the three ways."""
    found = []
    singles: dict[int, list[Timed]] = {}
    for cells, steps in sizes:
        times: dict[str, list[Timed]] = {"stack": [], "shared": []}
        for repeat in range(repeats):
            for way in ("train", "stack", "train", "shared", "train"):
                with tempfile.TemporaryDirectory() as folder:
                    if way == "train" and len(singles.get(steps, ())) >= 9:
                        continue
                    if way == "train":
                        one = train(repeat, steps, pathlib.Path(folder))
                        singles.setdefault(steps, []).append(one)
                    elif way == "stack":
                        times["stack"].append(stack(cells, steps, pathlib.Path(folder)))
                    else:
                        times["shared"].append(shared(cells, steps))
                    shutil.rmtree(pathlib.Path(folder) / "out", ignore_errors=True)
        each = statistics.median(t.seconds for t in singles[steps])
        by = {way: statistics.median(t.seconds for t in found) for way, found in times.items()}
        memory = {way: max(t.memory for t in found) for way, found in times.items()}
        found.append(
            f"| {cells} | {steps:,} | {cells * each:.0f} s ({each:.1f} s each) | {by['shared']:.0f} s | "
            f"{by['stack']:.0f} s | {cells * each / by['stack']:.1f} | {by['shared'] / by['stack']:.2f} | "
            f"{max(t.memory for t in singles[steps]):.0f} | {memory['stack']:.0f} |"
        )
        print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", default="16x100,16x300,16x1000,2x300,4x300,8x300,32x300")
    parser.add_argument("--shared", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=300, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shared:
        train_shared(options.shared, options.steps)
        return
    sizes = [tuple(map(int, size.split("x"))) for size in options.sizes.split(",")]
    table = rows(sizes, options.repeats)
    heads = "| cells | steps | train, one by one | shared step | stack | train / stack | shared / stack "
    heads += "| MiB of train | MiB of stack |"
    text = "\n".join([heads, "|---" * 9 + "|", *table, "", machine.describe()])
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
