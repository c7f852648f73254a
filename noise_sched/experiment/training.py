"""The training of an experiment: its state before the first step, and its step as a pure function."""

import functools
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from noise_sched.experiment import keys, optimization, ranges
from noise_sched.experiment.experiment import Experiment
from noise_sched.experiment.loss import loss
from noise_sched.experiment.ranges import ConfigError
from noise_sched.training import partitioning
from noise_sched.training.state import TrainState
from noise_sched.training.step import Step, TrainStep, compile_step, make_step


def started_with(config: ConfigDict) -> dict[str, Any]:
    """What all hosts of a run have to have in common: versions, and every key of the config."""
    packages = ("noise_sched", "jax", "jaxlib", "flax", "optax")
    versions = {name: metadata.version(name) for name in packages}
    keys_and_values = {f"config.{key}": str(value) for key, value in ranges.leaves(config)}
    return versions | keys_and_values


def new_state(exp: Experiment, pair: keys.KeyPair | None = None) -> TrainState:
    """The state before the first step; `pair` are the keys of another seed than the config's."""
    params_key, run_key = keys.of_training(exp.config.seed) if pair is None else pair
    params = exp.init_params(params_key)
    return TrainState.create(
        params,
        exp.optimizer,
        run_key,
        ema_stds=exp.config.ema.stds,
        density=exp.objective.density.init(),
    )


def mesh_of(exp: Experiment, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh that config.partition.mesh asks for, of all devices or of those given.

    Raises:
      ConfigError: if there is none of that many devices, or it cannot share the batches of this network.
    """
    config = exp.config
    try:
        mesh = partitioning.make_mesh(config.partition.mesh, devices=devices)
        partitioning.check_batch(
            config.train.batch_size,
            mesh,
            microbatches=config.train.microbatches,
            image_rows=getattr(exp.network, "image_rows", None),
        )
    except ValueError as error:
        raise ConfigError(f"config.partition.mesh={config.partition.mesh!r}: {error}") from None
    return mesh


def layout(
    exp: Experiment, mesh: Mesh, init: Callable[[], TrainState] | None = None
) -> tuple[TrainState, Any]:
    """The shapes of the state, and where each of its arrays lies; nothing is allocated.

    Args:
      exp: the experiment.
      mesh: of the run.
      init: makes the state, as `new_state`; the function that will be compiled, which is then traced once.
    """
    abstract = jax.eval_shape(functools.partial(new_state, exp) if init is None else init)
    rules = getattr(exp.network, "partition_rules", ())  # a network need not be an ImageNetwork
    return abstract, partitioning.state_shardings(abstract, mesh, rules)


def step_of(exp: Experiment, mesh: Mesh | None = None) -> Step:
    """The step of any `Hyper` of the same structure as `exp.hyper`; `mesh` is None for one device."""
    config = exp.config
    return make_step(
        functools.partial(loss, network=exp.network),
        functools.partial(optimization.make_optimizer, config),
        optimization.new_weight(config),
        schedule=functools.partial(optimization.schedule, config),
        sanitize=config.optimizer.sanitize,
        infinite_gradient=config.optimizer.infinite_gradient,
        microbatches=config.train.microbatches,
        mesh=mesh,
        new_density=lambda hyper, *seen: hyper.objective.density.update(*seen),
    )


def compiled_step(exp: Experiment, mesh: Mesh, shardings: Any) -> TrainStep:
    """The compiled step of a run on a mesh, its state laid out by `layout`."""
    return compile_step(step_of(exp, mesh), exp.hyper, mesh=mesh, state_shardings=shardings)
