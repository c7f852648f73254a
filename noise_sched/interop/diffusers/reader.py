"""One scheduler file while it is read: its fields, what they may hold, and what became of each."""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import Sampling
from noise_sched.interop.diffusers.fields import ALIASES, FIELDS, MAX_LEVELS, RANGES, UPWARDS
from noise_sched.interop.diffusers.methods import refusal


class DiffusersConfigError(ValueError):
    """A file that is no scheduler config, or one of a class that cannot be read."""


@dataclasses.dataclass(frozen=True)
class FieldReport:
    """A field of the file that is not simply used.

    Attributes:
      name: of the field, or of what the file does not say.
      value: what it holds.
      kind: "unknown" (of no class), "foreign" (another class's: this one ignores it), "inexpressible"
        (left out), "approximate" (replaced by what comes nearest), "no effect" or "assumed".
      reason: why, and what was done instead.
    """

    name: str
    value: Any
    kind: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A scheduler config as our choices.

    Attributes:
      class_name: of diffusers, an alias resolved.
      config: the file.
      training, sampling: what it says.
      fields: every field that is not simply used.
    """

    class_name: str
    config: dict[str, Any]
    objective: Objective
    sampling: Sampling
    fields: tuple[FieldReport, ...]

    @property
    def upwards(self) -> bool:
        """Whether the class goes from an image to its noise: `inversion.invert` runs its solver so."""
        return self.class_name in UPWARDS

    def value(self, field: str) -> Any:
        """The file's value of a field, or its class's default; None where it has none."""
        return self.config.get(field, FIELDS[self.class_name].get(field))


class Reader:
    """The fields of a file; remembers which were asked for and what was said of them.

    Raises:
      DiffusersConfigError: if the file has no class that can be read.
    """

    def __init__(self, config: Any):
        self.class_name = _class_name(config)
        self.defaults = FIELDS[self.class_name]
        self.given = {
            k: v for k, v in config.items() if k not in ("_class_name", "_diffusers_version")
        }
        self.read: set[str] = set()
        self.reports: list[FieldReport] = []
        if config["_class_name"] != self.class_name:
            self.reports.append(
                FieldReport(
                    "_class_name",
                    config["_class_name"],
                    "assumed",
                    f"read as {self.class_name}, the same method under another name.",
                )
            )

    def get(self, field: str, *kinds: type) -> Any:
        """The value of a field, or its default; refused where it is of none of `kinds`."""
        self.read.add(field)
        value = self.given.get(field, self.defaults[field])
        is_bool = isinstance(value, bool)
        if kinds and (not isinstance(value, kinds) or (is_bool and bool not in kinds)):
            expected = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
            raise DiffusersConfigError(f"{field} must be {expected}, got {_short(value)}.")
        if field in RANGES and isinstance(value, int | float) and not is_bool:
            _check_range(field, value)
        return value

    def has(self, field: str) -> bool:
        """Whether the class has such a field."""
        return field in self.defaults

    def whole(self, field: str) -> int:
        """The value of a field that must be a whole number."""
        return self.get(field, int)

    def number(self, field: str) -> float:
        """The value of a field that must be a number."""
        return float(self.get(field, int, float))

    def flag(self, field: str) -> bool:
        """The value of a field that is true or false; false where the class has no such field."""
        return self.has(field) and self.get(field, bool)

    def choice(self, field: str, known: Mapping[str, Any] | tuple[str, ...]) -> Any:
        """The value of a field that must be one of a few names."""
        value = self.get(field)
        if value not in tuple(known):
            near = difflib.get_close_matches(str(value), list(known), n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise DiffusersConfigError(
                f"unknown {field} {_short(value)}. {hint}Known: {', '.join(known)}."
            )
        return known[value] if isinstance(known, Mapping) else value

    def say(self, field: str, kind: str, reason: str) -> None:
        """Reports a field."""
        self.read.add(field)
        value = self.given.get(field, self.defaults.get(field))
        self.reports.append(FieldReport(field, value, kind, reason))

    def refuse(self, *fields: str, reason: str) -> None:
        """Reports fields as inexpressible, where they differ from their defaults."""
        for field in fields:
            if self.has(field) and self.get(field) != self.defaults[field]:
                self.say(field, "inexpressible", reason)

    def ignore(self, *fields: str, reason: str) -> None:
        """Reports fields that the class itself makes nothing of, where they differ from their defaults."""
        for field in fields:
            if self.has(field) and self.get(field) != self.defaults[field]:
                self.say(field, "no effect", reason)

    def say_of(self, what: str, kind: str, reason: str) -> None:
        """Reports what the file does not say."""
        self.reports.append(FieldReport(what, None, kind, reason))

    def finish(self) -> tuple[FieldReport, ...]:
        """All reports, with one for every field that nobody asked for."""
        for field, value in self.given.items():
            if field in self.read:
                continue
            owners = [name for name, fields in FIELDS.items() if field in fields]
            if field in self.defaults:
                if value != self.defaults[field]:
                    self.say(field, "no effect", "the other fields turn off what it belongs to.")
            elif owners:
                self.say(
                    field,
                    "foreign",
                    f"a field of {owners[0]}; {self.class_name} has none and ignores it.",
                )
            else:
                known = sorted(self.defaults)
                near = difflib.get_close_matches(field, known, n=1, cutoff=0.6)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                self.say(field, "unknown", f"no scheduler read here has such a field.{hint}")
        return tuple(self.reports)


def _class_name(config: Any) -> str:
    if not isinstance(config, Mapping):
        raise DiffusersConfigError(
            f"expected an object of fields, got {type(config).__name__}: this is no "
            "scheduler_config.json."
        )
    name = config.get("_class_name")
    if name is None:
        raise DiffusersConfigError(
            "no field '_class_name': this is no scheduler_config.json of diffusers."
        )
    if not isinstance(name, str):
        raise DiffusersConfigError(
            f"_class_name must be str, the name of a class such as 'DDIMScheduler', got {_short(name)}."
        )
    name = ALIASES.get(name, name)
    if name not in FIELDS:
        raise DiffusersConfigError(refusal(name, (*FIELDS, *ALIASES)))
    return name


def _check_range(field: str, value: int | float) -> None:
    low, high, with_low, with_high = RANGES[field]
    above = value >= low if with_low else value > low
    below = value <= high if with_high else value < high
    if above and below:
        return
    if field == "num_train_timesteps" and value > MAX_LEVELS:
        raise DiffusersConfigError(
            f"num_train_timesteps={value} is more than the {MAX_LEVELS:,} levels that are read: a table "
            "of them all would have to be made. Diffusion models have 1000 or a few thousand."
        )
    ends = f"{'[' if with_low else '('}{low:,}, {high:,}{']' if with_high else ')'}"
    allowed = "be positive and finite" if ends == "(0, inf)" else f"lie in {ends}"
    raise DiffusersConfigError(f"{field} must {allowed}, got {_short(value)}.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_betas(betas: Sequence[Any]) -> tuple[float, ...]:
    """The betas of trained_betas.

    Raises:
      DiffusersConfigError: naming the first that is none.
    """
    if not 1 <= len(betas) <= MAX_LEVELS:
        raise DiffusersConfigError(
            f"trained_betas must hold 1 to {MAX_LEVELS:,} numbers, got {len(betas)}."
        )
    for k, beta in enumerate(betas, start=1):
        last = k == len(betas)
        is_number = isinstance(beta, int | float) and not isinstance(beta, bool)
        if not is_number or not (0 <= beta < 1 or (last and beta == 1)) or math.isnan(beta):
            raise DiffusersConfigError(
                f"trained_betas: beta_{k} = {_short(beta)} is no number in [0, 1); only the last may be 1."
            )
    return tuple(map(float, betas))
