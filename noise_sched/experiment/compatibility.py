"""What cannot work is refused when a config is read: by the rules of the mathematics and by its own.

A rule of what only a config knows (classes, memory, augmentation, averages) stands here; the others are
`diffusion.rules`. They are one list: `python -m noise_sched.audit` prints all that it finds, and `check`
refuses what of it is an error, in the same words.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
from ml_collections import ConfigDict

from noise_sched.data import augment
from noise_sched.diffusion.guidance import none
from noise_sched.experiment import rules
from noise_sched.experiment.ranges import ConfigError as ConfigError
from noise_sched.experiment.rules import Facts, Rule, Sampling, Training, Words, rule
from noise_sched.training import power_ema


@dataclasses.dataclass(frozen=True)
class Choices:
    """What a config chooses, built but not judged.

    Attributes:
      config: what it was built from.
      network: the flax module.
      training: how it is trained.
      sampling: how it is sampled.
    """

    config: ConfigDict
    network: nn.Module
    training: Training
    sampling: Sampling

    @functools.cached_property
    def facts(self) -> Facts:
        """What the rules of the mathematics ask about."""
        return Facts(self.training, self.sampling, self.config.data.image_size**2)


def check(choices: Choices) -> None:
    """Refuses what cannot work.

    Raises:
      ConfigError: one line for each rule of severity "error" that finds something.
    """
    errors = rules.find(rules.errors(rules.RULES), choices.facts)
    errors += rules.find(rules.errors(CONFIG_RULES), choices)
    if errors:
        raise ConfigError("\n".join(map(str, errors)))


def check_guide(own: Choices, guide: Choices) -> None:
    """Refuses a second network that cannot guide the first: both are called with one x_t, level and label.

    Its parametrization, input scale, conditioning and size may differ, for each has its own ends. A guide
    without classes is what Karras et al. 2024 (arXiv 2312.02696) take for classifier-free guidance.

    Raises:
      ConfigError: naming what differs, with both values.
    """
    ours, theirs = own.config, guide.config
    given = f"config.sample.guide_workdir={ours.sample.guide_workdir!r} cannot guide this model"
    pairs = {
        f"data.{key}": (theirs.data[key], ours.data[key]) for key in ("image_size", "channels")
    }
    if theirs.network.num_classes:
        pairs["network.num_classes"] = theirs.network.num_classes, ours.network.num_classes
    pairs["process"] = guide.training.process, own.training.process
    differences = [
        f"{key} is {a!r} there and {b!r} here" for key, (a, b) in pairs.items() if a != b
    ]
    if differences:
        raise ConfigError(
            f"{given}: {', '.join(differences)}. Both are called with the same noisy image, level and "
            "label: give the workdir of a model with the same of each."
        )
    path = dataclasses.replace(own.sampling, guidance=none())
    errors = rules.find(rules.errors(rules.RULES), Facts(guide.training, path))
    if errors:
        found = " ".join(map(str, errors))
        raise ConfigError(f"{given}. With its workdir's config and this one's sample.*: {found}")


# Guidance and classes.


@rule("guidance_without_classes", "error", "Ho & Salimans, arXiv 2207.12598")
def _without_classes(choices: Choices) -> Words:
    if choices.sampling.guidance.other != "unlabelled" or choices.config.network.num_classes:
        return None
    return (
        f"{_given(choices, 'sample.guidance')} needs a network with classes, but "
        "config.network.num_classes is 0.",
        "Set it, or use guidance='none()'.",
    )


@rule("guidance_without_dropout", "error", "Ho & Salimans, arXiv 2207.12598")
def _without_dropout(choices: Choices) -> Words:
    config = choices.config
    labelled = config.network.num_classes and not config.label_dropout
    if choices.sampling.guidance.other != "unlabelled" or not labelled:
        return None
    return (
        f"{_given(choices, 'sample.guidance')} needs a network that was trained without labels too, but "
        f"config.label_dropout is {config.label_dropout}.",
        "Set config.label_dropout (0.1 is usual), or guidance='none()'.",
    )


@rule("guidance_without_guide", "error", "Karras et al., arXiv 2406.02507")
def _without_guide(choices: Choices) -> Words:
    wanted = choices.sampling.guidance.other == "weights"
    if wanted == bool(choices.config.sample.guide_workdir):
        return None
    return (
        f"{_given(choices, 'sample.guidance')} and {_given(choices, 'sample.guide_workdir')} do not fit: "
        "autoguide(w) needs the workdir of a worse model there, nothing else uses one.",
        "Set config.sample.guide_workdir to it."
        if wanted
        else "Set config.sample.guide_workdir='', or use guidance='autoguide(2.0)'.",
    )


@rule("unknown_classes", "error", "the network's labels")
def _unknown_classes(choices: Choices) -> Words:
    classes = choices.config.network.num_classes
    wrong = [c for c in choices.config.sample.classes if not 0 <= c < classes]
    if not wrong:
        return None
    known = f"classes 0 to {classes - 1}" if classes else "no classes"
    return (
        f"config.sample.classes contains {wrong}, but the network has {known}.",
        "Leave them out; () draws all classes.",
    )


# What only some networks are made for.


@rule("self_conditioning_without_memory", "error", "Jabri et al., arXiv 2212.11972")
def _without_memory(choices: Choices) -> Words:
    if not choices.config.loss.self_conditioning:
        return None
    if jax.tree.leaves(choices.network.initial_memory(1)):
        return None
    return (
        f"{_given(choices, 'loss.self_conditioning')}, but {choices.config.network.name} keeps no memory "
        "from one pass to the next.",
        "Set it to 0.",
    )


@rule("uncertainty_unknown", "error", "Karras et al., arXiv 2312.02696")
def _uncertainty(choices: Choices) -> Words:
    if not choices.config.loss.uncertainty or hasattr(choices.network, "log_variance"):
        return None
    return (
        f"config.loss.uncertainty=True, but {choices.config.network.name} does not say how uncertain it "
        "is.",
        "Set it to False, or use config.network.name='EDM2'.",
    )


@rule("weights_not_normalizable", "error", "Karras et al., arXiv 2312.02696")
def _normalized(choices: Choices) -> Words:
    normalizes = choices.config.optimizer.normalize_weights
    if not normalizes or getattr(choices.network, "magnitude_preserving", False):
        return None
    return (
        f"config.optimizer.normalize_weights=True would change what {choices.config.network.name} "
        "computes, as it is not made of magnitude-preserving layers.",
        "Set it to False, or use config.network.name='EDM2'.",
    )


# Augmentation.


@rule("augmentation_improbable", "error", "a probability")
def _probability(choices: Choices) -> Words:
    if 0 <= choices.config.augment.probability <= 1:
        return None
    return (
        f"{_given(choices, 'augment.probability')} is not a probability in [0, 1].",
        "EDM uses 0.12 to 0.15, and 0 turns the augmentation off.",
    )


@rule("augmentation_leaks", "error", "EDM F.2")
def _untold(choices: Choices) -> Words:
    entries = getattr(choices.network, "augment_dim", 0)
    if not choices.config.augment.probability or entries == augment.LABELS:
        return None
    return (
        f"{_given(choices, 'augment.probability')}, but config.network.augment_dim={entries}: a network "
        f"that is not told how an image was distorted, in {augment.LABELS} entries, draws distorted "
        "images.",
        f"Set config.network.augment_dim={augment.LABELS}.",
    )


@rule("augmentation_flips_twice", "error", "EDM F.2")
def _flips(choices: Choices) -> Words:
    if not choices.config.augment.probability or not choices.config.data.flip:
        return None
    return (
        f"{_given(choices, 'augment.probability')} and config.data.flip=True do not fit: the augmentation "
        "mirrors half of the images itself and tells the network, which would not know of the others.",
        "Set config.data.flip=False.",
    )


# Averages.


@rule("unknown_averages", "error", "Karras et al., arXiv 2312.02696")
def _stds(choices: Choices) -> Words:
    try:
        _averages(choices)
    except ValueError as error:
        return f"config.ema.stds: {error}", "Set stds=(0.05, 0.1), or stds=() for a plain average."
    return None


@rule("unknown_average", "error", "Karras et al., arXiv 2312.02696")
def _drawn(choices: Choices) -> Words:
    config = choices.config
    try:
        averages = _averages(choices)
    except ValueError:
        return None  # the rule before
    try:
        power_ema.choose(averages, config.ema.stds, config.sample.ema_std)
    except ValueError as error:
        return f"config.sample.ema_std: {error}", "0 is the first of config.ema.stds."
    return None


@rule("two_kinds_of_average", "error", "Karras et al., arXiv 2312.02696")
def _two_kinds(choices: Choices) -> Words:
    options = choices.config.ema
    if not options.stds or not options.halflife_images:
        return None
    return (
        f"{_given(choices, 'ema.stds')} and {_given(choices, 'ema.halflife_images')} are two kinds of "
        "average.",
        "Set halflife_images=0 for power-function averages, or stds=() for EDM's.",
    )


@rule("snapshots_of_nothing", "error", "Karras et al., arXiv 2312.02696")
def _snapshots(choices: Choices) -> Words:
    stds, every = choices.config.ema.stds, choices.config.ema.snapshot_every
    if every >= 0 and (stds or not every):
        return None
    return (
        f"{_given(choices, 'ema.snapshot_every')} is a number of steps between snapshots of the averages "
        "of config.ema.stds.",
        "Set stds=(0.05, 0.1), or snapshot_every=0 for none.",
    )


def _averages(choices: Choices) -> Any:
    """The layout of the averages, with a number in place of the parameters."""
    return power_ema.arrange(0, choices.config.ema.stds)


def _given(choices: Choices, key: str) -> str:
    """A key of the config with its value."""
    value = choices.config
    for part in key.split("."):
        value = value[part]
    return f"config.{key}={value!r}"


CONFIG_RULES: tuple[Rule[Choices], ...] = (
    _without_classes,
    _without_dropout,
    _without_guide,
    _unknown_classes,
    _without_memory,
    _uncertainty,
    _normalized,
    _probability,
    _untold,
    _flips,
    _stds,
    _drawn,
    _two_kinds,
    _snapshots,
)
