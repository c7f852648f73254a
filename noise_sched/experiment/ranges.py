"""What every key of a config may be: one table, which is read before anything is built.

    check(config)        raises ConfigError for the first key that is missing, unknown or out of range
    allowed("train.steps")    "a whole number from 1 to 2147483647"

The keys are those of `configs.common.base()`; those of the section `network` are the fields of the network
that it names. Mixes of values are the business of `rules`; a string that is a spec is its builder's.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from noise_sched.messages import did_you_mean, shown

_STEPS = 2**31 - 1  # steps are counted in int32
_SEED = 2**32 - 1  # jax.random.key takes a seed modulo 2^32, without a word
_SIDE = 2**14  # pixels
_IMAGES = 2**20  # in a batch
_SIZE = 2**20  # of a layer
_LARGEST = 3.4e38  # of a float32


class ConfigError(ValueError):
    """A config that cannot work; the message names the key, what it is and what would do."""


@dataclasses.dataclass(frozen=True)
class Range:
    """The values that a number, or each number of a tuple, may have.

    Attributes:
      low, high: the smallest and the largest.
      whole: whether only whole numbers are meant.
      above, below: whether `low`, or `high`, itself is left out.
      many: whether the value is a tuple of such numbers.
      least: how many of them there must be.
    """

    low: int | float
    high: int | float
    whole: bool = False
    above: bool = False
    below: bool = False
    many: bool = False
    least: int = 0

    def __contains__(self, value: Any) -> bool:
        if self.many:
            is_many = isinstance(value, (tuple, list)) and len(value) >= self.least
            return is_many and all(map(self._holds, value))
        return self._holds(value)

    def _holds(self, value: Any) -> bool:
        """Whether one number is in the range. True is an int to Python, here a mistake; NaN is in none."""
        if type(value) is not int and (self.whole or type(value) is not float):
            return False
        if value == self.low or value == self.high:
            return not (self.above if value == self.low else self.below)
        return self.low < value < self.high

    def __str__(self) -> str:
        if self.whole:
            words = f"whole number from {self.low} to {self.high}"
        else:
            first = f"above {self.low:g}" if self.above else f"from {self.low:g}"
            last = f"below {self.high:g}" if self.below else f"to {self.high:g}"
            words = f"number {first}{' and ' if self.above or self.below else ' '}{last}"
        if not self.many:
            return f"a {words}"
        least = f" of at least {self.least}" if self.least else ""
        return f"a tuple{least}, each a {words}"


def _whole(low: int, high: int, **more: Any) -> Range:
    return Range(low, high, whole=True, **more)


_PROBABILITY = Range(0.0, 1.0)
_RATE = Range(0.0, 1.0, below=True)
_NOT_NEGATIVE = Range(0.0, _LARGEST)
_POSITIVE = Range(0.0, _LARGEST, above=True)
_COUNT = _whole(0, _STEPS)
_EVERY = _whole(1, _STEPS)

# Every key but those of the section network, as `configs.common.base()` has them.
KEYS: Mapping[str, Range | type] = {
    "seed": _whole(0, _SEED),
    "schedule": str,
    "process": str,
    "input_scale": str,
    "conditioning": str,
    "parametrization": str,
    "sigma_data": _POSITIVE,
    "loss.space": str,
    "loss.weight": str,
    "loss.self_conditioning": _PROBABILITY,
    "loss.clip_x0": bool,
    "loss.offset_noise": _NOT_NEGATIVE,
    "loss.reduction": str,
    "loss.uncertainty": bool,
    "label_dropout": _PROBABILITY,
    "data.name": str,
    "data.split": str,
    "data.image_size": _whole(1, _SIDE),
    "data.channels": _whole(1, 1024),
    "data.flip": bool,
    "data.data_dir": str,
    "data.skip_unreadable": bool,
    "augment.probability": _PROBABILITY,
    "optimizer.name": str,
    "optimizer.learning_rate": _NOT_NEGATIVE,
    "optimizer.decay": str,
    "optimizer.warmup_steps": _COUNT,
    "optimizer.warmup_images": _NOT_NEGATIVE,
    "optimizer.end_factor": _PROBABILITY,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "optimizer.b1": _RATE,
    "optimizer.b2": _RATE,
    "optimizer.eps": _POSITIVE,
    "optimizer.clip_norm": _NOT_NEGATIVE,
    "optimizer.sanitize": bool,
    "optimizer.infinite_gradient": _NOT_NEGATIVE,
    "optimizer.normalize_weights": bool,
    "ema.decay": _RATE,
    "ema.warmup": bool,
    "ema.halflife_images": _NOT_NEGATIVE,
    "ema.rampup_ratio": _NOT_NEGATIVE,
    "ema.stds": Range(0.0, 1.0, above=True, below=True, many=True),
    "ema.snapshot_every": _COUNT,
    "partition.mesh": str,
    "train.steps": _EVERY,
    "train.batch_size": _whole(1, _IMAGES),
    "train.time": str,
    "train.density": str,
    "train.skip_nonfinite": _COUNT,
    "train.stop_if_unsaved": bool,
    "train.digests": bool,
    "train.microbatches": _whole(1, _IMAGES),
    "train.log_every": _EVERY,
    "train.checkpoint_every": _EVERY,
    "train.keep": _EVERY,
    "train.image_every": _COUNT,
    "train.eval_every": _COUNT,
    "eval.num_images": _whole(2, _IMAGES),
    "eval.metrics": str,
    "eval.reference": str,
    "eval.best": str,
    "eval.weights": str,
    "sample.seed": _whole(0, _SEED),
    "sample.schedule": str,
    "sample.grid": str,
    "sample.steps": _whole(1, 1_000_000),
    "sample.solver": str,
    "sample.guidance": str,
    "sample.threshold": str,
    "sample.batch_size": _whole(1, _IMAGES),
    "sample.ema_std": _RATE,
    "sample.guide_workdir": str,
    "sample.classes": _whole(0, _SIZE, many=True),
}
_SECTIONS = {key.split(".")[0] for key in KEYS if "." in key} | {"network"}

# Every field of the networks but what the section data sets; the same name means the same in all of them.
NETWORK: Mapping[str, Range | type] = {
    "name": str,
    "num_classes": _whole(0, _SIZE),
    "augment_dim": _whole(0, _SIZE),
    "patch_size": _whole(1, _SIDE),
    "num_layers": _whole(0, 1000, many=True, least=1),
    "latent_slots": _whole(1, _SIZE),
    "latent_dim": _whole(1, _SIZE),
    "latent_mlp_ratio": _whole(1, 1024),
    "latent_heads": _whole(1, _SIZE),
    "tape_dim": _whole(1, _SIZE),
    "tape_mlp_ratio": _whole(0, 1024),
    "rw_heads": _whole(1, _SIZE),
    "drop_units": _RATE,
    "drop_path": _RATE,
    "model_channels": _whole(1, _SIZE),
    "channel_mult": _whole(1, 1024, many=True, least=1),
    "num_blocks": _whole(1, 1000),
    "attention_resolutions": _whole(1, _SIDE, many=True),
    "channels_per_head": _whole(1, _SIZE),
    "dropout": _RATE,
    "pad_channels": _whole(1, 1024),
    "resample_filter": _whole(-1000, 1000, many=True, least=1),
    "frequencies": Range(-_LARGEST, _LARGEST, many=True),
    "phases": Range(-_LARGEST, _LARGEST, many=True),
    "logvar_frequencies": Range(-_LARGEST, _LARGEST, many=True),
    "logvar_phases": Range(-_LARGEST, _LARGEST, many=True),
    "embedding": str,
    "encoder": str,
    "decoder": str,
    "tape_pos_encoding": str,
    "dtype": str,
    "time_on_latent": bool,
    "cond_on_latent": bool,
    "cond_tape_writable": bool,
    "xattn_enc_ln": bool,
    "remat": str,
    "scan": bool,
}


def check(config: ConfigDict) -> None:
    """Refuses a config with a key too many or too few, or a value of another type or out of range.

    Raises:
      ConfigError: naming the key, what it is and what it may be.
    """
    check_keys(config)
    for key, value in leaves(config):
        found = _range(key)
        if found is not None and not _fits(value, found):
            raise ConfigError(f"config.{key}={shown(value)}: expected {allowed(key)}.")


def check_keys(config: ConfigDict) -> None:
    """The part of `check` that looks at no value: every key is there, and no other.

    Raises:
      ConfigError: naming the key, and the nearest one that there is.
    """
    found = dict(leaves(config))
    for key in found:
        _check_known(key)
    for key in (*KEYS, "network.name"):
        if key not in found:
            raise ConfigError(
                f"config.{key} is missing: begin with configs.common.base(), which has every key, and "
                "change single keys of it."
            )


def leaves(config: ConfigDict, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The dotted key and the value of everything in a config that is no section."""
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def value_at(config: ConfigDict, key: str) -> Any:
    """The value of a dotted key."""
    return functools.reduce(lambda section, name: section[name], key.split("."), config)


def allowed(key: str) -> str:
    """What a key may be, in words; "" for one that is not in the tables."""
    found = _range(key)
    return _WORDS[found] if isinstance(found, type) else str(found or "")


_WORDS = {bool: "True or False", str: "a string"}


def _fits(value: Any, allowed: Range | type) -> bool:
    return type(value) is allowed if isinstance(allowed, type) else value in allowed


def _range(key: str) -> Range | type | None:
    section, _, name = key.rpartition(".")
    return NETWORK.get(name) if section == "network" else KEYS.get(key)


def _check_known(key: str) -> None:
    section, _, name = key.rpartition(".")
    # Which fields a network has, its module says.
    if key in KEYS or section == "network":
        return
    if key in _SECTIONS:
        raise ConfigError(
            f"config.{key} is a section, with keys of its own: it cannot be replaced."
        )
    if section and section not in _SECTIONS:
        first = section.split(".")[0]
        what = "no section" if first in KEYS else f"unknown. {did_you_mean(first, _names(''))}"
        raise ConfigError(f"config.{key}: config.{first} is {what}")
    raise ConfigError(f"unknown key config.{key}. {did_you_mean(name, _names(section))}")


def _names(section: str) -> list[str]:
    """The keys of a section, and on top the sections too."""
    if not section:
        return sorted({key.split(".")[0] for key in KEYS} | _SECTIONS)
    return [key.rpartition(".")[2] for key in KEYS if key.startswith(f"{section}.")]
