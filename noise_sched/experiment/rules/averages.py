"""Rules of the moving averages: which there are, and which one images are drawn with."""

from typing import Any

from noise_sched.experiment.rules.base import Rule, Words, config_rule
from noise_sched.experiment.rules.config_text import given
from noise_sched.experiment.rules.facts import Facts
from noise_sched.training import power_ema

_EDM2 = "Karras et al., arXiv 2312.02696"


@config_rule("unknown_averages", "error", _EDM2)
def _widths(facts: Facts) -> Words:
    try:
        _averages(facts)
    except ValueError as error:
        return f"config.ema.stds: {error}", "Set stds=(0.05, 0.1), or stds=() for a plain average."


@config_rule("unknown_average", "error", _EDM2)
def _chosen(facts: Facts) -> Words:
    try:
        averages = _averages(facts)
    except ValueError:
        return None  # the rule before
    try:
        power_ema.choose(averages, facts.config.ema.stds, facts.config.sample.ema_std)
    except ValueError as error:
        return f"config.sample.ema_std: {error}", "0 is the first of config.ema.stds."


@config_rule("two_kinds_of_average", "error", _EDM2)
def _two_kinds(facts: Facts) -> Words:
    if facts.config.ema.stds and facts.config.ema.halflife_images:
        return (
            f"{given(facts, 'ema.stds')} and {given(facts, 'ema.halflife_images')} are two kinds of "
            "average.",
            "Set halflife_images=0 for power-function averages, or stds=() for EDM's.",
        )


@config_rule("snapshots_of_nothing", "error", _EDM2)
def _snapshots(facts: Facts) -> Words:
    if facts.config.ema.snapshot_every and not facts.config.ema.stds:
        return (
            f"{given(facts, 'ema.snapshot_every')} is a number of steps between snapshots of the averages "
            "of config.ema.stds.",
            "Set stds=(0.05, 0.1), or snapshot_every=0 for none.",
        )


def _averages(facts: Facts) -> Any:
    """The layout of the averages, with a number in place of the parameters."""
    return power_ema.arrange(0, facts.config.ema.stds)


AVERAGES: tuple[Rule, ...] = (_widths, _chosen, _two_kinds, _snapshots)
