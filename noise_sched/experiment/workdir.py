"""A workdir: one training run's config and checkpoints, all that sampling needs.

config.json       the resolved config
checkpoints/      the newest ones
best/             the averages of the best step, with config.eval.best; best.json says which, and how good
ema_snapshots/    averages of power-function shape, with config.ema.stds and .snapshot_every
metrics.jsonl     the means of what training logged; also TensorBoard events, and
                  metrics_window.json, what the next mean is made of after a resume
.lock             only while a command writes (see `locks`)
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from noise_sched.diffusion.loss import Objective
from noise_sched.experiment import build, locks
from noise_sched.experiment.rules.config_text import key_of
from noise_sched.training import files, hosts
from noise_sched.training.files import Folder
from noise_sched.training.report import flatten

# Keys that may change between two starts of one run: they do not enter its numbers.
_FREE = ("sample.", "train.log_every", "train.checkpoint_every", "train.keep", "train.image_every")
_FREE += (
    "train.eval_every",
    "eval.",
    "train.skip_nonfinite",
    "train.stop_if_unsaved",
    "train.digests",
    "partition.",
    "network.remat",
    "data.data_dir",
    "ema.snapshot_every",
)

# The fields of an objective by their keys: specs among them may be written in several ways.
_OBJECTIVE = {key_of(Objective, field.name): field.name for field in dataclasses.fields(Objective)}

# Keys that came after the first workdirs were written, with the values that change nothing.
LATER: dict[str, Any] = {
    "augment.probability": 0.0,
    "data.skip_unreadable": False,
    "loss.reduction": "mean",
    "loss.uncertainty": False,
    "network.augment_dim": 0,
    "network.scan": False,
    "optimizer.warmup_images": 0,
    "optimizer.sanitize": False,
    "optimizer.infinite_gradient": 1e5,
    "optimizer.normalize_weights": False,
    "ema.halflife_images": 0,
    "ema.rampup_ratio": 0.05,
    "ema.stds": (),
    "ema.snapshot_every": 0,
    "sample.ema_std": 0.0,
    "partition.mesh": "",
    "train.time": "uniform()",
    "train.density": "fixed()",
    "train.skip_nonfinite": 3,  # decides when a run stops, not what it becomes
    "train.stop_if_unsaved": True,
    "train.digests": True,
    "train.eval_every": 0,
    "eval.num_images": 1000,
    "eval.metrics": "",
    "eval.reference": "",
    "eval.best": "",
    "eval.weights": "",
}
# A network's fields are its class's own: those of `LATER` are RIN's.
_LATER_OF_EDM2: dict[str, Any] = {"network.scan": False, "network.pad_channels": 1}


def checkpoints(workdir: Folder) -> Folder:
    """Where the checkpoints are."""
    return workdir / "checkpoints"


BEST = "best"
"""The step whose averages are kept beside the checkpoints, by config.eval.best."""


def best(workdir: Folder) -> Folder:
    """Where the averages of the best step are."""
    return workdir / BEST


def snapshots(workdir: Folder) -> Folder:
    """Where the snapshots of the averages are."""
    return workdir / "ema_snapshots"


def load_config(workdir: Folder) -> ConfigDict:
    """The config that a workdir was made with.

    Raises:
      FileNotFoundError: if the folder is no workdir.
      ValueError: if its config cannot be read.
    """
    path = workdir / "config.json"
    if not workdir.is_dir():
        what = "it is a file, no folder" if workdir.is_file() else "there is no such folder"
        raise FileNotFoundError(f"--workdir={workdir}: {what}.")
    if not path.is_file():
        raise FileNotFoundError(
            f"--workdir={workdir} is not a workdir: it has no config.json. Give the folder that "
            "`python -m noise_sched.train --workdir=...` wrote."
        )
    try:
        return config_of(json.loads(path.read_text()))
    except (
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:  # no JSON, or no config
        raise ValueError(f"{path} is damaged ({error}): restore it, or train again.") from None


def config_of(content: Any) -> ConfigDict:
    """The config that JSON has as `content`, with the keys that came after it was written.

    Raises:
      TypeError: if it is no object.
    """
    if not isinstance(content, dict):
        raise TypeError("it is no object")
    return ConfigDict(_with_later(_tuples(content)))


def check_unused(folder: Folder, flag: str = "--workdir") -> None:
    """Refuses a folder that holds anything: nothing is ever overwritten.

    Raises:
      ValueError: if it does; the message names the command's `flag`.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"{flag}={folder} is not empty. Give a new folder: nothing here is overwritten."
        )
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{flag}={folder} is a file. Give a new folder.")


@contextlib.contextmanager
def building(folder: Folder, flag: str = "--workdir") -> Iterator[Folder]:
    """A new workdir, all of it or nothing: gives a folder to write in, which takes its name at the end.

    In a bucket, where folders cannot be renamed, it is written in place.

    Raises:
      ValueError: if the folder holds anything, before the context is entered or since.
      OSError: if it cannot be written.
    """
    check_unused(folder, flag)
    if files.is_remote(folder):
        yield folder
        return
    folder = pathlib.Path(folder)
    with files.writing(flag, folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.partial-")
    with made as partial:
        inside = pathlib.Path(partial) / folder.name
        inside.mkdir()
        yield inside
        # A folder that is not there yet, or is empty, is taken in one step.
        check_unused(folder, flag)
        inside.rename(folder)


@contextlib.contextmanager
def hold(workdir: Folder, config: ConfigDict) -> Iterator[None]:
    """Claims a workdir for a run and keeps other runs out of it until the context is left.

    All hosts have to call it.

    Raises:
      ValueError: as `claim`, and if another process trains there.
      OSError: if it cannot be written.
    """
    hosts.first(lambda: _check(workdir, config))  # before a lock file is put into a foreign folder
    with locks.hold(workdir, "--workdir"):
        claim(workdir, config)
        yield


def claim(workdir: Folder, config: ConfigDict) -> None:
    """Writes the config into a new workdir, or checks that an old one is of the same run.

    The first host writes; then the others check what they see. Several processes that are not one run
    may claim a folder at once: of different configs one is written and the others are refused.

    Raises:
      ValueError: if the folder holds another run or files that are no run; nothing is changed.
      OSError: if it cannot be written.
    """
    hosts.first(lambda: _claim(workdir, config))
    hosts.together(lambda: _check_seen(workdir, config))


def _claim(workdir: Folder, config: ConfigDict) -> None:
    new = _check(workdir, config)
    path = workdir / "config.json"
    text = config.to_json(indent=2) + "\n"
    with files.writing("--workdir", workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        if new and not files.is_remote(workdir):
            written = _write_new(pathlib.Path(path), text)
        else:
            files.write_text(path, text)
            written = True
    if not written:  # another process was first
        _check(workdir, config)


def _check_seen(workdir: Folder, config: ConfigDict) -> None:
    """What every host checks of a folder that the first has claimed."""
    if _check(workdir, config):
        raise ValueError(
            f"--workdir={workdir} is not there on every host of this run, though the first has written it: "
            "give a folder on a disk that all of them see, or in a bucket (gs://...)."
        )


def _write_new(path: pathlib.Path, text: str) -> bool:
    """Writes a file that is not there yet, whole; False if there is one by now."""
    temporary = files.partial(path)
    temporary.write_text(text, encoding="utf-8")
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _check(workdir: Folder, config: ConfigDict) -> bool:
    """Whether the workdir is new; raises as `claim`."""
    if (workdir / "config.json").is_file():
        differences = _differences(load_config(workdir), config)
        if differences:
            raise ValueError(
                f"--workdir={workdir} holds a run with another config:\n  "
                + "\n  ".join(differences)
                + "\nTrain in another folder, or give the old values to go on with this run."
            )
        return False
    if workdir.is_dir():
        if any(not _is_ours(path) for path in workdir.iterdir()):
            if (workdir / "config.json").is_file():  # written since
                return _check(workdir, config)
            raise ValueError(
                f"--workdir={workdir} is not empty and not a workdir (it has no config.json). "
                "Give a new folder: nothing here is overwritten."
            )
    elif workdir.exists() and not workdir.is_dir():  # it may have been made since
        raise ValueError(f"--workdir={workdir} is a file. Give a new folder.")
    return True


def _is_ours(path: Folder) -> bool:
    """Whether a claim that is under way, or was killed, left a file; config.tmp is of earlier versions."""
    return path.name in (locks.NAME, "config.tmp") or files.is_partial(path)


def trained_by(config: ConfigDict) -> tuple[tuple[str, Any], ...]:
    """What of a config its trained model depends on: two configs with the same train the same model."""
    flat = flatten(config.to_dict())
    return tuple((key, flat[key]) for key in sorted(flat) if not key.startswith(_FREE))


def _differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    flat = [flatten(_with_later(config.to_dict())) for config in (old, new)]
    keys = sorted(set(flat[0]) | set(flat[1]))
    return [
        f"{key}: {flat[0].get(key, 'absent')!r} there, {flat[1].get(key, 'absent')!r} given"
        for key in keys
        if flat[0].get(key) != flat[1].get(key)
        and not key.startswith(_FREE)
        and not (key in _OBJECTIVE and _built_alike(old, new, _OBJECTIVE[key]))
    ]


def _built_alike(old: ConfigDict, new: ConfigDict, field: str) -> bool:
    """Whether two spellings of a spec mean the same: "edm(0.5)", and "edm(sigma_data)" where it is 0.5."""
    try:
        first, second = (build.field_of(config, Objective, field) for config in (old, new))
    except (build.ConfigError, KeyError):  # it cannot be built, or is not there
        return False
    return first == second


def _with_later(config: dict) -> dict:
    """A config with the keys that did not exist when it was written."""
    _rename(config)
    network = config.get("network", {}).get("name")
    later = {k: v for k, v in LATER.items() if network == "RIN" or not k.startswith("network.")}
    for key, value in (later | (_LATER_OF_EDM2 if network == "EDM2" else {})).items():
        room, name = key.split(".")
        config.setdefault(room, {}).setdefault(name, value)
    if config.get("optimizer", {}).get("decay") == "constant":  # a second name, of earlier versions
        config["optimizer"]["decay"] = "none"
    return config


def _rename(config: dict) -> None:
    """Gives the keys of earlier versions their present names and values."""
    fsdp = config.get("train", {}).pop("fsdp", 1)
    if fsdp > 1:
        config.setdefault("partition", {}).setdefault("mesh", f"fsdp={fsdp}")
    network = config.get("network", {})
    if isinstance(network.get("remat"), bool):
        network["remat"] = "layer" if network["remat"] else "none"


def _tuples(tree) -> Any:
    """JSON knows no tuples; a config's sequences are tuples, which command lines can override."""
    if isinstance(tree, dict):
        return {key: _tuples(value) for key, value in tree.items()}
    return tuple(tree) if isinstance(tree, list) else tree
