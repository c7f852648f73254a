"""A workdir: one training run's config and checkpoints, all that sampling needs.

config.json       the resolved config
checkpoints/      the newest ones
ema_snapshots/    averages of power-function shape, with config.ema.stds and .snapshot_every
metrics.jsonl and TensorBoard events
"""

import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from noise_sched.training.report import flatten

# Keys that may change between two starts of one run: they do not enter its numbers.
_FREE = ("sample.", "train.log_every", "train.checkpoint_every", "train.keep", "train.image_every")
_FREE += ("train.skip_nonfinite", "train.fsdp", "data.data_dir", "ema.snapshot_every")

# Keys that came after the first workdirs were written, with the values that change nothing.
_LATER: dict[str, Any] = {
    "augment.probability": 0.0,
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
    "train.time": "uniform()",
    "train.skip_nonfinite": 3,  # decides when a run stops, not what it becomes
}


def checkpoints(workdir: pathlib.Path) -> pathlib.Path:
    """Where the checkpoints are."""
    return workdir / "checkpoints"


def snapshots(workdir: pathlib.Path) -> pathlib.Path:
    """Where the snapshots of the averages are."""
    return workdir / "ema_snapshots"


def load_config(workdir: pathlib.Path) -> ConfigDict:
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
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise TypeError("it is no object")
        return ConfigDict(_with_later(_tuples(found)))
    except (
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:  # no JSON, or no config
        raise ValueError(f"{path} is damaged ({error}): restore it, or train again.") from None


def check_unused(folder: pathlib.Path, flag: str = "--workdir") -> None:
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


def claim(workdir: pathlib.Path, config: ConfigDict) -> None:
    """Writes the config into a new workdir, or checks that an old one is of the same run.

    Raises:
      ValueError: if the folder holds another run or files that are no run; nothing is changed.
    """
    path = workdir / "config.json"
    if path.is_file():
        differences = _differences(load_config(workdir), config)
        if differences:
            raise ValueError(
                f"--workdir={workdir} holds a run with another config:\n  "
                + "\n  ".join(differences)
                + "\nTrain in another folder, or give the old values to go on with this run."
            )
    elif workdir.is_dir() and any(workdir.iterdir()):
        raise ValueError(
            f"--workdir={workdir} is not empty and not a workdir (it has no config.json). "
            "Give a new folder: nothing here is overwritten."
        )
    workdir.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(config.to_json(indent=2) + "\n")
    temporary.replace(path)


def _differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    flat = [flatten(config.to_dict()) for config in (old, new)]
    keys = sorted(set(flat[0]) | set(flat[1]))
    return [
        f"{key}: {flat[0].get(key, 'absent')!r} there, {flat[1].get(key, 'absent')!r} given"
        for key in keys
        if flat[0].get(key) != flat[1].get(key) and not key.startswith(_FREE)
    ]


def _with_later(config: dict) -> dict:
    """A config with the keys that did not exist when it was written."""
    for key, value in _LATER.items():
        room, name = key.split(".")
        # A network's fields are its class's own; those of `_LATER` are RIN's.
        if room != "network" or config.get(room, {}).get("name") == "RIN":
            config.setdefault(room, {}).setdefault(name, value)
    return config


def _tuples(tree) -> Any:
    """JSON knows no tuples; a config's sequences are tuples, which command lines can override."""
    if isinstance(tree, dict):
        return {key: _tuples(value) for key, value in tree.items()}
    return tuple(tree) if isinstance(tree, list) else tree
