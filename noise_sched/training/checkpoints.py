"""Checkpoints that survive being killed, moved, and read by another number of devices.

Under the directory there is one folder per saved step, which orbax writes under a temporary name
and renames when it is complete. It holds three items:

    state    step, parameters, optimizer state and random key
    ema      the moving average of the parameters, by itself: sampling reads nothing else
             (with power-function averages a dict of them by width)
    data     the position of the data iterator, as JSON, the same for any number of hosts

Saving is asynchronous: `save` returns once the arrays are copied to the host. No file's meaning
depends on where the directory is.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from noise_sched.training.state import TrainState


class UnreadableCheckpoints(ValueError):
    """There are checkpoints, but none of them can be read."""


class CheckpointMismatch(ValueError):
    """A sound checkpoint that holds other arrays than those asked for."""


class Restored(NamedTuple):
    """What a checkpoint held."""

    step: int
    state: TrainState
    data: Any


class Checkpoints:
    """The checkpoints of one run, in one directory.

    Usable as a context manager; leaving it waits for the save in progress.
    """

    def __init__(
        self, directory: str | Path | epath.Path, *, keep: int = 3, read_only: bool = False
    ):
        """Opens the directory, making it if needed, and clears away what a killed save left.

        Args:
          directory: a local or remote (`gs://`) directory.
          keep: how many of the newest checkpoints to keep.
          read_only: write, rename and clear away nothing. For reading beside a run that is alive.

        Raises:
          ValueError: if `keep` is below 1.
        """
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        path = epath.Path(directory).expanduser()
        self.directory = path if "://" in str(path) else path.absolute()
        self._read_only = read_only
        self._manager: Any = None
        if read_only and not self.directory.exists():
            return  # orbax would make it
        self._manager = ocp.CheckpointManager(
            self.directory,
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "ema": ocp.StandardCheckpointHandler(),
                "data": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                # Its own read_only prints warnings; without a save it writes nothing but these.
                create=not read_only,
                cleanup_tmp_directories=not read_only,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    def steps(self) -> list[int]:
        """The steps of the finished checkpoints, sound or not, oldest first."""
        return [] if self._manager is None else sorted(self._manager.all_steps())

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
        """
        if self._read_only:
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
        return self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_state_item(state)),
                ema=ocp.args.StandardSave(state.ema_params),
                data=ocp.args.JsonSave({"step": step, "position": data}),
            ),
            force=True,
        )

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
            self._manager.delete(old)
        self.save(step, state, data)
        self.wait()
        if not others and old in self.steps():
            self._manager.delete(old)

    def save_ema(self, step: int, params: Any) -> None:
        """Saves parameters to sample with, alone: `restore_ema` reads them, `restore` cannot."""
        self._manager.save(
            step, args=ocp.args.Composite(ema=ocp.args.StandardSave(params)), force=True
        )

    def restore(self, abstract: TrainState) -> Restored | None:
        """Restores the newest checkpoint that can be read.

        One that cannot be is passed over with a warning. Once an older one has been read, the
        unreadable folder is renamed to `STEP.unreadable`, so that the run can save that step anew.

        Args:
          abstract: the shapes of the state (`jax.eval_shape`), each with the layout it is to have
            (`partitioning.with_shardings`), which need not be the one it was saved with.

        Returns:
          The checkpoint, or None if there is none: a fresh start.

        Raises:
          UnreadableCheckpoints: if there are checkpoints but none can be read. Nothing is changed.
          CheckpointMismatch: if the newest holds arrays of other names, shapes or types.
        """

        def read(step: int) -> Restored:
            item = _state_item(abstract)
            self._check_same_arrays(step, "state", item)
            self._check_same_arrays(step, "ema", abstract.ema_params)
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(item),
                    ema=ocp.args.StandardRestore(abstract.ema_params),
                    data=ocp.args.JsonRestore(),
                ),
            )
            steps = {step, found.data["step"], int(found.state["step"])}
            if len(steps) > 1:
                raise ValueError(f"its parts are of different steps: {sorted(steps)}")
            key = jax.random.wrap_key_data(found.state.pop("key"), impl=_key_impl(abstract.key))
            state = TrainState(**found.state, ema_params=found.ema, key=key)
            return Restored(step=step, state=state, data=found.data["position"])

        return self._newest_readable(read, self.steps())

    def restore_ema(self, abstract_params: Any, *, step: int | None = None) -> tuple[int, Any]:
        """Restores the moving average alone, for sampling; optimizer state is not read.

        Args:
          abstract_params: the shapes of the parameters, as for `restore`.
          step: which checkpoint; None for the newest that can be read.

        Returns:
          (step, parameters).

        Raises:
          ValueError: if there is no checkpoint, or none of that step.
          UnreadableCheckpoints, CheckpointMismatch: as `restore`.
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
            self._check_same_arrays(step, "ema", abstract_params)
            found = self._manager.restore(
                step, args=ocp.args.Composite(ema=ocp.args.StandardRestore(abstract_params))
            )
            return step, found.ema

        return self._newest_readable(read, steps if step is None else [step])

    def wait(self) -> None:
        """Waits until the save in progress is on disk; raises what went wrong with it."""
        if self._manager is not None:
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the save in progress, and releases orbax's threads."""
        if self._manager is not None:
            self._manager.close()

    def _newest_readable(self, read: Callable[[int], Any], steps: list[int]) -> Any:
        failures: dict[int, str] = {}
        newest_error: Exception | None = None
        for step in sorted(steps, reverse=True):
            try:
                found = read(step)
            except CheckpointMismatch:
                raise
            # orbax and tensorstore raise many types for damaged files, bare Exception among them.
            except Exception as error:
                failures[step] = _brief(error)
                newest_error = newest_error or error
                continue
            if failures:
                self._report(failures, step)
            return found
        if failures:
            listing = "\n".join(f"  step {step}: {why}" for step, why in failures.items())
            raise UnreadableCheckpoints(
                f"no checkpoint in {self.directory} can be read; nothing was changed there. Copy "
                f"one back from elsewhere, or start afresh in another directory.\n{listing}"
            ) from newest_error
        return None

    def _report(self, failures: dict[int, str], used: int) -> None:
        for step, why in failures.items():
            kept_as = step if self._read_only else self._set_aside(step)
            logging.warning(
                "the checkpoint of step %d in %s cannot be read (%s): going back to that of step "
                "%d; the unreadable folder is kept as %s",
                step,
                self.directory,
                why,
                used,
                kept_as,
            )
        if not self._read_only:
            self._manager.reload()

    def _set_aside(self, step: int) -> str:
        names = [f"{step}.unreadable"] + [f"{step}.unreadable.{n}" for n in range(1, 1000)]
        name = next(n for n in names if not (self.directory / n).exists())
        if jax.process_index() == 0:
            (self.directory / str(step)).rename(self.directory / name)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"set aside checkpoint {step}")
        return name

    def _check_same_arrays(self, step: int, item: str, abstract: Any) -> None:
        """Raises for a checkpoint of another configuration; a damaged one fails elsewhere."""
        metadata = self._manager.item_metadata(step)[item]
        there = _arrays(metadata.tree)
        here = _arrays(abstract)
        differing = sorted(p for p in there.keys() | here.keys() if there.get(p) != here.get(p))
        if differing:
            lines = "\n".join(
                f"  {p}: {there.get(p, 'absent')} in the checkpoint, {here.get(p, 'absent')} wanted"
                for p in differing[:5]
            )
            more = f"\n  and {len(differing) - 5} more" if len(differing) > 5 else ""
            raise CheckpointMismatch(
                f"the checkpoint of step {step} in {self.directory} was written with another "
                f"network or optimizer: go back to its configuration, or use another directory. "
                f"{item}:\n{lines}{more}"
            )


def _state_item(state: TrainState) -> dict[str, Any]:
    """All but the moving average, with the key as plain numbers, for saving or as shapes."""
    if isinstance(state.key, jax.ShapeDtypeStruct):
        data = jax.eval_shape(jax.random.key_data, state.key)
        sharding = state.key.sharding
        key = jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=sharding)
    else:
        key = jax.random.key_data(state.key)
    return {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
        "key": key,
    }


def _key_impl(key: jax.ShapeDtypeStruct) -> Any:
    """Which generator a key is for; jax tells only of arrays and tracers, not of shapes."""
    seen = []
    jax.eval_shape(lambda k: seen.append(jax.random.key_impl(k)), key)
    return seen[0]


def _arrays(tree: Any) -> dict[str, str]:
    """Path -> "dtype[shape]" of every array."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            f"{jnp.dtype(leaf.dtype).name}{list(leaf.shape)}"
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}{'...' if len(text) > 200 else ''}"
