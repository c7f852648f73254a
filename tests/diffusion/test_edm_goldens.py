"""EDM's samplers, replayed from the reference implementation's own numbers (see goldens/README.md).

Levels are made from the recorded noise levels, so that nothing but the solvers is tested here.
"""

import functools
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixtures import mixture

from noise_sched.diffusion import clocks, solvers
from noise_sched.diffusion.process import NoiseLevel
from noise_sched.diffusion.sampling import sample

GOLDENS = np.load(pathlib.Path(__file__).parent / "goldens" / "edm_samplers.npz")
# The default ranges of sigma of each discretization, to which the VP schedule is fitted.
RANGES = {"vp": None, "ve": (0.02, 100), "iddpm": (0.002, 81), "edm": (0.002, 80)}


pytestmark = pytest.mark.usefixtures("float64")


def golden(name):
    return jnp.asarray(GOLDENS[name], jnp.float64)


def names(pattern):
    return sorted({m.group(1) for m in (re.fullmatch(pattern, k) for k in GOLDENS) if m})


def path(sigmas, frame="none"):
    """A path of the recorded sigma / alpha in EDM's s(t): "none" is VE, "vp" is VP."""
    sigmas = jnp.asarray(sigmas)
    alpha = 1 / jnp.sqrt(1 + sigmas**2) if frame == "vp" else jnp.ones_like(sigmas)
    return NoiseLevel(alpha, alpha * sigmas)


def recording(denoise, calls):
    """Keeps each call's sigma / alpha and x in the denoiser's memory."""

    def recorded(x, level, memory):
        count, sigmas, xs = memory
        prediction, _ = denoise(x, level, ())
        sigmas = sigmas.at[count].set(level.sigma[0] / level.alpha[0])
        return prediction, (count + 1, sigmas, xs.at[count].set(x))

    return recorded, lambda x: (0, jnp.zeros(calls), jnp.zeros((calls, *x.shape)))


@functools.partial(jax.jit, static_argnames="calls")
def run(solver, levels, x_T, noise, calls):
    """(final state, sigmas of the calls, x of the calls)."""
    denoise = mixture(golden("gm_means"), jnp.full(5, golden("gm_std")))
    recorded, memory = recording(denoise, calls)

    # The records leave the scan in the noise's place: as the memory that the denoiser is given back.
    def step(state, inputs):
        level, next_level, z = inputs
        grow = lambda path: path.map(lambda f: jnp.broadcast_to(f, x_T.shape[:1]))
        state, _ = solver.step(recorded, state, grow(level), grow(next_level), z)
        return state, None

    steps = levels.alpha.shape[0] - 1
    noise = jnp.zeros((steps, *x_T.shape)) if noise is None else noise
    start = solvers.State(x_T, memory(x_T), solver.init(x_T, levels))
    pairs = (levels.map(lambda f: f[:-1]), levels.map(lambda f: f[1:]), noise)
    state, _ = jax.lax.scan(step, start, pairs)
    return state.x, state.memory[1], state.memory[2]


def _direction(level):
    norm = jnp.sqrt(level.alpha**2 + level.sigma**2)
    return level.alpha / norm, level.sigma / norm


def close(found, expected, rtol=1e-10):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * scale)


def test_the_mixture_denoiser_is_the_reference_one():
    sigmas = golden("den_sigma")
    denoise = mixture(golden("gm_means"), jnp.full(5, golden("gm_std")))
    prediction, _ = denoise(golden("den_x"), NoiseLevel(jnp.ones_like(sigmas), sigmas), ())
    close(prediction.x0, GOLDENS["den_D"], 1e-12)


@pytest.mark.parametrize("name", names(r"(a_(?:edm|iddpmnet_edm)_N\d+)_x0"))
def test_deterministic(name):
    sigmas = golden(f"{name}_t")
    calls = 2 * len(sigmas) - 3
    x0, call_sigmas, xs = run(
        solvers.heun(), path(sigmas), sigmas[0] * golden("latents"), None, calls
    )
    close(x0, GOLDENS[f"{name}_x0"])
    if f"{name}_call_sigmas" in GOLDENS:
        close(call_sigmas, GOLDENS[f"{name}_call_sigmas"], 1e-13)
    if f"{name}_call_x" in GOLDENS:
        close(xs, GOLDENS[f"{name}_call_x"])


def test_sample_returns_the_same_images():
    sigmas, x_T = golden("a_edm_N18_t"), 80 * golden("latents")
    denoise = mixture(golden("gm_means"), jnp.full(5, golden("gm_std")))
    x0 = sample(jax.random.key(0), denoise, solvers.heun(), path(sigmas), x_T)
    close(x0, GOLDENS["a_edm_N18_x0"])


@pytest.mark.parametrize("frame", ["none", "vp"])
@pytest.mark.parametrize("name", names(r"(b_churn40_N\d+)_x0"))
def test_stochastic(name, frame):
    """Algorithm 2; and the same images from a path in the VP frame, churned levels included."""
    levels = path(golden(f"{name}_t"), frame)
    steps = len(GOLDENS[f"{name}_t"]) - 1
    solver = solvers.heun(churn=40, s_tmin=0.05, s_tmax=50, s_noise=1.003)
    x_T = levels.sigma[0] * golden("latents")
    x0, call_sigmas, _ = run(solver, levels, x_T, golden(f"{name}_noise"), 2 * steps - 1)
    close(x0, GOLDENS[f"{name}_x0"])
    close(call_sigmas, GOLDENS[f"{name}_call_sigmas"], 1e-12)
    gamma = np.asarray(call_sigmas)[::2] / GOLDENS[f"{name}_t"][:-1] - 1
    np.testing.assert_allclose(gamma, GOLDENS[f"{name}_gamma"], atol=1e-12)


def clock_of(discretization, schedule):
    """EDM's sigma(t): "linear" is t, "ve" sqrt(t), "vp" the one fitted to the range of sigma."""
    if schedule != "vp":
        return {"linear": clocks.by_sigma(), "ve": clocks.by_variance()}[schedule]
    if RANGES[discretization] is None:
        return clocks.by_beta(19.9, 0.1)
    (low, high), first = RANGES[discretization], 1e-3
    low, high = math.log1p(low**2), math.log1p(high**2)
    beta_d = 2 * (low / first - high) / (first - 1)
    return clocks.by_beta(beta_d, high - beta_d / 2)


def solver_of(kind, name, **fields):
    discretization, schedule, scaling = name.split("_")
    frame = {"none": "ve", "vp": "vp"}[scaling]
    return kind(clock=clock_of(discretization, schedule), frame=frame, **fields)


def check_ablation(prefix, name, solver, calls, noise=None):
    scaling = name.split("_")[-1]
    sigmas = jnp.append(golden(f"{prefix}_sigma"), 0.0)
    levels, x_T = path(sigmas, scaling), golden(f"{prefix}_xT")
    x0, call_sigmas, _ = run(solver, levels, x_T, noise, calls)
    rough = "iddpm_ve" in name  # ill-conditioned in the reference itself
    close(x0, GOLDENS[f"{prefix}_x0"], 1e-6 if rough else 1e-10)
    readings = solver.time(levels)
    close(readings, GOLDENS[f"{prefix}_t"], 1e-6 if rough else 1e-10)
    return call_sigmas


@pytest.mark.parametrize("name", names(r"c_euler_(.*)_x0"))
def test_euler_in_every_clock_and_frame(name):
    call_sigmas = check_ablation(f"c_euler_{name}", name, solver_of(solvers.euler, name), 18)
    close(call_sigmas, GOLDENS[f"c_euler_{name}_sigma"], 1e-12)


@pytest.mark.parametrize("name", names(r"c_heun_(.*)_x0"))
def test_heun_in_every_clock_and_frame(name):
    call_sigmas = check_ablation(f"c_heun_{name}", name, solver_of(solvers.heun, name), 35)
    close(call_sigmas[::2], GOLDENS[f"c_heun_{name}_sigma"], 1e-12)


@pytest.mark.parametrize("name", names(r"cx_alpha(.*)_x0"))
def test_second_order_family(name):
    stage, _, combination = name.partition("_")
    stage = {"0.5000": 0.5, "0.6667": 2 / 3}[stage]
    solver = solver_of(solvers.heun, combination, stage=stage)
    check_ablation(f"cx_alpha{name}", combination, solver, 35)


@pytest.mark.parametrize("name", names(r"cx_iddpmnet_(.*)_x0"))
def test_rounded_levels(name):
    """With the sigma = t of these cases, the times are the noise levels after rounding."""
    kind, _, combination = name.partition("_")
    kind, calls = {"euler": (solvers.euler, 18), "heun": (solvers.heun, 35)}[kind]
    levels, x_T = path(golden(f"cx_iddpmnet_{name}_t")), golden(f"cx_iddpmnet_{name}_xT")
    x0, _, _ = run(solver_of(kind, combination), levels, x_T, None, calls)
    close(x0, GOLDENS[f"cx_iddpmnet_{name}_x0"])


@pytest.mark.parametrize("frame", ["none", "vp"])
@pytest.mark.parametrize("name", ["edm_vp_vp", "edm_vp_none", "edm_ve_none", "edm_linear_vp"])
def test_churn_in_every_clock_and_frame(name, frame):
    """Karras et al. 2022, Algorithm 2 in general clocks and frames, written out with its divisions."""
    fields = dict(churn=10, s_tmin=0.05, s_tmax=50, s_noise=1.003)
    solver = solver_of(solvers.heun, name, **fields)
    sigmas = golden("a_edm_N18_t")
    noise, latents = golden("b_churn40_N18_noise"), golden("latents")
    levels = path(sigmas, frame)
    x0, _, _ = run(solver, levels, levels.sigma[0] * latents, noise, 35)

    denoise = mixture(golden("gm_means"), jnp.full(5, golden("gm_std")))
    scaled = name.endswith("_vp")
    s = lambda sigma: 1 / np.sqrt(1 + sigma**2) if scaled else 1.0
    ds = lambda sigma: -sigma * s(sigma) ** 3 if scaled else 0.0  # d s / d sigma

    def time(sigma):
        return float(solver.time(path(jnp.asarray([sigma])))[0])

    def slope(x, sigma):
        one = path(jnp.asarray([sigma]))
        rate = float(solver.clock.rate(*_direction(one))[0]) * (1 + sigma**2)  # d sigma / d u
        level = NoiseLevel(jnp.ones(len(x)), jnp.full(len(x), sigma))
        clean = np.asarray(denoise(jnp.asarray(x / s(sigma)), level, ())[0].x0)
        return rate * ((1 / sigma + ds(sigma) / s(sigma)) * x - s(sigma) / sigma * clean)

    sigmas, noise = np.asarray(sigmas), np.asarray(noise)
    x = s(sigmas[0]) * sigmas[0] * np.asarray(latents)
    for i, (now, after) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        up = now * (1 + (min(10 / 18, 2**0.5 - 1) if 0.05 <= now <= 50 else 0))
        x = s(up) / s(now) * x + np.sqrt(max(up**2 - now**2, 0)) * s(up) * 1.003 * noise[i]
        h, d = time(after) - time(up), slope(x, up)
        ahead = x + h * d
        x = ahead if after == 0 else x + h * (d / 2 + slope(ahead, after) / 2)
    close(x0, x, 1e-9)
