"""Choices as the text of a config."""

import dataclasses
from typing import Any

from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import Sampling
from noise_sched.experiment.ranges import value_at
from noise_sched.experiment.rules.facts import Facts

# The keys of a config that do not have a field's own name.
_KEYS = {
    "loss_space": "loss.space",
    "weight": "loss.weight",
    "offset_noise": "loss.offset_noise",
    "clip_x0": "loss.clip_x0",
    "self_conditioning": "loss.self_conditioning",
    "reduction": "loss.reduction",
    "uncertainty": "loss.uncertainty",
    "time": "train.time",
    "density": "train.density",
}


def key_of(part: type, field: str) -> str:
    """The key in a config of a field of `Objective` or `Sampling`."""
    return f"sample.{field}" if part is Sampling else _KEYS.get(field, field)


def chosen(part: Objective | Sampling, field: str) -> str:
    """A choice with its key in a config: "config.sample.grid='trailing()'"."""
    value = getattr(part, field)
    said = repr(spec(value)) if dataclasses.is_dataclass(value) else repr(value)
    return f"config.{key_of(type(part), field)}={said}"


def spec(choice: Any) -> str:
    """What builds `choice` in a config, without the fields that are as by default."""
    if not dataclasses.is_dataclass(choice):
        return repr(choice)
    said, positional = [], True
    for field in dataclasses.fields(choice):
        value = getattr(choice, field.name)
        if field.default is not dataclasses.MISSING and value == field.default:
            positional = False
            continue
        said.append(spec(value) if positional else f"{field.name}={spec(value)}")
    return f"{type(choice).__name__}({', '.join(said)})"


def given(facts: Facts, key: str) -> str:
    """A key of the config with its value: "config.label_dropout=0.1"."""
    return f"config.{key}={value_at(facts.config, key)!r}"
