"""Times a 50-step sampling run against diffusers, on this machine: one Markdown table.

    python -m benchmarks.solvers --out=docs/results/solvers.md

Needs `diffusers` and `torch` (CPU). The model is trivial, v = 0.1 x, so what is timed is the solver:
the scheduler's `step` in its usual Python loop there, one compiled scan here. Both run the same levels
(Stable Diffusion's betas, trailing steps) from the same x_T; where nothing is random the images are
compared too. Repeats are interleaved: each goes through all solvers and both sides, each run after one
that is not timed, so that a machine which is busy for a while slows every row and both sides; ratios are
of medians. Compilation, and diffusers' `set_timesteps`, are not in the figures.
"""

import argparse
import pathlib
import statistics
import sys
import time

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import machine
from noise_sched.diffusion import parametrization
from noise_sched.diffusion.process import NoiseLevel
from noise_sched.diffusion.sampling import sample
from noise_sched.diffusion.specs import build

STEPS = 50
SHAPES = [(1, 4, 64, 64), (64, 3, 64, 64)]
MULTISTEP = diffusers.DPMSolverMultistepScheduler
# Ours, theirs and their own options; the state is in the frame alpha = 1 where they keep it so. The
# last number is `sample`'s unroll: more than one turn for the solvers that move a history along.
PAIRS = [
    ("ddim()", diffusers.DDIMScheduler, dict(clip_sample=False), 1),
    ("euler()", diffusers.EulerDiscreteScheduler, {}, 1),
    ("heun()", diffusers.HeunDiscreteScheduler, {}, 1),
    ("dpmpp(1)", MULTISTEP, dict(solver_order=1), 1),
    ("dpmpp(2)", MULTISTEP, dict(solver_order=2), 2),
    ("dpmpp(3)", MULTISTEP, dict(solver_order=3), 3),
    ("unipc(2)", diffusers.UniPCMultistepScheduler, dict(solver_order=2), 3),
    ("unipc(3)", diffusers.UniPCMultistepScheduler, dict(solver_order=3), 4),
    ("ddpm('small')", diffusers.DDPMScheduler, dict(clip_sample=False), 1),
    ("euler_ancestral()", diffusers.EulerAncestralDiscreteScheduler, {}, 1),
    ("dpmpp(2, eta=1)", MULTISTEP, dict(solver_order=2, algorithm_type="sde-dpmsolver++"), 1),
]


def path() -> NoiseLevel:
    """The trailing levels of 1000 scaled-linear betas, then clean data."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)[np.arange(999, 0, -1000 // STEPS)]
    kept = np.append(kept, 1.0)
    return NoiseLevel(*(jnp.asarray(np.sqrt(f), jnp.float32) for f in (kept, 1 - kept)))


def network(x, level, memory):
    """v = 0.1 x."""
    return parametrization.v().to_prediction(level, x, 0.1 * x), memory


def ours(spec: str, x_T: np.ndarray, unroll: int):
    """A function that runs a whole sampling run; the seconds its compilation took."""
    solver, levels, key = build(spec, "solver"), path(), jax.random.key(0)
    x_T = levels.sigma[0] * jnp.asarray(x_T)
    compiled = jax.jit(lambda x: sample(key, network, solver, levels, x, unroll=unroll))
    start = time.perf_counter()
    compiled(x_T).block_until_ready()
    seconds = time.perf_counter() - start
    return lambda: compiled(x_T).block_until_ready(), seconds


def theirs(scheduler: type, options: dict, x_T: np.ndarray):
    """(set up a run, run it): diffusers' loop as its pipelines write it."""
    made = scheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        **options,
    )
    noise, generator = torch.from_numpy(x_T), torch.Generator().manual_seed(0)
    takes_generator = scheduler is not diffusers.HeunDiscreteScheduler
    takes_generator &= scheduler is not diffusers.UniPCMultistepScheduler
    extra = dict(generator=generator) if takes_generator else {}
    first = float(path().sigma[0])

    def prepare():
        made.set_timesteps(STEPS)
        # Schedulers in the frame alpha = 1 say so by a standard deviation of x_T above 1.
        sigma = float(made.init_noise_sigma)
        if sigma > 1:
            return noise * sigma
        return noise * first

    def run(x):
        for t in made.timesteps:
            x = made.step(0.1 * made.scale_model_input(x, t), t, x, **extra).prev_sample
        return x

    return prepare, run


def seconds(run) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


class Pair:
    """One solver on both sides, compiled and warm, and the seconds of its runs."""

    def __init__(self, spec, scheduler, options, unroll, shape):
        x_T = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        self.spec, self.scheduler, self.unroll, self.shape = spec, scheduler, unroll, shape
        self.plain, _ = ours(spec, x_T, 1)
        self.fast, self.compiling = ours(spec, x_T, unroll)
        self.prepare, self.slow = theirs(scheduler, options, x_T)
        self.difference = np.abs(np.asarray(self.fast()) - self.slow(self.prepare()).numpy()).max()
        self.times: dict[str, list[float]] = {"ours": [], "plain": [], "theirs": []}

    def repeat(self) -> None:
        """Runs and times each side once. The run before each, which is not timed, fills its caches
        while the other side's threads, which spin for a while, come to rest."""
        self.slow(self.prepare())
        x = self.prepare()
        self.times["theirs"].append(seconds(lambda: self.slow(x)))
        for name, run in (("plain", self.plain), ("ours", self.fast)):
            run()
            self.times[name].append(seconds(run))

    def row(self) -> str:
        """The line of the table."""
        median = {name: 1e3 * statistics.median(each) for name, each in self.times.items()}
        least = {name: min(each) for name, each in self.times.items()}
        random = build(self.spec, "solver").stochastic
        cells = [
            "×".join(map(str, self.shape)),
            f"`{self.spec}`",
            self.scheduler.__name__.removesuffix("Scheduler"),
            f"{median['theirs']:.2f}",
            f"{median['ours']:.3f}",
            f"{median['theirs'] / median['ours']:.1f}×",
            f"{least['theirs'] / least['ours']:.1f}×",
            str(self.unroll),
            f"{median['theirs'] / median['plain']:.1f}×",
            f"{self.compiling:.1f}",
            "random" if random else f"{self.difference:.0e}",
        ]
        return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints the table and writes it to --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="Markdown file to write.")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    with torch.no_grad():
        lines = [*head(arguments.repeats), *table(arguments.repeats)]
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


def head(repeats: int) -> list[str]:
    """What was run, where and with what."""
    return [
        "# Solvers against diffusers",
        "",
        f"    python -m benchmarks.{pathlib.Path(sys.argv[0]).stem} {' '.join(sys.argv[1:])}",
        "",
        f"{STEPS} steps, float32, model v = 0.1 x, Stable Diffusion's betas, trailing steps. "
        f"{machine.describe()},",
        f"torch {torch.__version__} ({torch.get_num_threads()} threads), diffusers "
        f"{diffusers.__version__}.",
        f"Medians of {repeats} interleaved repeats ({10 * repeats} of the small shape), in milliseconds "
        "per run, and their ratio; compilation (once, in seconds) is not in them.",
        "Each repeat goes through all rows, so that a busy minute falls on all of them; it does not slow",
        "both sides alike: hence the ratio of the fastest runs as well.",
        "`unroll` is `sample`'s: more than 1 lets the compiler fuse steps, which pays for a model as",
        "cheap as this one; the column behind it is the ratio without.",
        "The last column is the largest difference of the images, where nothing is random.",
        "",
    ]


def table(repeats: int) -> list[str]:
    """One row per solver and shape, printed as each shape is done."""
    lines = [
        "| shape | solver | diffusers | diffusers ms | ours ms | ratio | of minima | unroll "
        "| ratio at unroll 1 | compile s | difference |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for shape in SHAPES:
        pairs = [Pair(*each, shape) for each in PAIRS]
        some = repeats if shape[0] > 1 else 10 * repeats  # small runs are short and noisy
        for _ in range(some):
            for pair in pairs:
                pair.repeat()
        rows = [pair.row() for pair in pairs]
        print("\n".join(rows), flush=True)
        lines += rows
    return lines


if __name__ == "__main__":
    main()
