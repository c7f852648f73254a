"""Lines that can be told apart, also by the colour-blind, in grey and in a dark theme.

Colours of Okabe and Ito (2008), without its yellow, which is faint on white; then other dashes.
"""

from typing import Any

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#777777")
_DASHES = ("-", "--", ":", "-.")
_MARKS = "osD^vPX"


def colour(number: int) -> str:
    """The colour of the line of that number."""
    return COLOURS[number % len(COLOURS)]


def line(number: int) -> dict[str, Any]:
    """Colour and dashes of one of up to 28 lines, for curves without points."""
    return {"color": colour(number), "linestyle": _DASHES[number // len(COLOURS) % len(_DASHES)]}


def crossing(number: int) -> dict[str, Any]:
    """Colour and dashes of lines that lie upon each other: neighbours differ in both."""
    return {"color": colour(number), "linestyle": _DASHES[number % len(_DASHES)]}


def points(number: int) -> dict[str, Any]:
    """Colour and mark of lines between points."""
    return {"color": colour(number), "marker": _MARKS[number % len(_MARKS)]}
