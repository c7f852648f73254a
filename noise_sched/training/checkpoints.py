"""Checkpoints that survive being killed, moved, and read by another number of devices.

Under the directory there is one folder per saved step, which is written under a temporary name and
renamed when it is complete. It holds

    state    step, parameters, optimizer state and random key
    ema      the moving average of the parameters, by itself: sampling reads nothing else
             (with power-function averages a dict of them by width)
    data     the position of the data iterator, as JSON, the same for any number of hosts
    digests  what all these have to be, verified when they are read (see `store`)

Saving is asynchronous: `save` returns once the arrays are copied to the host. No file's meaning
depends on where the directory is. With several hosts every method is to be called on all of them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import logging
from etils import epath

from noise_sched.training import hosts
from noise_sched.training.faults import Damaged
from noise_sched.training.state import TrainState
from noise_sched.training.store import CheckpointMismatch, Steps, Store

__all__ = ["CheckpointMismatch", "Checkpoints", "Restored", "UnreadableCheckpoints"]


class UnreadableCheckpoints(ValueError):
    """There are checkpoints, but all of them are damaged."""


class Restored(NamedTuple):
    """What a checkpoint held."""

    step: int
    state: TrainState
    data: Any


class Checkpoints(Steps):
    """The checkpoints of one run, in one directory."""

    def __init__(
        self,
        directory: str | Path | epath.Path,
        *,
        keep: int = 3,
        read_only: bool = False,
        digests: bool = True,
    ):
        """Opens the directory, making it if needed, and clears away what a killed save left.

        Args:
          directory: a local or remote (`gs://`) directory.
          keep: how many of the newest checkpoints to keep.
          read_only: write, rename and clear away nothing. For reading beside a run that is alive.
          digests: whether what is saved gets digests. Without, damage within an array goes unnoticed.

        Raises:
          ValueError: if `keep` is below 1.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self._store = Store(
            directory,
            ("state", "ema"),
            kind="checkpoint",
            keep=keep,
            read_only=read_only,
            digests=digests,
        )

    def on_disk(self) -> list[int]:
        """The steps that a reader would find: without one whose save has failed."""
        return self._store.on_disk()

    def latest_step(self) -> int | None:
        """The newest of `steps`, or None."""
        return max(self.steps(), default=None)

    def save(self, step: int, state: TrainState, data: Any = None) -> bool:
        """Saves the state after `step` steps, and the data position that goes with it.

        Args:
          step: the number of steps taken, equal to `state.step`.
          state: the state; it may be donated as soon as this returns.
          data: the data iterator's position, anything that JSON can hold.

        Returns:
          Whether it was saved. A step that is there already is left as it is.

        Raises:
          ValueError: if opened read-only, or `data` is not JSON.
          OutOfSpace: if the disk is full, now or while the checkpoint before was written.
        """
        if self._store.read_only:
            raise ValueError(f"{self.directory} was opened read-only: nothing can be saved in it")
        if step in self.steps():
            return False
        try:
            json.dumps(data)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the data position must be something JSON can hold, got {type(data).__name__}: "
                f"{error}"
            ) from error
        trees = {"state": _state_item(state), "ema": state.ema_params}
        return self._store.save(step, trees, {"step": step, "position": data})

    def replace(self, old: int, step: int, state: TrainState, data: Any = None) -> None:
        """Saves a state in place of the checkpoint of step `old`, whose parameters it still has.

        Were it kept beside that one, a run that is restarted again and again without getting
        anywhere would push its older checkpoints out.
        """
        if step == old:
            return
        self.wait()
        others = [there for there in self.steps() if there != old]
        if others and old in self.steps():  # killed here, the run repeats its way from another
            self._store.delete(old)
        self.save(step, state, data)
        self.wait()
        if not others and old in self.steps():
            self._store.delete(old)

    def save_ema(self, step: int, params: Any) -> None:
        """Saves parameters to sample with, alone: `restore_ema` reads them, `restore` cannot."""
        self._store.save(step, {"ema": params})

    def restore(self, abstract: TrainState) -> Restored | None:
        """Restores the newest checkpoint that is sound; with several hosts, of those host 0 sees.

        A damaged one is passed over with a warning. Once an older one has been read, the damaged
        folder is renamed to `STEP.unreadable`, so that the run can save that step anew. Any other
        failure to read is raised as what it is, and changes nothing.

        Args:
          abstract: the shapes of the state (`jax.eval_shape`), each with the layout it is to have
            (`partitioning.with_shardings`), which need not be the one it was saved with; without
            one, full copies on all devices.

        Returns:
          The checkpoint, or None if there is none: a fresh start.

        Raises:
          UnreadableCheckpoints: if all that there are are damaged. Nothing is changed.
          CheckpointMismatch: if the newest holds arrays of other names, shapes or types.
          HostFailed: if another host could not read.
        """

        def read(step: int) -> Restored:
            wanted = {"state": _state_item(abstract), "ema": abstract.ema_params}
            trees, data = self._store.read(step, wanted, data=True)
            state = trees["state"]
            if not isinstance(data, dict) or not {"step", "position"} <= data.keys():
                raise Damaged("data/metadata is not what was written")
            steps = {step, data["step"], int(state["step"])}
            if len(steps) > 1:
                raise Damaged(f"its parts are of different steps: {sorted(steps)}")
            key = jax.random.wrap_key_data(state.pop("key"), impl=_key_impl(abstract.key))
            restored = TrainState(**state, ema_params=trees["ema"], key=key)
            return Restored(step=step, state=restored, data=data["position"])

        return self._newest_sound(read)

    def restore_ema(self, abstract_params: Any, *, step: int | None = None) -> tuple[int, Any]:
        """Restores the moving average alone, for sampling; optimizer state is not read.

        Args:
          abstract_params: the shapes of the parameters, as for `restore`.
          step: which checkpoint; None for the newest that is sound.

        Returns:
          (step, parameters).

        Raises:
          ValueError: if there is no checkpoint, or none of that step.
          UnreadableCheckpoints, CheckpointMismatch, HostFailed: as `restore`.
        """
        steps = self.steps()
        if not steps:
            raise ValueError(
                f"no checkpoint in {self.directory}: train first, or check the directory's name"
            )
        if step is not None and step not in steps:
            raise ValueError(
                f"no checkpoint of step {step} in {self.directory}, which has those of "
                f"{', '.join(map(str, steps))}"
            )

        def read(step: int) -> tuple[int, Any]:
            return step, self._store.read(step, {"ema": abstract_params})[0]["ema"]

        return self._newest_sound(read, step)

    def wait(self) -> None:
        """Waits until the save in progress is on disk; raises what went wrong with it."""
        self._store.wait()

    def outcome(self, *, wait: bool) -> tuple[Exception | None, bool]:
        """What became of the last save: (why it failed or None, whether it has ended).

        A step that failed is none of `steps` from then on. With several hosts it has to be called on all of
        them, and what failed on one has failed on all; as they have to wait for each other, only `wait`
        asks.
        """
        return self._store.outcome(wait=wait)

    def _newest_sound(self, read: Callable[[int], Any], only: int | None = None) -> Any:
        """What `read` makes of the newest step that is not damaged, or of one step alone."""
        damaged: dict[int, str] = {}
        causes: list[Damaged] = []
        while (step := self._next_older(damaged, only)) is not None:
            try:
                found = read(step)
            except Damaged as error:
                damaged[step] = str(error)
                causes.append(error)
                continue
            for older, why in damaged.items():
                self._pass_over(older, why, step)
            return found
        if damaged:
            listing = "\n".join(f"  step {step}: {why}" for step, why in damaged.items())
            raise UnreadableCheckpoints(
                f"no checkpoint in {self.directory} can be read; nothing was changed there. Copy "
                f"one back from elsewhere, or start afresh in another directory.\n{listing}"
            ) from causes[0]
        return None

    def _next_older(self, tried: dict[int, str], only: int | None) -> int | None:
        """The newest step not tried yet, as host 0 sees it."""

        def choose() -> int | None:
            steps = self.steps() if only is None else [only]
            return max((s for s in steps if s < min(tried, default=s + 1)), default=None)

        return hosts.first(choose)

    def _pass_over(self, step: int, why: str, used: int) -> None:
        kept_as = str(step) if self._store.read_only else self._set_aside(step)
        logging.warning(
            "the checkpoint of step %d in %s is damaged (%s): going back to that of step %d; the "
            "damaged folder is kept as %s",
            step,
            self.directory,
            why,
            used,
            kept_as,
        )

    def _set_aside(self, step: int) -> str:
        def choose() -> str:
            taken = {path.name for path in self.directory.iterdir()}
            names = [f"{step}.unreadable"] + [f"{step}.unreadable.{n}" for n in range(1, 1000)]
            return next(name for name in names if name not in taken)

        name = hosts.first(choose)
        self._store.rename(step, name)
        return name


def _state_item(state: TrainState) -> dict[str, Any]:
    """All but the moving average, with the key as plain numbers, for saving or as shapes."""
    if isinstance(state.key, jax.ShapeDtypeStruct):
        data = jax.eval_shape(jax.random.key_data, state.key)
        sharding = state.key.sharding
        key = jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=sharding)
    else:
        key = jax.random.key_data(state.key)
    item = {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
        "key": key,
    }
    return item if state.density is None else item | {"density": state.density}


def _key_impl(key: jax.ShapeDtypeStruct) -> Any:
    """Which generator a key is for; jax tells only of arrays and tracers, not of shapes."""
    seen = []
    jax.eval_shape(lambda k: seen.append(jax.random.key_impl(k)), key)
    return seen[0]
