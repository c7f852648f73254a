"""The published implementation's own numbers (see goldens/README.md), replayed."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import noise_sched as ns
from noise_sched.diffusion import (
    conditioning,
    grids,
    input_scale,
    schedules,
    solvers,
    thresholding,
    weighting,
)
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import sample

GOLDENS = np.load(pathlib.Path(__file__).parent / "goldens" / "pix2seq_diffusion.npz")
PREDICTS = {"eps": ns.eps(), "x": ns.x0(), "v": ns.v()}
SOLVERS = {
    "ddim": solvers.ddim(),
    "ddpm": solvers.ddpm(),
    "ddpm@large": solvers.ddpm("large"),
    "ddpm@small": solvers.ddpm("small"),
}


pytestmark = pytest.mark.usefixtures("float64")


def published_schedule(name: str):
    """The reference's schedule string as ours, with its clip of gamma at 1e-9."""
    if name == "cosine":
        return schedules.plain_cosine()
    if name == "simple_linear":
        return schedules.linear(clip_min=1e-9)
    kind, numbers = name.split("@")
    *ab, last = numbers.split(",")
    a, b = map(float, ab)
    if kind == "log":
        return schedules.logarithmic(b, a) if last == "true" else schedules.logarithmic(a, b)
    return {"cosine": schedules.cosine, "sigmoid": schedules.sigmoid}[kind](
        a, b, float(last), clip_min=1e-9
    )


def names(pattern: str) -> list[str]:
    return sorted({m.group(1) for m in (re.fullmatch(pattern, k) for k in GOLDENS) if m})


@pytest.mark.parametrize("name", names(r"sched/([^/]*)/f64"))
def test_gamma(name):
    t, expected = jnp.linspace(0, 1, 101), GOLDENS[f"sched/{name}/f64"]
    schedule = published_schedule(name)
    np.testing.assert_allclose(schedule.gamma(t), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(jax.nn.sigmoid(schedule.logsnr(t)), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", names(r"(trans/[^/]*/[^/]*/(?:eps|x|v)/clip[^/]*)/.*"))
def test_transition(name):
    _, schedule_name, times, predicts, clip = name.split("/")
    golden = lambda key: jnp.asarray(GOLDENS[f"{name}/{key}/f64"])  # noqa: E731
    schedule = published_schedule(schedule_name)
    now, after = (jnp.full((2,), float(t)) for t in times.split("->"))
    level, next_level = (ns.vp().level(schedule.logsnr(t)) for t in (now, after))
    x, out, noise = (
        jnp.asarray(GOLDENS[f"trans/{k}"], jnp.float64) for k in ("xt", "denoise_out", "ddpm_noise")
    )
    bound = np.inf if clip == "clipnone" else float(clip.removeprefix("clip"))

    training = PREDICTS[predicts].to_prediction(
        level, x, out, clip=lambda x0: jnp.clip(x0, -bound, bound)
    )
    np.testing.assert_allclose(training.x0, golden("x0"), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(training.eps, golden("eps_notrunc"), rtol=1e-9, atol=1e-9)

    def network(x, level, memory):
        return PREDICTS[predicts].to_prediction(level, x, out), memory

    denoise = thresholding.static(bound)(network)
    prediction, _ = denoise(x, level, ())
    np.testing.assert_allclose(prediction.x0, golden("x0"), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(prediction.eps, golden("eps"), rtol=1e-9, atol=1e-9)
    for key in names(re.escape(name) + r"/(dd[^/]*)/f64"):
        state, _ = SOLVERS[key].step(denoise, solvers.State(x), level, next_level, noise)
        np.testing.assert_allclose(state.x, golden(key), rtol=1e-9, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("name", names(r"(train/b[^/]*/[^/]*)/gamma"))
def test_training_quantities(name):
    _, b_name, schedule_name = name.split("/")
    golden = lambda key: GOLDENS[f"{name}/{key}"]  # noqa: E731
    b = float(b_name.removeprefix("b"))
    images, t, eps, out = (
        jnp.asarray(GOLDENS[f"train/{k}"], jnp.float64)
        for k in ("images01", "t", "noise", "net_out")
    )
    x0, schedule = 2 * images - 1, published_schedule(schedule_name)
    level = ns.vp(b).level(schedule.logsnr(t))
    x = ns.diffuse(level, x0, eps)
    # The goldens are float32 and take 1 - gamma by subtraction, which costs them digits at both ends.
    close = dict(rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(b * x0[:, :2, :2], golden("x0"), **close)
    np.testing.assert_allclose(level.gamma, golden("gamma").ravel(), **close)
    np.testing.assert_allclose(x[:, :2, :2], golden("xt"), **close)
    scaled = input_scale.per_example_std()(level, x)
    np.testing.assert_allclose((x / scaled)[:, :1, :1, :1], golden("std"), **close)
    np.testing.assert_allclose(scaled[:, :2, :2], golden("xt_normalized"), **close)

    for predicts, own in PREDICTS.items():
        ours = out / b if predicts == "x" else out  # the reference's network predicts b x0
        for loss, space in {"eps": PREDICTS["eps"], "x": PREDICTS["x"]}.items():
            objective = Objective(
                schedule=schedule,
                process=ns.vp(b),
                parametrization=own,
                input_scale=input_scale.none(),
                conditioning=conditioning.gamma(),
                loss_space=space,
                weight=weighting.uniform(),
                clip_x0=True,
            )
            errors = objective.errors(level, x, ours, x0, eps)
            np.testing.assert_allclose(
                jnp.mean(errors), golden(f"{predicts}/loss_{loss}"), rtol=2e-4
            )


@pytest.mark.parametrize("name", names(r"gen/([^/]*)/out"))
def test_whole_sampling_run(name):
    train, infer, solver, predicts, b, self_cond, w, td = (
        part.split("=")[-1] for part in name.split(";")
    )
    b, w = float(b), float(w)
    schedule = published_schedule(train if infer == "None" else infer)
    noises = jnp.asarray(GOLDENS["gen/noises"], jnp.float64)
    frame = ns.vp(b)
    grid = grids.asymmetric(grids.uniform(), float(td))
    levels, targets = (frame.level(schedule.logsnr(t(10))) for t in (grid, grid.targets))

    def toy(shift):
        def denoise(x, level, memory):
            y = jnp.tanh(0.5 * x) + 0.1 * level.expand_to(x).gamma - shift
            next_memory = memory
            if self_cond in ("x", "eps"):
                y = y + 0.1 * memory
            elif self_cond == "latent":
                y = y + 0.05 * jnp.mean(memory, axis=(1, 2)).reshape(-1, 1, 1, 1)
                next_memory = 0.9 * memory + 0.1 * jnp.mean(x) + 0.01
            if predicts == "x":
                y = y / b  # the reference's network predicts b x0
            return PREDICTS[predicts].to_prediction(level, x, y), next_memory

        return denoise

    denoise = thresholding.static()(ns.cfg(1 + w)(toy(0.0), toy(0.02)))
    memory = jnp.zeros((2, 5, 4)) if self_cond == "latent" else jnp.zeros_like(noises[0])

    def remember(x, level, memory):
        prediction, memory = denoise(x, level, memory)
        estimate = {"x": b * prediction.x0, "eps": prediction.eps}
        return prediction, estimate.get(self_cond, memory)

    x0 = sample(
        jax.random.key(0),
        remember,
        SOLVERS[solver],
        levels,
        noises[0],
        memory=memory,
        noise=noises[1:],
        targets=targets,
    )
    golden = GOLDENS[f"gen/{name}/out"]
    close = dict(rtol=2e-3, atol=2e-4) if golden.dtype == np.float32 else dict(atol=1e-9)
    np.testing.assert_allclose(b * x0, golden, **close)
