"""Optimizers: the published LAMB, what it leaves out, and normalized filters.

The goldens in goldens/optimization.npz are three steps of the reference's LAMB (tensorflow-addons
0.23; rate 3e-3, decay 1e-2, epsilon 1e-8, bias, beta and gamma excluded).
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from noise_sched.training import optimizers

GOLDENS = np.load(Path(__file__).parent / "goldens" / "optimization.npz")


def one_update(optimizer, params, grads):
    @jax.jit
    def update(params, grads):
        return optimizer.update(grads, optimizer.init(params), params)[0]

    return update(params, grads)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def test_lamb_golden():
    optimizer = optimizers.lamb(3e-3)
    params = {"kernel": GOLDENS["lamb.kernel0"], "bias": GOLDENS["lamb.bias0"]}
    params = jax.tree.map(jnp.asarray, params)
    state = optimizer.init(params)
    for step in range(3):
        grads = {name: jnp.asarray(GOLDENS[f"lamb.grad_{name}"][step]) for name in params}
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        for name, got in params.items():
            np.testing.assert_allclose(got, GOLDENS[f"lamb.{name}{step + 1}"], atol=1e-6, rtol=1e-6)


def test_lamb_trust_ratio_sets_the_length_of_the_update():
    params = {"kernel": normal(0, 6, 5), "latents": normal(1, 4, 3), "pos_emb": normal(2, 7)}
    grads = jax.tree.map(lambda p: 100.0 * jnp.cos(p), params)
    updates = one_update(optimizers.lamb(0.01), params, grads)
    for name, update in updates.items():
        np.testing.assert_allclose(
            jnp.linalg.norm(update), 0.01 * jnp.linalg.norm(params[name]), rtol=1e-5
        )


@pytest.mark.parametrize("path", [("norm", "scale"), ("dense", "bias"), ("out_bias",)])
def test_lamb_excludes_biases_and_scales(path):
    leaf = {path[-1]: normal(0, 5)}
    params = {path[0]: leaf} if len(path) == 2 else leaf
    grads = jax.tree.map(jnp.sin, params)
    lamb = one_update(optimizers.lamb(0.01), params, grads)
    adam = one_update(optimizers.adam(0.01), params, grads)
    for a, b in zip(jax.tree.leaves(lamb), jax.tree.leaves(adam), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["kernel", "latents", "pos_emb", "embedding", "upscaled", "biases"]
)
def test_lamb_decays_everything_else(name):
    params = {name: normal(0, 4, 5)}
    grads = jax.tree.map(jnp.sin, params)
    with_decay = one_update(optimizers.lamb(0.01, weight_decay=0.5), params, grads)
    without = one_update(optimizers.lamb(0.01, weight_decay=0.0), params, grads)
    assert not np.allclose(with_decay[name], without[name])


def test_zero_norm_has_trust_ratio_one():
    params = {"kernel": jnp.zeros((3, 2))}
    grads = {"kernel": jnp.ones((3, 2))}
    updates = one_update(optimizers.lamb(0.01), params, grads)
    np.testing.assert_allclose(updates["kernel"], -0.01, rtol=1e-5)


def test_adamw_decays_kernels_only():
    params = {"dense": {"kernel": normal(0, 3, 3), "bias": normal(1, 3)}, "pos_emb": normal(2, 3)}
    grads = jax.tree.map(jnp.sin, params)
    decayed = one_update(optimizers.adamw(0.1, weight_decay=0.5), params, grads)
    plain = one_update(optimizers.adam(0.1), params, grads)
    np.testing.assert_allclose(decayed["dense"]["bias"], plain["dense"]["bias"])
    np.testing.assert_allclose(decayed["pos_emb"], plain["pos_emb"])
    np.testing.assert_allclose(
        decayed["dense"]["kernel"],
        plain["dense"]["kernel"] - 0.1 * 0.5 * params["dense"]["kernel"],
        rtol=1e-5,
    )


@pytest.mark.parametrize("make", [optimizers.adamw, optimizers.adam])
def test_clipping_to_a_global_norm(make):
    params = {"kernel": normal(0, 3, 3), "bias": normal(1, 3)}
    grads = {"kernel": jnp.full((3, 3), 4.0), "bias": jnp.full(3, 3.0)}
    # Two steps: Adam's first update does not depend on the gradient's scale.
    small = jax.tree.map(lambda g: 1e-3 * g, grads)

    def two(optimizer, first):
        state = optimizer.init(params)
        _, state = optimizer.update(first, state, params)
        return optimizer.update(small, state, params)[0]

    norm = optax.global_norm(grads)
    clipped = two(make(0.1, clip_norm=1.0), grads)
    by_hand = two(make(0.1), jax.tree.map(lambda g: g / norm, grads))
    for a, b in zip(jax.tree.leaves(clipped), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    with pytest.raises(ValueError, match="clip_norm must be above 0"):
        make(0.1, clip_norm=0.0)


# ---- forced weight normalization


def unit_filters(kernel):
    """Each output filter (all axes but the last) divided by its root mean square."""
    axes = tuple(range(kernel.ndim - 1))
    return kernel / jnp.sqrt(jnp.mean(kernel**2, axes, keepdims=True))


def test_filters_are_normalized_after_each_update():
    params = {"conv": {"kernel": normal(0, 3, 3, 4, 5)}, "gain": jnp.float32(0.5)}
    grads = jax.tree.map(jnp.cos, params)
    plain = optimizers.adam(0.3)
    forced = optimizers.normalize_weights(plain, unit_filters)
    expected = optax.apply_updates(params, one_update(plain, params, grads))
    got = optax.apply_updates(params, one_update(forced, params, grads))
    np.testing.assert_allclose(
        got["conv"]["kernel"], unit_filters(expected["conv"]["kernel"]), atol=1e-6
    )
    np.testing.assert_array_equal(got["gain"], expected["gain"])
    np.testing.assert_allclose(jnp.mean(got["conv"]["kernel"] ** 2, (0, 1, 2)), 1.0, rtol=1e-5)


def test_normalized_filters_turn_by_the_same_angle_at_every_step():
    """Steps across a filter lengthen it, so that later ones turn it less, unless it is normalized."""

    def angles(optimizer):
        params, turned = {"kernel": jnp.asarray([[1.0], [-1.0]])}, []
        for _ in range(20):
            old = params["kernel"]
            across = jnp.flip(old) * jnp.asarray([[1.0], [-1.0]]) / jnp.linalg.norm(old)
            updates, _ = optimizer.update({"kernel": across}, optimizer.init(params), params)
            params = optax.apply_updates(params, updates)
            new = params["kernel"]
            cosine = jnp.sum(old * new) / jnp.linalg.norm(old) / jnp.linalg.norm(new)
            turned.append(float(jnp.arccos(cosine)))
        return turned

    plain = angles(optax.sgd(0.5))
    forced = angles(optimizers.normalize_weights(optax.sgd(0.5), unit_filters))
    np.testing.assert_allclose(forced, np.arctan(0.5 / np.sqrt(2)), rtol=1e-4)
    assert plain[-1] < 0.6 * plain[0]
