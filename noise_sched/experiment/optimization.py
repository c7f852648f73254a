"""config.optimizer and config.ema -> the optimizer, its learning rate and the moving average's decay."""

import optax
from ml_collections import ConfigDict

from noise_sched.experiment.ranges import ConfigError
from noise_sched.messages import did_you_mean
from noise_sched.networks.magnitude import normalize_kernel
from noise_sched.training import ema, learning_rate, optimizers


def build(config: ConfigDict) -> tuple[learning_rate.Schedule, optax.GradientTransformation]:
    """The learning rate as a function of the step, and the optimizer that uses it.

    Raises:
      ConfigError: for any value of config.optimizer that cannot be built.
    """
    options = config.optimizer.to_dict()
    name = options.pop("name")
    for key in ("sanitize", "infinite_gradient"):  # the train step's business
        options.pop(key)
    made = {
        "lamb": optimizers.lamb,
        "adamw": optimizers.adamw,
        "adam": optimizers.adam,
    }
    if name not in made:
        raise ConfigError(
            f"config.optimizer.name: unknown optimizer {name!r}. {did_you_mean(name, made)}"
        )
    clip_norm = options.pop("clip_norm")
    if clip_norm and name == "lamb":
        raise ConfigError(
            f"config.optimizer.clip_norm={clip_norm}: LAMB is used without clipping, as published. "
            "Set it to 0, or use --config.optimizer.name=adamw."
        )
    if clip_norm:
        options["clip_norm"] = clip_norm
    if name == "adam":
        options.pop("weight_decay")
    normalize = options.pop("normalize_weights")
    try:
        schedule = learning_rate.warmup_and_decay(
            options.pop("learning_rate"),
            total_steps=config.train.steps,
            decay=options.pop("decay"),
            warmup_steps=_warmup_steps(
                options.pop("warmup_steps"), options.pop("warmup_images"), config.train.batch_size
            ),
            end_factor=options.pop("end_factor"),
        )
        optimizer = made[name](schedule, **options)
        if normalize:
            optimizer = optimizers.normalize_weights(optimizer, normalize_kernel)
        return schedule, optimizer
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.optimizer: {error}") from None


def _warmup_steps(steps: int, images: int | float, batch_size: int) -> int | float:
    """The length of the warm-up, which is given in steps or in images."""
    if images < 0:
        raise ValueError(f"warmup_images must be at least 0, got {images}")
    if steps and images:
        raise ValueError(
            f"warmup_images={images} and warmup_steps={steps} are two lengths of one warm-up: set "
            "warmup_steps=0 to count it in images, or warmup_images=0"
        )
    return images / batch_size if images else steps


def ema_decay(config: ConfigDict) -> float | ema.Decay:
    """The decay of the moving average: a number, or a function of the step.

    Raises:
      ConfigError: for two kinds of decay at once.
    """
    options = config.ema
    if not options.halflife_images:
        return options.decay
    if options.warmup:
        raise ConfigError(
            f"config.ema.halflife_images={options.halflife_images} and config.ema.warmup=True do not "
            "fit: a half-life warms up by config.ema.rampup_ratio. Set warmup to False."
        )
    try:
        return ema.halflife(
            options.halflife_images,
            batch_size=config.train.batch_size,
            rampup_ratio=options.rampup_ratio,
        )
    except ValueError as error:
        raise ConfigError(f"config.ema: {error}") from None
