"""The augmentation against its published code, its table, and what it promises.

goldens/augment.npz was made with NVlabs/edm's pipeline (commit 008a4e53) on torch 2.13: images, every
draw, results. `p012`: 8 images of 32x32, probability 0.12, these six distortions. `p1`: 8 of 16x16,
probability 1, with all its distortions on; the quarter turns and whole-pixel shifts, which it does before
these, have been done to `in`, and the colour ones come after, an affine map of each pixel's colour.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.data import augment

GOLDENS = np.load(pathlib.Path(__file__).parent / "goldens" / "augment.npz")
NOTHING = augment.Draws(*jnp.zeros((8, 8)), gates=jnp.zeros((8, 7)))  # all on, all 0


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(0), (8, 16, 16, 3))


def golden(name):
    draws = augment.Draws(*(jnp.asarray(GOLDENS[f"{name}_{f}"]) for f in augment.Draws._fields))
    return jnp.asarray(GOLDENS[f"{name}_in"]), draws, GOLDENS[f"{name}_out"]


def only(**values):
    return NOTHING._replace(**{name: jnp.full(8, value) for name, value in values.items()})


def test_published_images_at_the_published_probability():
    before, draws, after = golden("p012")
    found, labels = augment.apply(before, draws, 0.12)
    np.testing.assert_allclose(found, after, atol=1e-5)
    np.testing.assert_allclose(labels, GOLDENS["p012_labels"], atol=1e-6)


def test_published_images_with_every_distortion_at_once():
    before, draws, after = golden("p1")
    found, labels = augment.apply(before, draws, 1.0)
    np.testing.assert_allclose(labels, GOLDENS["p1_labels"], atol=1e-6)
    for ours, theirs in zip(np.asarray(found, float), after, strict=True):
        pixels = np.append(ours.reshape(-1, 3), np.ones((256, 1)), axis=1)
        colour, *_ = np.linalg.lstsq(pixels, theirs.reshape(-1, 3))  # 12 numbers for 768
        np.testing.assert_allclose(pixels @ colour, theirs.reshape(-1, 3), atol=1e-5)


def test_nothing_happens_at_probability_0(images):
    found, labels = augment.apply(images, augment.draw(jax.random.key(1), 8), 0.0)
    np.testing.assert_array_equal(found, images)
    assert not labels.any()


@pytest.mark.parametrize(("flip", "axis", "entry"), [("flip_x", 2, 0), ("flip_y", 1, 1)])
def test_flips_move_pixels(images, flip, axis, entry):
    """Exactly, where nothing else is on; the x-flip also where y-flips are improbable."""
    draws = only(**{flip: 1.0})._replace(gates=jnp.ones((8, 7)).at[:, entry].set(0.0))
    probability = 1e-3 if flip == "flip_x" else 0.5
    found, labels = augment.apply(images, draws, probability)
    np.testing.assert_array_equal(found, jnp.flip(images, axis))
    np.testing.assert_array_equal(labels, jax.nn.one_hot(jnp.full(8, entry), 9))


def test_a_map_that_does_nothing_reconstructs(images):
    found, labels = augment.apply(images, NOTHING, 1.0)
    np.testing.assert_allclose(found, images, atol=1e-5)
    assert not labels.any()


def test_whole_pixels_are_shifted_as_they_are(images):
    """+2 pixels to the right, 3 up; what enters is mirrored, the edge itself not repeated."""
    found, labels = augment.apply(images, only(shift_x=2 / 2, shift_y=-3 / 2), 1.0)
    rolled = jnp.roll(images, (-3, 2), axis=(1, 2))
    np.testing.assert_allclose(found[:, :-3, 2:], rolled[:, :-3, 2:], atol=1e-5)
    np.testing.assert_allclose(found[:, :-3, :2], images[:, 3:, 2:0:-1], atol=1e-5)
    np.testing.assert_allclose(labels[0], [0, 0, 0, 0, 0, 0, 0, 1, -1.5])


def test_a_smooth_picture_lands_where_the_table_says():
    """A blob and the inverse of the operations, one after the other, in the coordinates of the centre."""
    a = dict(scale=-0.8, rotation=0.7, stretch=1.1, stretch_angle=0.4, shift_x=0.6, shift_y=-0.4)
    turn = lambda t: np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    stretch = np.diag([2 ** (a["stretch"] / 5), 2 ** (-a["stretch"] / 5)])
    forward = turn(-0.4) @ stretch @ turn(0.4) @ turn(-0.7) * 2 ** (a["scale"] / 5)
    grid = np.arange(16) - 7.5
    at = np.stack(np.meshgrid(grid, grid), axis=-1)  # (x, y) of each pixel
    blob = lambda at: np.exp(-((at[..., 0] - 2) ** 2 / 18 + (at[..., 1] + 1) ** 2 / 30))
    before = jnp.asarray(np.tile(blob(at)[None, :, :, None], (8, 1, 1, 3)), jnp.float32)
    found, labels = augment.apply(before, only(**a), 1.0)
    sources = (at - [2 * 0.6, 2 * -0.4]) @ np.linalg.inv(forward).T
    inside = np.abs(sources).max(axis=-1) < 7.5  # the mirror image lies beyond
    assert inside.sum() > 100
    np.testing.assert_allclose(found[0, ..., 0][inside], blob(sources)[inside], atol=0.03)
    expected = [0, 0, -0.8, np.cos(0.7) - 1, np.sin(0.7), 1.1 * np.cos(0.4), 1.1 * np.sin(0.4)]
    np.testing.assert_allclose(labels[0], [*expected, 0.6, -0.4], rtol=1e-6)


def test_the_filter_is_the_orthogonal_symlet():
    h = np.array(augment.SYMLET)
    for lag in range(1, 6):
        assert abs(h[2 * lag :] @ h[: -2 * lag]) < 1e-11
    assert h @ h == pytest.approx(1, abs=1e-11) and h.sum() == pytest.approx(2**0.5)
    alternating = h * (-1.0) ** np.arange(12)
    moments = [(alternating * np.linspace(-1, 1, 12) ** n).sum() for n in range(6)]
    np.testing.assert_allclose(moments, 0, atol=1e-9)


def test_draws_have_their_distributions():
    draws = augment.draw(jax.random.key(3), 20_000)
    for flip in (draws.flip_x, draws.flip_y):
        assert set(np.unique(flip)) == {0.0, 1.0} and abs(float(flip.mean()) - 0.5) < 0.02
    for normal in (draws.scale, draws.stretch, draws.shift_x, draws.shift_y):
        assert abs(float(normal.mean())) < 0.03 and abs(float(normal.std()) - 1) < 0.03
    for angle in (draws.rotation, draws.stretch_angle):
        np.testing.assert_allclose(np.quantile(angle, [0, 0.25, 1]), [-3.14, -1.57, 3.14], atol=0.1)
    np.testing.assert_allclose(jnp.quantile(draws.gates, 0.12, axis=0), 0.12, atol=0.01)
    columns = np.column_stack([np.asarray(field) for field in draws])
    np.testing.assert_allclose(np.corrcoef(columns.T), np.eye(15), atol=0.04)


def test_the_shares_of_images_that_are_distorted(images):
    draws = augment.draw(jax.random.key(3), 20_000)
    done, moved = augment._gated(draws, jnp.float32(0.12))
    on = [float((getattr(done, f) != 0).mean()) for f in ("flip_x", "flip_y", "scale", "shift_x")]
    np.testing.assert_allclose(on, [0.5, 0.06, 0.12, 0.12], atol=0.01)
    assert float(moved.mean()) == pytest.approx(1 - 0.88**4, abs=0.01)
    assert float((done.stretch_angle != 0).mean()) == pytest.approx(0.5, abs=0.01)


def test_an_image_depends_on_its_own_draws_alone(images):
    key = jax.random.key(7)
    draws, more = augment.draw(key, 8), augment.draw(key, 9)
    jax.tree.map(lambda few, many: np.testing.assert_array_equal(few, many[:8]), draws, more)
    found, labels = augment.apply(images, draws, 1.0)
    changed = jax.tree.map(lambda a: a.at[3].set(0.1), draws)
    again, labels_again = augment.apply(images.at[5].set(0.0), changed, 1.0)
    others = np.array([0, 1, 2, 4, 6, 7])
    np.testing.assert_array_equal(found[others], again[others])
    np.testing.assert_array_equal(labels[others], labels_again[others])
    assert (found[3] != again[3]).any() and (labels[3] != labels_again[3]).any()


def test_gradients_reach_image_and_draws_and_are_finite(images):
    """Also where nothing is done, as without augmentation; and under vmap over sets of draws."""

    def loss(images, draws, probability):
        return jnp.sum(augment.apply(images, draws, probability)[0] ** 2)

    draws = augment.draw(jax.random.key(2), 8)
    gradient = jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1)), in_axes=(None, None, 0)))
    of_images, of_draws = gradient(images, draws, jnp.array([0.0, 1.0]))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((of_images, of_draws)))
    np.testing.assert_allclose(of_images[0], 2 * images, rtol=1e-6)
    assert bool((of_draws.rotation[1] != 0).all()) and not of_draws.rotation[0].any()


def products(jaxpr):
    """Every matrix product of a program, those of the programs inside it too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for inner in jax.core.jaxprs_in_params(equation.params):
            yield from products(inner)


def test_no_product_takes_an_accelerators_default_precision(images):
    """By default these multiply in bfloat16, which moves the corners by half a pixel."""
    jaxpr = jax.make_jaxpr(augment.apply)(images, augment.draw(jax.random.key(0), 8), 1.0).jaxpr
    found = [equation.params["precision"] for equation in products(jaxpr)]
    highest = (jax.lax.Precision.HIGHEST,) * 2
    assert len(found) == 7 and set(found) == {highest}  # four filters; three of the affine map
