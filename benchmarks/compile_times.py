"""Times the compilation of every config's train step at full size: one Markdown table.

    python -m benchmarks.compile_times --out=docs/results/compile_times.md

The step is that of `noise_sched.train`, lowered and compiled from shapes on one device of the default
backend: no array is made, whatever the size. What is timed is what a user waits for: tracing, lowering
and compiling, with the persistent compilation cache off.
"""

import argparse
import importlib
import math
import pathlib
import sys
import time

import jax
import jax.numpy as jnp

from benchmarks import machine
from noise_sched import experiment
from noise_sched.experiment import training
from noise_sched.training.step import compile_step

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
NOT_RUNS = ("__init__", "common", "edm_rows", "own_images")
VARIANTS = ["cifar10_edm:A,vp", "cifar10_edm:F,ve", "ffhq64_edm:F,ve"]  # other networks


def names(chosen: list[str]) -> list[str]:
    """The configs to measure: those chosen, or all; a name may have a variant, "cifar10_edm:A"."""
    stems = (path.stem for path in CONFIGS.glob("*.py"))
    return chosen or sorted([*(stem for stem in stems if stem not in NOT_RUNS), *VARIANTS])


def measure(name: str) -> dict:
    """Seconds to trace and lower, seconds to compile, and the size of the thing."""
    stem, _, variant = name.partition(":")
    config = importlib.import_module(f"configs.{stem}").get_config(variant or None)
    exp = experiment.from_config(config)
    state = jax.eval_shape(lambda: training.new_state(exp))
    size = config.train.batch_size
    batch = {
        "image": jax.ShapeDtypeStruct((size, *exp.image_shape), jnp.float32),
        "label": jax.ShapeDtypeStruct((size,), jnp.int32),
    }
    start = time.perf_counter()
    lowered = compile_step(training.step_of(exp), exp.hyper).lower(state, batch)
    middle = time.perf_counter()
    lowered.compile()
    return dict(
        network=config.network.name,
        parameters=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params)),
        batch=size,
        lowering=middle - start,
        compiling=time.perf_counter() - middle,
    )


def main() -> None:
    """Prints the table and writes it to --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="Markdown file to write.")
    parser.add_argument("--configs", nargs="*", default=[], help="Only these.")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    lines = [
        "# Compile times",
        "",
        f"    python -m benchmarks.compile_times {' '.join(sys.argv[1:])}".rstrip(),
        "",
        f"The train step of every config at full size, from shapes. {machine.describe()}.",
        "",
        "| config | network | parameters | batch | trace and lower, s | compile, s | together, s |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for name in names(arguments.configs):
        found = measure(name)
        lines.append(
            f"| `{name}` | {found['network']} | {found['parameters'] / 1e6:.1f} M | {found['batch']} "
            f"| {found['lowering']:.1f} | {found['compiling']:.1f} "
            f"| {found['lowering'] + found['compiling']:.1f} |"
        )
        print(lines[-1], flush=True)
        jax.clear_caches()
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
