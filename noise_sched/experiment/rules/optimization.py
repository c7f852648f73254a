"""Rules of the optimizer, its warm-up and the warm-up of the moving average."""

from noise_sched.experiment.rules.base import Rule, Words, config_rule
from noise_sched.experiment.rules.config_text import given
from noise_sched.experiment.rules.facts import Facts


@config_rule("lamb_clipped", "error", "You et al., arXiv 1904.00962")
def _clipped(facts: Facts) -> Words:
    options = facts.config.optimizer
    if options.name == "lamb" and options.clip_norm:
        return (
            f"{given(facts, 'optimizer.clip_norm')}: LAMB is used without clipping, as published.",
            "Set it to 0, or use --config.optimizer.name=adamw.",
        )


@config_rule("two_warm_ups", "error", "EDM's training code")
def _two_warm_ups(facts: Facts) -> Words:
    options = facts.config.optimizer
    if options.warmup_steps and options.warmup_images:
        return (
            f"{given(facts, 'optimizer.warmup_images')} and {given(facts, 'optimizer.warmup_steps')} are two "
            "lengths of one warm-up.",
            "Set warmup_steps=0 to count it in images, or warmup_images=0.",
        )


@config_rule("two_warm_ups_of_the_average", "error", "EDM's training code")
def _two_warm_ups_of_the_average(facts: Facts) -> Words:
    average = facts.config.ema
    if average.halflife_images and average.warmup:
        return (
            f"{given(facts, 'ema.halflife_images')} and config.ema.warmup=True do not fit: a half-life warms "
            "up by config.ema.rampup_ratio.",
            "Set warmup to False.",
        )


OPTIMIZATION: tuple[Rule, ...] = (_clipped, _two_warm_ups, _two_warm_ups_of_the_average)
