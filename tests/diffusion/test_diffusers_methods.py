"""The other samplers of the most used library, replayed from its own numbers (see goldens/README.md).

As in test_diffusers_goldens.py the denoiser is exact and the state float64, here at every step of a run.
The reference's float32 tables and steps leave 2e-6 of the largest value; its coefficients of DEIS's third
order, differences of logarithms, 2e-5.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixtures import mixture

from noise_sched import build
from noise_sched.diffusion import solvers
from noise_sched.diffusion.inversion import invert
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import NoiseLevel
from noise_sched.diffusion.sampling import sample
from noise_sched.diffusion.solvers.base import draws

FOLDER = pathlib.Path(__file__).parent / "goldens"
GOLDENS = np.load(FOLDER / "diffusers_methods.npz")
SHARED = np.load(FOLDER / "diffusers_solvers.npz")
CASES = sorted({k.rsplit("/", 1)[0] for k in GOLDENS if k.endswith("x_traj")})

SIGMAS = {  # method -> (spec, frame), on recorded sigmas
    "deis2": ("deis(2)", "vp"),
    "deis3": ("deis(3)", "vp"),
    "single2_midpoint": ("dpmpp_single(2)", "vp"),
    "single2_heun": ("dpmpp_single(2, variant='heun')", "vp"),
    "single3_midpoint": ("dpmpp_single(3)", "vp"),
    "single3_heun": ("dpmpp_single(3, variant='heun')", "vp"),
    "single3_sde": ("dpmpp_single(3, eta=1)", "vp"),
    "single3_even": ("dpmpp_single(3, lower_order_final=False)", "vp"),
    # tau is 1 at level numbers 200 ... 800 of "sd", elsewhere 0.
    "sa22": ("sa_solver(s_tmin=0.57, s_tmax=5.12)", "vp"),
    "sa34": ("sa_solver(3, 4, s_tmin=0.57, s_tmax=5.12)", "vp"),
    "lms2": ("lms(2)", "ve"),
    "lms4": ("lms()", "ve"),
    "kdpm2": ("dpm2()", "ve"),
    "kdpm2a": ("dpm2(eta=1)", "ve"),
    "dpmsde": ("dpmpp_sde()", "ve"),
    "karras_ve": ("heun(churn=80, s_tmin=0.05, s_tmax=50, s_noise=1.007)", "ve"),
    "sde_ve_predictor": ("ddpm('large')", "ve"),
    "cosine_dpm_midpoint": ("dpmpp(2, eta=1)", "ve"),
    "flow_euler": ("ddim()", "flow"),
    "flow_heun": ("heun(clock=by_flow())", "flow"),
    "flow_lcm": ("lcm()", "flow"),
}
TABLE = {  # method -> (spec, threshold), on numbers of levels
    "ddim_clip": ("ddim()", "static(keep_eps=True)"),
    "ddim_clip_eta1": ("ddim(eta=1)", "static(keep_eps=True)"),
    "ddpm_clip_large": ("ddpm('large', last_noise=True)", "static()"),
    "plms": ("pndm()", "none()"),
    "pndm": ("pndm(start='runge_kutta', clock=by_schedule(linear_betas()))", "none()"),
    "lcm": ("lcm(index(scaled_linear()))", "none()"),
    "lcm_scale": ("lcm(index(scaled_linear()), scale=0.01)", "none()"),
    "tcd0.3": ("tcd(0.3)", "none()"),
    "tcd1.0": ("tcd(1.0)", "none()"),
}
FRAMES = {
    "vp": lambda sigma: NoiseLevel(1 / np.sqrt(1 + sigma**2), sigma / np.sqrt(1 + sigma**2)),
    "ve": lambda sigma: NoiseLevel(np.ones_like(sigma), sigma),
    "flow": lambda sigma: NoiseLevel(1 - sigma, sigma),
}


pytestmark = pytest.mark.usefixtures("float64")


def exact():
    return mixture(*(jnp.asarray(SHARED[f"gmm/{name}"]) for name in ("mu", "sd", "w")))


def method(case):
    return case.split("/")[0]


def table_levels(case, end):
    """Levels of a table at the recorded numbers, without those of stages and repeats, then abar = `end`."""
    kind = "linear" if "/lin_" in case else "scaled_linear"
    index = GOLDENS[f"{case}/timesteps"].astype(int)
    if method(case) in ("pndm", "plms"):
        index = np.arange(10)[::-1] * 100 + index[-1]
    table = SHARED[f"a/{kind}/plain/alphas_cumprod"].astype(np.float64)
    alpha_bar = np.append(table[index], table[0] if end == "first" else end)
    return NoiseLevel(np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar))


def trajectory(case):
    """The states on the path: without those at stages of the pseudo Runge-Kutta steps."""
    states = GOLDENS[f"{case}/x_traj"].astype(np.float64)
    return {
        "plms": lambda: np.delete(states, 1, axis=0),
        "pndm": lambda: np.concatenate([states[[0, 4, 8]], states[12:]]),
    }.get(method(case), lambda: states)()


@jax.jit
def _run(solver, threshold, levels, x_T, noise):
    denoise = threshold(exact())
    return sample(jax.random.key(0), denoise, solver, levels, x_T, noise=noise, trajectory=True)


def check(case, spec, levels, threshold="none()", tolerance=2e-6):
    """Every state of a recorded run; returns the images, too."""
    expected, solver = trajectory(case), build(spec, "solver")
    levels, steps = levels.map(jnp.asarray), len(expected) - 1
    noise = jnp.asarray(GOLDENS["gmm/noise"])
    if draws(solver) > 1:
        noise = noise[: 2 * steps].reshape(steps, 2, *noise.shape[1:])
    threshold = build(threshold, "threshold")
    x0, kept = _run(solver, threshold, levels, jnp.asarray(expected[0]), noise[:steps])
    scale = np.abs(expected[1:]).max(axis=(1, 2, 3, 4), keepdims=True)
    np.testing.assert_allclose(kept.x / scale, expected[1:] / scale, rtol=0, atol=tolerance)
    return x0, kept.x[-1]


def test_every_case_is_tested():
    others = {"ipndm", "ddim_inverse", "dpm_inverse2"}
    assert {method(case) for case in CASES} == {*SIGMAS, *TABLE, *others}


@pytest.mark.parametrize("case", [c for c in CASES if method(c) in SIGMAS])
def test_on_sigmas(case):
    spec, frame = SIGMAS[method(case)]
    levels = FRAMES[frame](GOLDENS[f"{case}/sigmas"].astype(np.float64))
    x0, x = check(case, spec, levels, tolerance=2e-5 if method(case) == "deis3" else 2e-6)
    if levels.sigma[-1] == 0 and method(case) != "sde_ve_predictor":  # it returns the mean, our x0
        np.testing.assert_allclose(x0, x, atol=1e-12)


@pytest.mark.parametrize("case", [c for c in CASES if method(c) in TABLE])
def test_on_a_table(case):
    # DDIM and PLMS with set_alpha_to_one=False end at the first level; TCD always does.
    first = method(case).startswith(("ddim", "tcd")) or case.endswith("one0/N10")
    spec, threshold = TABLE[method(case)]
    # DDPM's mean is made of two products in float32.
    tolerance = 4e-6 if method(case).startswith("ddpm") else 2e-6
    levels = table_levels(case, "first" if first else 1.0)
    x0, x = check(case, spec, levels, threshold, tolerance)
    if not first:
        np.testing.assert_allclose(x0, x, atol=1e-12)


def test_ipndm_but_for_its_first_step():
    """The reference divides by max(alpha, 1e-8), and so leaves x0 out of the step from zero SNR."""
    case = "ipndm/default/N10"
    levels = NoiseLevel(GOLDENS[f"{case}/alphas"], GOLDENS[f"{case}/betas"]).map(jnp.asarray)
    expected = trajectory(case)

    def without(x, level, memory):
        prediction, memory = exact()(x, level, memory)
        silent = level.expand_to(x).alpha == 0
        return Prediction(jnp.where(silent, 0.0, prediction.x0), prediction.eps), memory

    solver, x_T = solvers.pndm(start="euler"), jnp.asarray(expected[0])
    run = jax.jit(lambda x: sample(jax.random.key(0), without, solver, levels, x, trajectory=True))
    _, kept = run(x_T)
    np.testing.assert_allclose(kept.x, expected[1:], rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("case", "spec"), [("ddim_inverse/sd/N10", "ddim()"), ("dpm_inverse2/sd/N10", "dpmpp(2)")]
)
def test_inversion(case, spec):
    expected = trajectory(case)
    if spec == "ddim()":
        levels = table_levels(case, 1.0)
        order = np.argsort(levels.alpha)
        levels = NoiseLevel(levels.alpha[order], levels.sigma[order])
    else:
        levels = FRAMES["vp"](GOLDENS[f"{case}/sigmas"].astype(np.float64)[::-1])
    solver = build(spec, "solver")
    run = jax.jit(lambda x: invert(exact(), solver, levels.map(jnp.asarray), x))
    np.testing.assert_allclose(
        run(jnp.asarray(expected[0])), expected[-1], rtol=0, atol=2e-6 * np.abs(expected).max()
    )
