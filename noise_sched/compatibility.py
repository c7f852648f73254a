"""Checks across choices: mixes that cannot work are refused when the config is read.

Each check names both choices and the mend. What can be drawn in training and what sampling starts from
is found by evaluating the schedules, so that a new choice is covered by its own `supports_zero_snr`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from noise_sched.data import augment
from noise_sched.diffusion.guidance import Guidance
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.process import NoiseLevel
from noise_sched.ranges import ConfigError as ConfigError
from noise_sched.training import power_ema


def check(
    config: ConfigDict,
    objective: Objective,
    network: nn.Module,
    levels: NoiseLevel,
    guidance: Guidance,
) -> None:
    """Refuses what cannot work.

    Raises:
      ConfigError: naming the choices that do not fit and what to do.
    """
    drawn, rate = objective.level_at(_last_time())
    where = {
        f"config.schedule={config.schedule!r} trains": drawn,
        f"config.sample.schedule={config.sample.schedule!r} starts": levels.map(lambda f: f[:1]),
    }
    for user, level in where.items():
        if not _is_zero_snr(level):
            continue
        _check_process(config, objective, user)
        _check_prediction(config, objective, user)
        _check_conditioning(config, objective, user)
    if _is_zero_snr(drawn):
        _check_weight(config, objective, drawn, rate)
    _check_guidance(config, objective, guidance)
    _check_classes(config)
    _check_memory(config, network)
    _check_augmentation(config, network)
    _check_magnitudes(config, network)
    _check_averages(config)


def _last_time():
    """The noisiest time that training can draw, [1]: only discrete schedules are at their end there."""
    return jnp.ones(1) - jnp.finfo(jnp.float32).eps / 2


def _is_zero_snr(level: NoiseLevel) -> bool:
    return bool((level.alpha == 0) | jnp.isinf(level.sigma))


def _check_process(config: ConfigDict, objective: Objective, user: str) -> None:
    if not objective.process.supports_zero_snr:
        raise ConfigError(
            f"config.process={config.process!r} has no zero SNR (its sigma would be infinite), where "
            f"{user}. Use process='vp()', or a schedule that ends before, such as 'karras()'."
        )


def _check_prediction(config: ConfigDict, objective: Objective, user: str) -> None:
    own, space = objective.preconditioner.parametrization, objective.space
    if own.supports_zero_snr:
        return
    if "trains" in user and type(own) is type(space):
        return  # its own loss is finite there, if pointless
    raise ConfigError(
        f"config.parametrization={config.parametrization!r} says nothing about the image at zero SNR, "
        f"where {user}. Predict 'v()' or 'x0()', or let the schedule end before: 'plain_cosine()' or "
        "clip_min=1e-9 are published."
    )


def _check_conditioning(config: ConfigDict, objective: Objective, user: str) -> None:
    if not objective.preconditioner.conditioning.supports_zero_snr:
        raise ConfigError(
            f"config.conditioning={config.conditioning!r} is infinite at zero SNR, where {user}. "
            "Condition on 'angle()' or 'gamma()', which are finite there."
        )


def _check_weight(config: ConfigDict, objective: Objective, drawn: NoiseLevel, rate) -> None:
    weight = objective.weight(drawn, objective.space, rate)
    if not bool(jnp.isfinite(weight).all()):
        raise ConfigError(
            f"config.loss.weight={config.loss.weight!r} measured in config.loss.space="
            f"{config.loss.space!r} is infinite at zero SNR, which config.schedule="
            f"{config.schedule!r} draws. Measure the loss in 'v()' or 'x0()'."
        )


def _check_guidance(config: ConfigDict, objective: Objective, guidance: Guidance) -> None:
    given = f"config.sample.guidance={config.sample.guidance!r}"
    classes = config.network.num_classes
    if guidance.other == "unlabelled" and not classes:
        raise ConfigError(
            f"{given} needs a network with classes, but config.network.num_classes is 0. Set it, or "
            "use guidance='none()'."
        )
    if guidance.other == "unlabelled" and not config.label_dropout:
        raise ConfigError(
            f"{given} needs a network that was trained without labels too: set config.label_dropout "
            "(0.1 is usual), or guidance='none()'."
        )
    if (guidance.other == "weights") != bool(config.sample.guide_workdir):
        raise ConfigError(
            f"{given} and config.sample.guide_workdir={config.sample.guide_workdir!r} do not fit: "
            "autoguide(w) needs the workdir of a worse model there, nothing else uses one."
        )
    inner = getattr(guidance, "guidance", guidance)
    own = objective.preconditioner.parametrization
    rescale, space = getattr(inner, "rescale", 0.0), getattr(inner, "space", own)
    if rescale and type(space) is not type(own):
        raise ConfigError(
            f"{given} rescales in {space!r}, but the network predicts {own!r}, and the rescaling is not "
            f"the same there: write space={type(own).__name__}() in it."
        )


def _check_classes(config: ConfigDict) -> None:
    classes = config.network.num_classes
    wrong = [c for c in config.sample.classes if not 0 <= c < classes]
    if wrong:
        raise ConfigError(
            f"config.sample.classes contains {wrong}, but the network has "
            f"{f'classes 0 to {classes - 1}' if classes else 'no classes'}."
        )


def _check_memory(config: ConfigDict, network: nn.Module) -> None:
    if config.loss.self_conditioning and not jax.tree.leaves(network.initial_memory(1)):
        raise ConfigError(
            f"config.loss.self_conditioning={config.loss.self_conditioning}, but "
            f"{config.network.name} keeps no memory from one pass to the next. Set it to 0."
        )


def _check_augmentation(config: ConfigDict, network: nn.Module) -> None:
    probability = config.augment.probability
    given = f"config.augment.probability={probability}"
    if not 0 <= probability <= 1:
        raise ConfigError(f"{given} is not a probability in [0, 1].")
    if not probability:
        return
    entries = getattr(network, "augment_dim", 0)
    if entries != augment.LABELS:
        raise ConfigError(
            f"{given}, but config.network.augment_dim={entries}: a network that is not told how an "
            f"image was distorted, in {augment.LABELS} entries, draws distorted images. Set "
            f"config.network.augment_dim={augment.LABELS}."
        )
    if config.data.flip:
        raise ConfigError(
            f"{given} and config.data.flip=True do not fit: the augmentation mirrors half of the images "
            "itself and tells the network, which would not know of the others. Set config.data.flip=False."
        )


def _check_magnitudes(config: ConfigDict, network: nn.Module) -> None:
    """What only some networks are made for."""
    name = config.network.name
    if config.loss.uncertainty and not hasattr(network, "log_variance"):
        raise ConfigError(
            f"config.loss.uncertainty=True, but {name} does not say how uncertain it is: set it to False, "
            "or use config.network.name='EDM2'."
        )
    if config.optimizer.normalize_weights and not getattr(network, "magnitude_preserving", False):
        raise ConfigError(
            f"config.optimizer.normalize_weights=True would change what {name} computes, as it is not "
            "made of magnitude-preserving layers: set it to False, or use config.network.name='EDM2'."
        )


def _check_averages(config: ConfigDict) -> None:
    stds, every = config.ema.stds, config.ema.snapshot_every
    try:
        # In the layout of averages, with a number in place of the parameters.
        averages = power_ema.arrange(0, stds)
    except ValueError as error:
        raise ConfigError(f"config.ema.stds: {error}") from None
    try:
        power_ema.choose(averages, stds, config.sample.ema_std)
    except ValueError as error:
        raise ConfigError(f"config.sample.ema_std: {error}") from None
    if stds and config.ema.halflife_images:
        raise ConfigError(
            f"config.ema.stds={stds} and config.ema.halflife_images={config.ema.halflife_images} are two "
            "kinds of average: set halflife_images=0 for power-function averages, or stds=() for EDM's."
        )
    if every < 0 or (every and not stds):
        raise ConfigError(
            f"config.ema.snapshot_every={every} is a number of steps between snapshots of the averages "
            "of config.ema.stds: set stds=(0.05, 0.1), or snapshot_every=0 for none."
        )
