"""Sampling levels for a trained model: what `python -m noise_sched.fit_steps` does, as functions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from noise_sched.diffusion import fitted_levels
from noise_sched.diffusion.fitted_levels import Fitted, Model
from noise_sched.diffusion.sampling import draw as draw_noise
from noise_sched.diffusion.sampling import example_keys
from noise_sched.diffusion.schedules.tables import nearest_in, num_levels
from noise_sched.experiment import keys, sampler
from noise_sched.experiment.experiment import Experiment
from noise_sched.experiment.ranges import ConfigError
from noise_sched.experiment.rules.config_text import chosen

OWN = "the config's own"
_FINE_STEPS = (256, 128, 64, 32)  # of the config's own path, which tells where it begins and ends


class Row(NamedTuple):
    """Levels for one number of steps.

    Attributes:
      steps: S.
      logsnr: of the schedule, [steps], noisiest first, rounded as it is written.
      errors: of the images, on noise that nothing was fitted to: "fitted", and other levels by name.
      fitted: how they were found.
    """

    steps: int
    logsnr: np.ndarray
    errors: dict[str, float]
    fitted: Fitted

    @property
    def schedule(self) -> str:
        """The spec of these levels."""
        return spec_of(self.logsnr)

    @property
    def flags(self) -> str:
        """What makes `sample` use them."""
        return (
            f'--config.sample.schedule="{self.schedule}" --config.sample.grid="uniform()" '
            f"--config.sample.steps={self.steps}"
        )


def spec_of(logsnr: np.ndarray) -> str:
    """The spec of a path, [steps], noisiest first, to four digits after the point."""
    silent = int(np.isneginf(logsnr[0]))
    listed = ", ".join(f"{round(float(value), 4):g}" for value in logsnr[silent:])
    return f"from_levels([{listed}]{', zero_snr=True' if silent else ''})"


def fit(
    exp: Experiment,
    params: Any,
    steps: Sequence[int],
    *,
    guide: tuple[Experiment | None, Any] = (None, None),
    images: int = 64,
    grid: int = 40,
    rounds: int = 8,
) -> list[Row]:
    """Fits sampling levels to a model for each of `steps`.

    Args:
      exp: the experiment; its config.sample has the solver, guidance and threshold.
      params: the averaged parameters.
      steps: numbers of steps.
      guide: for autoguidance, the worse model's experiment and parameters.
      images: how many the levels are fitted to, and how many others judge them.
      grid: steps of the fine grid.
      rounds: of the search that follows the shortest path; 0 leaves it out.

    Raises:
      ConfigError: for a solver that draws noise, a grid whose steps lead further than the next level, or more
        steps than the fine grid has.
    """
    check(exp, steps, grid)
    model = _model(exp, params, guide, images)
    path = fitted_levels.fine_grid(_own_path(exp, _FINE_STEPS), grid)
    fitted_to, judged_on = (
        _reference(exp, model, path, key, images, guide[0])
        for key in keys.of_fitted_steps(exp.config.sample.seed)
    )
    costs = fitted_levels.step_errors(model, fitted_to)
    judge = fitted_levels.end_error(model, judged_on)
    rows = []
    for count in steps:
        starts = own(exp, path, count)
        found = fitted_levels.fit(
            model, fitted_to, count, starts=starts, errors=costs, rounds=rounds
        )
        rounded = np.round(found.logsnr, 4)
        judged = {"fitted": rounded, **starts, **fitted_levels.usual(path, count)}
        errors = {name: judge(levels) for name, levels in judged.items()}
        rows.append(Row(count, rounded, errors, found))
    return rows


def check(exp: Experiment, steps: Sequence[int], grid: int) -> None:
    """Refuses what cannot be fitted, before a checkpoint is read.

    Raises:
      ConfigError: naming the key.
    """
    sampling = exp.sampling
    if sampling.solver.stochastic:
        raise ConfigError(
            f"{chosen(sampling, 'solver')} draws noise of its own, and levels are fitted to images that "
            "x_T decides. Fit them to its deterministic part, such as "
            "--config.sample.solver='ddim(eta=0.0)' or 'heun()', and use them with either."
        )
    if exp.targets is not None:
        raise ConfigError(
            f"{chosen(sampling, 'grid')} leads further than the next level; fitted levels are a path "
            "of their own. Use --config.sample.grid='uniform()'."
        )
    if max(steps) >= grid:
        raise ConfigError(
            f"--steps={max(steps)} cannot be chosen from a fine grid of --grid={grid} steps: ask for fewer "
            "steps, or give a finer grid."
        )


def own(exp: Experiment, path: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """The config's own levels for as many steps; none where its grid has none, or begins elsewhere."""
    try:
        levels = _own_path(exp, (steps,))[:-1]
    except ConfigError:
        return {}
    return {OWN: levels} if levels[0] == path[0] or np.isclose(levels[0], path[0]) else {}


def numbers(exp: Experiment, row: Row) -> dict[str, list[float]]:
    """The same levels as diffusers' `set_timesteps` takes them: sigmas, and timesteps of numbered levels."""
    process, schedule = exp.objective.process, exp.objective.schedule
    ratio = process.level(jnp.asarray(row.logsnr, float)).ratio
    found = {"sigmas": [*np.asarray(ratio, float).tolist(), 0.0]}
    if num_levels(schedule) and hasattr(schedule, "table"):
        nearest = nearest_in(np.asarray(schedule.table()), jnp.asarray(row.logsnr, float))
        found["timesteps"] = np.asarray(nearest).tolist()
    return found


def _own_path(exp: Experiment, tried: Sequence[int]) -> np.ndarray:
    """The schedule's logSNR along the config's own path, of the first number of steps that its grid has."""
    for steps in tried:
        try:
            times = exp.sampling.grid(steps)
        except ValueError:
            continue
        return np.asarray(exp.sampling.schedule.logsnr(times), np.float64)
    raise ConfigError(
        f"{chosen(exp.sampling, 'grid')} has no path of {' or '.join(map(str, tried))} steps."
    )


def _model(
    exp: Experiment, params: Any, guide: tuple[Experiment | None, Any], images: int
) -> Model:
    labels = sampler.draw_labels(keys.of_sampling(exp.config.sample.seed)[1], exp.config, images)

    def denoiser(both: Any) -> Any:
        return exp.sampling.guided(*exp.two_denoisers(both[0], labels, guide[0], both[1]))

    return Model(denoiser, (params, guide[1]), exp.objective.process, exp.sampling.solver)


def _reference(
    exp: Experiment, model: Model, path: np.ndarray, key: Any, images: int, guide: Any
) -> fitted_levels.Reference:
    noise = draw_noise(example_keys(key, jnp.arange(images)), exp.image_shape, float)
    memory = exp.sampling.guidance.memory(*exp.first_memories(images, guide))
    return fitted_levels.reference(model, model.levels(path).sigma[0] * noise, path, memory)


def as_json(exp: Experiment, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What is kept of the rows."""
    return [
        {
            "steps": row.steps,
            "schedule": row.schedule,
            "logsnr": [float(x) if np.isfinite(x) else str(x) for x in row.logsnr],
            "errors": row.errors,
            "start": row.fitted.start,
            "diffusers": {
                name: [x if np.isfinite(x) else str(x) for x in values]
                for name, values in numbers(exp, row).items()
            },
            "flags": row.flags,
        }
        for row in rows
    ]
