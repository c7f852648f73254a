"""Fitted levels against usual ones, in distance to the exact flow of a Gaussian mixture.

    python -m benchmarks.fitted_mixture --out=docs/results/steps.mixture.md

Every deterministic solver, 4 to 16 steps: levels are fitted on 512 draws and judged on 512 others. A row is
a solver; listed are the ratios of the fitted levels' error to the least error of the usual ones (evenly in
logSNR, Karras, trailing steps of the cosine), the median and the largest over the numbers of steps, and at
which the fitted ones are not the best.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from noise_sched.diffusion import fitted_levels, specs
from noise_sched.diffusion.parametrization import Prediction

SOLVERS = (
    "ddim()",
    "euler()",
    "heun()",
    "heun(clock=by_angle())",
    "dpm2()",
    "dpmpp(order=2)",
    "dpmpp(order=3)",
    "dpmpp_single(order=2)",
    "unipc(order=2)",
    "unipc(order=3)",
    "deis(order=2)",
    "lms(order=2)",
    "pndm()",
    "sa_solver(tau=0.0)",
)
STEPS = range(4, 17)
PATHS = {
    "vp, from zero SNR": ("vp()", "plain_cosine()", "uniform()"),
    "ve, karras": ("ve()", "karras()", "edm()"),
}
_COUNT, _SIZE, _COMPONENTS = 512, 8, 6


def mixture() -> fitted_levels.Denoise:
    """The exact denoiser of six components in eight dimensions."""
    draw = np.random.default_rng(0)
    means = jnp.asarray(0.6 * draw.normal(size=(_COMPONENTS, _SIZE)), jnp.float32)
    stds = jnp.asarray(draw.uniform(0.05, 0.25, _COMPONENTS), jnp.float32)

    def denoise(x, level, memory):
        alpha, sigma = level.alpha[:, None, None], level.sigma[:, None, None]
        variance = (alpha * stds[None, :, None]) ** 2 + sigma**2
        away = x[:, None, :] - alpha * means[None]
        log = -0.5 * (jnp.sum(away**2 / variance, -1) + _SIZE * jnp.log(variance[..., 0]))
        share = jax.nn.softmax(log, axis=-1)[..., None]
        x0 = jnp.sum(share * (means[None] + alpha * stds[None, :, None] ** 2 / variance * away), 1)
        return Prediction(x0, jnp.sum(share * sigma / variance * away, 1)), memory

    return denoise


def ratios(solver: str, process: str, schedule: str, grid: str) -> dict[int, float]:
    """Steps -> the fitted levels' error to the least of the usual ones, on draws of their own."""
    exact = mixture()
    made = fitted_levels.Model(
        lambda _: exact, (), specs.build(process, "process"), specs.build(solver, "solver")
    )
    times = specs.build(grid, "grid")(64)
    path = np.asarray(specs.build(schedule, "schedule").logsnr(times), np.float64)
    fine = fitted_levels.fine_grid(path, 40)
    references = []
    for seed in (0, 1):
        noise = jax.random.normal(jax.random.key(seed), (_COUNT, _SIZE))
        references.append(fitted_levels.reference(made, made.levels(fine).sigma[0] * noise, fine))
    errors = fitted_levels.step_errors(made, references[0])
    judge = fitted_levels.end_error(made, references[1])
    found = {}
    for steps in STEPS:
        fitted = fitted_levels.fit(made, references[0], steps, errors=errors)
        least = min(judge(levels) for levels in fitted_levels.usual(fine, steps).values())
        found[steps] = judge(fitted.logsnr) / least
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    lines = [
        "| path | solver | median ratio | largest | not the best at |",
        "|---|---|---|---|---|",
    ]
    for path, (process, schedule, grid) in PATHS.items():
        for solver in SOLVERS:
            found = ratios(solver, process, schedule, grid)
            values = list(found.values())
            lost = ", ".join(str(steps) for steps, value in found.items() if value >= 1)
            lines.append(
                f"| {path} | `{solver}` | {np.median(values):.2f} | {max(values):.2f} | {lost or 'none'} |"
            )
            print(lines[-1], flush=True)
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
