r"""Sampling: one `lax.scan` over a path of noise levels, whatever the solver.

    levels = process.level(schedule.logsnr(grid(steps)))     noisiest first, [steps + 1]
    x_T    = sigma_T * unit noise
    x0     = sample(key, denoise, solver, levels, x_T)

`Sampling` holds the choices that make these.

What is returned is the last step's x0 prediction, as published; where the path ends at clean data a
deterministic solver's final state is the same thing (Euler and Heun: in the clock sigma).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped

from noise_sched.diffusion import guidance as guidances
from noise_sched.diffusion import thresholding
from noise_sched.diffusion.denoiser import Denoise, Memory
from noise_sched.diffusion.grids import Grid
from noise_sched.diffusion.numbers import Leaf, require
from noise_sched.diffusion.process import Images, NoiseLevel, Process
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.schedules import Schedule
from noise_sched.diffusion.solvers.base import Solver, State, draws
from noise_sched.diffusion.thresholding import Threshold


@register_pytree
@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Every step of a run.

    Attributes:
      x: states after each step, [steps, batch, ...].
      x0: each step's prediction of the clean data, [steps, batch, ...].
    """

    x: Leaf
    x0: Leaf


def example_keys(key: Key[Array, ""], indices: Shaped[Array, "batch"]) -> Key[Array, "batch"]:
    """One key per image, a function of (key, its index) alone: batches may be cut anywhere."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)


def draw(keys: Key[Array, "batch"], shape: tuple[int, ...], dtype: Any) -> Float[Array, "..."]:
    """Unit normal noise [batch, *shape], each example's from its own key."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)


def initial_noise(keys: Key[Array, "batch"], level: NoiseLevel, shape: tuple[int, ...]) -> Images:
    """x_T = sigma_T * unit noise for a scalar `level`: [batch, *shape].

    Its own stream: it is independent of the noise that `sample` draws from the same keys.
    """
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys)
    return level.sigma * draw(keys, shape, level.sigma.dtype)


def sample(
    key: Key[Array, ""] | Key[Array, "batch"],
    denoise: Denoise,
    solver: Solver,
    levels: NoiseLevel,
    x_T: Images,
    *,
    memory: Memory = (),
    noise: Float[Array, "steps ..."] | None = None,
    targets: NoiseLevel | None = None,
    trajectory: bool = False,
    unroll: int = 1,
) -> Images | tuple[Images, Trajectory]:
    """Runs a solver along a path of noise levels.

    Args:
      key: one key, or one per example (see `example_keys`), for the solver's fresh noise.
      denoise: (x, level, memory) -> (Prediction, memory), with level fields of shape [batch].
      solver: the stepping rule.
      levels: the path, fields of shape [steps + 1], noisiest first.
      x_T: the state at levels[0], [batch, ...]; its dtype is the state's. For a float64 state around
        a float32 network, give the levels in float64 too and see `Preconditioner.denoise(dtype=)`.
      memory: the denoiser's first memory (zeros for RIN's latents).
      noise: unit normal draws to replay instead of drawing, [steps, batch, ...], or
        [steps, draws, batch, ...] for a solver that needs several in a step.
      targets: where each step leads, fields of shape [steps]; None is to the next level of the path. The
        network is conditioned on the path's levels all the same, see `asymmetric`.
      trajectory: also return every step.
      unroll: steps per turn of the loop. With more than one the compiler may fuse steps and need not
        move a multistep solver's history along in each: 2 to 4, about the solver's order, make cheap,
        closed-form denoisers up to three times as fast. It compiles that many copies of the denoiser;
        leave it at 1 for a network.

    Returns:
      The last step's prediction of x0, [batch, ...]; with `trajectory`, also a `Trajectory`.

    Raises:
      ValueError: if `levels` is not a path, `noise` or `targets` do not fit it or `unroll` is below 1.
    """
    levels = levels.map(jnp.asarray)
    drawn = (draws(solver),) if draws(solver) > 1 else ()  # the axis of a step's several draws
    _check(levels, x_T, noise, drawn, targets)
    require(unroll >= 1, f"unroll must be at least 1, got {unroll}: 1 is one step per turn.")
    steps, batch = levels.alpha.shape[0] - 1, x_T.shape[0]
    if key.ndim == 0:
        key = example_keys(key, jnp.arange(batch))

    def fresh_noise(step):
        if not solver.stochastic:
            return jnp.zeros_like(x_T)
        keys = jax.vmap(lambda k: jax.random.fold_in(k, step + 1))(key)
        z = draw(keys, (*drawn, *x_T.shape[1:]), x_T.dtype)
        return jnp.moveaxis(z, 1, 0) if drawn else z

    def body(state, step):
        index, level, next_level, replayed = step
        level, next_level = (
            each.map(lambda f: jnp.broadcast_to(f, (batch,))) for each in (level, next_level)
        )
        z = fresh_noise(index) if replayed is None else replayed
        state, prediction = solver.step(denoise, state, level, next_level, z)
        kept = Trajectory(state.x, prediction.x0) if trajectory else None
        # The run returns the last prediction, so it takes the last state's place: one array less to
        # carry, and to write at every step, than beside it.
        x = jnp.where(index == steps - 1, prediction.x0, state.x)
        return dataclasses.replace(state, x=x), kept

    start = State(x_T, memory, solver.init(x_T, levels))
    path = (
        jnp.arange(steps),
        levels.map(lambda f: f[:-1]),
        levels.map(lambda f: f[1:]) if targets is None else targets,
        noise,
    )
    final, kept = jax.lax.scan(body, start, path, unroll=unroll)
    return final.x if kept is None else (final.x, kept)


@register_pytree
@dataclasses.dataclass(frozen=True)
class Sampling:
    """Everything that defines how images are drawn; the process is the training's.

    Attributes:
      schedule, grid, steps: the path is process.level(schedule.logsnr(grid(steps))).
      solver: the stepping rule along it.
      guidance, threshold: what is made of the network's denoiser.
    """

    schedule: Schedule
    grid: Grid
    steps: int = dataclasses.field(metadata={"static": True})
    solver: Solver
    guidance: Any = guidances.none()
    threshold: Threshold = thresholding.none()

    def path(self, process: Process) -> NoiseLevel:
        """The levels of a run, fields of shape [steps + 1], noisiest first.

        Raises:
          ValueError: if the grid has no such path.
        """
        return process.level(self.schedule.logsnr(self.grid(self.steps)))

    def targets(self, process: Process) -> NoiseLevel | None:
        """Where each step leads, fields of shape [steps], on a grid that says so; None is along the path."""
        grid: Any = self.grid
        if not hasattr(grid, "targets"):
            return None
        return process.level(self.schedule.logsnr(grid.targets(self.steps)))

    def guided(self, conditional: Denoise, other: Denoise) -> Denoise:
        """The denoiser that the solver calls: guidance, then the threshold."""
        return self.threshold(self.guidance(conditional, other))

    def draw(
        self,
        keys: Key[Array, "batch"],
        conditional: Denoise,
        other: Denoise,
        levels: NoiseLevel,
        shape: tuple[int, ...],
        *,
        memories: tuple[Memory, Memory] = ((), ()),
        targets: NoiseLevel | None = None,
    ) -> Images:
        """Draws images [batch, *shape].

        Args:
          keys: one per image, see `example_keys`.
          conditional: the denoiser of the wanted images.
          other: the one that guidance steers away from.
          levels: the `path`, computed once.
          shape: of one image.
          memories: the first memory of either denoiser.
          targets: the `targets`, computed once.
        """
        denoise = self.guided(conditional, other)
        x_T = initial_noise(keys, jax.tree.map(lambda field: field[0], levels), shape)
        memory = self.guidance.memory(*memories)
        images: Any = sample(
            keys, denoise, self.solver, levels, x_T, memory=memory, targets=targets
        )
        return images


def _check(
    levels: NoiseLevel, x_T: Images, noise, drawn: tuple[int, ...], targets: NoiseLevel | None
) -> None:
    shape = levels.alpha.shape
    require(
        len(shape) == 1 and shape[0] >= 2,
        f"levels must be a path with fields of shape [steps + 1], got {shape}. Make one with "
        "process.level(schedule.logsnr(grid(steps))).",
    )
    if noise is not None:
        expected = (shape[0] - 1, *drawn, *x_T.shape)
        axes = "[steps, draws, *x_T.shape]" if drawn else "[steps, *x_T.shape]"
        require(
            noise.shape == expected,
            f"noise must have shape {axes} = {expected}, got {noise.shape}.",
        )
    if targets is not None:
        expected = (shape[0] - 1,)
        require(
            targets.alpha.shape == expected,
            f"targets must have fields of shape [steps] = {expected}, got {targets.alpha.shape}: one per "
            "step.",
        )
