"""The variance of a batch's gradient, drawn by a fixed and by an adaptive density, at the same parameters.

    python -m benchmarks.gradient_variance runs/density/CELL [...]

For each workdir of a run with `train.density='adaptive(...)'`: E|g - E g|^2 over batches of the training's
size, with the density that the run has learnt and with `fixed()`, as their ratio; and the same of the loss.
Parameters are those of its newest checkpoint.
"""

import argparse
import dataclasses
import pathlib

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from noise_sched import experiment
from noise_sched.diffusion import density
from noise_sched.experiment import loss, training, training_images, workdir
from noise_sched.training import files
from noise_sched.training.checkpoints import Checkpoints

_BATCHES = 256


def ratios(folder: pathlib.Path) -> tuple[str, float, float]:
    """(schedule, variance of the gradient with the adaptive density to the fixed one's, of the loss)."""
    place = files.folder(str(folder), "workdir")
    exp = experiment.from_config(workdir.load_config(place))
    abstract = jax.eval_shape(lambda: training.new_state(exp))
    with Checkpoints(workdir.checkpoints(place), read_only=True) as checkpoints:
        restored = checkpoints.restore(abstract)
    if restored is None or restored.state.density is None:
        raise SystemExit(
            f"error: {folder} is no run with train.density='adaptive()' and a checkpoint."
        )
    state, hyper = restored.state, exp.hyper
    objective = dataclasses.replace(hyper.objective, density=density.fixed())
    fixed = dataclasses.replace(hyper, objective=objective)
    source, draw = training_images.opened(exp.config), np.random.default_rng(0)

    @jax.jit
    def both(params, learnt, key, batch):
        def gradient(numbers, carried):
            of = lambda p: loss.loss(numbers, p, key, batch, network=exp.network, density=carried)[
                0
            ]
            value, slope = jax.value_and_grad(of)(params)
            flat, _ = jax.flatten_util.ravel_pytree(slope)
            return value, flat

        return gradient(hyper, learnt), gradient(fixed, None)

    sums = [[0.0, 0.0, []] for _ in range(2)]
    for number in range(_BATCHES):
        rows = source.gather(np.sort(draw.integers(len(source), size=exp.config.train.batch_size)))
        found = both(state.params, state.density, jax.random.key(number), dict(rows))
        for total, (value, slope) in zip(sums, found, strict=True):
            total[0] = total[0] + slope
            total[1] += float(jnp.vdot(slope, slope))
            total[2].append(float(value))
    spreads = [
        (square - float(jnp.vdot(mean, mean)) / _BATCHES) / (_BATCHES - 1)
        for mean, square, _ in sums
    ]
    losses = [np.var(values, ddof=1) for *_, values in sums]
    return exp.config.schedule, spreads[0] / spreads[1], losses[0] / losses[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdirs", type=pathlib.Path, nargs="+")
    print("| workdir | schedule | variance of the gradient, adaptive / fixed | of the loss |")
    print("|---|---|---|---|")
    for folder in parser.parse_args().workdirs:
        schedule, slope, value = ratios(folder)
        print(f"| {folder.name} | `{schedule}` | {slope:.2f} | {value:.2f} |", flush=True)


if __name__ == "__main__":
    main()
