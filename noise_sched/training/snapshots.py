"""Snapshots of the power-function averages, kept for the whole run.

Under the directory there is one folder per step, written under a temporary name and renamed when
complete, which holds the averages by width and their digests (see `store`). Post-hoc reconstruction
(`power_ema`) reads them all.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from noise_sched.training import power_ema
from noise_sched.training.faults import Damaged
from noise_sched.training.store import Steps, Store


class Snapshots(Steps):
    """The snapshots of one run, in one directory."""

    def __init__(self, directory: str | Path | epath.Path, *, read_only: bool = False):
        """Opens the directory, making it at the first save.

        Args:
          directory: a local or remote (`gs://`) directory.
          read_only: write nothing, clear away nothing that a killed save left.
        """
        self._store = Store(directory, ("ema",), kind="snapshot", read_only=read_only)

    def save(self, step: int, averages: Any) -> None:
        """Saves the averages after `step` steps, which may be donated once this returns.

        A step that is there already, from before a resume, holds the same numbers and is left.

        Raises:
          OutOfSpace: if the disk is full, now or while the snapshot before was written.
        """
        if step not in self.steps():
            self._store.save(step, {"ema": averages})

    def read(self, step: int, abstract: Any) -> Any:
        """The averages of one step, in the shapes of `abstract`, with its layouts where it has any.

        Raises:
          ValueError: if the snapshot is damaged, or holds other arrays.
        """
        try:
            return self._store.read(step, {"ema": abstract})[0]["ema"]
        except Damaged as error:
            folder = self.directory / str(step)
            raise ValueError(
                f"the snapshot {folder} is damaged ({error}). Copy it back from elsewhere, or move it "
                "away: an average can be made from the other snapshots, a little less exactly."
            ) from error

    def reconstruct(
        self, abstract_params: Any, stds: Sequence[float], *, std: float, step: int | None = None
    ) -> tuple[int, Any]:
        """The average of any width at the step of one of the snapshots, from all until then.

        Args:
          abstract_params: the shapes of the parameters.
          stds: the widths that were stored.
          std: the width wanted.
          step: when; None is the last snapshot's.

        Returns:
          (step, parameters), NumPy arrays, summed up in float64.

        Raises:
          ValueError: for a width out of range, if there is no snapshot or none of that step.
        """
        power_ema.exponent(std)
        steps = self.steps()
        if not steps:
            raise ValueError(
                f"no snapshots in {self.directory}: train with --config.ema.stds='(0.05, 0.1)' and "
                "--config.ema.snapshot_every=STEPS."
            )
        step = steps[-1] if step is None else step
        if step not in steps:
            near = min(steps, key=lambda s: abs(s - step))
            raise ValueError(
                f"no snapshot of step {step} in {self.directory}, which has {len(steps)} from step "
                f"{steps[0]} to {steps[-1]}; the nearest is {near}."
            )
        used = [s for s in steps if s <= step]
        shares = power_ema.coefficients(used, stds, step=step, std=std)
        abstract = power_ema.arrange(abstract_params, stds)
        total = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float64), abstract_params)
        for at, row in zip(used, shares, strict=True):
            averages = self.read(at, abstract)
            for stored, share in zip(stds, row, strict=True):
                part = power_ema.choose(averages, stds, stored)
                total = jax.tree.map(lambda t, p, c=share: t + c * np.asarray(p), total, part)
        return step, jax.tree.map(lambda t, a: t.astype(a.dtype), total, abstract_params)
