"""The train step: its average, its guards, its parts, its donation; and the state it works on."""

import decimal
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from noise_sched.training import ema
from noise_sched.training.power_ema import towards
from noise_sched.training.state import TrainState


@pytest.fixture(scope="module")
def train_step():
    return tiny.train_step(schedule=lambda hyper: lambda s: 0.5 * s.astype(jnp.float32))


def sgd():
    return optax.sgd(0.1)


def start():
    return tiny.init(jax.random.key(0))


def test_state_starts_with_the_average_equal_to_the_parameters():
    state = start()
    for average, param in zip(
        jax.tree.leaves(state.ema_params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_array_equal(average, param)
        assert average.unsafe_buffer_pointer() != param.unsafe_buffer_pointer()
    assert state.step.dtype == jnp.int32


def test_state_wants_a_typed_key():
    with pytest.raises(ValueError, match="typed PRNG key"):
        TrainState.create({}, optax.sgd(0.1), jax.random.PRNGKey(0))


def test_step_learns_and_reports(train_step):
    state, losses = start(), []
    for batch, _ in zip(tiny.Batches(), range(30), strict=False):
        state, metrics = train_step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.7 * losses[0]
    assert int(state.step) == 30
    assert set(metrics) == {
        "loss",
        "grad_norm",
        "param_norm",
        "learning_rate",
        "finite",
        "mean_out",
    }
    assert metrics["finite"] == 1
    assert metrics["learning_rate"] == 0.5 * 29
    np.testing.assert_allclose(metrics["param_norm"], optax.global_norm(state.params), rtol=1e-6)


def test_step_is_the_pieces_by_hand(train_step):
    state = start()
    batch = next(tiny.Batches())
    key = jax.random.fold_in(state.key, 0)
    loss_fn = lambda params: tiny.loss_fn(None, params, key, batch)
    (loss, _), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    updates, _ = tiny.optimizer().update(grads, state.opt_state, state.params)
    expected = optax.apply_updates(state.params, updates)
    expected_ema = jax.tree.map(lambda e, p: 0.9 * e + 0.1 * p, state.ema_params, expected)
    got, metrics = train_step(state, batch)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    np.testing.assert_allclose(metrics["grad_norm"], optax.global_norm(grads), rtol=1e-6)
    for a, b in zip(
        jax.tree.leaves((got.params, got.ema_params)),
        jax.tree.leaves((expected, expected_ema)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_the_key_of_a_step_depends_on_the_step(train_step):
    batch = next(tiny.Batches())
    _, first = train_step(start(), batch)
    _, again = train_step(start(), batch)
    _, later = train_step(start().replace(step=jnp.int32(1)), batch)
    assert first["loss"] == again["loss"] != later["loss"]


def test_donation_happens(train_step):
    state = start()
    pointer = state.params["dense"]["kernel"].unsafe_buffer_pointer()
    new, _ = train_step(state, next(tiny.Batches()))
    arrays = [leaf for leaf in jax.tree.leaves(state) if leaf is not state.key]
    assert all(leaf.is_deleted() for leaf in arrays)
    live = {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((new.params, new.opt_state))}
    live |= {leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(new.ema_params)}
    assert pointer in live


@pytest.mark.parametrize("how", ["loss", "gradient", "parameters"])
def test_a_step_that_is_not_finite_is_not_applied(how):
    def loss_fn(hyper, params, key, batch):
        loss, metrics = tiny.loss_fn(hyper, params, key, batch)
        if how == "loss":
            loss = loss + jnp.where(batch["bad"].any(), jnp.inf, 0.0)
        if how == "gradient":  # the root of 0 has a finite value and an infinite slope
            weight = jnp.where(batch["bad"].any(), 0.0, 1.0)
            loss = loss + jnp.sqrt(weight * jnp.sum(params["dense"]["kernel"] ** 2))
        return loss, metrics

    optimizer = tiny.optimizer()
    if how == "parameters":

        def explode(updates, state, params):
            bad = state > 2
            return jax.tree.map(lambda u: jnp.where(bad, jnp.nan, u), updates), state + 1

        optimizer = optax.chain(
            optimizer, optax.GradientTransformation(lambda p: jnp.zeros([], jnp.int32), explode)
        )
    train_step = tiny.train_step(loss_fn=loss_fn, optimizer=lambda: optimizer)
    state = start()
    state = TrainState.create(state.params, optimizer, state.key)
    batches = tiny.Batches()
    for _ in range(3):
        state, metrics = train_step(state, {**next(batches), "bad": np.zeros(16, bool)})
        assert metrics["finite"] == 1
    before = jax.tree.map(np.array, state.replace(key=None))
    bad = np.zeros(16, bool)
    bad[3] = True
    state, metrics = train_step(state, {**next(batches), "bad": bad})
    assert metrics["finite"] == 0
    assert int(state.step) == 4
    after = state.replace(key=None, step=before.step)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(a, b)


def test_microbatches_average_to_the_whole():
    def loss_fn(hyper, params, key, batch):
        out = batch["image"] @ params["dense"]["kernel"]  # no noise: its key differs by part
        return jnp.mean((out - batch["target"]) ** 2), {}

    results = []
    for parts in (1, 4):
        train_step = tiny.train_step(loss_fn=loss_fn, optimizer=sgd, microbatches=parts)
        state = TrainState.create(start().params, optax.sgd(0.1), jax.random.key(0))
        results.append(train_step(state, next(tiny.Batches())))
    (one, one_metrics), (four, four_metrics) = results
    np.testing.assert_allclose(one_metrics["loss"], four_metrics["loss"], rtol=1e-6)
    np.testing.assert_allclose(one_metrics["grad_norm"], four_metrics["grad_norm"], rtol=1e-5)
    np.testing.assert_allclose(
        one.params["dense"]["kernel"], four.params["dense"]["kernel"], rtol=1e-5, atol=1e-7
    )


def test_microbatches_have_keys_of_their_own():
    def loss_fn(hyper, params, key, batch):
        return jax.random.uniform(key) + 0.0 * jnp.sum(params["w"]), {}

    train_step = tiny.train_step(loss_fn=loss_fn, optimizer=sgd, microbatches=2)
    state = TrainState.create({"w": jnp.ones(2)}, optax.sgd(0.1), jax.random.key(0))
    key = jax.random.fold_in(state.key, 0)
    draws = [float(jax.random.uniform(jax.random.fold_in(key, i))) for i in range(2)]
    _, metrics = train_step(state, {"image": np.zeros((4, 1), np.float32)})
    np.testing.assert_allclose(metrics["loss"], np.mean(draws), rtol=1e-6)


def test_refusals(train_step):
    with pytest.raises(ValueError, match="microbatches must be at least 1"):
        tiny.train_step(microbatches=0)
    with pytest.raises(ValueError, match="microbatches=3 does not divide a batch of 16"):
        tiny.train_step(microbatches=3)(start(), next(tiny.Batches()))
    clashing = lambda hyper, params, key, batch: (jnp.zeros([]), {"loss": 0.0})
    clash = tiny.train_step(loss_fn=clashing, optimizer=sgd)
    state = TrainState.create({"w": jnp.ones(2)}, optax.sgd(0.1), jax.random.key(0))
    with pytest.raises(ValueError, match="may not be named"):
        clash(state, next(tiny.Batches()))


def test_ema_with_constant_decay_is_the_weighted_sum():
    values = np.random.default_rng(0).standard_normal(10).astype(np.float32)
    average = {"w": jnp.asarray(values[0])}
    for t, value in enumerate(values[1:]):
        average = towards(average, {"w": jnp.asarray(value)}, ema.constant(1 - 0.8, t))
    weights = 0.2 * 0.8 ** np.arange(8, -1, -1)
    expected = 0.8**9 * values[0] + np.sum(weights * values[1:])
    np.testing.assert_allclose(average["w"], expected, rtol=1e-5)


def test_ema_warmup():
    weights = [float(ema.constant(0.5, t, warmup=True)) for t in (0, 1, 8, 1000)]
    np.testing.assert_allclose(weights, [0.9, 9 / 11, 0.5, 0.5], rtol=1e-6)


def exact_new_weight(t, decay, warmup=None, halflife=None, batch_size=None):
    """1 - d of equations (1) to (3) to 50 digits."""
    with decimal.localcontext(prec=50):
        if halflife:
            steps = min(Decimal(halflife) / batch_size, Decimal("0.05") * t)
            return 1 - Decimal("0.5") ** (1 / steps)
        constant = 1 - Decimal(repr(decay))
        return max(constant, Decimal(9) / (10 + t)) if warmup else constant


@pytest.mark.parametrize(
    ("decay", "warmup", "halflife", "batch_size"),
    [
        (0.9999, False, None, None),
        (0.999999, True, None, None),
        (None, None, 500_000, 512),
        (None, None, 5 * 10**10, 8),
    ],
)
def test_the_weight_of_the_new_parameters_has_all_its_digits(decay, warmup, halflife, batch_size):
    steps = (1, 7, 40_000, 10**8)
    expected = [float(exact_new_weight(t, decay, warmup, halflife, batch_size)) for t in steps]

    def weight(t):
        if halflife:
            return ema.halflife(halflife, t, batch_size=batch_size)
        return ema.constant(1.0 - decay, t, warmup=warmup)

    np.testing.assert_allclose([weight(t) for t in steps], expected, rtol=3e-7)
    # Averages of 0 go to 1 by that share.
    moved = [towards({"w": jnp.zeros([])}, {"w": jnp.ones([])}, weight(t))["w"] for t in steps]
    np.testing.assert_allclose(moved, expected, rtol=3e-7)
    with jax.enable_x64(True):
        np.testing.assert_allclose([weight(t) for t in steps], expected, rtol=1e-9)


def test_the_weight_of_a_traced_number():
    weight = jax.jit(lambda new: ema.constant(new, 5, warmup=True))
    np.testing.assert_allclose(weight(jnp.float32(0.25)), 9 / 15, rtol=1e-6)
    np.testing.assert_allclose(weight(jnp.float32(0.75)), 0.75, rtol=1e-6)
    weight = jax.jit(lambda images: ema.halflife(images, 10**6, batch_size=8))
    np.testing.assert_allclose(weight(jnp.float32(80)), 1 - 0.5**0.1, rtol=1e-6)


def test_an_average_of_many_steps_is_not_off_by_its_weights_rounding():
    """The parameters swing about a mean, which is the average, up to 3e-6 of the last swings.

    With two rounded factors, 3e-5 and 1 - 3e-5, it would be off by 3e-4 after 20,000 steps.
    """
    mean = jax.random.normal(jax.random.key(0), (200,))

    def step(t, average):
        swing = 0.1 * (1 - 2 * (t % 2)).astype(jnp.float32)
        return towards(average, mean * (1 + swing), ema.constant(1 - 0.99997, t))

    average = jax.jit(lambda: jax.lax.fori_loop(0, 20_000, step, mean))()
    np.testing.assert_allclose(average, mean, rtol=3e-5)


def test_a_half_life_halves_what_is_remembered():
    """Half of the parameter before is left after 1,000 images, here in 8 steps of 125."""
    average = {"w": jnp.ones([])}
    for t in range(8):
        weight = ema.halflife(1_000, t, batch_size=125, rampup_ratio=0)
        average = towards(average, {"w": jnp.zeros([])}, weight)
    np.testing.assert_allclose(average["w"], 0.5, rtol=1e-6)


def test_a_half_life_grows_with_the_images_before_the_step():
    """0.5^(batch / min(H, 0.05 images)), EDM's; the first step forgets the initial parameters."""
    weight = jax.jit(lambda step: ema.halflife(500_000, step, batch_size=512))
    steps = np.array([0, 1, 100, 19_531, 19_532, 390_625])
    images = steps * 512.0
    expected = 1 - 0.5 ** (512 / np.maximum(np.minimum(500_000, 0.05 * images), 1e-8))
    np.testing.assert_allclose(weight(steps), expected, rtol=1e-6)
    assert weight(0) == 1 and float(1 - weight(1)) == pytest.approx(2.0**-20, rel=0.1)


@jax.custom_vjp
def with_gradient(w, gradient):
    return jnp.sum(w) * 0.0


with_gradient.defvjp(
    lambda w, gradient: (with_gradient(w, gradient), gradient),
    lambda gradient, g: (g * gradient, jnp.zeros_like(gradient)),
)


def poisoned(hyper, params, key, batch):
    """The batch's loss, whose gradient is the batch's gradient."""
    return with_gradient(params["w"], batch["gradient"]) + batch["loss"], {}


@pytest.fixture(scope="module")
def sanitizing():
    return tiny.train_step(loss_fn=poisoned, optimizer=lambda: optax.sgd(1.0), sanitize=True)


def at_zero():
    return TrainState.create({"w": jnp.zeros(4)}, optax.sgd(1.0), jax.random.key(0))


def test_sanitized_gradients(sanitizing):
    """NaN is 0, infinity 1e5 of its sign; what was finite stays, however large."""
    gradient = jnp.array([jnp.nan, jnp.inf, -jnp.inf, 3e6])
    state, metrics = sanitizing(at_zero(), {"gradient": gradient, "loss": jnp.zeros([])})
    np.testing.assert_array_equal(state.params["w"], [0, -1e5, 1e5, -3e6])
    assert metrics["finite"] == 1 and metrics["bad_gradients"] == 3


def test_an_infinite_gradient_of_edm2_is_0():
    """NVlabs/edm2's training loop replaces all that is not finite by 0, NVlabs/edm's by 1e5."""
    options = dict(loss_fn=poisoned, optimizer=lambda: optax.sgd(1.0), sanitize=True)
    train_step = tiny.train_step(infinite_gradient=0.0, **options)
    gradient = jnp.array([jnp.nan, jnp.inf, -jnp.inf, 3e6])
    state, metrics = train_step(at_zero(), {"gradient": gradient, "loss": jnp.zeros([])})
    np.testing.assert_array_equal(state.params["w"], [0, 0, 0, -3e6])
    assert metrics["finite"] == 1 and metrics["bad_gradients"] == 3


def test_a_sanitized_step_still_refuses_a_loss_that_is_not_finite(sanitizing):
    batch = {"gradient": jnp.ones(4), "loss": jnp.asarray(jnp.nan)}
    state, metrics = sanitizing(at_zero(), batch)
    np.testing.assert_array_equal(state.params["w"], np.zeros(4))
    np.testing.assert_array_equal(state.ema_params["w"], np.zeros(4))
    assert metrics["finite"] == 0 and int(state.step) == 1


def test_a_sanitized_step_still_refuses_parameters_that_are_not_finite():
    options = dict(loss_fn=poisoned, optimizer=lambda: optax.sgd(1e35), sanitize=True)
    train_step = tiny.train_step(**options)
    batch = {"gradient": jnp.full(4, jnp.inf), "loss": jnp.zeros([])}
    state, metrics = train_step(at_zero(), batch)
    np.testing.assert_array_equal(state.params["w"], np.zeros(4))
    assert metrics["finite"] == 0 and np.isfinite(metrics["grad_norm"])


def test_the_learning_rate_that_is_reported_is_the_optimizers(train_step):
    """A refused step is no update: the optimizer goes on with the rate it would have used."""
    state, rates = start(), []
    for batch, _ in zip(tiny.Batches(poison={1}), range(3), strict=False):
        state, metrics = train_step(state, batch)
        rates.append(float(metrics["learning_rate"]))
    assert rates == [0.0, 0.5, 0.5]
