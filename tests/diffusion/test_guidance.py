"""Guidance and thresholding; rescaled guidance against diffusers' own numbers (goldens/README.md)."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.diffusion import guidance, parametrization, process, specs, thresholding
from noise_sched.diffusion.denoiser import Preconditioner
from noise_sched.diffusion.parametrization import from_x0

GOLDENS = np.load(pathlib.Path(__file__).parent / "goldens" / "diffusers_choices.npz")
SPACES = ["eps()", "x0()", "v()", "edm()", "flow()"]


def constant(kind, out):
    """A denoiser whose network says `out` whatever it sees."""
    return lambda x, level, memory: (kind.to_prediction(level, x, out), memory)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("w", ["1.5", "7.5", "15"])
@pytest.mark.parametrize("phi", ["0", "0.3", "0.7", "1"])
def test_rescaled_guidance(w, phi, space):
    with jax.enable_x64(True):
        kind = specs.build(space, "parametrization")
        cond, uncond = (jnp.asarray(GOLDENS[f"d/f64/{name}"]) for name in ("cond", "uncond"))
        level = process.vp().level(jnp.asarray([-2.0, 1.0]))
        x = jax.random.normal(jax.random.key(0), cond.shape)
        guide = guidance.cfg(float(w), rescale=float(phi), space=kind)
        found, _ = guide(constant(kind, cond), constant(kind, uncond))(x, level, ())
        out = kind.target(level, found.x0, found.eps)
        np.testing.assert_allclose(out, GOLDENS[f"d/f64/w{w}/phi{phi}"], rtol=1e-10, atol=1e-12)
        again = process.diffuse(level, found.x0, found.eps)
        np.testing.assert_allclose(again, x, rtol=1e-9, atol=1e-9)


def test_full_rescaling_keeps_the_spread_of_the_conditional_output_at_zero_snr():
    cond, uncond, x = jax.random.normal(jax.random.key(0), (3, 2, 4, 4, 1))
    level, kind = process.vp().level(jnp.full(2, -jnp.inf)), parametrization.v()
    guide = guidance.cfg(7.5, rescale=1.0)
    found, _ = guide(constant(kind, cond), constant(kind, uncond))(x, level, ())
    spread = lambda a: jnp.std(a, axis=(1, 2, 3))  # noqa: E731
    np.testing.assert_allclose(spread(found.x0), spread(cond), rtol=1e-5)


def test_rescaling_a_network_that_says_nothing_is_finite():
    """A fresh network's last layer is zero."""
    zero, level = jnp.zeros((2, 3)), process.vp().level(jnp.zeros(2))
    denoise = constant(parametrization.v(), zero)
    found, _ = guidance.cfg(3.0, rescale=0.7)(denoise, denoise)(zero, level, ())
    assert jnp.isfinite(found.x0).all()


def test_rescale_may_be_traced():
    cond, uncond, x = jax.random.normal(jax.random.key(0), (3, 2, 8))
    level, kind = process.vp().level(jnp.zeros(2)), parametrization.v()

    def x0(phi):
        guide = guidance.cfg(3.0, rescale=phi)
        return guide(constant(kind, cond), constant(kind, uncond))(x, level, ())[0].x0

    np.testing.assert_allclose(jax.jit(x0)(jnp.asarray(0.0)), x0(0.0), atol=1e-6)


def test_interval_guides_inside_only():
    cond, uncond, x = jax.random.normal(jax.random.key(0), (3, 4, 5))
    sigma = jnp.asarray([0.1, 0.2, 1.0, 5.1])  # (low, high]: only the third is inside
    level, kind = process.ve().level(-2 * jnp.log(sigma)), parametrization.x0()
    guide = guidance.interval(guidance.cfg(3.0), 0.21, 5.0)
    found, memory = guide(constant(kind, cond), constant(kind, uncond))(x, level, "kept")
    expected = cond.at[2].set(uncond[2] + 3.0 * (cond[2] - uncond[2]))
    np.testing.assert_allclose(found.x0, expected, rtol=1e-5)
    assert memory == "kept"


def test_interval_counts_zero_snr_as_infinite_noise():
    cond, uncond, x = jax.random.normal(jax.random.key(0), (3, 1, 5))
    level, kind = process.vp().level(jnp.asarray([-jnp.inf])), parametrization.x0()
    two = (constant(kind, cond), constant(kind, uncond))
    closed = guidance.interval(guidance.cfg(3.0), 0.2, 5.0)(*two)(x, level, ())[0]
    np.testing.assert_array_equal(closed.x0, cond)
    opened = guidance.interval(guidance.cfg(3.0), 0.2)(*two)(x, level, ())[0]
    np.testing.assert_allclose(opened.x0, uncond + 3.0 * (cond - uncond), rtol=1e-5)


def test_interval_does_not_run_the_other_network_outside():
    runs = []

    def other(x, level, memory):
        jax.debug.callback(lambda: runs.append(1))
        return from_x0(level, x, x), memory

    guide = jax.jit(
        lambda x, logsnr: guidance.interval(guidance.cfg(3.0), 0.2, 5.0)(other_free, other)(
            x, process.vp().level(logsnr), ()
        )[0]
    )
    other_free = lambda x, level, memory: (from_x0(level, x, 2 * x), memory)  # noqa: E731
    guide(jnp.ones((2, 3)), jnp.full(2, 9.0))
    jax.effects_barrier()
    assert not runs
    guide(jnp.ones((2, 3)), jnp.full(2, 0.0))
    jax.effects_barrier()
    assert runs


def counting(kind, scale, seen):
    """A network whose memory [batch, 1] counts its calls, in units of `scale`; notes what it reads."""

    def denoise(x, level, memory):
        seen.append(np.asarray(memory).ravel().tolist())
        return kind.to_prediction(level, x, scale * jnp.ones_like(x)), memory + scale

    return denoise


def walk(guide, logsnrs, first, *others):
    """Calls a guided denoiser once at each of the levels [batch]; returns what each of the two has read."""
    kind, own, away = parametrization.x0(), [], []
    denoise = guide(counting(kind, 1.0, own), counting(kind, 10.0, away))
    memory = guide.memory(first, *others)
    for logsnr in logsnrs:
        level = process.vp().level(jnp.asarray(logsnr))
        _, memory = denoise(jnp.ones((len(logsnr), 3)), level, memory)
    return own, away, memory


def test_two_networks_keep_a_memory_each_and_one_network_has_one():
    zero, five = jnp.zeros((1, 1)), jnp.full((1, 1), 5.0)
    own, away, memory = walk(guidance.autoguide(2.0), [[0.0]] * 3, zero, five)
    assert own == [[0.0], [1.0], [2.0]] and away == [[5.0], [15.0], [25.0]]
    assert [float(each[0, 0]) for each in memory] == [3.0, 35.0]
    # cfg asks one network twice: what the conditional branch wrote is what both read.
    own, away, memory = walk(guidance.cfg(2.0), [[0.0]] * 3, zero, zero)
    assert own == away == [[0.0], [1.0], [2.0]] and float(memory[0, 0]) == 3.0


def test_memories_of_different_shapes_and_of_none():
    guide, kind = guidance.autoguide(2.0), parametrization.x0()
    level, x = process.vp().level(jnp.zeros(1)), jnp.ones((1, 3))
    with_memory = counting(kind, 1.0, [])
    without = constant(kind, x)
    first = guide.memory(jnp.zeros((1, 2, 3)), ())
    _, (own, others) = guide(with_memory, without)(x, level, first)
    assert own.shape == (1, 2, 3) and others == ()
    assert guide.memory((), ()) == () and guide(without, without)(x, level, ())[1] == ()
    # w = 1 calls one network only, and keeps one memory.
    assert guidance.autoguide(1).memory("own", "guide") == "own"


def test_a_guides_memory_rests_outside_the_interval():
    inside, outside = 0.0, 9.0  # sigma / alpha = 1 and 0.01
    guide = guidance.interval(guidance.autoguide(2.0), 0.2, 5.0)
    zero = jnp.zeros((2, 1))
    path = [[outside, inside], [inside, inside], [outside, outside], [inside, outside]]
    kind = parametrization.x0()
    denoise = jax.jit(
        guide(
            lambda x, level, m: (from_x0(level, x, x), m + 1.0),
            lambda x, level, m: (kind.to_prediction(level, x, x), m + 10.0),
        )
    )
    memory, found = guide.memory(zero, zero), []
    for logsnr in path:
        _, memory = denoise(jnp.ones((2, 3)), process.vp().level(jnp.asarray(logsnr)), memory)
        found.append(np.asarray(memory[1]).ravel().tolist())
    assert found == [[0.0, 10.0], [10.0, 20.0], [10.0, 20.0], [20.0, 20.0]]
    np.testing.assert_array_equal(memory[0], jnp.full((2, 1), 4.0))


def test_a_guide_with_another_parametrization_and_input_scale():
    """Each network has its own two ends: the combination is of x0 and eps, whatever they put out."""
    level, x = process.vp(0.5).level(jnp.asarray([0.3])), jnp.asarray([[0.2, -0.7, 1.1]])
    conditioning = specs.build("angle()", "conditioning")
    ends = [("v()", "none()"), ("edm(0.5)", "analytic(0.5)")]
    made = [
        Preconditioner(
            specs.build(kind, "parametrization"), specs.build(scale, "input_scale"), conditioning
        )
        for kind, scale in ends
    ]
    wanted, away = (jnp.sin(k * x) for k in (1, 2))  # the two x0

    def network(preconditioner, x0):
        """Puts out what its parametrization calls `x0`, and checks what it sees."""

        def call(seen, noise_cond, memory):
            np.testing.assert_allclose(seen, preconditioner.input_scale(level, x), rtol=1e-6)
            both = from_x0(level, x, x0)
            return preconditioner.parametrization.target(level, both.x0, both.eps), memory

        return preconditioner.denoise(call)

    denoise = guidance.autoguide(2.0)(network(made[0], wanted), network(made[1], away))
    found, _ = denoise(x, level, ())
    np.testing.assert_allclose(found.x0, away + 2.0 * (wanted - away), rtol=1e-5)
    np.testing.assert_allclose(process.diffuse(level, found.x0, found.eps), x, rtol=1e-5)


def test_intervals_are_not_nested():
    with pytest.raises(ValueError, match="not another interval.*narrower low and high"):
        guidance.interval(guidance.interval(guidance.cfg(2.0), 0.1), 0.2)


def test_what_the_other_denoiser_is():
    assert guidance.cfg().other == "unlabelled"
    assert guidance.autoguide().other == "weights"
    assert guidance.interval(guidance.autoguide(), 0.1).other == "weights"
    assert guidance.none().other == "none"


def test_autoguidance_pushes_away_from_the_worse_network():
    good, bad, x = jax.random.normal(jax.random.key(0), (3, 2, 5))
    level, kind = process.ve().level(jnp.zeros(2)), parametrization.x0()
    found, _ = guidance.autoguide(2.0)(constant(kind, good), constant(kind, bad))(x, level, ())
    np.testing.assert_allclose(found.x0, bad + 2 * (good - bad), rtol=1e-5)


def test_dynamic_thresholding():
    level = process.vp().level(jnp.zeros(2))
    x = jnp.ones((2, 4))
    x0 = jnp.asarray([[0.1, -0.4, 0.8, 0.9], [1.0, -2.0, 3.0, 4.0]])
    denoise = constant(parametrization.x0(), x0)
    found, _ = thresholding.dynamic(1.0)(denoise)(x, level, ())
    np.testing.assert_allclose(found.x0, x0 / jnp.asarray([[1.0], [4.0]]), rtol=1e-6)
    np.testing.assert_allclose(process.diffuse(level, found.x0, found.eps), x, rtol=1e-5)
    median, _ = thresholding.dynamic(0.5)(denoise)(x, level, ())
    np.testing.assert_allclose(median.x0[1], [0.4, -0.8, 1.0, 1.0], rtol=1e-6)
    limited, _ = thresholding.dynamic(1.0, maximum=1.0)(denoise)(x, level, ())
    static, _ = thresholding.static()(denoise)(x, level, ())
    np.testing.assert_allclose(limited.x0, static.x0, rtol=1e-6)


def guided_x0(guide, wanted, other, level, x=None):
    x = jnp.zeros_like(wanted) if x is None else x
    kind = parametrization.x0()
    found, _ = guide(constant(kind, wanted), constant(kind, other))(x, level, ())
    return found


@pytest.fixture(scope="module")
def pair():
    """x_t, and x0 by a wanted and by another denoiser: [3, 4, 4, 1]."""
    return jax.random.normal(jax.random.key(5), (3, 3, 4, 4, 1))


def inner(a, b):
    return np.einsum("nhwc,nhwc->n", np.asarray(a), np.asarray(b))


def test_projected_guidance_is_cfg_where_nothing_is_taken_away(pair):
    x, wanted, other = pair
    level = process.vp().level(jnp.asarray([-3.0, 0.0, 2.0]))
    found = guided_x0(guidance.apg(4.0, eta=1.0), wanted, other, level, x)
    expected = guided_x0(guidance.cfg(4.0), wanted, other, level, x)
    np.testing.assert_allclose(found.x0, expected.x0, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.eps, expected.eps, rtol=1e-4, atol=1e-4)


def test_projected_guidance_pushes_at_right_angles_and_no_further_than_norm(pair):
    x, wanted, other = pair
    level = process.vp().level(jnp.asarray([-jnp.inf, 0.0, 2.0]))
    found = guided_x0(guidance.apg(4.0, norm=0.5), wanted, other, level, x)
    push = found.x0 - wanted
    np.testing.assert_allclose(inner(push, wanted), 0, atol=1e-4)
    assert (np.sqrt(inner(push, push)) <= 3.0 * 0.5 + 1e-5).all()
    np.testing.assert_allclose(process.diffuse(level, found.x0, found.eps), x, atol=1e-5)
    small = guided_x0(guidance.apg(4.0, eta=1.0, norm=100.0), wanted, other, level, x)
    np.testing.assert_allclose(small.x0, other + 4 * (wanted - other), atol=1e-5)
    assert jnp.isfinite(guided_x0(guidance.apg(3.0), 0 * wanted, other, level).x0).all()


@pytest.mark.parametrize("space", SPACES)
def test_cfg_zero_star_does_nothing_where_both_agree_up_to_a_factor(pair, space):
    x, wanted, other = pair
    level, kind = (
        process.vp().level(jnp.asarray([-3.0, 0.0, 2.0])),
        specs.build(space, "parametrization"),
    )
    guide = guidance.cfg_zero_star(5.0, space=kind)
    found, _ = guide(constant(kind, wanted), constant(kind, wanted / 3))(x, level, ())
    np.testing.assert_allclose(
        kind.target(level, found.x0, found.eps), wanted, rtol=1e-4, atol=1e-4
    )
    # What is added is at right angles to the scaled other output.
    found, _ = guide(constant(kind, wanted), constant(kind, other))(x, level, ())
    push = kind.target(level, found.x0, found.eps) - wanted
    np.testing.assert_allclose(inner(push, other), 0, atol=2e-3)
    assert (inner(push, push) > 1).all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("apg(-1)", "apg.w. must be non-negative"),
        ("apg(2, eta=-1)", "apg.eta. must be non-negative"),
        ("apg(2, norm=0)", "apg.norm. must be positive"),
        ("cfg_zero_star(-2)", "cfg_zero_star.w. must be non-negative"),
    ],
)
def test_what_the_newer_guidances_refuse(spec, message):
    with pytest.raises(ValueError, match=message):
        specs.build(spec, "guidance")


@pytest.mark.parametrize("spec", ["apg(2, norm=1)", "cfg_zero_star(2)"])
def test_the_newer_guidances_work_in_an_interval(pair, spec):
    x, wanted, other = pair
    level, kind = (
        process.ve().level(-2 * jnp.log(jnp.asarray([0.1, 1.0, 9.0]))),
        parametrization.x0(),
    )
    guide = specs.build(f"interval({spec}, 0.5, 5)", "guidance")
    found, _ = guide(constant(kind, wanted), constant(kind, other))(x, level, ())
    inside = specs.build(spec, "guidance")
    expected, _ = inside(constant(kind, wanted), constant(kind, other))(x, level, ())
    np.testing.assert_allclose(found.x0[1], expected.x0[1], rtol=1e-5)
    np.testing.assert_array_equal(found.x0[np.array([0, 2])], wanted[np.array([0, 2])])
