"""The training loss: draws, weights, offset noise, and one sigma_data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.diffusion import specs
from noise_sched.diffusion.loss import Objective


def objective(
    schedule="cosine()",
    process="vp()",
    parametrization="v()",
    input_scale="none()",
    conditioning="angle()",
    space="v()",
    weight="uniform()",
    **options,
):
    build = specs.build
    return Objective(
        schedule=build(schedule, "schedule"),
        process=build(process, "process"),
        parametrization=build(parametrization, "parametrization"),
        input_scale=build(input_scale, "input_scale"),
        conditioning=build(conditioning, "conditioning"),
        loss_space=build(space, "parametrization"),
        weight=build(weight, "weight"),
        **options,
    )


def network(key, x, noise_cond, memory):
    shape = (-1,) + (1,) * (x.ndim - 1)
    return jnp.tanh(x) + 1e-3 * noise_cond.reshape(shape), memory


MIXES = [
    dict(),
    dict(schedule="discrete(zero_terminal(scaled_linear()))", conditioning="index()"),
    dict(schedule="discrete(zero_terminal(scaled_linear()))", weight="min_snr()"),
    dict(
        schedule="lognormal()",
        process="ve()",
        parametrization="edm()",
        input_scale="analytic(0.5)",
        conditioning="log_sigma()",
        space="edm()",
    ),
    dict(schedule="lognormal()", parametrization="edm()", space="x0()", weight="edm()"),
    dict(schedule="logit_normal()", process="flow()", parametrization="flow()", space="flow()"),
    dict(schedule="laplace()", weight="sigmoid()", space="eps()"),
    dict(schedule="crop(vp_diffusion(), 1e-5, 1)", parametrization="eps()", space="eps()"),
]


@pytest.mark.parametrize("mix", MIXES)
def test_any_mix_has_a_finite_loss(mix):
    made = objective(**mix)
    x0 = jax.random.uniform(jax.random.key(0), (64, 4, 4, 3), minval=-1.0)
    loss, metrics = jax.jit(lambda key: made.loss(key, network, x0, ()))(jax.random.key(1))
    assert jnp.isfinite(loss) and jnp.isfinite(metrics["mse"])


def test_the_discrete_schedule_draws_every_level_equally():
    """Seen through the condition: the level's number, 0 .. 9 each a tenth of the time."""
    told = []

    def spy(key, x, noise_cond, memory):
        told.append(noise_cond)
        return x, memory

    made = objective(
        schedule="discrete(zero_terminal(linear_betas(levels=10)))",
        conditioning="index(zero_terminal(linear_betas(levels=10)))",
    )
    made.loss(jax.random.key(0), spy, jnp.zeros((20_000, 1)), ())
    counts = np.bincount(np.asarray(told[0], int), minlength=10)
    assert counts.shape == (10,) and abs(counts / 20_000 - 0.1).max() < 4 * 0.3 / np.sqrt(20_000)


def test_offset_noise_shifts_whole_channels():
    seen = []

    def spy(key, x, noise_cond, memory):
        seen.append(x)
        return x, memory

    for offset in (0.0, 0.5):
        made = objective(schedule="crop(cosine(), 0.999, 1.0)", offset_noise=offset)
        made.loss(jax.random.key(0), spy, jnp.zeros((500, 16, 16, 2)), ())
    plain, shifted = seen
    shift = shifted - plain
    assert float(shift.std(axis=(1, 2)).max()) < 1e-5, "one number per image and channel"
    assert float(shift.mean(axis=(1, 2)).std()) == pytest.approx(0.5, rel=0.1)
    with pytest.raises(ValueError, match="offset_noise must be non-negative, got -1"):
        objective(offset_noise=-1.0)


@pytest.mark.parametrize(
    "mix",
    [
        dict(parametrization="edm(0.5)", space="edm(0.6)"),
        dict(parametrization="edm(0.5)", space="x0()", weight="edm(1.0)"),
        dict(parametrization="edm(0.5)", space="edm(0.5)", input_scale="analytic(1.0)"),
    ],
)
def test_two_ideas_of_sigma_data_are_refused(mix):
    with pytest.raises(ValueError, match=r"different sigma_data in parametrization \(0.5\)"):
        objective(**mix).loss(jax.random.key(0), network, jnp.zeros((2, 5)), ())


def test_the_same_weighted_loss_in_two_spaces():
    """EDM's lambda in x0 is uniform in F."""
    with jax.enable_x64(True):
        edm = dict(schedule="lognormal()", process="ve()", parametrization="edm()")
        x0 = jax.random.normal(jax.random.key(0), (32, 5))
        losses = [
            objective(**edm, **rest).loss(jax.random.key(1), network, x0, ())[0]
            for rest in (dict(space="edm()"), dict(space="x0()", weight="edm()"))
        ]
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)


def test_sum_is_the_mean_times_the_pixels():
    key, x0 = jax.random.key(0), jax.random.normal(jax.random.key(1), (4, 3, 5, 2))
    mean, summed = (objective(reduction=r).loss(key, network, x0, ()) for r in ("mean", "sum"))
    np.testing.assert_allclose(summed[0], 30 * mean[0], rtol=1e-6)
    np.testing.assert_array_equal(summed[1]["mse"], mean[1]["mse"])


def test_unknown_reductions_are_refused():
    with pytest.raises(ValueError, match="'mean' or 'sum'.*got 'total'"):
        objective(reduction="total")


# ---- uncertainty


def uncertain(u, weight="edm()", **options):
    """The loss of a network that is always zero, where the log-variance is u everywhere."""
    made = objective(
        schedule="lognormal()",
        parametrization="edm()",
        space="edm()",
        weight=weight,
        **options,
    )
    x0 = jax.random.normal(jax.random.key(0), (64, 4, 4, 3))
    zero = lambda key, x, noise_cond, memory: (jnp.zeros_like(x), memory)
    return made.loss(jax.random.key(1), zero, x0, (), lambda c: jnp.full_like(c, u))


def test_the_best_log_variance_is_that_of_the_weighted_error():
    """At a constant error e the loss is e / exp(u) + u: least, and 1 + ln e, where u = ln e."""
    error = uncertain(0.0)[0]  # without uncertainty, or with u = 0, the weighted error itself
    loss = lambda u: uncertain(u, uncertainty=True)[0]
    best = jnp.log(error)
    np.testing.assert_allclose(loss(best), 1 + best, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(loss)(best), 0.0, atol=1e-5)
    np.testing.assert_allclose(loss(0.0), error, rtol=1e-6)
    assert loss(best + 0.1) > loss(best) < loss(best - 0.1)


def test_the_log_variance_is_told_what_the_network_is_told():
    told = []

    def spy(key, x, noise_cond, memory):
        told.append(noise_cond)
        return x, memory

    made = objective(uncertainty=True)
    x0 = jnp.zeros((8, 2, 2, 1))
    _, metrics = made.loss(jax.random.key(0), spy, x0, (), lambda c: told.append(c) or 2.0 * c)
    np.testing.assert_array_equal(*told)
    np.testing.assert_allclose(metrics["log_variance"], 2.0 * jnp.mean(told[0]), rtol=1e-6)


def test_uncertainty_without_a_log_variance_is_refused():
    with pytest.raises(ValueError, match="uncertainty needs the network's log_variance"):
        objective(uncertainty=True).loss(jax.random.key(0), network, jnp.zeros((2, 4, 4, 1)), ())
