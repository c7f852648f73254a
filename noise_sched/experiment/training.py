"""The training of an experiment: its state before the first step, and its step as a pure function."""

import functools

from jax.sharding import Mesh

from noise_sched.experiment import keys, optimization
from noise_sched.experiment.experiment import Experiment
from noise_sched.experiment.loss import loss
from noise_sched.training.state import TrainState
from noise_sched.training.step import Step, make_step


def new_state(exp: Experiment, pair: keys.KeyPair | None = None) -> TrainState:
    """The state before the first step; `pair` are the keys of another seed than the config's."""
    params_key, run_key = keys.of_training(exp.config.seed) if pair is None else pair
    params = exp.init_params(params_key)
    return TrainState.create(params, exp.optimizer, run_key, ema_stds=exp.config.ema.stds)


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
    )
