"""Training density: the expected loss stays, its variance and its gradient's fall."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixtures import mixture

from noise_sched.diffusion import by_level, density, specs, times
from noise_sched.diffusion.loss import Objective

MEANS = 0.7 * jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
STDS = jnp.asarray([0.1, 0.2, 0.05, 0.3, 0.15])


def objective(made=density.fixed(), weight="uniform()"):  # noqa: B008  (frozen)
    build = specs.build
    return Objective(
        schedule=build("geometric()", "schedule"),
        process=build("vp()", "process"),
        parametrization=build("x0()", "parametrization"),
        input_scale=build("none()", "input_scale"),
        conditioning=build("angle(scale=1)", "conditioning"),
        loss_space=build("x0()", "parametrization"),
        weight=build(weight, "weight"),
        density=made,
    )


def images(key, count):
    which, noise = jax.random.split(key)
    component = jax.random.randint(which, (count,), 0, len(STDS))
    return MEANS[component] + STDS[component, None] * jax.random.normal(noise, (count, 3))


def network(shift):
    """The exact denoiser, known to be the optimum, and a shift of its answer."""
    exact = mixture(MEANS, STDS)

    def call(key, x, noise_cond, memory):
        level = specs.build("vp()", "process").level(-2.0 * jnp.log(jnp.tan(noise_cond)))
        return exact(x, level, ())[0].x0 + shift, memory

    return call


@jax.jit
def learnt(key):
    """The state after a hundred batches."""
    made = density.adaptive(bins=32)

    def batch(state, each):
        data, own = jax.random.split(each)
        _, metrics = objective(made).loss(own, network(0.0), images(data, 256), (), carried=state)
        seen = {name: metrics[density.PREFIX + name] for name in state}
        return made.update(state, seen), None

    return jax.lax.scan(batch, made.init(), jax.random.split(key, 100))[0]


def test_before_the_first_step_nothing_is_changed():
    made, u = density.adaptive(), times.uniform()(jax.random.key(0), 1000, jnp.float32)
    t, weight = made.draw(made.init(), u)
    np.testing.assert_allclose(t, u, atol=3e-7)
    np.testing.assert_array_equal(weight, 1.0)
    key, x0 = jax.random.key(1), images(jax.random.key(2), 64)
    one, other = (objective(m).loss(key, network(0.1), x0, ())[0] for m in (made, density.fixed()))
    np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_draws_follow_the_rates_and_weights_undo_them(share):
    made = density.adaptive(bins=8, share=share)
    state = {"square": jnp.asarray([0.0, 4, 0, 1, 9, 0, 0, 100]), "draws": jnp.ones(8)}
    rates = np.asarray(made.rates(state))
    np.testing.assert_allclose(rates.mean(), 1.0, rtol=1e-6)
    assert rates.min() >= share * (1 - 1e-6)
    u = (jnp.arange(200_000.0) + 0.5) / 200_000
    t, weight = made.draw(state, u)
    assert float(jnp.min(jnp.diff(t))) >= 0 and 0 < float(t[0]) and float(t[-1]) < 1
    counts = np.bincount(np.floor(np.asarray(t) * 8).astype(int), minlength=8) / len(t)
    np.testing.assert_allclose(counts, rates / 8, atol=1e-4)
    np.testing.assert_allclose(float(jnp.mean(weight * t**2)), 1 / 3, rtol=1e-4)


def test_ends_of_the_unit_interval_stay_inside():
    made, ends = density.adaptive(bins=64), times.ends(jnp.float32)
    state = {"square": jnp.linspace(1.0, 50.0, 64), "draws": jnp.ones(64)}
    t, _ = made.draw(state, ends)
    assert float(t[0]) >= float(ends[0]) and float(t[1]) <= float(ends[1])


def test_expected_loss_is_the_same_and_the_variance_falls():
    """A z-test on 2 x 131,072 draws, and the gradient's variance, of a shift of the optimum."""
    state, made = learnt(jax.random.key(3)), density.adaptive(bins=32)

    def loss(shift, key, which, carried):
        data, own = jax.random.split(key)
        return objective(which).loss(own, network(shift), images(data, 64), (), carried=carried)[0]

    @jax.jit
    def batches(keys):
        of = lambda *args: jax.lax.map(lambda key: jax.value_and_grad(loss)(0.0, key, *args), keys)
        return of(made, state), of(density.fixed(), None)

    (adapted, slopes), (plain, plain_slopes) = batches(jax.random.split(jax.random.key(4), 2048))
    difference = float(jnp.mean(adapted) - jnp.mean(plain))
    error = float(jnp.sqrt((jnp.var(adapted) + jnp.var(plain)) / len(plain)))
    assert abs(difference) < 4 * error, (difference, error)
    assert float(jnp.var(adapted)) < 0.7 * float(jnp.var(plain))
    assert float(jnp.var(slopes)) < 0.8 * float(jnp.var(plain_slopes))


def test_discrete_levels_keep_their_loss():
    """Drawn by cells of t, a table's levels are drawn as before once they are weighed."""
    made = density.adaptive(bins=10)
    state = {"square": jnp.arange(1.0, 11.0), "draws": jnp.ones(10)}
    schedule = specs.build("discrete(linear_betas(levels=10))", "schedule")
    u = (jnp.arange(100_000.0) + 0.5) / 100_000
    t, weight = made.draw(state, u)
    value = jax.nn.sigmoid(schedule.logsnr(t))
    expected = jnp.mean(jax.nn.sigmoid(schedule.logsnr(u)))
    np.testing.assert_allclose(float(jnp.mean(weight * value)), float(expected), rtol=1e-3)


def test_what_is_not_finite_leaves_the_rates_alone():
    made = density.adaptive(bins=4)
    bad = {"square": jnp.asarray([1.0, jnp.inf, 1, 1]), "draws": jnp.ones(4)}
    np.testing.assert_array_equal(made.rates(bad), 1.0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("adaptive(bins=0)", r"bins\) must be at least 1"),
        ("adaptive(share=0)", r"share\) must lie in \(0, 1\]"),
        ("adaptive(decay=2)", r"decay\) must lie in \[0, 1\]"),
        ("adaptve()", "adaptive"),
    ],
)
def test_wrong_densities_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        specs.build(spec, "density")


# ---- by level


def test_recorded_losses_are_those_of_the_bins():
    """Against each image's own loss, binned by NumPy; and pooled over two batches."""
    seen = []

    def spy(key, x, noise_cond, memory):
        seen.append((x, noise_cond))
        return jnp.tanh(x), memory

    made, rows, own = objective(weight="edm(1.0)"), [], []
    for seed in (0, 1):
        x0 = images(jax.random.key(seed), 5000)
        _, metrics = made.loss(jax.random.key(10 + seed), spy, x0, ())
        x, angle = (np.asarray(each, np.float64) for each in seen[-1])
        x0, s, a = np.asarray(x0, np.float64), np.sin(angle)[:, None], np.cos(angle)[:, None]
        error = np.mean((x0 - np.tanh(x)) ** 2, axis=1)
        own.append((-2 * np.log(np.tan(angle)), np.squeeze(1 + (a / s) ** 2) * error, error))
        rows.append({n: np.asarray(v) for n, v in metrics.items() if n.startswith(by_level.PREFIX)})
    mean = {name: (rows[0][name] + rows[1][name]) / 2 for name in rows[0]}
    logsnr, loss, error = (np.concatenate(each) for each in zip(*own, strict=True))
    index = np.digitize(logsnr, by_level.EDGES)
    for name, values in (("draws", np.ones_like(loss)), ("loss", loss), ("x0_error", error)):
        sums = np.bincount(index, values, minlength=len(by_level.CENTRES))
        # Near clean data float32 leaves few digits of eps.
        at = by_level.CENTRES < 6
        np.testing.assert_allclose(
            mean[f"levels/{name}"][at], sums[at] / 10_000, rtol=2e-3, atol=1e-9
        )
    both = np.concatenate([images(jax.random.key(seed), 5000) for seed in (0, 1)])
    np.testing.assert_allclose(mean["levels/variance"], np.var(both, axis=0).mean(), rtol=1e-3)


def test_infinite_levels_and_values_stay_in_their_bins():
    logsnr = jnp.asarray([-jnp.inf, -15.0, 0.0, 0.999, jnp.inf])
    hot = by_level.in_bins(logsnr)
    np.testing.assert_array_equal(np.argmax(np.asarray(hot), axis=1), [0, 1, 16, 16, 31])
    share = np.asarray(by_level.share(hot, jnp.asarray([jnp.inf, 1.0, 2.0, 3.0, jnp.nan])))
    assert share[16] == 1.0 and share[1] == pytest.approx(0.2) and np.isinf(share[0])
