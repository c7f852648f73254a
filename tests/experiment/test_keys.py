"""The keys of a run: each purpose's own, and training's as they always were."""

import ast
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

import noise_sched
from noise_sched.diffusion.sampling import example_keys
from noise_sched.experiment import keys


def data(key):
    return {tuple(row) for row in np.asarray(jax.random.key_data(key)).reshape(-1, 2)}


def test_no_two_purposes_share_a_key_though_the_seeds_are_equal():
    """The root, the keys made of it, and those that are counted up from them."""
    parameters, run = keys.of_training(0)
    noise, labels = keys.of_sampling(0)
    index = jnp.arange(1000)
    purposes = {
        "parameters": data(parameters),
        "run": data(run),
        "steps": data(example_keys(run, index)),
        "images": data(noise) | data(example_keys(noise, index)),
        "labels": data(labels) | data(example_keys(labels, index)),
        "grids": data(keys.of_grids(0)) | data(example_keys(keys.of_grids(0), index)),
    }
    for (one, first), (other, second) in itertools.combinations(purposes.items(), 2):
        assert not first & second, f"{one} and {other} share a key"


def test_the_keys_of_training_are_those_of_all_runs_before():
    """A run that was started earlier draws on as it did."""
    parameters, run = jax.random.split(jax.random.key(3))
    assert keys.of_training(3) == (parameters, run)


def makes_keys_of_seeds(source):
    """Whether a source calls `random.key` of anything but a literal, which only shapes are made with."""
    return any(
        isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("random.key")
        and not isinstance(node.args[0], ast.Constant)
        for node in ast.walk(ast.parse(source))
    )


def test_seeds_become_keys_in_one_file():
    package = pathlib.Path(noise_sched.__file__).parent
    found = [path for path in package.rglob("*.py") if makes_keys_of_seeds(path.read_text())]
    # Seeds of an evaluation are no run's: they are settings of an extractor.
    assert [path.name for path in found if path.parent.name != "evaluation"] == ["keys.py"]
