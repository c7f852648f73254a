"""What digests cost: saving and reading a checkpoint with them and without.

    python -m benchmarks.saving --out=docs/results/saving.md
    python -m benchmarks.saving --config=digits --repeats=3

The whole state of a config: parameters, the optimizer's moments, the moving average. `blocked` is how long
the training stands still, until `save` returns; `written` is until all of it is on the disk; `read` restores
it. Interleaved, medians.
"""

import argparse
import importlib
import pathlib
import statistics
import tempfile
import time

import jax

from benchmarks import machine
from noise_sched import experiment
from noise_sched.experiment import training
from noise_sched.training.checkpoints import Checkpoints

KINDS = ("blocked", "written", "read")


def once(state, folder: pathlib.Path, digests: bool) -> dict[str, float]:
    """Seconds of one save and one read."""
    with Checkpoints(folder, digests=digests) as checkpoints:
        began = time.perf_counter()
        checkpoints.save(int(state.step), state)
        blocked = time.perf_counter() - began
        checkpoints.wait()
        written = time.perf_counter() - began
    abstract = jax.eval_shape(lambda: state)
    with Checkpoints(folder, read_only=True) as checkpoints:
        began = time.perf_counter()
        assert checkpoints.restore(abstract) is not None
        read = time.perf_counter() - began
    return {"blocked": blocked, "written": written, "read": read}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="cifar10_rin")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    load = machine.describe()
    exp = experiment.from_config(importlib.import_module(f"configs.{options.config}").get_config())
    state = jax.block_until_ready(jax.jit(lambda: training.new_state(exp))())
    size = sum(
        leaf.nbytes for leaf in jax.tree.leaves((state.params, state.opt_state, state.ema_params))
    )
    found: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for _ in range(options.repeats + 1):
        for digests in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                found[digests].append(once(state, pathlib.Path(folder) / "checkpoints", digests))
    lines = ["| | with digests | without | ratio |", "|---|---|---|---|"]
    for kind in KINDS:
        # The first of each compiles and warms up.
        one, other = (statistics.median(each[kind] for each in found[d][1:]) for d in (True, False))
        lines.append(f"| {kind} | {one:.2f} s | {other:.2f} s | {one / other:.2f} |")
    table = "\n".join(lines)
    print(f"{options.config}: {size / 2**20:.0f} MiB\n\n{table}")
    if options.out is not None:
        options.out.write_text(
            "# Digests of checkpoints\n\n    python -m benchmarks.saving --out=docs/results/saving.md\n\n"
            f"The state of `configs/{options.config}.py`, {size / 2**20:.0f} MiB; medians of "
            f"{options.repeats} interleaved repeats. `blocked`: training stands still.\n\n{table}\n\n"
            f"{load}\n"
        )


if __name__ == "__main__":
    main()
