"""Lin et al.'s point in closed form (arXiv 2305.08891): what a schedule that keeps signal does to brightness.

Images are one grey, uniform in [-0.9, 0.9], plus a little white texture; their denoiser is exact, so
that only the schedule and the grid of the sampling run can be at fault.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixtures import mixture

from noise_sched.diffusion import specs
from noise_sched.diffusion.process import vp
from noise_sched.diffusion.sampling import example_keys, initial_noise, sample

SIDE, COUNT, STEPS = 32, 256, 25
GREYS = np.linspace(-0.9, 0.9, 19)


@pytest.fixture(scope="module")
def drawn():
    """(schedule, grid, solver) -> the sorted brightnesses of COUNT images."""
    means = jnp.broadcast_to(jnp.asarray(GREYS, jnp.float32)[:, None, None], (19, SIDE, SIDE))
    denoise = mixture(means, jnp.full(19, 0.05))
    keys = example_keys(jax.random.key(0), jnp.arange(COUNT))

    @jax.jit
    def run(levels, solver):
        x_T = initial_noise(keys, levels.map(lambda field: field[0]), (SIDE, SIDE))
        return jnp.sort(jnp.mean(sample(keys, denoise, solver, levels, x_T), axis=(1, 2)))

    def brightness(schedule, grid, solver="ddim()"):
        times = specs.build(grid, "grid")(STEPS)
        levels = vp().level(specs.build(schedule, "schedule").logsnr(times))
        return np.asarray(run(levels, specs.build(solver, "solver")))

    return brightness


def dark_or_bright(found) -> float:
    return float(np.mean(np.abs(found) > 0.6))


FLAWED, MENDED = "scaled_linear()", "zero_terminal(scaled_linear())"


def test_the_flawed_run_is_medium_and_the_mended_one_is_not(drawn):
    flawed, mended = drawn(FLAWED, "leading()"), drawn(MENDED, "trailing()")
    quantiles = np.interp((np.arange(COUNT) + 0.5) / COUNT, np.linspace(0, 1, 19), GREYS)
    # Six of the nineteen greys are beyond 0.6; the standard error of 256 draws is 0.03.
    assert dark_or_bright(mended) == pytest.approx(6 / 19, abs=0.09)
    assert np.abs(mended - quantiles).mean() < 0.08
    assert dark_or_bright(flawed) < 0.15
    assert flawed.std() < 0.75 * mended.std()


def test_each_flaw_costs_brightness(drawn):
    """The signal that the last level has, and starting above it."""
    both, schedule = drawn(FLAWED, "leading()").std(), drawn(FLAWED, "trailing()").std()
    assert both + 0.03 < schedule < drawn(MENDED, "trailing()").std() - 0.05


def test_stochastic_sampling_does_not_mend_it(drawn):
    flawed, mended = (
        drawn(s, g, "ddim(eta=1.0)") for s, g in ((FLAWED, "leading()"), (MENDED, "trailing()"))
    )
    assert flawed.std() < 0.92 * mended.std()
