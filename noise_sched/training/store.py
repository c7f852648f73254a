"""One folder per saved step, each with named trees of arrays and a record of their digests.

orbax writes each folder under a temporary name and renames it when it is complete. Beside the trees it
holds

    digests     JSON: of every array the type, shape and digest (`digests`), the digest of the data position,
                and one of all these

Whoever reads a tree says where its arrays are to be: what the files tell of the devices that wrote them is
not used, as these may not exist any more. Folders without digests are of an earlier version, or of a run that
does without them; they are read unverified.
"""

import contextlib
import dataclasses
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from noise_sched.training import digests, faults, hosts, partitioning
from noise_sched.training.faults import Damaged

Kind = TypeVar("Kind", bound="Steps")

_DATA, _DIGESTS = "data", "digests"
_PATIENCE = 100  # tenths of a second
_FILE = "metadata"  # what orbax calls the file of a JSON item


class CheckpointMismatch(ValueError):
    """A sound checkpoint that holds other arrays than those asked for."""


class Store:
    """A directory of saved steps."""

    def __init__(
        self,
        directory: str | Path | epath.Path,
        trees: tuple[str, ...],
        *,
        kind: str,
        keep: int | None = None,
        read_only: bool = False,
        digests: bool = True,
    ):
        """Opens the directory, making it if needed, and clears away what a killed save left.

        Args:
          directory: a local or remote (`gs://`) directory.
          trees: the names of the trees that a step may have.
          kind: what a step is called in messages: "checkpoint".
          keep: how many of the newest steps to keep; None is all.
          read_only: write, rename and clear away nothing. For reading beside a run that is alive.
          digests: whether what is saved gets digests. Without, damage within an array goes unnoticed.
        """
        path = epath.Path(directory).expanduser()
        self.directory = path if "://" in str(path) else path.absolute()
        self.read_only = read_only
        self.kind = kind
        self._with_digests = digests
        self._arrays = ocp.StandardCheckpointHandler()
        self._manager: Any = None
        if read_only and not self.directory.exists():
            return  # orbax would make it
        faults.quiet_background()
        handlers: dict[str, Any] = {name: ocp.StandardCheckpointHandler() for name in trees}
        handlers |= {_DATA: ocp.JsonCheckpointHandler(), _DIGESTS: _DigestsHandler()}
        with self._told_if_full():
            self._manager = ocp.CheckpointManager(
                self.directory,
                item_handlers=handlers,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=keep,
                    # Its own read_only prints warnings; without a save it writes nothing but these.
                    create=not read_only,
                    cleanup_tmp_directories=not read_only,
                ),
            )

    def steps(self) -> list[int]:
        """The finished steps, sound or not, oldest first."""
        return [] if self._manager is None else sorted(self._manager.all_steps())

    def save(self, step: int, trees: Mapping[str, Any], data: Any = None) -> bool:
        """Saves trees of arrays, and anything that JSON can hold, as one step.

        Returns once the arrays are copied to the host; the rest goes on in the background.

        Raises:
          OutOfSpace: if the disk is full, now or while the step before was written.
        """
        args = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        if self._with_digests:
            args |= {_DIGESTS: _DigestsSave(_begin_record(trees, data))}
        args |= {} if data is None else {_DATA: ocp.args.JsonSave(data)}
        with self._told_if_full():
            return self._manager.save(step, args=ocp.args.Composite(**args), force=True)

    def delete(self, step: int) -> None:
        """Removes a finished step. With several hosts to be called on all of them."""
        self._manager.delete(step)

    def read(
        self, step: int, trees: Mapping[str, Any], *, data: bool = False
    ) -> tuple[dict[str, Any], Any]:
        """Reads trees of one step, and verifies them. All hosts have to call it alike.

        Args:
          step: one of `steps`.
          trees: the shapes of each tree (`jax.eval_shape`). An array whose layout is not given is
            copied to every device that is there.
          data: whether to read what was saved as JSON.

        Returns:
          (the trees by name, the data or None).

        Raises:
          Damaged: naming the files or arrays that are not as they were written.
          CheckpointMismatch: if the step holds arrays of other names, shapes or types.
          Exception: anything else that kept this host from reading.
          HostFailed: if that happened to another host.
        """
        folder = self.directory / str(step)
        placed = {name: _placed(tree) for name, tree in trees.items()}

        # Nothing in here waits for another host: orbax's own `restore` does.
        def read() -> tuple[dict[str, Any] | None, dict[str, Any], Any]:
            record = _read_record(folder)
            for name, tree in placed.items():
                self._check_same_arrays(folder, name, tree, record)
            found = {name: self._read_tree(folder, name, tree) for name, tree in placed.items()}
            return record, found, _read_data(folder, record) if data else None

        record, found, position = hosts.together(read, mild=Damaged)
        if record is not None:
            hosts.together(lambda: _verify(found, record), mild=Damaged)
        return found, position

    def rename(self, step: int, name: str) -> None:
        """Gives the folder of a step another name; it is a step no longer."""

        def rename() -> None:
            if jax.process_index() == 0:
                (self.directory / str(step)).rename(self.directory / name)

        hosts.together(rename)
        self._manager.reload()

    def wait(self) -> None:
        """Waits until the save in progress is on disk; raises what went wrong with it."""
        if self._manager is not None:
            with self._told_if_full():
                self._manager.wait_until_finished()

    def outcome(self, *, wait: bool) -> tuple[Exception | None, bool]:
        """What became of the last save; see `Checkpoints.outcome`."""
        if not wait and (hosts.several() or self._manager.is_saving_in_progress()):
            return None, False
        failure = None
        try:
            self.wait()
        except Exception as error:  # what a file system raises has many types
            failure = error
        told = hosts.everywhere(lambda: "" if failure is None else faults.brief(failure))
        if any(told):
            hosts.first(self._clear_away)
        for host, text in enumerate(told):
            if text and failure is None:
                failure = hosts.HostFailed(f"host {host} of {len(told)}: {text}")
        return failure, True

    def _clear_away(self) -> None:
        """Removes what a failed save left, in which writing may still go on for a moment."""
        if "://" in str(self.directory):
            return  # in a bucket nothing is renamed: the next save writes over it
        for _ in range(_PATIENCE):
            left = [p for p in Path(self.directory).iterdir() if ".orbax-checkpoint-tmp" in p.name]
            if not left:
                return
            for path in left:
                shutil.rmtree(path, ignore_errors=True)
            time.sleep(0.1)

    def close(self) -> None:
        """Waits for the save in progress, and releases orbax's threads."""
        if self._manager is not None:
            with self._told_if_full():
                self._manager.close()

    def _told_if_full(self) -> contextlib.AbstractContextManager[None]:
        return faults.told_if_full(self.directory, self.kind, self.on_disk)

    def on_disk(self) -> list[int]:
        """What `steps` would be had the directory just been opened: without the step that failed."""
        if not self.directory.exists():
            return []
        folders = [path for path in self.directory.iterdir() if path.name.isdigit()]
        return [int(path.name) for path in folders if ocp.path.step.is_checkpoint_finalized(path)]

    def _read_tree(self, folder: epath.Path, name: str, abstract: Any) -> Any:
        try:
            return self._arrays.restore(folder / name, args=ocp.args.StandardRestore(abstract))
        except Exception as error:
            if not faults.is_damage(error):
                error.add_note(f"while reading {folder / name}; nothing was changed there")
                raise
            raise Damaged(_what_is_damaged(folder, name, error)) from error

    def _check_same_arrays(
        self, folder: epath.Path, name: str, abstract: Any, record: dict[str, Any] | None
    ) -> None:
        if record is None:
            there = self._arrays_of_old(folder, name)
        elif name in record["arrays"]:
            there = {path: kind for path, (kind, _) in record["arrays"][name].items()}
        else:
            raise CheckpointMismatch(
                f"the {self.kind} of step {folder.name} in {self.directory} holds no {name}, only "
                f"{', '.join(record['arrays'])}: it can be sampled from, but not trained on."
            )
        here = _kinds(abstract)
        differing = sorted(p for p in there.keys() | here.keys() if there.get(p) != here.get(p))
        if differing:
            lines = "\n".join(
                f"  {p}: {there.get(p, 'absent')} in the {self.kind}, {here.get(p, 'absent')} wanted"
                for p in differing[:5]
            )
            more = f"\n  and {len(differing) - 5} more" if len(differing) > 5 else ""
            raise CheckpointMismatch(
                f"the {self.kind} of step {folder.name} in {self.directory} was written with another "
                f"network or optimizer: go back to its configuration, or use another directory. "
                f"{name}:\n{lines}{more}"
            )

    def _arrays_of_old(self, folder: epath.Path, name: str) -> dict[str, str]:
        """What a step without digests holds, as its own structure tells it."""
        try:
            return _kinds(self._arrays.metadata(folder / name).tree)
        except Exception as error:
            if not faults.is_damage(error):
                raise
            raise Damaged(_what_is_damaged(folder, name, error)) from error


class Steps:
    """The saved steps of one run, in one directory. Leaving the context waits for the save in progress."""

    _store: Store

    @property
    def directory(self) -> epath.Path:
        """Where they are."""
        return self._store.directory

    def __enter__(self: Kind) -> Kind:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    def steps(self) -> list[int]:
        """The finished steps, sound or not, oldest first."""
        return self._store.steps()

    def close(self) -> None:
        """Waits for the save in progress, and releases orbax's threads."""
        self._store.close()


def _placed(abstract: Any) -> Any:
    """The shapes, each with a layout on the devices of this process; full copies where none is given."""
    copies = partitioning.replicated(partitioning.make_mesh())

    def placed(leaf: Any) -> Any:
        if not isinstance(leaf, jax.ShapeDtypeStruct) or leaf.sharding is not None:
            return leaf
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=copies)

    return jax.tree.map(placed, abstract)


def _kinds(tree: Any) -> dict[str, str]:
    """Path -> "dtype[shape]" of every array."""
    return {
        digests.path_name(path): f"{jnp.dtype(leaf.dtype).name}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _begin_record(trees: Mapping[str, Any], data: Any) -> Callable[[], dict[str, Any]]:
    """What makes the item `digests`, in the background; the arrays may be donated from now on."""
    kinds = {name: _kinds(tree) for name, tree in trees.items()}
    begun = {name: digests.begin(tree) for name, tree in trees.items()}

    def record() -> dict[str, Any]:
        arrays = {}
        for name, finish in begun.items():
            of_content = finish()
            arrays[name] = {path: [kind, of_content[path]] for path, kind in kinds[name].items()}
        made = {"arrays": arrays, "data": digests.of_json(data)}
        return made | {"own": digests.of_json(made)}

    return record


class _DigestsHandler(ocp.JsonCheckpointHandler):
    """JSON that is worked out while the arrays are written."""

    async def _save_fn(self, x: Callable[[], Any], directory: Any) -> None:
        await super()._save_fn(x(), directory)


@ocp.args.register_with_handler(_DigestsHandler, for_save=True)
@dataclasses.dataclass
class _DigestsSave(ocp.args.CheckpointArgs):
    item: Callable[[], Any]


@ocp.args.register_with_handler(_DigestsHandler, for_restore=True)
@dataclasses.dataclass
class _DigestsRestore(ocp.args.CheckpointArgs):
    """Unused: orbax wants a pair."""


def _read_json(folder: epath.Path, item: str) -> Any:
    path = folder / item / _FILE
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise Damaged(f"{item}/{_FILE} is missing") from None
    except ValueError as error:  # no JSON, or no text
        raise Damaged(f"{item}/{_FILE} cannot be read: {faults.brief(error)}") from error


def _read_record(folder: epath.Path) -> dict[str, Any] | None:
    """The digests of a step, or None if it was written without."""
    if not (folder / _DIGESTS).exists() and not _names_digests(folder):
        return None
    record = _read_json(folder, _DIGESTS)
    own = record.pop("own", None) if isinstance(record, dict) else None
    if own is None or own != digests.of_json(record):
        raise Damaged(f"{_DIGESTS}/{_FILE} is not what was written")
    return record


def _names_digests(folder: epath.Path) -> bool:
    """Whether orbax's list of what a step holds tells of digests that are not there any more."""
    path = folder / "_CHECKPOINT_METADATA"
    return path.exists() and f'"{_DIGESTS}"'.encode() in path.read_bytes()


def _read_data(folder: epath.Path, record: dict[str, Any] | None) -> Any:
    data = _read_json(folder, _DATA)
    if record is not None and record["data"] != digests.of_json(data):
        raise Damaged(f"{_DATA}/{_FILE} is not what was written")
    return data


def _verify(found: Mapping[str, Any], record: dict[str, Any]) -> None:
    changed = [
        f"{name}/{path}"
        for name, tree in found.items()
        for path, digest in digests.of_tree(tree).items()
        if record["arrays"][name][path][1] != digest
    ]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise Damaged(f"not what was written: the array {', '.join(changed[:3])}{more}")


def _what_is_damaged(folder: epath.Path, name: str, error: Exception) -> str:
    """The files of a tree that are, as far as the error or the files tell."""
    tree = folder / name
    for path in (tree, tree / "manifest.ocdbt", tree / "_METADATA"):
        if not path.exists():
            return f"{_below(folder, path)} is missing"
    innermost: BaseException = error
    while innermost.__cause__ is not None:
        innermost = innermost.__cause__
    if (named := _named_by_tensorstore(str(innermost), folder)) is not None:
        return named
    structure = [tree / "_METADATA"]
    if (tree / "array_metadatas").exists():
        structure += sorted((tree / "array_metadatas").iterdir())
    suspects = [path for path in structure if not _is_json(path)] or structure
    names = " or ".join(_below(folder, path) for path in suspects)
    return f"{names} ({faults.brief(innermost, folder)})"


def _named_by_tensorstore(text: str, folder: epath.Path) -> str | None:
    """The file, or else the array, that a message of tensorstore is about; it quotes inside out."""
    text = re.split(r" \[\w+(?:\[\d+\])?=", text)[0]
    files = [f for f in re.findall(r'local file "([^"]+)"', text) if not f.endswith("/")]
    arrays = re.findall(
        r'reading "([^"]+)/[\d.]+" in OCDBT database at local file "([^"]+)/"', text
    )
    if files:
        named, quoted = files[-1].removeprefix(f"{folder}/"), files[-1]
    elif arrays:
        array, quoted = arrays[-1]
        named, quoted = f"the array {quoted.removeprefix(f'{folder}/')}/{array}", f"{quoted}/"
    else:
        return None
    detail = text.rpartition(f'"{quoted}"')[2].strip(" :")
    return f"{named} ({detail[:120] or 'cannot be read'})"


def _below(folder: epath.Path, path: epath.Path) -> str:
    return str(path)[len(str(folder)) + 1 :]


def _is_json(path: epath.Path) -> bool:
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True
