"""Compiled functions of a trained model that many cells share: their numbers are arguments."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from noise_sched.experiment import Experiment, level_errors
from noise_sched.experiment.hyper import Hyper, stack

LEVELS = 24
"""At how many noise levels a model's error is measured."""


class Programs:
    """Samplers, and errors by noise level, of cells whose networks and structures are the same."""

    def __init__(self, guide: Experiment | None = None):
        self._guide = guide
        self._known: dict[str, Callable[..., Any]] = {}

    def sampler(self, exp: Experiment, hyper: Hyper) -> Callable[..., Any]:
        """`exp.sampler(guide)`; `hyper` are its numbers, in the structure that its group shares."""
        sampling = exp.sampling
        parts = (sampling.solver, sampling.guidance, sampling.threshold, sampling.steps)
        program = self._of(exp, f"sample {parts}", lambda: exp.sampler(self._guide))
        numbers = _numbers(hyper)
        return lambda params, keys, label, worse=None: program(
            params, keys, label, worse, exp.levels, exp.targets, numbers
        )

    def errors(
        self, exp: Experiment, hyper: Hyper, params: Any, batch: dict[str, np.ndarray]
    ) -> dict[str, list[float]]:
        """The error of the predicted x0 at `LEVELS` levels of the training schedule, t = (k + 1/2) / LEVELS.

        Args:
          exp: the experiment.
          hyper: its numbers.
          params: the network's parameters.
          batch: {"image": [batch, h, w, c] in [-1, 1], "label": [batch]}.

        Returns:
          {"logsnr": of each level, input scale included, "error": the mean of |x0 - prediction|^2 there}.
        """
        program = self._of(exp, "errors", lambda: jax.jit(level_errors.program(exp)))
        found = level_errors.measure(exp, _numbers(hyper), params, batch, LEVELS, program)
        return {"logsnr": found.logsnr.tolist(), "error": found.error.tolist()}

    def __len__(self) -> int:
        return len(self._known)

    def _of(self, exp: Experiment, what: str, make: Callable[[], Any]) -> Callable[..., Any]:
        name = f"{what} {exp.network!r} {exp.image_shape}"
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]


def _numbers(hyper: Hyper) -> Hyper:
    return jax.tree.map(lambda x: x[0], stack([hyper]))
