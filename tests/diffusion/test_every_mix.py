"""Every mix of parametrization, loss space, weight, process and schedule, where training draws least.

What training meets at the smallest and the largest representable t is finite, or the level there is one
that no mix like it can be trained at (no signal or no noise in float32), which `from_config` refuses by
the same numbers. All levels of all schedules and processes go through each mix at once, as one batch.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_schedules import SCHEDULES
from test_weighting import PROCESSES, SPACES, WEIGHTS

from noise_sched.diffusion import specs, times
from noise_sched.diffusion.loss import Objective

# Some that no table of properties needs: underflow in float32, ends that are rounded to, clean levels.
HARD = [
    "cosine(tau=3)",
    "cosine(0.2, 1, tau=0.3)",
    "crop(cosine(), 0.5, 1)",
    "crop(cosine(), 0.999, 1)",
    "crop(cosine(), 0, 0.001)",
    "sigmoid(-3, 3, tau=0.03)",
    "laplace(0, 10)",
    "lognormal(-0.8, 1.6)",
    "from_betas((0.0, 0.1, 0.3))",
    "discrete(from_betas((0.0, 0.1)))",
    "discrete(rectified_flow(), levels=4000)",
]
ALL = SCHEDULES + HARD
ALL_WEIGHTS = ["uniform()", "uniform(eps())", "sigmoid(-3)", *WEIGHTS]
CONDITIONINGS = ["angle()", "gamma()", "index()"]  # those that are finite at both ends
# The two ends first; then whatever may lie between them.
INNER = np.array([2.0**-23, 1e-5, 0.01, 0.5, 0.99, 1 - 1e-5, 1 - 2.0**-23])
DRAWS = np.concatenate([times.ends(jnp.float32), INNER])


def build(kind, spec):
    return specs.build(spec, kind)


@pytest.fixture(scope="module")
def met():
    """(levels [process, schedule, draw], {mix: whether all is finite, of the same shape})."""
    t = jnp.asarray(DRAWS, jnp.float32)
    found = [jax.jvp(build("schedule", spec).logsnr, (t,), (jnp.ones_like(t),)) for spec in ALL]
    logsnr, slope = (jnp.stack(each) for each in zip(*found, strict=True))
    levels = [build("process", spec).level(logsnr) for spec in PROCESSES]
    level = jax.tree.map(lambda *fields: jnp.stack(fields), *levels)
    shape = level.alpha.shape
    flat = level.map(jnp.ravel)
    rate = jnp.broadcast_to(-slope, shape).ravel()
    finite = {}
    for mix in itertools.product(SPACES, SPACES, ALL_WEIGHTS):
        own, space, weight = mix
        objective = Objective(
            schedule=build("schedule", "cosine()"),  # not asked
            process=build("process", "vp()"),  # not asked
            parametrization=build("parametrization", own),
            input_scale=build("input_scale", "none()"),
            conditioning=build("conditioning", "angle()"),
            loss_space=build("parametrization", space),
            weight=build("weight", weight),
        )
        values = objective.met_at(flat, rate)
        finite[mix] = np.all([np.isfinite(v) for v in values], axis=0).reshape(shape)
    return level, finite


def noisy_and_clean(level):
    """Where float32 has signal and noise, and neither squared is out of its range."""
    tiny = np.sqrt(np.finfo(np.float32).tiny)
    alpha, sigma = np.asarray(level.alpha), np.asarray(level.sigma)
    return (alpha > tiny) & (sigma > tiny) & (sigma < 1 / tiny)


def test_every_mix_is_finite_where_there_is_signal_and_noise(met):
    level, finite = met
    both = noisy_and_clean(level)
    wrong = {
        (mix, PROCESSES[p], ALL[s], DRAWS[t])
        for mix, ok in finite.items()
        for p, s, t in np.argwhere(both & ~ok)
    }
    assert not wrong, sorted(wrong, key=str)[:5]


def test_few_schedules_ever_draw_a_level_without_signal_or_noise(met):
    """By name, so that a new one is noticed: tables that mean it, and float32's own limits."""
    level, _ = met
    found = {ALL[s] for _, s, _ in np.argwhere(~noisy_and_clean(level))}
    assert found == {
        "discrete(zero_terminal(scaled_linear()))",
        "discrete(cosine(), levels=1000)",
        "discrete(rectified_flow(), levels=4000)",
        "from_betas((0.0, 0.1, 0.3))",
        "discrete(from_betas((0.0, 0.1)))",
        "cosine(0.2, 1, tau=3)",
        "cosine(tau=3)",
        "crop(cosine(), 0.5, 1)",
        "crop(cosine(), 0.999, 1)",
        "sigmoid(-3, 3, tau=0.03)",
        "laplace(0, 10)",
    }


def test_what_is_finite_at_both_ends_is_finite_between(met):
    """So that a look at the two ends is enough."""
    _, finite = met
    for mix, ok in finite.items():
        ends, inner = ok[..., :2].all(axis=-1), ok[..., 2:].all(axis=-1)
        assert not (ends & ~inner).any(), mix


def test_the_usual_mixes_are_finite_at_zero_snr(met):
    """Zero terminal SNR is for training: v in v, x0 in x0, and what Min-SNR makes of them."""
    _, finite = met
    row = ALL.index("discrete(zero_terminal(scaled_linear()))")
    for own, weight in itertools.product(
        ("v()", "x0()", "edm(0.5)", "flow()"),
        ("uniform()", "min_snr(5)", "soft_min_snr(4)", "p2()"),
    ):
        assert finite[own, own, weight][0, row].all(), (own, weight)


@pytest.mark.parametrize("spec", CONDITIONINGS)
def test_conditions_are_finite_at_every_draw(met, spec):
    level = met[0].map(jnp.ravel)
    assert jnp.isfinite(build("conditioning", spec)(level)).all()
