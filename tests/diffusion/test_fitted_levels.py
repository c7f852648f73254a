"""Fitted sampling levels: the shortest path, and distances to the exact flow of a Gaussian mixture."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixtures import mixture

from noise_sched.diffusion import fitted_levels as fitting
from noise_sched.diffusion import grids, process, schedules, solvers, specs

MEANS = 0.6 * jnp.asarray(np.random.default_rng(0).normal(size=(6, 8)), jnp.float32)
STDS = jnp.asarray([0.06, 0.2, 0.1, 0.25, 0.15, 0.08])
KARRAS = np.asarray(schedules.karras().logsnr(grids.edm()(64)), np.float64)
SILENT = np.asarray(schedules.plain_cosine().logsnr(grids.uniform()(64)), np.float64)


def model(solver, frame=process.vp()):  # noqa: B008  (frozen)
    return fitting.Model(lambda _: mixture(MEANS, STDS), (), frame, specs.build(solver, "solver"))


def reference(made, path, seed, count=512):
    grid = fitting.fine_grid(path, 32)
    x_T = made.levels(grid).sigma[0] * jax.random.normal(jax.random.key(seed), (count, 8))
    return fitting.reference(made, x_T, grid)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_shortest_path_is_that_of_brute_force(steps):
    count = 7
    errors = np.random.default_rng(steps).uniform(size=(count, count))
    errors[np.tril_indices(count)] = np.inf
    paths = [
        (0, *inner, count - 1) for inner in itertools.combinations(range(1, count - 1), steps - 1)
    ]
    best = min(paths, key=lambda path: sum(errors[a, b] for a, b in itertools.pairwise(path)))
    np.testing.assert_array_equal(fitting.shortest_path(errors, steps), best)


def test_more_steps_than_the_grid_has_are_refused():
    with pytest.raises(ValueError, match="8 steps cannot be chosen from a grid of 6"):
        fitting.shortest_path(np.zeros((7, 7)), 8)


def test_the_reference_is_the_flow_of_a_gaussian():
    """x_0 of a Gaussian is m + s (x_T - alpha m) / sqrt(alpha^2 s^2 + sigma^2), exactly."""
    mean, std = MEANS[:1], 0.3
    made = fitting.Model(
        lambda _: mixture(mean, [std]), (), process.vp(), specs.build("ddim()", "solver")
    )
    for path in (KARRAS, SILENT):
        found = reference(made, path, 0, count=16)
        level = made.levels(found.logsnr)
        alpha, sigma = float(level.alpha[0]), float(level.sigma[0])
        size = np.sqrt((alpha * std) ** 2 + sigma**2)
        expected = mean + std * (found.states[0] - alpha * mean) / size
        # The last step of a run ends at its x0, not at the flow's end: sigma_min away from it.
        np.testing.assert_allclose(found.states[-1], expected, atol=2e-3)


@pytest.mark.parametrize(
    ("solver", "frame", "path"),
    [
        ("ddim()", process.vp(), KARRAS),
        ("heun()", process.ve(), KARRAS),
        ("dpmpp(order=2)", process.vp(), SILENT),
    ],
    ids=["ddim", "heun", "dpmpp from zero SNR"],
)
def test_fitted_levels_are_nearer_to_the_exact_flow(solver, frame, path):
    """On noise that nothing was fitted to, for few steps and for many."""
    made = model(solver, frame)
    fitted_to, judged_on = (reference(made, path, seed) for seed in (0, 1))
    errors, judge = fitting.step_errors(made, fitted_to), fitting.end_error(made, judged_on)
    assert np.all(np.isfinite(errors[np.triu_indices(len(errors), 1)]))
    for steps in (6, 14):
        found = fitting.fit(made, fitted_to, steps, errors=errors, rounds=3)
        assert found.error <= min(found.starts.values())
        assert np.all(np.diff(found.logsnr) > 0) and found.logsnr[0] == path[0]
        others = {
            name: judge(levels) for name, levels in fitting.usual(fitted_to.logsnr, steps).items()
        }
        assert judge(found.logsnr) < min(others.values()), others


def test_solvers_that_draw_are_refused():
    with pytest.raises(ValueError, match="deterministic solver.*got ddpm"):
        model("ddpm()")


def test_written_levels_are_the_path():
    """`from_levels` on `uniform()` visits what was fitted, zero SNR included."""
    levels = [-6.25, -1.5, 0.125, 4.0]
    for silent in (False, True):
        schedule = specs.build(f"from_levels({levels}, zero_snr={silent})", "schedule")
        count = len(levels) + silent
        path = np.asarray(schedule.logsnr(grids.uniform()(count)))
        np.testing.assert_allclose(path, [*[-np.inf] * silent, *levels, np.inf], rtol=1e-6)
        assert specs.build(repr(schedule), "schedule") == schedule
    with pytest.raises(ValueError, match="have to increase"):
        schedules.from_levels([1.0, 0.5])
    with pytest.raises(ValueError, match="is empty"):
        schedules.from_levels([])


def test_no_solver_keeps_what_a_step_needs_to_itself():
    """Whether a solver has a history decides whose steps the shortest path measures."""
    made = model("ddim()")
    found = reference(made, KARRAS, 0, count=2)
    for solver, forgets in (
        (solvers.ddim(), True),
        (solvers.heun(), True),
        (solvers.dpmpp(), False),
    ):
        assert fitting._forgets(solver, found) == forgets
