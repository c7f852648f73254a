"""What config.optimizer and config.ema make of the numbers of a `Hyper`, which may be traced."""

from collections.abc import Callable

import jax
import optax
from ml_collections import ConfigDict

from noise_sched.experiment.hyper import Hyper
from noise_sched.experiment.ranges import ConfigError
from noise_sched.messages import did_you_mean
from noise_sched.networks.magnitude import normalize_kernel
from noise_sched.training import ema, learning_rate, optimizers

NAMES = {"lamb": optimizers.lamb, "adamw": optimizers.adamw, "adam": optimizers.adam}


def check(config: ConfigDict) -> None:
    """Builds what the step will build.

    Raises:
      ConfigError: for any value of config.optimizer that cannot be built.
    """
    name = config.optimizer.name
    if name not in NAMES:
        raise ConfigError(
            f"config.optimizer.name: unknown optimizer {name!r}. {did_you_mean(name, NAMES)}"
        )
    try:
        make_optimizer(config, config.optimizer)
    except ValueError as error:
        raise ConfigError(f"config.optimizer: {error}") from None


def schedule(config: ConfigDict, hyper: Hyper | ConfigDict) -> learning_rate.Schedule:
    """The learning rate as a function of the number of updates."""
    options = config.optimizer
    return learning_rate.warmup_and_decay(
        hyper.learning_rate,
        total_steps=config.train.steps,
        decay=options.decay,
        # A warm-up is given in steps or in images; it need not end on a step.
        warmup_steps=options.warmup_steps or options.warmup_images / config.train.batch_size,
        end_factor=options.end_factor,
    )


def make_optimizer(config: ConfigDict, hyper: Hyper | ConfigDict) -> optax.GradientTransformation:
    """The optimizer with the numbers of `hyper`; the structure of its state depends on the config alone."""
    options = config.optimizer
    chosen = {name: options[name] for name in ("b1", "b2", "eps")}
    if options.clip_norm and options.name != "lamb":  # which a rule refuses
        chosen["clip_norm"] = options.clip_norm
    if options.name != "adam":
        chosen["weight_decay"] = hyper.weight_decay
    made = NAMES[options.name](schedule(config, hyper), **chosen)
    return (
        optimizers.normalize_weights(made, normalize_kernel) if options.normalize_weights else made
    )


def new_weight(config: ConfigDict) -> Callable[[Hyper, jax.Array], jax.Array] | None:
    """The weight of the new parameters in the moving average at a step; None of power functions."""
    average = config.ema
    if average.stds:
        return None
    if not average.halflife_images:
        return lambda hyper, step: ema.constant(hyper.ema_new_weight, step, warmup=average.warmup)
    return lambda hyper, step: ema.halflife(
        hyper.ema_halflife,
        step,
        batch_size=config.train.batch_size,
        rampup_ratio=average.rampup_ratio,
    )
