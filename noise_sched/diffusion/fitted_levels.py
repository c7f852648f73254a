r"""The S noise levels at which a solver follows a model's own flow best.

A fine run of Heun's method gives the reference: states x_0 ... x_N at levels from the noisiest to clean
data. Then

    (1)  e_ij = rms( one step of the solver from x_i, level i to level j  -  x_j ) / size_j,
         size_j = sqrt(alpha_j^2 s^2 + sigma_j^2)
    (2)  E_k(j) = min over i < j of  E_(k-1)(i) + e_ij,      E_0(0) = 0

is the shortest path of S steps from level 0 to N. The divisor is the size of x_j, s the standard deviation
of the images: divided by it, an error of Gaussian data reaches the end of the flow as it is, so that errors
made at different levels may be added. A sum of errors is a bound, not the error; and the error of a solver
with a history depends on the steps before, which no sum over pairs knows (for those (1) is DDIM's). So the
path is a start like others, and the best of them is improved:

    (3)  each level in turn is moved, a little less in every round, where that lowers
         rms( images of the S steps - x_N )

The first level stays, as x_0 is noise of its size, and so does the end, clean data.

Sources: shortest paths over a fine grid are those of Chen et al. 2024 (arXiv 2405.11326, "GITS"), whose cost
is the deviation of Euler steps; here it is the solver's own. Align Your Steps (Sabour et al. 2024, arXiv
2404.14507) minimizes a bound on a divergence for stochastic solvers by optimization over levels, as (3)
does for a distance; its bound is not built here.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from noise_sched.diffusion import grids, schedules, solvers
from noise_sched.diffusion.clocks import by_angle
from noise_sched.diffusion.denoiser import Denoise, Memory
from noise_sched.diffusion.numbers import require
from noise_sched.diffusion.process import Images, NoiseLevel, Process
from noise_sched.diffusion.sampling import sample
from noise_sched.diffusion.solvers.base import Solver, State

EVENLY, KARRAS, COSINE = "evenly in logSNR", "karras, rho = 7", "cosine, trailing"
_FINER = 4  # steps of the reference between two levels of the fine grid
_FIRST_MOVE = 0.3  # of the way to a neighbour, in logSNR
_SMALLER = 0.6  # a round's moves to those of the round before


class Reference(NamedTuple):
    """A fine run: what (1) and (3) are measured against.

    Attributes:
      logsnr: of the schedule, [N + 1], from the noisiest to +inf.
      states: x at each, [N + 1] arrays [batch, ...].
      memories: the network's memory at each.
    """

    logsnr: np.ndarray
    states: list[Images]
    memories: list[Memory]


class Fitted(NamedTuple):
    """Levels for a solver.

    Attributes:
      logsnr: of the schedule, [steps], noisiest first; clean data follows.
      error: equation (3)'s, of the batch they were fitted to.
      start: which start they were improved from.
      starts: the error of each start.
    """

    logsnr: np.ndarray
    error: float
    start: str
    starts: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Model:
    """What is sampled, and how.

    Attributes:
      denoiser: parameters -> the denoiser, guided and thresholded as sampling will be.
      params: the parameters.
      process: of the training.
      solver: without noise of its own.
    """

    denoiser: Callable[[Any], Denoise]
    params: Any
    process: Process
    solver: Solver

    def __post_init__(self):
        require(
            not self.solver.stochastic,
            f"levels are fitted to a deterministic solver, whose images are a function of x_T; got "
            f"{self.solver}. Use its deterministic part (ddim(eta=0.0), heun without churn) or another.",
        )

    def levels(self, logsnr: Any) -> NoiseLevel:
        """The path of a schedule's logSNR."""
        return self.process.level(jnp.asarray(logsnr, float))


def fine_grid(path: np.ndarray, count: int) -> np.ndarray:
    """N + 1 = `count` + 1 levels between the ends of a path, evenly in logSNR where that is finite.

    Args:
      path: the schedule's logSNR along a fine path, noisiest first; the ends may be infinite.
      count: N.
    """
    path = np.asarray(path, np.float64)
    finite = path[np.isfinite(path)]
    require(
        len(finite) > 1 and count >= 3,
        f"a fine grid needs at least 3 steps and a path with finite levels; got {count} steps.",
    )
    silent = path[:1][np.isneginf(path[:1])]  # zero SNR is a level of its own
    between = np.linspace(finite[0], finite[-1], count - len(silent))
    return np.concatenate([silent, between, [np.inf]])


def reference(model: Model, x_T: Images, logsnr: np.ndarray, memory: Memory = ()) -> Reference:
    """Follows the flow from `x_T` at the first level, with Heun's steps between the levels."""
    fine = _refined(logsnr, _FINER)
    step, levels = _stepper(model, solvers.heun(clock=by_angle())), model.levels(fine)
    x, memories, states = x_T, [memory], [x_T]
    for index in range(len(fine) - 1):
        x, memory = step(model.params, x, memory, *_pair(levels, index, index + 1))
        if (index + 1) % _FINER == 0:
            states.append(x)
            memories.append(memory)
    return Reference(np.asarray(logsnr), states, memories)


def step_errors(model: Model, found: Reference) -> np.ndarray:
    """Equation (1), [N + 1, N + 1]; inf where j <= i."""
    one_step = model.solver if _forgets(model.solver, found) else solvers.ddim()
    levels, step = model.levels(found.logsnr), _stepper(model, one_step)
    alpha, sigma = (np.asarray(each, np.float64) for each in (levels.alpha, levels.sigma))
    size = np.sqrt((alpha * _spread(found.states[-1])) ** 2 + sigma**2)
    count = len(found.logsnr)
    errors = np.full((count, count), np.inf)
    for i in range(count - 1):
        made = []
        for j in range(i + 1, count):
            x, _ = step(model.params, found.states[i], found.memories[i], *_pair(levels, i, j))
            made.append(_rms(x, found.states[j]))
        errors[i, i + 1 :] = np.asarray(jax.device_get(made)) / size[i + 1 :]
    return errors


def shortest_path(errors: np.ndarray, steps: int) -> np.ndarray:
    """Equation (2): the indices [steps + 1] of the path of least total error, from 0 to the last."""
    last = len(errors) - 1
    require(
        1 <= steps <= last,
        f"{steps} steps cannot be chosen from a grid of {last}: ask for fewer, or for a finer grid.",
    )
    total = np.where(np.arange(last + 1) == 0, 0.0, np.inf)
    origins = []
    for _ in range(steps):
        sums = total[:, None] + errors
        origins.append(np.argmin(sums, axis=0))
        total = np.min(sums, axis=0)
    path = [last]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return np.asarray(path[::-1])


def end_error(model: Model, found: Reference) -> Callable[[np.ndarray], float]:
    """The function of equation (3): logSNR [steps], noisiest first -> the error of the images."""
    x_T, memory, end = found.states[0], found.memories[0], found.states[-1]
    key = jax.random.key(0)  # no solver here draws

    @jax.jit
    def run(params: Any, x_T: Images, memory: Memory, end: Images, levels: NoiseLevel) -> Any:
        made: Any = sample(key, model.denoiser(params), model.solver, levels, x_T, memory=memory)
        return _rms(made, end)

    def error(logsnr: np.ndarray) -> float:
        levels = model.levels(np.append(logsnr, np.inf))
        value = float(run(model.params, x_T, memory, end, levels))
        return value if np.isfinite(value) else np.inf

    return error


def fit(
    model: Model,
    found: Reference,
    steps: int,
    *,
    starts: Mapping[str, np.ndarray] | None = None,
    errors: np.ndarray | None = None,
    rounds: int = 8,
) -> Fitted:
    """The levels for `steps` steps: the best start, improved by (3).

    Args:
      model: what is sampled, and how.
      found: its `reference`.
      steps: S.
      starts: levels to begin from besides the shortest path and the `usual` ones, by their name; [steps]
        each, noisiest first, of the reference's first level.
      errors: `step_errors`, for several S; None computes them.
      rounds: of (3); 0 leaves the best start as it is.
    """
    errors = step_errors(model, found) if errors is None else errors
    grid = found.logsnr
    tried = {
        "the shortest path": grid[shortest_path(errors, steps)[:-1]],
        **usual(grid, steps),
        **(starts or {}),
    }
    error = end_error(model, found)
    measured = {name: error(levels) for name, levels in tried.items()}
    best = min(measured, key=lambda name: measured[name])
    levels, least = _improved(error, tried[best], measured[best], grid, rounds)
    return Fitted(levels, least, best, measured)


def _improved(error, levels, least, grid, rounds):
    """Equation (3): a search along one level at a time."""
    levels, move = np.array(levels, np.float64), _FIRST_MOVE
    finite = grid[np.isfinite(grid)]
    outer = finite[0] - 1.0, finite[-1] + 1.0
    for _ in range(rounds):
        for k in range(1, len(levels)):
            for side in (-1, 1):
                neighbour = levels[k + side] if k + side < len(levels) else outer[1]
                neighbour = neighbour if np.isfinite(neighbour) else outer[0]
                tried = levels.copy()
                tried[k] += move * (neighbour - levels[k])
                if not tried[k - 1] < tried[k] or (k + 1 < len(tried) and tried[k] >= tried[k + 1]):
                    continue
                found = error(tried)
                if found < least:
                    levels, least = tried, found
                    break
        move *= _SMALLER
    return levels, least


def usual(grid: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """Levels that are usual for as many steps, from a fine grid's first level on, [steps] each.

    Evenly in logSNR between the ends; Karras's (arXiv 2206.00364, rho = 7) between them; and equal parts of
    the angle arctan(sigma / alpha), which are `trailing` steps of the cosine schedule.
    """
    finite = grid[np.isfinite(grid)]
    low, high = np.exp(-0.5 * finite[[-1, 0]])
    karras = schedules.karras(float(low), float(high)).logsnr(grids.edm()(steps))
    first = np.arctan(np.exp(-0.5 * grid[0]))
    angles = first * (1.0 - np.arange(steps) / steps)
    found = {
        EVENLY: np.linspace(finite[0], finite[-1], steps),
        KARRAS: np.asarray(karras, np.float64)[:-1],
        COSINE: -2.0 * np.log(np.tan(angles)),
    }
    return {name: np.append(grid[:1], levels[1:]) for name, levels in found.items()}


def _refined(logsnr: np.ndarray, times: int) -> np.ndarray:
    """`times` steps in place of each; an infinite one is divided in the angle arctan(sigma / alpha)."""
    angles = np.arctan(np.exp(-0.5 * np.asarray(logsnr, np.float64)))
    fine = [logsnr[:1]]
    for one, other, a, b in zip(logsnr[:-1], logsnr[1:], angles[:-1], angles[1:], strict=True):
        part = np.arange(1, times) / times
        if np.isfinite(one) and np.isfinite(other):
            between = one + part * (other - one)
        else:
            between = -2.0 * np.log(np.tan(a + part * (b - a)))
        fine.append(np.append(between, other))
    return np.concatenate(fine)


def _stepper(model: Model, solver: Solver) -> Callable[..., tuple[Images, Memory]]:
    """One step of a solver without history; to clean data it is the x0 that a run would return."""

    @jax.jit
    def step(params, x, memory, level, next_level):
        state = State(x, memory, ())
        spread = lambda each: each.map(lambda f: jnp.broadcast_to(f, (x.shape[0],)))
        level, next_level = spread(level), spread(next_level)
        new, prediction = solver.step(
            model.denoiser(params), state, level, next_level, jnp.zeros_like(x)
        )
        clean = next_level.sigma[0] == 0
        return jnp.where(clean, prediction.x0, new.x), new.memory

    return step


def _forgets(solver: Solver, found: Reference) -> bool:
    """Whether a solver keeps nothing of earlier steps."""
    zeros = NoiseLevel(jnp.zeros(3), jnp.ones(3), jnp.ones(3))
    return not jax.tree.leaves(solver.init(found.states[0], zeros))


def _pair(levels: NoiseLevel, one: int, other: int) -> tuple[NoiseLevel, NoiseLevel]:
    return levels.map(lambda f: f[one]), levels.map(lambda f: f[other])


def _spread(images: Images) -> float:
    """Of the images about their mean."""
    return float(jnp.sqrt(jnp.mean(jnp.square(images - jnp.mean(images, axis=0, keepdims=True)))))


@jax.jit
def _rms(one: Images, other: Images) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(one - other)))
