r"""Inversion: from an image to the noise it would be drawn from. Sampling, run upwards.

    levels = process.level(schedule.logsnr(grid(steps)))     as for `sample`, noisiest first
    x_T    = invert(denoise, solver, levels, x0)
    x0    ~= sample(key, denoise, solver, levels, x_T)       as well as the method's order allows

Any deterministic solver goes along the path the other way; its steps in lambda are then negative. At clean
data nothing is noise, and a solver that starts there would divide by it: the first step from there is the
inverse of DDIM's last one. DDIM's step from level t to the cleaner level s is

    (1)  x_s = (alpha_s / alpha_t) x_t + (sigma_s - alpha_s sigma_t / alpha_t) eps(x_t, t)

and its inverse is the fixed point of the same equation, solved for x_t (Pan et al. 2023, arXiv 2309.04907):

    (2)  x_t = (alpha_t / alpha_s) x_s + (sigma_t - alpha_t sigma_s / alpha_s) eps(x_t, t)

beginning with eps(x_s, t). One iteration is DDIM inversion (Song et al. 2021, arXiv 2010.02502, section 4.3;
diffusers' DDIMInverseScheduler), of first order; more of them make the round trip exact. To zero SNR, where
eps(x_t, t) = x_t / sigma_t says nothing, x_t follows from the x0 predicted there, which does not depend on
it: x_t = sigma_t (x_s - alpha_s x0) / sigma_s.
"""

import jax
import jax.numpy as jnp

from noise_sched.diffusion.denoiser import Denoise, Memory
from noise_sched.diffusion.numbers import require
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.solvers.base import Solver, State, combination, select
from noise_sched.diffusion.solvers.ddim import ddim


def invert(
    denoise: Denoise,
    solver: Solver,
    levels: NoiseLevel,
    x: Images,
    *,
    memory: Memory = (),
    iterations: int = 1,
) -> Images:
    """Runs a solver from an image to its noise.

    Args:
      denoise: (x, level, memory) -> (Prediction, memory).
      solver: a deterministic solver.
      levels: the path as for `sample`, fields [steps + 1], noisiest first. It ends at clean data, or
        at the level that `x` has.
      x: the state at levels[-1], [batch, ...]: the image itself where that is clean data.
      memory: the denoiser's first memory.
      iterations: of equation (2) where the step is DDIM's; 1 is the published method.

    Returns:
      The state at levels[0], [batch, ...].

    Raises:
      ValueError: if the solver is stochastic, or `iterations` is below 1.
    """
    require(
        not solver.stochastic,
        f"invert needs a deterministic solver, got {solver!r}: the noise that a stochastic one adds "
        "cannot be taken back. Use ddim(), dpmpp() or heun().",
    )
    require(iterations >= 1, f"iterations must be at least 1, got {iterations}.")
    levels = levels.map(lambda field: jnp.asarray(field)[::-1])
    by_ddim = isinstance(solver, ddim)

    def upwards(state, path):
        level, next_level = (each.map(lambda f: jnp.broadcast_to(f, x.shape[:1])) for each in path)
        special = (
            jnp.ones((), bool) if by_ddim else jnp.any((level.sigma == 0) | (next_level.alpha == 0))
        )
        return jax.lax.cond(
            special,
            lambda: _ddim_upwards(denoise, state, level, next_level, iterations),
            lambda: solver.step(denoise, state, level, next_level, state.x)[0],
        ), None

    start = State(x, memory, solver.init(x, levels))
    path = (levels.map(lambda f: f[:-1]), levels.map(lambda f: f[1:]))
    final, _ = jax.lax.scan(upwards, start, path)
    return final.x


def _ddim_upwards(
    denoise: Denoise, state: State, level: NoiseLevel, next_level: NoiseLevel, iterations: int
) -> State:
    """Equation (2), from `level` to the noisier `next_level`."""
    silent = next_level.alpha == 0
    kept = next_level.alpha / level.alpha
    slope = next_level.sigma - kept * level.sigma
    share = next_level.sigma / jnp.where(level.sigma > 0, level.sigma, 1.0)
    x, memory = state.x, state.memory
    for _ in range(iterations):
        prediction, memory = denoise(x, next_level, state.memory)
        usual = combination((kept, slope), (state.x, prediction.eps))
        from_x0 = combination((share, -share * level.alpha), (state.x, prediction.x0))
        x = select(silent, from_x0, usual)
    return State(x, memory, state.history)
