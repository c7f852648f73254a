"""Rules of the noisy end: zero SNR, and the brightness that is left where there is none.

ZT is Lin et al. 2024 (arXiv 2305.08891), EDM Karras et al. 2022 (arXiv 2206.00364).
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from noise_sched.diffusion import grids, parametrization, schedules, thresholding
from noise_sched.diffusion.schedules import Schedule, num_levels
from noise_sched.experiment.rules.base import Rule, Words, rule
from noise_sched.experiment.rules.config_text import chosen, spec
from noise_sched.experiment.rules.facts import LEAK, Facts

_IN_V = "parametrization='v()', loss.space='v()'"


@rule("process_at_zero_snr", "error", "EDM Table 1")
def _process(facts: Facts) -> Words:
    where = _zero_snr_users(facts)
    if facts.objective.process.supports_zero_snr or not where:
        return None
    return (
        f"{chosen(facts.objective, 'process')} has no zero SNR (its sigma would be infinite), where "
        f"{where}.",
        "Use process='vp()', or a schedule that ends before, such as 'karras()'.",
    )


@rule("parametrization_at_zero_snr", "error", "ZT 3.2")
def _prediction_sampled(facts: Facts) -> Words:
    if facts.objective.parametrization.supports_zero_snr or not facts.samples_zero_snr:
        return None
    return (
        f"{chosen(facts.objective, 'parametrization')} says nothing about the image at zero SNR, where "
        f"{chosen(facts.sampling, 'schedule')} starts: x_T holds nothing of x0 that a predicted noise "
        "could reveal.",
        f"Use {_IN_V} (or 'x0()'), or let sample.schedule end before: 'plain_cosine()' or "
        "clip_min=1e-9 are published.",
    )


@rule("eps_trained_at_zero_snr", "error", "ZT 3.2")
def _prediction_trained(facts: Facts) -> Words:
    own = facts.objective.parametrization
    if own.supports_zero_snr or not facts.draws_zero_snr or _trains_at_zero_snr(facts):
        return None
    return (
        f"{chosen(facts.objective, 'parametrization')} says nothing about the image at zero SNR, where "
        f"{chosen(facts.objective, 'schedule')} trains: measured in "
        f"{chosen(facts.objective, 'loss_space')} its error is not finite.",
        f"Use {_IN_V} (or 'x0()'), or let the schedule end before: 'plain_cosine()' or clip_min=1e-9 are "
        "published.",
    )


@rule("eps_trained_at_zero_snr", "flaw", "ZT 3.2")
def _prediction_learns_nothing(facts: Facts) -> Words:
    own = facts.objective.parametrization
    if own.supports_zero_snr or not facts.trains_zero_snr or not _trains_at_zero_snr(facts):
        return None
    return (
        f"training draws zero SNR, where {spec(own)} only repeats its input: the network learns nothing "
        "there.",
        _IN_V,
    )


@rule("conditioning_at_zero_snr", "error", "EDM Table 1")
def _conditioning(facts: Facts) -> Words:
    where = _zero_snr_users(facts)
    if facts.objective.conditioning.supports_zero_snr or not where:
        return None
    return (
        f"{chosen(facts.objective, 'conditioning')} is infinite at zero SNR, where {where}.",
        "Use conditioning='angle()' or 'gamma()', which are finite there.",
    )


@rule("zero_snr_without_weight", "error", "ZT 3.2")
def _infinite_weight(facts: Facts) -> Words:
    if not (facts.draws_zero_snr and facts.objective.process.supports_zero_snr):
        return None
    if math.isfinite(_weight_at_the_end(facts)):
        return None
    return (
        f"{chosen(facts.objective, 'weight')} measured in {chosen(facts.objective, 'loss_space')} is "
        f"infinite at zero SNR, which {chosen(facts.objective, 'schedule')} draws.",
        "Use loss.space='v()', loss.weight='uniform()'.",
    )


@rule("zero_snr_without_weight", "flaw", "ZT 3.2")
def _no_weight(facts: Facts) -> Words:
    objective = facts.objective
    if not (facts.trains_zero_snr and objective.parametrization.supports_zero_snr):
        return None
    if _weight_at_the_end(facts) != 0:
        return None
    return (
        f"training draws zero SNR, where {spec(objective.weight)} in the space {spec(objective.loss_space)} "
        "weighs the error of x0 by 0: the first sampling step is not trained.",
        "loss.space='v()', loss.weight='uniform()'",
    )


@rule("nonzero_terminal_snr", "flaw", "ZT 3.1")
def _bright_end(facts: Facts) -> Words:
    if facts.terminal.leak <= LEAK:
        return None
    return _terminal_words(
        facts,
        "the network learns to read the brightness from pure-looking noise, and sampling from real "
        "noise gives images of medium brightness",
    )


@rule("nonzero_terminal_snr", "note", "ZT 3.1")
def _nearly_dark_end(facts: Facts) -> Words:
    if facts.terminal.snr == 0 or facts.terminal.leak > LEAK:
        return None
    return _terminal_words(facts, "too little to be seen")


@rule("last_level_not_sampled", "flaw", "ZT 3.3")
def _late_start(facts: Facts) -> Words:
    if not facts.late_start or facts.start.leak <= LEAK:
        return None
    trained = facts.objective.schedule
    levels = num_levels(trained)
    grid = spec(grids.trailing(levels) if levels else grids.uniform())
    change = f"sample.grid={grid!r}"
    if spec(facts.sampling.grid) == grid or facts.terminal.logsnr < facts.start.logsnr - 1e-6:
        same = base(trained)
        if same != facts.sampling.schedule:
            change += f", sample.schedule='{spec(same)}'"
    return (
        f"sampling starts from pure noise but calls it logSNR {facts.start.logsnr:.4g}, while training "
        f"goes on to {facts.usual_end.logsnr:.4g}: x_T there still holds the brightness "
        f"({facts.start.leak:.2g} standard deviations of it), and pure noise is read as medium "
        "brightness.",
        change,
    )


@rule("eps_near_zero_snr", "note", "ZT 3.2")
def _large_first_guess(facts: Facts) -> Words:
    own = facts.objective.parametrization
    alpha, sigma = (float(np.asarray(f)[0]) for f in (facts.levels.alpha, facts.levels.sigma))
    frame = math.hypot(alpha, sigma)
    bounded = not isinstance(facts.sampling.threshold, thresholding.none)
    if own.supports_zero_snr or bounded or not 0 < alpha < 1e-3 * frame:
        return None
    return (
        f"the first predicted x0 is {spec(own)}'s error times {frame / alpha:.3g}, and nothing bounds it.",
        "sample.threshold='static()', or parametrization='v()'",
    )


def base(schedule: Schedule) -> Schedule:
    """What `discrete` is made of; any other schedule itself."""
    return schedule.schedule if isinstance(schedule, schedules.discrete) else schedule


def _zero_snr_users(facts: Facts) -> str:
    """Which schedules reach zero SNR, as the end of a sentence."""
    users = []
    if facts.draws_zero_snr:
        users.append(f"{chosen(facts.objective, 'schedule')} trains")
    if facts.samples_zero_snr:
        users.append(f"{chosen(facts.sampling, 'schedule')} starts")
    return " and ".join(users)


def _trains_at_zero_snr(facts: Facts) -> bool:
    """Whether the loss of an output at the noisiest level is finite: of any, so of one."""
    objective, level = facts.objective, facts.noisiest[0]
    if type(objective.parametrization) is type(objective.loss_space):
        return True  # the loss compares the outputs themselves
    with jax.enable_x64(False):
        guess = objective.parametrization.to_prediction(level, jnp.full(1, 2.0), jnp.ones(1))
        return bool(jnp.isfinite(objective.loss_space.target(level, guess.x0, guess.eps)).all())


def _weight_at_the_end(facts: Facts) -> float:
    """What the loss multiplies the squared error of x0 by at the noisiest level."""
    objective, (level, rate) = facts.objective, facts.noisiest
    with jax.enable_x64(False):
        weight = objective.weight(level, objective.loss_space, rate)
        scale = objective.loss_space.error_scale(level) / parametrization.x0().error_scale(level)
        return float((weight * jnp.square(scale))[0])


def _terminal_words(facts: Facts, so: str) -> Words:
    objective, end = facts.objective, facts.terminal
    change = f"schedule={_moved_spec(objective.schedule)!r}"
    if not objective.parametrization.supports_zero_snr:
        change += f", {_IN_V}"
    if not objective.process.supports_zero_snr:
        change += ", process='vp()'"
    if not objective.conditioning.supports_zero_snr:
        change += ", conditioning='angle()'"
    if base(facts.sampling.schedule) == base(objective.schedule):
        change += f", sample.schedule={_moved_spec(base(facts.sampling.schedule))!r}"
    return (
        f"training ends at SNR(T) = {end.snr:.6g}, sqrt(abar_T) = {end.sqrt_alpha_bar:.6g}: the mean "
        f"brightness of {facts.pixels} pixels still stands out of the noise by {end.leak:.2g} standard "
        f"deviations; {so}.",
        change,
    )


def _moved_spec(schedule: Any) -> str:
    """The spec of the schedule, moved to zero SNR."""
    if isinstance(schedule, schedules.discrete):
        inner = schedule.schedule
        levels = "" if schedule.levels is None else f", levels={schedule.levels}"
        return f"discrete({_moved_spec(inner)}{levels})"
    if isinstance(schedule, schedules.cosine_betas):
        return spec(dataclasses.replace(schedule, max_beta=1.0))
    if getattr(schedule, "clip_min", 0):
        return _moved_spec(dataclasses.replace(schedule, clip_min=0.0))
    with jax.enable_x64(True):
        zero = float(schedule.logsnr(1.0)) == -math.inf
    return spec(schedule if zero else schedules.zero_terminal(schedule))


NOISY_END: tuple[Rule, ...] = (
    _process,
    _prediction_sampled,
    _prediction_trained,
    _prediction_learns_nothing,
    _conditioning,
    _infinite_weight,
    _no_weight,
    _bright_end,
    _nearly_dark_end,
    _late_start,
    _large_first_guess,
)
