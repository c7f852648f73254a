"""What the keys of a config may be, for people: the choices of a key, each with its equation's source.

    print(describe("sample.solver"))

A choice's sentence is the first of its docstring, and its source the first paper that the docstring, or else
its module's, names. So a new choice describes itself.
"""

import dataclasses
import inspect
import re
import shutil
import sys
import textwrap
from typing import Any, NamedTuple

from noise_sched import networks
from noise_sched.data import offline
from noise_sched.diffusion import specs
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import Sampling
from noise_sched.experiment import optimization, ranges
from noise_sched.experiment.ranges import ConfigError
from noise_sched.experiment.rules.config_text import key_of
from noise_sched.messages import hint

_PAPER = re.compile(r"arXiv (\d{4}\.\d{5})")
# The choices to do nothing, which no paper has to introduce.
_PLAIN = ("none", "fixed", "uniform")

# Keys of a few words, which are no specs.
_WORDS = {
    "optimizer.name": tuple(optimization.NAMES),
    "optimizer.decay": ("none", "linear", "cosine", "cosine@r", "inverse_sqrt@N"),
    "loss.reduction": ("mean", "sum"),
    "network.dtype": ("float32", "bfloat16"),
    "network.remat": ("none", "dots", "layer"),
}


class Choice(NamedTuple):
    """One value that a key may have.

    Attributes:
      call: how it is written, with its arguments and their defaults.
      what: one sentence.
      source: the arXiv number of its paper, "" where there is none.
    """

    call: str
    what: str
    source: str


def spec_keys() -> dict[str, str]:
    """The keys of a config whose values are specs, and the kind of each: {"sample.solver": "solver"}."""
    found = {}
    for part in (Objective, Sampling):
        for field in dataclasses.fields(part):
            kind = "parametrization" if field.name == "loss_space" else field.name
            if kind in specs.KINDS:
                found[key_of(part, field.name)] = kind
    return found


def choices_of(kind: str) -> list[Choice]:
    """The choices of a kind of spec."""
    return [_choice(name, made) for name, made in specs.choices(kind).items()]


def describe(key: str) -> str:
    """The values that a key of a config may have, as text for a terminal of its width.

    Raises:
      ConfigError: if there is no such key.
    """
    known = keys()
    if key not in known:
        all_keys = "`python -m noise_sched.describe` lists all."
        raise ConfigError(f"there is no key {key!r}. {hint(key, known)}{all_keys}")
    if kind := spec_keys().get(key):
        return _listed(f"config.{key} is {_article(kind)}, one of", choices_of(kind))
    if key == "network.name":
        made = [_choice(name, getattr(networks, name), name) for name in networks.__all__]
        return _listed("config.network.name is one of", made)
    if key == "data.name":
        return _listed("config.data.name is one of", _data_sets())
    if key in _WORDS:
        return f"config.{key} is one of {', '.join(_WORDS[key])}."
    return f"config.{key} is {ranges.allowed(key)}."


def keys() -> list[str]:
    """Every key of a config; those of the network that only some networks have are among them."""
    return [*ranges.KEYS, *(f"network.{name}" for name in ranges.NETWORK)]


def overview() -> str:
    """Every key in a line."""
    kinds = spec_keys()
    several = {*kinds, "network.name", "data.name"}
    lines = []
    for key in keys():
        what = f"{len(specs.choices(kinds[key]))} choices" if key in kinds else ""
        what = what or (", ".join(_WORDS[key]) if key in _WORDS else "")
        what = what or ("several choices" if key in several else ranges.allowed(key))
        lines.append(f"  {key:29} {what}")
    return "\n".join(lines)


def _choice(name: str, made: type, call: str = "") -> Choice:
    own, module = inspect.getdoc(made) or "", inspect.getdoc(sys.modules[made.__module__]) or ""
    paragraph = " ".join(own.split("\n\n")[0].split())
    found = None if name in _PLAIN else _PAPER.search(own) or _PAPER.search(module)
    if not call:
        call = name + _arguments(made)
    return Choice(call, paragraph, found.group(1) if found else "")


def _arguments(made: Any) -> str:
    parts = []
    for field in dataclasses.fields(made):
        missing = field.default is dataclasses.MISSING
        parts.append(field.name if missing else f"{field.name}={_short(field.default)}")
    return f"({', '.join(parts)})"


def _short(value: Any) -> str:
    rounded = float(f"{value:.6g}") if isinstance(value, float) else value
    text = repr(rounded)
    return f"{text.split('(')[0]}(...)" if dataclasses.is_dataclass(value) else text


def _data_sets() -> list[Choice]:
    """By module and not by builder: a builder imports TFDS."""
    made = []
    for name, module in offline.MODULES.items():
        doc = inspect.getdoc(__import__(module, fromlist=["BUILDER"])) or ""
        made.append(Choice(name, " ".join(doc.split("\n\n")[0].split()), ""))
    made.append(
        Choice("folder:PATH", "A folder of images; first-level subfolders are classes.", "")
    )
    made.append(Choice("NAME", "Any image data set of TFDS, prepared by noise_sched.prepare.", ""))
    return made


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeio' else 'a'} {kind.replace('_', ' ')}"


def _listed(head: str, made: list[Choice]) -> str:
    width = min(100, shutil.get_terminal_size((80, 24)).columns)
    lines = [head, ""]
    for choice in made:
        lines += textwrap.wrap(choice.call, width, initial_indent="  ", subsequent_indent="      ")
        source = f" [arXiv {choice.source}]" if choice.source else ""
        # A number that the sentence has itself is not said twice.
        source = "" if choice.source and choice.source in choice.what else source
        indent = dict(initial_indent="      ", subsequent_indent="      ")
        lines += textwrap.wrap(choice.what + source, width, **indent)
    return "\n".join(lines)
