"""The metrics of features, held against closed forms and other people's formulas."""

import numpy as np
import pytest
from scipy import linalg
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors

from noise_sched.evaluation.features import Features
from noise_sched.evaluation.frechet import (
    Statistics,
    Sums,
    frechet,
    frechet_distance,
    statistics_of,
)
from noise_sched.evaluation.inception_score import inception_score
from noise_sched.evaluation.kernel_distance import discrepancy
from noise_sched.evaluation.kid import kid
from noise_sched.evaluation.precision_recall import (
    density_coverage,
    precision_recall,
    squared_distances,
)


def features(values):
    return Features("some", np.asarray(values, np.float64))


def normal(seed, count, length, scale=1.0, shift=0.0):
    return np.random.default_rng(seed).normal(size=(count, length)) * scale + shift


def rotation(length, seed=3):
    return linalg.qr(normal(seed, length, length))[0]


@pytest.mark.parametrize("length", [1, 5, 64])
def test_gaussians_that_commute(length):
    """tr (S1 S2)^(1/2) = sum sqrt(l1 l2) where both have the same axes."""
    rng, turn = np.random.default_rng(0), rotation(length)
    one, two = rng.uniform(0.01, 3, (2, length))
    m1, m2 = rng.normal(size=(2, length))
    a, b = (Statistics(m, turn @ np.diag(v) @ turn.T, None) for m, v in ((m1, one), (m2, two)))
    expected = np.sum((m1 - m2) ** 2) + np.sum((np.sqrt(one) - np.sqrt(two)) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("power", [1, 2, 4])
def test_variances_of_many_orders_of_magnitude(power):
    """By roots of eigenvalues of a product the last is off by 5e-3."""
    length, turn = 200, rotation(200)
    one = np.arange(1.0, length + 1) ** -power
    two = one * (1 + 0.3 * np.sin(np.arange(length)))
    a, b = (Statistics(np.zeros(length), turn @ np.diag(v) @ turn.T, None) for v in (one, two))
    expected = np.sum((np.sqrt(one) - np.sqrt(two)) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


def test_random_gaussians():
    """Against the root of the product itself, which is well-conditioned here."""
    a, b = (statistics_of(features(normal(s, 300, 40, 1 + s, s))) for s in (0, 1))
    root = np.trace(linalg.sqrtm(a.covariance @ b.covariance).real)
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * root
    expected = np.sum((a.mean - b.mean) ** 2) + spread
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("ranks", [(0, 8), (1, 1), (3, 8), (4, 4)])
def test_covariances_without_full_rank(ranks):
    """With common axes, some variances exactly 0; and where the axes of the two are at right angles."""
    length = 8
    turn = rotation(length)
    variances = [np.where(np.arange(length) < rank, np.arange(1.0, 9.0), 0.0) for rank in ranks]
    for order in (slice(None), slice(None, None, -1)):
        other = variances[1][order]
        a, b = (
            Statistics(np.zeros(length), turn @ np.diag(v) @ turn.T, None)
            for v in (variances[0], other)
        )
        expected = np.sum((np.sqrt(variances[0]) - np.sqrt(other)) ** 2)
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.5, np.pi / 2])
def test_lines_and_projections_at_an_angle(angle):
    """Of two lines u u^T and v v^T the last trace is |u.v|; of a line and a whole space (u^T S u)^(1/2)."""
    turn = rotation(6)
    u, v = 3 * turn[0], 2 * (np.cos(angle) * turn[0] + np.sin(angle) * turn[1])
    a, b = (Statistics(np.zeros(6), np.outer(w, w), None) for w in (u, v))
    assert frechet_distance(a, b) == pytest.approx(9 + 4 - 12 * np.cos(angle), rel=1e-8)
    whole = turn @ np.diag(np.arange(1.0, 7)) @ turn.T
    expected = 4 + 21 - 2 * np.sqrt(v @ whole @ v)
    c = Statistics(np.zeros(6), whole, None)
    assert frechet_distance(b, c) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(c, b) == pytest.approx(expected, rel=1e-8)


def test_fewer_images_than_features():
    """With centred data X1, X2 of one count the last trace is the sum of the singular values of X1 X2^T."""
    x, y = normal(0, 20, 100), normal(1, 20, 100, 2.0, 0.5)
    a, b = statistics_of(features(x)), statistics_of(features(y))
    cross = linalg.svdvals((x - x.mean(0)) @ (y - y.mean(0)).T).sum() / 19
    expected = (
        np.sum((x.mean(0) - y.mean(0)) ** 2) + x.var(0, ddof=1).sum() + y.var(0, ddof=1).sum()
    )
    assert frechet_distance(a, b) == pytest.approx(expected - 2 * cross, rel=1e-8)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9 * np.trace(a.covariance))


def test_constant_features_and_few_images_to_50_digits():
    """The expected value is by mpmath with 50 digits; the root of the product by scipy has 9 of them."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(9, 16)) / np.arange(1, 17)
    y = rng.normal(size=(7, 16)) + 0.2
    x[:, 3], y[:, 5] = 2.0, 0.0
    a, b = statistics_of(features(x)), statistics_of(features(y))
    assert frechet_distance(a, b) == pytest.approx(18.598951942297043, rel=1e-12)


def test_the_reference_value():
    """google-research/pix2seq, `get_fid_score` on random features (TensorFlow 2.15.1)."""
    known = np.load(__file__.replace("test_feature_metrics.py", "pix2seq_fid.npz"))
    a, b = (statistics_of(features(known[name])) for name in ("feat1", "feat2"))
    assert frechet_distance(a, b) == pytest.approx(float(known["value"]), rel=1e-10)


def test_statistics_in_blocks_and_parts():
    x = normal(0, 2500, 6, 1.0, 1e6)  # two and a half blocks; a mean that would cost 12 digits
    found = statistics_of(features(x))
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x.T), rtol=1e-9, atol=1e-9)
    first, second = Sums(6), Sums(6)
    first.add(x[:7])
    second.add(x[7:])
    first.join(second)
    np.testing.assert_allclose(first.statistics().covariance, np.cov(x.T), rtol=1e-9, atol=1e-9)
    assert found.count == first.count == 2500


def test_the_bias_of_few_images_is_extrapolated_away():
    """Of equal Gaussians the true distance is 0; that of n images is about d (d + 5) / 4 n."""
    length, real = 20, features(normal(1, 50_000, 20))
    found = [frechet(features(normal(s, 1000, length)), real) for s in range(2, 8)]
    plain = np.mean([each.distance for each in found])
    assert plain == pytest.approx(length * (length + 5) / 4 / 1000, rel=0.25)
    assert abs(np.mean([each.infinity for each in found])) < 0.1 * plain


def test_the_extrapolation_varies_no_more_than_the_distance_and_says_how_much():
    real = Statistics(np.zeros(8), np.eye(8), None)
    runs = [frechet(features(normal(s, 400, 8, 1.3, 0.2)), real) for s in range(100, 160)]
    spread = np.std([run.infinity for run in runs], ddof=1)
    assert spread < 1.1 * np.std([run.distance for run in runs], ddof=1)
    assert np.mean([run.infinity_error for run in runs]) == pytest.approx(spread, rel=0.25)
    true = 8 * (0.3**2 + 0.2**2)
    assert np.mean([run.infinity for run in runs]) == pytest.approx(true, abs=3 * spread / 60**0.5)


def test_the_interval_is_as_wide_as_other_draws_differ():
    real = features(normal(1, 20_000, 6))
    runs = [frechet(features(normal(s, 500, 6, 1.3, 0.2)), real) for s in range(100, 160)]
    spread = np.std([run.distance for run in runs], ddof=1)
    widths = [(run.high - run.low) / 2 / 1.96 for run in runs]
    assert np.mean(widths) == pytest.approx(spread, rel=0.25)
    middle = np.mean([run.distance for run in runs])
    assert 0.88 <= np.mean([run.low < middle < run.high for run in runs]) < 1


def test_against_statistics_from_a_file():
    x, y = features(normal(0, 500, 5)), features(normal(1, 600, 5))
    found, other = frechet(x, y), frechet(x, statistics_of(y))
    assert found == other and found.count == 500 and found.real_count == 600


def test_the_kernel_distance_is_scikit_learns():
    x, y = normal(0, 1500, 7), normal(1, 1100, 7, 1.1)
    k = dict(degree=3, gamma=1 / 7, coef0=1)
    xx, yy = polynomial_kernel(x, **k), polynomial_kernel(y, **k)
    expected = (
        (xx.sum() - np.trace(xx)) / (1500 * 1499)
        + (yy.sum() - np.trace(yy)) / (1100 * 1099)
        - 2 * polynomial_kernel(x, y, **k).mean()
    )
    assert discrepancy(features(x), features(y)) == pytest.approx(expected, rel=1e-9)


def test_kid_is_unbiased_and_says_how_sure_it_is():
    x, y, z = (features(normal(s, 600, 8, 1 + 0.3 * (s == 2))) for s in range(3))
    same, other = kid(x, y), kid(x, z)
    assert abs(same.distance) < 3 * same.error and other.distance > 5 * other.error
    assert other.distance == pytest.approx(discrepancy(x, z), rel=0.1)
    assert same.subset == 300 and kid(x, features(normal(5, 200, 8))).subset == 100
    assert kid(x, y) == same and kid(x, y, seed=1) != same


def test_the_error_of_kid_is_how_much_other_images_move_it(monkeypatch):
    monkeypatch.setattr("noise_sched.evaluation.kid.SUBSETS", 10)
    runs = [
        kid(features(normal(s, 100, 6)), features(normal(s + 500, 100, 6, 2.0))) for s in range(60)
    ]
    spread = np.std([run.distance for run in runs], ddof=1)
    assert np.mean([run.error for run in runs]) == pytest.approx(spread, rel=0.15)


def test_precision_and_recall_density_and_coverage():
    """By scikit-learn's neighbours; a model of half of the modes, and some noise."""
    rng = np.random.default_rng(0)
    modes = rng.normal(size=(6, 4)) * 4
    real = np.concatenate([m + normal(i, 200, 4) for i, m in enumerate(modes)])
    made = np.concatenate([m + normal(9 + i, 250, 4) for i, m in enumerate(modes[:3])])
    made = np.concatenate([made, rng.normal(size=(50, 4)) * 20])

    def radius(x, k):
        return NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)[0][:, -1]

    def inside(x, y, k):
        return np.linalg.norm(x[:, None] - y[None], axis=2) <= radius(y, k)

    found = precision_recall(features(made), features(real))
    assert found.precision == pytest.approx(inside(made, real, 3).any(1).mean())
    assert found.recall == pytest.approx(inside(real, made, 3).any(1).mean())
    assert found.precision > 0.8 and found.recall < 1
    other = density_coverage(features(made), features(real))
    balls = inside(made, real, 5)
    assert other.density == pytest.approx(balls.sum() / 5 / len(made))
    assert other.coverage == pytest.approx(balls.any(0).mean())


def test_equal_images_are_at_no_distance():
    """Rounding must not decide whether a copy lies in a ball without radius."""
    x = normal(0, 300, 40, 1.0, 3.0)
    assert np.array_equal(squared_distances(x, x.copy()) == 0, np.eye(300))


def test_the_inception_score():
    """One class for all scores 1; each sure of one of ten, in equal numbers, 10; unsure of all, 1."""
    sure = 50.0 * np.eye(10)[np.arange(2000) % 10]
    score = lambda logits: inception_score(features(logits), features(sure))
    assert score(sure).score == pytest.approx(10, rel=0.03)
    assert score(sure).real == score(sure).score
    assert score(50.0 * np.eye(10)[np.zeros(2000, int)]).score == pytest.approx(1)
    assert score(np.zeros((2000, 10))).score == pytest.approx(1)
    logits = normal(0, 1000, 12)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    order = np.random.default_rng(0).permutation(1000)
    splits = [p[part] for part in np.array_split(order, 10)]
    expected = [np.exp(np.mean((s * np.log(s / s.mean(0))).sum(1))) for s in splits]
    assert score(logits).score == pytest.approx(np.mean(expected))
    assert score(logits).std == pytest.approx(np.std(expected))
