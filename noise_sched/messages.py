"""The words that error messages have in common: the nearest valid name, and values at a readable length.

    f"unknown schedule {name!r}. {did_you_mean(name, known)}"

is "unknown schedule 'sigmoud'. Did you mean 'sigmoid'? There are: cosine, linear, sigmoid."
"""

import difflib
import pathlib
from collections.abc import Iterable
from typing import Any

_SHOWN = 120  # characters of a value


def nearest(name: str, known: Iterable[Any], cutoff: float = 0.5) -> str | None:
    """The known name that looks most like `name`, None if none does; upper and lower case are one."""
    names = {str(each).lower(): str(each) for each in known}
    found = difflib.get_close_matches(str(name).lower(), list(names), n=1, cutoff=cutoff)
    return names[found[0]] if found else None


def hint(name: str, known: Iterable[Any], cutoff: float = 0.5) -> str:
    """A sentence within a message, "Did you mean 'sigmoid'? "; "" if no known name is near."""
    near = nearest(name, known, cutoff)
    return "" if near is None else f"Did you mean {near!r}? "


def hint_beside(path: pathlib.Path, names: Iterable[str]) -> str:
    """The end of a message, " Did you mean configs/digits.py?"; "" if no name in its folder is near."""
    near = nearest(path.name, names)
    return "" if near is None else f" Did you mean {path.parent / near}?"


def did_you_mean(name: str, known: Iterable[Any]) -> str:
    """The end of a message, one or two sentences: the nearest known name, if there is one, and all names."""
    known = [str(each) for each in known]
    return f"{hint(name, known)}There are: {', '.join(known) or 'none'}."


def shown(value: Any) -> str:
    """`repr`, cut to a readable length."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return f"a number of {value.bit_length():,} bits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"
