"""A tiny model to train: one linear layer, noise from the step's key, data from the step's number.

Also a program: `python tests/training/tiny.py DIRECTORY STEPS` trains with a checkpoint after every
step, printing the number of each step.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from noise_sched.training import checkpoints, learning_rate, loop, optimizers, partitioning
from noise_sched.training.state import TrainState
from noise_sched.training.step import compile_step, make_step

INPUTS, OUTPUTS, BATCH = 12, 8, 16


def loss_fn(hyper, params, key, batch):
    noise = jax.random.normal(key, batch["image"].shape, batch["image"].dtype)
    out = (batch["image"] + 0.1 * noise) @ params["dense"]["kernel"]
    out = out + params["dense"]["bias"][None]
    error = jnp.mean((out - batch["target"]) ** 2)
    return error, {"mean_out": jnp.mean(out)}


class Batches:
    """Batch k is a function of k alone; those in `poison` hold a NaN."""

    def __init__(self, start=0, poison=()):
        self.position, self.poison = start, poison

    def __iter__(self):
        return self

    def __next__(self):
        rng = np.random.default_rng(self.position)
        image = rng.standard_normal((BATCH, INPUTS)).astype(np.float32)
        if self.position in self.poison:
            image[3, 2] = np.nan
        self.position += 1
        return {"image": image, "target": image[:, :OUTPUTS] * 2.0}

    def get_state(self):
        return {"next": self.position}

    def set_state(self, state):
        self.position = state["next"]


def optimizer():
    return optimizers.lamb(
        learning_rate.warmup_and_decay(0.2, total_steps=100, decay="cosine@0.8", warmup_steps=2)
    )


def init(key, **options):
    params = {
        "dense": {
            "kernel": 0.5 * jax.random.normal(key, (INPUTS, OUTPUTS)),
            "bias": jnp.zeros(OUTPUTS),
        }
    }
    return TrainState.create(params, optimizer(), jax.random.fold_in(key, 1), **options)


def abstract_state(shardings=None, **options):
    abstract = jax.eval_shape(lambda key: init(key, **options), jax.random.key(0))
    if shardings is None:
        one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shardings = jax.tree.map(lambda _: one, abstract)
    return partitioning.with_shardings(abstract, shardings)


def train_step(
    *,
    loss_fn=loss_fn,
    optimizer=optimizer,
    new_weight=lambda hyper, step: jnp.float32(0.1),
    mesh=None,
    state_shardings=None,
    **options,
):
    """The compiled step; `new_weight=None` is for averages of power-function shape."""
    step = make_step(loss_fn, lambda hyper: optimizer(), new_weight, mesh=mesh, **options)
    return compile_step(step, None, mesh=mesh, state_shardings=state_shardings)


def plain(state):
    """The state's leaves as numpy, the key as numbers."""
    state = state.replace(key=jax.random.key_data(state.key))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def assert_same(one, other):
    for a, b in zip(plain(one), plain(other), strict=True):
        np.testing.assert_array_equal(a, b)


def run(directory, steps):
    with checkpoints.Checkpoints(directory, keep=2) as saved:
        restored = saved.restore(abstract_state())
        batches = Batches()
        state = init(jax.random.key(0))
        if restored is not None:
            state = restored.state
            batches.set_state(restored.data)
        shout = loop.Hook(1, lambda step, state: print(f"step {step}", flush=True))
        return loop.fit(
            state,
            train_step(),
            batches,
            steps=steps,
            checkpoints=saved,
            checkpoint_every=1,
            hooks=[shout],
        )


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]))


def run_alone(file, *args, **env):
    """Runs a test file as a program of its own, on CPUs; `env` comes on top of this process's."""
    path = f"{Path(__file__).parents[2]}{os.pathsep}{Path(__file__).parent}"
    return subprocess.run(
        [sys.executable, str(file), *map(str, args)],
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
