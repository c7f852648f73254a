"""A trained model's error at single noise levels, on images that are given."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from noise_sched.diffusion.process import diffuse
from noise_sched.experiment import keys
from noise_sched.experiment.experiment import Experiment
from noise_sched.experiment.hyper import Hyper


class AtLevels(NamedTuple):
    """Errors by noise level, float64 arrays [levels], noise growing.

    Attributes:
      logsnr: of x_t, input scale included.
      loss: the weighted error, as training has it.
      error: the mean of |x0 - prediction|^2.
      explained: 1 - error / Var(x0).
    """

    logsnr: np.ndarray
    loss: np.ndarray
    error: np.ndarray
    explained: np.ndarray


def program(exp: Experiment) -> Callable[..., tuple[Array, Array, Array]]:
    """(params, hyper, key, batch, t) -> logSNR, loss and error at one t; to be compiled.

    It is a first pass: a network with a memory begins with an empty one.
    """

    def at(params: Any, hyper: Hyper, key: Any, batch: Any, t: Any) -> tuple[Array, Array, Array]:
        own = dataclasses.replace(exp, hyper=hyper)
        objective, x0 = own.objective, batch["image"]
        level, rate = objective.level_at(jnp.full(len(x0), t))
        eps = jax.random.normal(key, x0.shape)
        x = diffuse(level, x0, eps)
        memory = exp.network.initial_memory(len(x0))
        found, _ = own.denoiser(params, batch["label"])(x, level, memory)
        space = objective.loss_space
        target, guess = space.target(level, x0, eps), space.target(level, found.x0, found.eps)
        errors = jnp.mean(jnp.square(target - guess), axis=tuple(range(1, x0.ndim)))
        loss = jnp.mean(objective.weight(level, space, rate) * errors)
        return level.logsnr[0], loss, jnp.mean(jnp.square(x0 - found.x0))

    return at


def measure(
    exp: Experiment,
    hyper: Hyper,
    params: Any,
    batch: Mapping[str, np.ndarray],
    levels: int,
    compiled: Callable[..., Any] | None = None,
) -> AtLevels:
    """The errors at `levels` levels of the training schedule, t = (k + 1/2) / levels.

    Args:
      exp: the experiment.
      hyper: its numbers.
      params: the network's parameters.
      batch: {"image": [batch, h, w, c] in [-1, 1], "label": [batch]}.
      levels: how many.
      compiled: `program(exp)`, compiled, where several models share it.
    """
    compiled = jax.jit(program(exp)) if compiled is None else compiled
    key = keys.of_levels(exp.config.sample.seed)
    times = (np.arange(levels) + 0.5) / levels
    found = [compiled(params, hyper, key, batch, jnp.float32(t)) for t in times]
    logsnr, loss, error = np.asarray(jax.device_get(found), np.float64).T
    spread = np.mean(np.var(np.asarray(batch["image"], np.float64), axis=0, ddof=1))
    return AtLevels(logsnr, loss, error, 1.0 - error / spread)
