"""Rules of the optimizer, of the moving averages, and of the one that images are drawn with."""

from typing import Any

from noise_sched.experiment.ranges import value_at
from noise_sched.experiment.rules.base import Rule, Words, config_rule
from noise_sched.experiment.rules.config_text import given
from noise_sched.experiment.rules.facts import Facts
from noise_sched.training import power_ema

_EDM2 = "Karras et al., arXiv 2312.02696"


def _one_of(name: str, source: str, first: str, second: str, but: str, fix: str) -> Rule:
    """A rule: of two keys of the config only one may be set."""

    @config_rule(name, "error", source)
    def both(facts: Facts) -> Words:
        if value_at(facts.config, first) and value_at(facts.config, second):
            return f"{given(facts, first)} and {given(facts, second)} {but}", fix

    return both


_two_warm_ups = _one_of(
    "two_warm_ups",
    "EDM's training code",
    "optimizer.warmup_images",
    "optimizer.warmup_steps",
    "are two lengths of one warm-up.",
    "Set warmup_steps=0 to count it in images, or warmup_images=0.",
)
_two_warm_ups_of_the_average = _one_of(
    "two_warm_ups_of_the_average",
    "EDM's training code",
    "ema.halflife_images",
    "ema.warmup",
    "do not fit: a half-life warms up by config.ema.rampup_ratio.",
    "Set warmup to False.",
)
_two_kinds_of_average = _one_of(
    "two_kinds_of_average",
    _EDM2,
    "ema.stds",
    "ema.halflife_images",
    "are two kinds of average.",
    "Set halflife_images=0 for power-function averages, or stds=() for EDM's.",
)


@config_rule("lamb_clipped", "error", "You et al., arXiv 1904.00962")
def _clipped(facts: Facts) -> Words:
    options = facts.config.optimizer
    if options.name == "lamb" and options.clip_norm:
        return (
            f"{given(facts, 'optimizer.clip_norm')}: LAMB is used without clipping, as published.",
            "Set it to 0, or use --config.optimizer.name=adamw.",
        )


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


OPTIMIZATION: tuple[Rule, ...] = (
    _clipped,
    _two_warm_ups,
    _two_warm_ups_of_the_average,
    _widths,
    _chosen,
    _two_kinds_of_average,
    _snapshots,
)
