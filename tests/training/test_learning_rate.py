"""Learning rates: the published schedules, their ends, and what is refused.

The goldens in goldens/optimization.npz were made by running the reference's schedules (pix2seq,
TF 2.15 in float32) at the steps in `lr.steps`.
"""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.training.learning_rate import warmup_and_decay

GOLDENS = np.load(Path(__file__).parent / "goldens" / "optimization.npz")
RIN = {"warmup_steps": 10_000, "total_steps": 150_000}
PUBLISHED = {
    "cifar10_rin": (3e-3, dict(decay="cosine@0.8", **RIN)),
    "imagenet64_rin": (2e-3, dict(decay="cosine@0.7", **RIN)),
    "cosine": (1e-3, dict(decay="cosine", end_factor=0.1, **RIN)),
    "none": (1e-4, dict(decay="none", warmup_steps=5_000, total_steps=150_000)),
}


def by_formula(step, base, *, warmup_steps, total_steps, decay, end_factor=0.0):
    if step < warmup_steps:
        return base * step / warmup_steps
    if decay == "none":
        return base
    fraction = float(decay.partition("@")[2] or 1.0)
    angle = math.pi * fraction * (step - warmup_steps) / (total_steps - warmup_steps)
    return base * (end_factor + (1 - end_factor) * (1 + math.cos(angle)) / 2)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_schedules(name):
    base, options = PUBLISHED[name]
    steps = GOLDENS["lr.steps"]
    with jax.enable_x64(True):
        got = np.asarray(warmup_and_decay(base, **options)(jnp.asarray(steps)))
    assert got.dtype == np.float64
    np.testing.assert_allclose(
        got, [by_formula(s, base, **options) for s in steps.tolist()], rtol=1e-12
    )
    # The goldens are float32 numbers: half a unit in the last place of 1 + cos, which is 2 at most.
    np.testing.assert_allclose(got, GOLDENS[f"lr.{name}"], rtol=1e-7, atol=base * 1.2e-7)


@pytest.mark.parametrize("name", PUBLISHED)
def test_float32_is_as_good_as_the_reference(name):
    base, options = PUBLISHED[name]
    got = jax.jit(jax.vmap(warmup_and_decay(base, **options)))(GOLDENS["lr.steps"].astype(np.int32))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, GOLDENS[f"lr.{name}"], rtol=1e-6, atol=base * 2e-7)


def test_last_rate_is_kept_beyond_the_end():
    schedule = warmup_and_decay(1.0, total_steps=100, warmup_steps=10, decay="cosine@0.8")
    last = (1 + math.cos(0.8 * math.pi)) / 2
    np.testing.assert_allclose(schedule(jnp.array([100, 1000])), [last] * 2, rtol=1e-6)
    assert schedule(99) > last


def test_linear():
    schedule = warmup_and_decay(
        2.0, total_steps=110, warmup_steps=10, decay="linear", end_factor=0.5
    )
    np.testing.assert_allclose(
        schedule(jnp.array([0, 5, 10, 60, 110])), [0.0, 1.0, 2.0, 1.5, 1.0], rtol=1e-6
    )


def test_no_warmup_starts_at_the_base():
    assert warmup_and_decay(0.5, total_steps=10)(0) == 0.5
    assert warmup_and_decay(0.5, total_steps=10, decay="cosine")(jnp.int32(0)) == 0.5


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(decay="cosin"), "Did you mean 'cosine'"),
        (dict(decay="linear@0.5"), "unknown learning-rate decay"),
        (dict(decay="constant"), "unknown learning-rate decay"),
        (dict(decay="cosine@"), "the fraction in 'cosine@'"),
        (dict(decay="cosine@1.5"), "at most 1"),
        (dict(decay="cosine@x"), "must be a number"),
        (dict(end_factor=2.0), "end_factor must be between 0 and 1"),
        (dict(decay="linear", warmup_steps=10), "leave no step"),
        (dict(total_steps=0), "total_steps must be at least 1"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        warmup_and_decay(1.0, **{"total_steps": 10, **options})


def test_a_warm_up_counted_in_images_need_not_end_on_a_step():
    """EDM: base * min(images / ramp, 1) of the images before the step; 10 M images of batch 768."""
    steps = np.array([0, 1, 13_020, 13_021, 200_000])
    with jax.enable_x64(True):
        schedule = warmup_and_decay(1e-3, total_steps=300_000, warmup_steps=10e6 / 768)
        got = schedule(jnp.asarray(steps))
    np.testing.assert_allclose(got, 1e-3 * np.minimum(steps * 768 / 10e6, 1), rtol=1e-12)
    assert got[0] == 0 and got[2] < 1e-3 == got[3]


@pytest.mark.parametrize("warmup", [0, 4882.8125, 90_000])
def test_inverse_square_root(warmup):
    """EDM2: base / sqrt(max(images / (N batch), 1)) * min(images / ramp, 1); batch 2048, N 70,000."""
    steps = np.array([0, 1, 4_000, 69_999, 70_000, 280_000, 1_000_000])
    images = steps * 2048.0
    ramp = np.minimum(images / (warmup * 2048), 1) if warmup else 1
    expected = 0.01 / np.sqrt(np.maximum(images / (70_000 * 2048), 1)) * ramp
    options = dict(total_steps=1_000_000, warmup_steps=warmup, decay="inverse_sqrt@70000")
    with jax.enable_x64(True):
        got = jax.jit(warmup_and_decay(0.01, **options))(steps)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    if not warmup:
        assert float(got[5]) == pytest.approx(0.005)


@pytest.mark.parametrize(
    "decay", ["inverse_sqrt", "inverse_sqrt@", "inverse_sqrt@0", "inverse_sqrt@x"]
)
def test_inverse_square_root_needs_its_steps(decay):
    with pytest.raises(ValueError, match="number of steps in 'inverse_sqrt.*'inverse_sqrt@35000'"):
        warmup_and_decay(0.01, total_steps=100, decay=decay)
