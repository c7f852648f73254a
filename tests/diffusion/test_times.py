"""The times of a batch: uniform each, inside the open interval, evenly spread where that is asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.diffusion import schedules, specs, times
from noise_sched.diffusion.schedules.tables import num_levels

CHOICES = [times.uniform(), times.stratified()]
CELLS = 2**23  # of float32


@pytest.fixture(params=CHOICES, ids=repr)
def choice(request):
    return request.param


def draws(choice, batches, count, dtype=jnp.float32):
    """[batches, count], each row with a key of its own."""
    keys = jax.random.split(jax.random.key(7), batches)
    return np.asarray(jax.vmap(lambda key: choice(key, count, dtype))(keys))


def test_every_choice_is_here():
    assert {type(c).__name__ for c in CHOICES} == set(specs.choices("time"))


@pytest.mark.parametrize("x64", [False, True])
def test_times_are_middles_of_cells(choice, x64):
    """Odd multiples of half a cell, as floats exactly; so nothing is 0 or 1."""
    with jax.enable_x64(x64):
        dtype = jnp.float64 if x64 else jnp.float32
        t = draws(choice, 50, 40, dtype)
        halves = t / (jnp.finfo(dtype).eps / 2)
        assert t.dtype == dtype
        assert (halves % 2 == 1).all()
        assert (0 < t).all() and (t < 1).all()


def test_the_ends_are_the_first_and_the_last_cell(monkeypatch):
    """Whatever bits the generator gives: all zeros and all ones."""
    assert times.ends(jnp.float32).tolist() == [2.0**-24, 1 - 2.0**-24]
    for bits, expected in ((0, 2.0**-24), (2**32 - 1, 1 - 2.0**-24)):
        monkeypatch.setattr(jax.random, "bits", lambda k, s, d, b=bits: jnp.full(s, b, d))
        for choice in CHOICES:
            assert choice(jax.random.key(0), 1, jnp.float32).tolist() == [expected]


def test_each_time_is_uniform_by_itself(choice):
    """Every row of a batch, over many batches: Kolmogorov-Smirnov at a level of 1e-6."""
    t = np.sort(draws(choice, 4000, 6), axis=0)
    steps = np.arange(1, 4001)[:, None] / 4000
    assert np.abs(t - steps).max() < 2.7 / np.sqrt(4000)


@pytest.mark.parametrize("count", [1, 2, 7, 64, 1000])
def test_strata_hold_one_time_each(count):
    """Sorted times are 1 / B apart, around the circle, to a cell."""
    t = draws(times.stratified(), 20, count)
    cells = np.sort((np.asarray(t, np.float64) * CELLS - 0.5).astype(np.int64), axis=1)
    gaps = np.diff(np.concatenate([cells, cells[:, :1] + CELLS], axis=1), axis=1)
    assert np.abs(gaps - CELLS / count).max() <= 1
    assert len(np.unique(t[:, 0])) == 20, "each batch has a u of its own"


def test_a_stratified_mean_varies_less():
    """The mean of B times: variance 1 / (12 B) drawn one by one, 1 / (12 B^2) spread evenly."""
    count, batches = 16, 4000
    tolerance = 6 * np.sqrt(2 / batches)
    alone, spread = (draws(c, batches, count).mean(axis=1, dtype=np.float64) for c in CHOICES)
    assert 12 * count * alone.var() == pytest.approx(1, rel=tolerance)
    assert 12 * count**2 * spread.var() == pytest.approx(1, rel=tolerance)


FEW = ["cosine_betas(levels=3)", "from_betas((0.1, 1.0))", "zero_terminal(scaled_linear())"]
DISCRETE = [f"discrete({spec})" for spec in FEW]
DISCRETE += [f"discrete(rectified_flow(), levels={n})" for n in (1, 7, 1000, 1024, 10**5)]


@pytest.mark.parametrize("spec", DISCRETE)
def test_discrete_draws_its_first_and_last_level_but_never_clean_data(spec):
    schedule = specs.build(spec, "schedule")
    levels = num_levels(schedule)
    outermost = np.arange(1, 64, 2) * 2.0**-24
    first, last = (schedule.logsnr(jnp.asarray(t, jnp.float32)) for t in (outermost, 1 - outermost))
    table = np.asarray(schedule.table())
    np.testing.assert_allclose(first, np.full(32, table[0]), rtol=1e-5)
    np.testing.assert_array_equal(last, np.full(32, table[-1], np.float32))
    # Clean data is still where sampling ends.
    assert schedule.logsnr(jnp.zeros(1)) == jnp.inf and levels == len(table)


@pytest.mark.parametrize("spec", FEW)
def test_a_continuous_table_is_finite_wherever_training_draws(spec):
    schedule = specs.build(spec, "schedule")
    outermost = jnp.asarray(np.arange(1, 64, 2) * 2.0**-24, jnp.float32)
    for t in (outermost, 1 - outermost):
        assert jnp.isfinite(schedule.logsnr(t)).all()
    assert schedule.logsnr(jnp.zeros(1)) == jnp.inf
    np.testing.assert_allclose(
        schedule.logsnr(outermost),
        schedule.level(1) - jnp.log(outermost * num_levels(schedule)),
        1e-6,
    )


def test_of_a_million_levels_each_is_drawn_where_it_should_be():
    """A margin for rounding that grew with their number would reach the level before."""
    schedule = schedules.discrete(schedules.rectified_flow(), levels=10**6)
    level = np.arange(1, 10**6, 9973)
    late = jnp.asarray((level - 0.1) / 10**6, jnp.float32)
    there = schedule.schedule.logsnr(jnp.asarray(level / 10**6, jnp.float32))
    np.testing.assert_allclose(schedule.logsnr(late), there, rtol=1e-6, atol=2e-6)
