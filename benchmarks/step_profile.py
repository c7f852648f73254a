"""Where the time of RIN's training step goes on a CPU: its operations by kind, from a trace.

    python -m benchmarks.step_profile

The step of benchmarks/networks.py: configs/cifar10_rin.py's network, 32 x 32 pixels, batch 8, float32, mean
square loss, Adam. Times are those of the threads that run operations, added up, so that shares do not depend
on how many there are.
"""

import argparse
import collections
import glob
import re
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import cifar10_rin
from noise_sched import experiment

_STEPS, _WARM = 3, 1


def step_and_arguments(batch: int):
    """A compiled training step, and what it takes."""
    config = cifar10_rin.get_config()
    config.network.update(num_classes=0)
    exp = experiment.from_config(config)
    params = exp.init_params(jax.random.key(0))
    optimizer = optax.adam(1e-4)
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.normal(size=(batch, *exp.image_shape)), jnp.float32)
    memory = exp.network.initial_memory(batch)

    def loss(params, x):
        out, _ = exp.network.apply({"params": params}, x, jnp.zeros(batch), None, memory)
        return jnp.mean(jnp.square(out - x))

    def step(params, state, x):
        grads = jax.grad(loss)(params, x)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state

    return jax.jit(step), (params, optimizer.init(params), x)


def traced(run) -> collections.Counter:
    """Nanoseconds by operation over `_STEPS` runs."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(_STEPS):
                jax.block_until_ready(run())
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        data = jax.profiler.ProfileData.from_file(path)
        found: collections.Counter = collections.Counter()
        for plane in data.planes:
            for line in plane.lines:
                for event in line.events:
                    if any(name == "hlo_op" for name, _ in event.stats):
                        found[event.name] += event.duration_ns
    return found


def kind(name: str) -> str:
    """dot.12 -> matrix products; fusions by what they are made of."""
    base = re.sub(r"[.\d]+$", "", name)
    if base.startswith(("dot", "ynn")) or "convolution" in base:  # YNNPACK's, on CPUs
        return "matrix products"
    for word, told in (
        ("reduce", "reductions (norms, softmax, sums of gradients)"),
        ("transpose", "transposes and copies"),
        ("copy", "transposes and copies"),
        ("exponential", "softmax"),
        ("fusion", "elementwise (gelu, norms, Adam)"),
        ("call", "elementwise (gelu, norms, Adam)"),
    ):
        if word in base:
            return told
    return "other"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    step, arguments = step_and_arguments(options.batch)
    compiled = step.lower(*arguments).compile()
    for _ in range(_WARM):
        jax.block_until_ready(compiled(*arguments))
    times = []
    for _ in range(_STEPS):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - began)
    by_kind: collections.Counter = collections.Counter()
    for name, nanoseconds in traced(lambda: compiled(*arguments)).items():
        by_kind[kind(name)] += nanoseconds
    total = sum(by_kind.values())
    print(f"a step: {1e3 * statistics.median(times):.0f} ms\n")
    print("| kind | share of the traced time |\n|---|---|")
    for name, nanoseconds in by_kind.most_common():
        print(f"| {name} | {nanoseconds / total:.0%} |")


if __name__ == "__main__":
    main()
