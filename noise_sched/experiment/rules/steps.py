"""Rules of the sampling path: where its steps fall, and whether training knows those levels."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from noise_sched.diffusion import grids
from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import NoiseLevel
from noise_sched.diffusion.sampling import initial_noise, sample
from noise_sched.diffusion.schedules import num_levels
from noise_sched.diffusion.solvers import Solver
from noise_sched.experiment.rules.base import Rule, Words, rule
from noise_sched.experiment.rules.config_text import chosen, spec
from noise_sched.experiment.rules.facts import Facts
from noise_sched.experiment.rules.noisy_end import base

CROWDED_SIGMA, CROWDED_SHARE = 100.0, 0.3  # where nothing is left to decide, and how many steps


@rule("grid_of_another_table", "error", "ZT 2.2: a network with T numbered levels")
def _levels_of_the_grid(facts: Facts) -> Words:
    expected = getattr(facts.sampling.grid, "levels", None)
    found = num_levels(facts.sampling.schedule)
    if not expected or not found or expected == found:
        return None
    return (
        f"{chosen(facts.sampling, 'grid')} is for {expected} levels, but "
        f"{chosen(facts.sampling, 'schedule')} has {found}.",
        f"Write levels={found} in the grid.",
    )


@rule("multistep_off_the_path", "error", "Chen et al., arXiv 2208.04202: DDIM and DDPM alone")
def _multistep_off_the_path(facts: Facts) -> Words:
    if not hasattr(facts.sampling.grid, "targets"):
        return None
    solver, path = facts.sampling.solver, facts.path
    if not jax.tree.leaves(solver.init(jnp.zeros((1, 1)), path)):
        return None
    return (
        f"{chosen(facts.sampling, 'grid')} and {chosen(facts.sampling, 'solver')} do not fit: a multistep "
        "solver takes each step to start where the one before led.",
        "Use a one-step solver such as 'ddim()' or 'ddpm()', as published.",
    )


@rule("levels_repeated", "error", "a path falls from step to step")
def _broken_by_repetition(facts: Facts) -> Words:
    stuck = _stuck(facts.path)
    if not stuck or _draws_finite(facts):
        return None
    return (
        f"{stuck} of the sample.steps={facts.sampling.steps} steps of {chosen(facts.sampling, 'grid')} on "
        f"{chosen(facts.sampling, 'schedule')} do not lead to a cleaner level (in float32), and "
        f"{chosen(facts.sampling, 'solver')} divides by the length of a step: the images are not finite.",
        f"Use {_without_repetition(facts, stuck)}, or sample.solver='ddim()', which stands still there.",
    )


@rule("levels_repeated", "note", "a path falls from step to step")
def _wasted_by_repetition(facts: Facts) -> Words:
    stuck = _stuck(facts.path)
    if not stuck or not _draws_finite(facts):
        return None
    return (
        f"{stuck} of {facts.sampling.steps} steps lead nowhere: they do not lead to a cleaner level (in "
        f"float32). {spec(facts.sampling.solver)} stands still there, at the price of a step.",
        _without_repetition(facts, stuck),
    )


@rule("levels_never_trained", "flaw", "ZT 3.1")
def _untrained(facts: Facts) -> Words:
    untrained = facts.agreement.untrained
    if not untrained:
        return None
    low, high = facts.agreement.trained
    return (
        f"{len(untrained)} of {facts.sampling.steps} steps call the network at logSNR "
        f"{_listed(untrained)}, outside the trained {low:.4g} ... {high:.4g}.",
        f"sample.schedule='{spec(base(facts.objective.schedule))}', or train with schedule="
        f"'{spec(facts.sampling.schedule)}'",
    )


@rule("steps_crowded_in_noise", "flaw", "EDM 3; Karras steps on a zero-SNR table")
def _crowded(facts: Facts) -> Words:
    logsnr = facts.called_logsnr
    above = int((logsnr < -2 * math.log(CROWDED_SIGMA)).sum())
    if above <= 1 or above < CROWDED_SHARE * len(logsnr):
        return None
    return (
        f"{above} of {len(logsnr)} steps fall at sigma > {CROWDED_SIGMA:g}, where nothing of the image "
        "is decided: too few are left for it.",
        f"sample.grid='{spec(grids.trailing(num_levels(facts.objective.schedule) or 1000))}' on "
        f"sample.schedule='{spec(base(facts.objective.schedule))}', or a smaller sigma_max",
    )


@rule("ends_noisy", "note", "EDM Table 1: the last sigma is 0")
def _ends_noisy(facts: Facts) -> Words:
    left = float(np.asarray(facts.levels.sigma)[-1] / np.asarray(facts.levels.alpha)[-1])
    if left <= 0:
        return None
    return (
        f"the path ends at sigma = {left:.3g} and not at clean data.",
        "a sample.grid that ends at t = 0 on a schedule with logsnr(0) = inf",
    )


@rule("levels_between_trained", "note", "ZT 2.2: a network with T numbered levels")
def _between_levels(facts: Facts) -> Words:
    count = facts.agreement.between_levels
    if not count:
        return None
    return (
        f"{count} of {facts.sampling.steps} steps lie between two levels of the training table; "
        f"conditioning {spec(facts.objective.conditioning)} was never told such a level.",
        f"sample.grid='{spec(grids.trailing(num_levels(facts.objective.schedule)))}', or train without "
        "discrete()",
    )


@rule("linspace_at_few_steps", "note", "ZT 3.3")
def _first_step_of_linspace(facts: Facts) -> Words:
    grid, steps = facts.sampling.grid, facts.sampling.steps
    if not isinstance(grid, grids.linspace) or steps >= 25:
        return None
    return (
        f"with {steps} steps linspace spends one on the last, nearly clean level; trailing is better "
        "below 25.",
        f"sample.grid='{spec(grids.trailing(grid.levels))}'",
    )


def _stands_still(path: NoiseLevel) -> np.ndarray:
    """Which steps do not raise alpha / sigma, the ratio that solvers divide by, [steps].

    Beyond rounding: four amplitudes and three operations in float32, each to half an epsilon.
    """
    alpha, sigma = (np.asarray(f, np.float32) for f in (path.alpha, path.sigma))
    equal = np.float32(1 - 4 * np.finfo(np.float32).eps)
    return ~(alpha[:-1] * sigma[1:] < equal * (alpha[1:] * sigma[:-1]))


def _stuck(path: NoiseLevel) -> int:
    return int(_stands_still(path).sum())


def _without_repetition(facts: Facts, stuck: int) -> str:
    """What gives a path that falls: fewer steps where that is enough, or other choices."""
    other, fewer = "another sample.grid or sample.schedule", facts.sampling.steps - stuck
    if fewer < 1:
        return other
    shorter = dataclasses.replace(facts, sampling=dataclasses.replace(facts.sampling, steps=fewer))
    return other if _stuck(shorter.path) else f"sample.steps={fewer}, {other}"


def _draws_finite(facts: Facts) -> bool:
    """Whether the solver comes to finite images along this path, with an exact denoiser.

    The solver itself is asked, so that a new one needs no entry in a list: along the path, and along the
    same one with levels that differ by rounding made equal, where nothing hides a division by 0.
    """
    path = facts.path
    # Where a step stands still, its end is the level that it starts from.
    last_move = np.maximum.accumulate(
        np.where(_stands_still(path), 0, np.arange(1, facts.sampling.steps + 1))
    )
    index = np.concatenate([[0], last_move])
    with jax.enable_x64(False):
        paths = path, path.map(lambda field: field[index])
        return all(bool(_finite(facts.sampling.solver, each)) for each in paths)


@functools.partial(jax.jit, static_argnames="solver")
def _finite(solver: Solver, path: NoiseLevel) -> jax.Array:
    keys = jax.random.split(jax.random.key(0), 2)
    x_T = initial_noise(keys, jax.tree.map(lambda field: field[0], path), (1,))
    images: Any = sample(keys, _of_unit_normal_data(), solver, path, x_T)
    return jnp.isfinite(images).all()


def _of_unit_normal_data() -> Denoise:
    """The exact denoiser of data ~ N(0, 1), finite at every level."""

    def denoise(x, level, memory):
        level = level.expand_to(x)
        norm = jnp.hypot(level.alpha, level.sigma)
        return Prediction(level.alpha / norm * (x / norm), level.sigma / norm * (x / norm)), memory

    return denoise


def _listed(values: tuple[float, ...]) -> str:
    shown = ", ".join(f"{v:.4g}" for v in values[:4])
    return shown + (", ..." if len(values) > 4 else "")


STEPS: tuple[Rule, ...] = (
    _levels_of_the_grid,
    _multistep_off_the_path,
    _broken_by_repetition,
    _wasted_by_repetition,
    _untrained,
    _crowded,
    _ends_noisy,
    _between_levels,
    _first_step_of_linspace,
)
