"""Power-function averages: their shape, their digits, and any width from snapshots of two."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from noise_sched.training import loop, power_ema
from noise_sched.training.checkpoints import CheckpointMismatch, Checkpoints
from noise_sched.training.snapshots import Snapshots

STDS = (0.05, 0.1)
STEPS, EVERY = 300, 5


def trajectory(t):
    """Parameters of a run: a wave and a drift, in arrays of two shapes."""
    t = jnp.asarray(t, jnp.float32)
    wave, drift = jnp.sin(t / 40), jnp.sqrt(t) / 5
    return {"a": jnp.stack([wave, drift]), "b": {"c": wave - drift}}


def averages(stds):
    """The averages after each step, by float32 updates as in training: leaves [STEPS, ...]."""

    def step(state, t):
        state = power_ema.update(state, trajectory(t + 1), t)
        return state, state

    start = power_ema.arrange(jax.tree.map(jnp.zeros_like, trajectory(0)), stds)
    return jax.lax.scan(step, start, jnp.arange(STEPS))[1]


@pytest.fixture(scope="module")
def run():
    return jax.device_get(jax.jit(averages, static_argnums=0)((*STDS, 0.04, 0.075, 0.15)))


@pytest.fixture(scope="module")
def stored(run, tmp_path_factory):
    """The snapshots of a run that kept the two widths of STDS only."""
    directory = tmp_path_factory.mktemp("run") / "ema_snapshots"
    with Snapshots(directory) as snapshots:
        for step in range(EVERY, STEPS + 1, EVERY):
            kept = {power_ema.name(std): run[power_ema.name(std)] for std in STDS}
            snapshots.save(step, jax.tree.map(lambda leaf, s=step: leaf[s - 1], kept))
    return directory


def abstract():
    return jax.eval_shape(trajectory, 0.0)


# ---- the shape


@pytest.mark.parametrize(("std", "exponent"), [(0.05, 16.97), (0.1, 6.94)])
def test_published_exponents(std, exponent):
    """Of arXiv 2312.02696, section 3.1."""
    np.testing.assert_allclose(power_ema.exponent(std), exponent, atol=5e-3)


@pytest.mark.parametrize("std", [0.003, 0.01, 0.05, 0.1, 0.2, 0.288])
def test_width_and_exponent_are_inverse(std):
    np.testing.assert_allclose(power_ema.width(power_ema.exponent(std)), std, rtol=1e-9)


@pytest.mark.parametrize("std", [0.0, -0.1, 0.2887, 1.0])
def test_widths_that_no_average_has_are_refused(std):
    with pytest.raises(ValueError, match=f"above 0 and below 0.2887 .* got {std}; published"):
        power_ema.exponent(std)


@pytest.mark.parametrize("std", [0.05, 0.1, 0.25])
def test_the_average_has_the_relative_width(std):
    """Averaged, t and t^2 give mean and variance of the time that is remembered."""

    def step(state, t):
        now = t.astype(jnp.float32) + 1.0
        return power_ema.update(state, jnp.stack([now / 2000, (now / 2000) ** 2]), t), None

    start = power_ema.arrange(jnp.full(2, jnp.float32(1e9)), [std])  # nothing of it is to be left
    moments, _ = jax.jit(lambda: jax.lax.scan(step, start, jnp.arange(2000)))()
    mean, square = np.asarray(moments[power_ema.name(std)], np.float64)
    g = power_ema.exponent(std)
    np.testing.assert_allclose(mean, (g + 1) / (g + 2), rtol=1e-3)
    np.testing.assert_allclose(np.sqrt(square - mean**2), std, rtol=5e-3)


def test_late_updates_keep_their_digits():
    """After many steps an update's weight is (g + 1) / t, which 1 - b_t in float32 would lose."""
    moved = power_ema.update({"0.1": jnp.zeros(())}, jnp.ones(()), jnp.int32(10_000_000))
    g = power_ema.exponent(0.1)
    np.testing.assert_allclose(moved["0.1"], (g + 1) / 1e7, rtol=1e-5)


def test_several_averages_are_kept_by_name_and_one_is_chosen():
    assert power_ema.arrange("params", ()) == "params"
    kept = power_ema.arrange("params", STDS)
    assert kept == {"0.05": "params", "0.1": "params"}
    kept = {"0.05": 5, "0.1": 10}
    assert power_ema.choose("plain", ()) == "plain"
    assert [power_ema.choose(kept, STDS, std) for std in (0.0, 0.05, 0.1)] == [5, 5, 10]
    with pytest.raises(
        ValueError, match="no average of width 0.09: .* 0.05, 0.1; the nearest is 0.1"
    ):
        power_ema.choose(kept, STDS, 0.09)
    with pytest.raises(ValueError, match="a plain one only"):
        power_ema.choose("plain", (), 0.1)
    with pytest.raises(ValueError, match="each width once"):
        power_ema.arrange("params", (0.1, 0.1))


# ---- reconstruction


def test_inner_products_are_integrals_of_two_profiles():
    """Equation (5) against the trapezoidal rule."""
    steps, stds = np.asarray([100, 100, 70]), np.asarray([0.05, 0.1, 0.2])
    t = np.linspace(0, 100, 200_001)
    g = np.asarray([power_ema.exponent(std) for std in stds])[:, None]
    profiles = (
        np.where(t <= steps[:, None], (t / steps[:, None]) ** g, 0) * (g + 1) / steps[:, None]
    )
    expected = np.trapezoid(profiles[:, None] * profiles[None], t)
    got = power_ema.inner_products(steps, stds, steps, stds)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    np.testing.assert_array_equal(got, got.T)


@pytest.mark.parametrize("std", [0.04, 0.075, 0.15])
def test_coefficients_sum_to_one_before_they_are_made_to(std):
    """The wanted profile is nearly in the span of the stored ones; all have the integral 1."""
    steps = range(EVERY, STEPS + 1, EVERY)
    stored = np.repeat(steps, 2), np.tile(STDS, len(steps))
    wanted = power_ema.inner_products(*stored, np.asarray([STEPS]), np.asarray([std]))
    raw = np.linalg.solve(power_ema.inner_products(*stored, *stored), wanted)
    np.testing.assert_allclose(raw.sum(), 1.0, atol=1e-4)
    shares = power_ema.coefficients(steps, STDS, step=STEPS, std=std)
    np.testing.assert_allclose(shares.sum(), 1.0, rtol=1e-12)


@pytest.mark.parametrize("std", STDS)
@pytest.mark.parametrize("step", [EVERY, 200, STEPS])
def test_a_stored_average_is_reconstructed_as_itself(run, stored, std, step):
    with Snapshots(stored, read_only=True) as snapshots:
        at, params = snapshots.reconstruct(abstract(), STDS, std=std, step=step)
    assert at == step
    expected = jax.tree.map(lambda leaf: leaf[step - 1], run[power_ema.name(std)])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), params, expected)


@pytest.mark.parametrize(("std", "step"), [(0.04, None), (0.075, None), (0.075, 200), (0.15, None)])
def test_other_widths_are_what_would_have_been_averaged(run, stored, std, step):
    with Snapshots(stored, read_only=True) as snapshots:
        at, params = snapshots.reconstruct(abstract(), STDS, std=std, step=step)
    assert at == step or (step is None and at == STEPS)
    own = run[power_ema.name(std)]
    expected = jax.tree.map(lambda leaf: leaf[at - 1], own)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), params, expected)
    # Widths differ by far more than that.
    other = jax.tree.map(lambda leaf: leaf[at - 1], run["0.1"])
    assert np.abs(params["a"] - other["a"]).max() > 1e-2


def test_what_cannot_be_reconstructed(stored, tmp_path):
    with Snapshots(stored, read_only=True) as snapshots:
        with pytest.raises(
            ValueError, match="no snapshot of step 203 .* 5 to 300; the nearest is 205"
        ):
            snapshots.reconstruct(abstract(), STDS, std=0.07, step=203)
        with pytest.raises(ValueError, match="above 0 and below 0.2887"):
            snapshots.reconstruct(abstract(), STDS, std=0.3)
    with Snapshots(tmp_path / "none", read_only=True) as snapshots:
        with pytest.raises(ValueError, match="no snapshots in .*none: train with .*snapshot_every"):
            snapshots.reconstruct(abstract(), STDS, std=0.07)
    assert not (tmp_path / "none").exists()


def test_a_damaged_snapshot_is_named_and_can_be_moved_away(stored, tmp_path):
    directory = shutil.copytree(stored, tmp_path / "snapshots")
    shutil.rmtree(directory / "200" / "ema")
    shutil.copytree(directory / "195" / "ema", directory / "200" / "ema")  # sound, but another's
    with Snapshots(directory, read_only=True) as snapshots:
        with pytest.raises(
            ValueError, match="snapshot .*/200 is damaged .* array ema/0.05/a.* away"
        ):
            snapshots.reconstruct(abstract(), STDS, std=0.07)
    shutil.rmtree(directory / "200")
    with Snapshots(directory, read_only=True) as snapshots:
        assert snapshots.reconstruct(abstract(), STDS, std=0.07)[0] == STEPS


# ---- in a run


def fit(folder, steps, *, break_at=None):
    """Trains from the newest checkpoint, with two averages and a snapshot every two steps."""

    def keep(step, state):
        snapshots.save(step, state.ema_params)
        if step == break_at:
            raise InterruptedError

    start = tiny.init(jax.random.key(0), ema_stds=STDS)
    with Checkpoints(folder / "checkpoints") as saved, Snapshots(folder / "snapshots") as snapshots:
        restored, batches = saved.restore(tiny.abstract_state(ema_stds=STDS)), tiny.Batches()
        if restored is not None:
            start = restored.state
            batches.set_state(restored.data)
        return loop.fit(
            start,
            tiny.train_step(new_weight=None),
            batches,
            steps=steps,
            checkpoints=saved,
            checkpoint_every=3,
            hooks=[loop.Hook(2, keep)],
        )


def test_a_resumed_run_ends_with_the_same_averages_and_snapshots(tmp_path):
    whole = fit(tmp_path / "whole", 8)
    assert sorted(whole.state.ema_params) == ["0.05", "0.1"]
    with pytest.raises(InterruptedError):
        fit(tmp_path / "parts", 8, break_at=4)
    parts = fit(tmp_path / "parts", 8)  # from step 3, behind the snapshot of step 4
    tiny.assert_same(parts.state, whole.state)
    abstract = tiny.abstract_state(ema_stds=STDS).ema_params
    for step in (2, 4, 6, 8):
        kept = []
        for name in ("whole", "parts"):
            with Snapshots(tmp_path / name / "snapshots", read_only=True) as snapshots:
                assert snapshots.steps() == [2, 4, 6, 8]
                kept.append(snapshots.read(step, abstract))
        jax.tree.map(np.testing.assert_array_equal, *kept)


def test_a_checkpoint_of_other_averages_is_told_from_this_runs(tmp_path):
    fit(tmp_path, 1)
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as saved:
        with pytest.raises(CheckpointMismatch, match="0.05/dense/bias: .* absent wanted"):
            saved.restore(tiny.abstract_state())
