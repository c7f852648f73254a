"""Rules of what only some networks are made for: classes, memory, augmentation."""

import jax

from noise_sched.data import augment
from noise_sched.experiment.rules.base import Rule, Words, config_rule
from noise_sched.experiment.rules.config_text import given
from noise_sched.experiment.rules.facts import Facts

_HO = "Ho & Salimans, arXiv 2207.12598"
_EDM2 = "Karras et al., arXiv 2312.02696"


@config_rule("guidance_without_classes", "error", _HO)
def _without_classes(facts: Facts) -> Words:
    if facts.sampling.guidance.other == "unlabelled" and not facts.config.network.num_classes:
        return (
            f"{given(facts, 'sample.guidance')} needs a network with classes, but "
            "config.network.num_classes is 0.",
            "Set it, or use guidance='none()'.",
        )


@config_rule("guidance_without_dropout", "error", _HO)
def _without_dropout(facts: Facts) -> Words:
    always_labelled = facts.config.network.num_classes and not facts.config.label_dropout
    if facts.sampling.guidance.other == "unlabelled" and always_labelled:
        return (
            f"{given(facts, 'sample.guidance')} needs a network that was trained without labels too, but "
            f"config.label_dropout is {facts.config.label_dropout}.",
            "Set config.label_dropout (0.1 is usual), or guidance='none()'.",
        )


@config_rule("guidance_without_guide", "error", "Karras et al., arXiv 2406.02507")
def _without_guide(facts: Facts) -> Words:
    wanted = facts.sampling.guidance.other == "weights"
    if wanted != bool(facts.config.sample.guide_workdir):
        return (
            f"{given(facts, 'sample.guidance')} and {given(facts, 'sample.guide_workdir')} do not fit: "
            "autoguide(w) needs the workdir of a worse model there, nothing else uses one.",
            "Set config.sample.guide_workdir to it."
            if wanted
            else "Set config.sample.guide_workdir='', or use guidance='autoguide(2.0)'.",
        )


@config_rule("unknown_classes", "error", "the network's labels")
def _unknown_classes(facts: Facts) -> Words:
    classes = facts.config.network.num_classes
    if wrong := [c for c in facts.config.sample.classes if not 0 <= c < classes]:
        known = f"classes 0 to {classes - 1}" if classes else "no classes"
        return (
            f"config.sample.classes contains {wrong}, but the network has {known}.",
            "Leave them out; () draws all classes.",
        )


@config_rule("self_conditioning_without_memory", "error", "Jabri et al., arXiv 2212.11972")
def _without_memory(facts: Facts) -> Words:
    if not facts.config.loss.self_conditioning:
        return None
    if not jax.tree.leaves(facts.network.initial_memory(1)):
        return (
            f"{given(facts, 'loss.self_conditioning')}, but {facts.config.network.name} keeps no memory "
            "from one pass to the next.",
            "Set it to 0.",
        )


@config_rule("uncertainty_unknown", "error", _EDM2)
def _uncertainty(facts: Facts) -> Words:
    if facts.config.loss.uncertainty and not hasattr(facts.network, "log_variance"):
        return (
            f"config.loss.uncertainty=True, but {facts.config.network.name} does not say how uncertain "
            "it is.",
            "Set it to False, or use config.network.name='EDM2'.",
        )


@config_rule("weights_not_normalizable", "error", _EDM2)
def _normalized(facts: Facts) -> Words:
    only_directions_count = getattr(facts.network, "magnitude_preserving", False)
    if facts.config.optimizer.normalize_weights and not only_directions_count:
        return (
            f"config.optimizer.normalize_weights=True would change what {facts.config.network.name} "
            "computes, as it is not made of magnitude-preserving layers.",
            "Set it to False, or use config.network.name='EDM2'.",
        )


@config_rule("augmentation_leaks", "error", "EDM F.2")
def _untold(facts: Facts) -> Words:
    entries = getattr(facts.network, "augment_dim", 0)
    if facts.config.augment.probability and entries != augment.LABELS:
        return (
            f"{given(facts, 'augment.probability')}, but config.network.augment_dim={entries}: a network "
            f"that is not told how an image was distorted, in {augment.LABELS} entries, draws distorted "
            "images.",
            f"Set config.network.augment_dim={augment.LABELS}.",
        )


@config_rule("augmentation_flips_twice", "error", "EDM F.2")
def _flips(facts: Facts) -> Words:
    if facts.config.augment.probability and facts.config.data.flip:
        return (
            f"{given(facts, 'augment.probability')} and config.data.flip=True do not fit: the "
            "augmentation mirrors half of the images itself and tells the network, which would not know "
            "of the others.",
            "Set config.data.flip=False.",
        )


NETWORK: tuple[Rule, ...] = (
    _without_classes,
    _without_dropout,
    _without_guide,
    _unknown_classes,
    _without_memory,
    _uncertainty,
    _normalized,
    _untold,
    _flips,
)
