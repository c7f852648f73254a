import math

import numpy as np
import pytest
from scipy import stats

from noise_sched.sweeping.significance import best_of, compare, noise


def table(rows):
    return {(i, j): float(v) for i, row in enumerate(rows) for j, v in enumerate(row)}


def test_two_settings_are_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 6), rng.normal(1, 1, 6)
    found = compare(table([a, b]), "lower")
    assert found[0].p is not None
    worse = max(found, key=lambda s: found[s].mean)
    assert found[worse].p == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
    for i, x in enumerate((a, b)):
        assert found[i].mean == pytest.approx(x.mean())
        assert found[i].error == pytest.approx(stats.sem(x))


def test_a_seed_that_is_good_for_all_settings_says_nothing():
    seeds = np.array([0.0, 100.0, -50.0])
    rows = [seeds + [0.1, 0, -0.1], seeds + 1 + [0, 0.1, 0], seeds + 2]
    found = compare(table(rows), "lower")
    assert [found[i].verdict for i in range(3)] == ["best", "worse", "worse"]
    assert noise(table(rows))[1] == 4


def test_the_pooled_variance_is_that_of_a_two_way_analysis():
    rows = np.random.default_rng(1).normal(size=(5, 4))
    centred = rows - rows.mean(1, keepdims=True) - rows.mean(0) + rows.mean()
    sd, freedom = noise(table(rows))
    assert freedom == 4 * 3 and sd == pytest.approx(math.sqrt((centred**2).sum() / 12))


def test_settings_that_are_the_same_are_seldom_called_worse():
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(400):
        rows = rng.normal(size=(6, 1)) * 0 + rng.normal(size=(6, 3)) + rng.normal(size=3)
        wrong += any(s.verdict == "worse" for s in compare(table(rows), "lower").values())
    # The best is chosen by the same data, so somewhat more than 5 % are expected, and Holm's holds it low.
    assert wrong / 400 < 0.15


def test_a_difference_that_is_there_is_found():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(8, 3)) * 0.1 + np.arange(8)[:, None]
    found = compare(table(rows), "higher")
    assert found[7].verdict == "best"
    assert all(found[i].verdict == "worse" for i in range(7))


def test_one_seed_is_inconclusive():
    found = compare({("a", 0): 1.0, ("b", 0): 2.0}, "lower")
    assert found["a"].verdict == "best" and found["b"].verdict == "inconclusive"
    assert math.isnan(found["a"].error) and math.isnan(found["b"].p)
    assert best_of({("a", 0): 1.0, ("b", 0): 2.0}, "lower") == {}


def test_missing_cells_and_values_that_are_not_finite():
    rows = np.random.default_rng(4).normal(size=(4, 3)) * 0.01 + np.arange(4)[:, None]
    values = table(rows)
    del values[(1, 2)]
    values[(2, 0)] = math.nan
    values |= {("lost", seed): math.nan for seed in range(3)}
    found = compare(values, "lower")
    assert "lost" not in found and found[1].count == found[2].count == 2
    assert [found[i].verdict for i in range(4)] == ["best", "worse", "worse", "worse"]
    assert compare({}, "lower") == {}


def test_equal_values_are_no_difference():
    found = compare(table([[1, 1, 1], [1, 1, 1], [2, 2, 2]]), "lower")
    assert found[1].verdict == "inconclusive" and found[2].verdict == "worse"


def test_how_likely_each_is_the_best():
    rng = np.random.default_rng(5)
    apart = best_of(table(rng.normal(size=(3, 4)) * 0.01 + np.arange(3)[:, None]), "lower")
    assert apart[0] > 0.999
    tied = best_of(table([[0, 1, 2.0], [1, 0, 2.1], [50, 51, 52]]), "lower")
    assert 0.3 < tied[0] < 0.7 and 0.3 < tied[1] < 0.7 and tied[2] < 1e-3
    assert sum(tied.values()) == pytest.approx(1)
