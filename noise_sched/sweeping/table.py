"""A sweep's results as a table: settings beside each other, with what training seeds do."""

import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from noise_sched.sweeping import significance
from noise_sched.sweeping.cells import SEED
from noise_sched.sweeping.results import Result, Sweep
from noise_sched.sweeping.significance import Summary

Setting = tuple[tuple[str, Any], ...]


class Axes(NamedTuple):
    """How a table is laid out, each a list of axes.

    Attributes:
      rows, columns: as the sweep's file says, or what suits.
      panels: the others.
      within: those whose values alone cells can be compared.
    """

    rows: list[str]
    columns: list[str]
    panels: list[str]
    within: list[str]


class Line(NamedTuple):
    """A setting's place in the table of one figure.

    Attributes:
      setting: its labels, but for the seed.
      block: those that say with what it can be compared.
      summary: its figure.
      chance: how likely it is the best of its block; None where that is not known.
    """

    setting: Setting
    block: Setting
    summary: Summary
    chance: float | None


def axes_of(sweep: Sweep) -> Axes:
    """The axes of a sweep's table; those of one value only are left out."""
    values: dict[str, set[Hashable]] = {}
    for result in sweep.results:
        for axis, label in result.labels.items():
            values.setdefault(axis, set()).add(label)
    varied = [axis for axis, labels in values.items() if axis != SEED and len(labels) > 1]
    rows = [axis for axis in sweep.layout.get("rows", []) if axis in varied]
    columns = [axis for axis in sweep.layout.get("columns", []) if axis in varied]
    left = [axis for axis in varied if axis not in rows + columns]
    if not rows and left:
        rows = [max(left, key=lambda axis: len(values[axis]))]
    if not columns and len(left) > len(rows):
        columns = [next(axis for axis in left if axis not in rows)]
    panels = [axis for axis in varied if axis not in rows + columns]
    within = [axis for axis in sweep.layout.get("within", []) if axis in varied]
    return Axes(rows, columns, panels, within)


def lines(sweep: Sweep, figure: str) -> list[Line]:
    """Every setting that has the figure, block by block."""
    within = axes_of(sweep).within
    blocks: dict[Setting, dict[tuple[Setting, Any], float]] = {}
    for result in sweep.results:
        if figure in result.figures:
            values = blocks.setdefault(part(result.setting, within), {})
            values[result.setting, result.seed] = result.figures[figure]
    found = []
    for block, values in blocks.items():
        better = sweep.better[figure]
        chances = significance.best_of(values, better)
        for setting, summary in significance.compare(values, better).items():
            found.append(Line(setting, block, summary, chances.get(setting)))
    return found


def part(setting: Setting, axes: Sequence[str]) -> Setting:
    """What a setting has on some axes."""
    return tuple((axis, label) for axis, label in setting if axis in axes)


def words(setting: Setting) -> str:
    """A setting, or a part of one, to read: "b=0.5, size=16"."""
    return ", ".join(f"{axis}={label}" for axis, label in setting)


def names(sweep: Sweep) -> list[str]:
    """The figures that there are, the headline's first."""
    known = list(dict.fromkeys(name for result in sweep.results for name in result.figures))
    first = [name for name in headline(sweep) if name in known]
    return first + [name for name in known if name not in first]


def headline(sweep: Sweep) -> list[str]:
    """The figures that the sweep's file calls the ones that matter; or the first."""
    known = [name for result in sweep.results for name in result.figures]
    return sweep.layout.get("figures") or known[:1]


def text(sweep: Sweep, figure: str) -> str:
    """The table of one figure for a terminal, the best first."""
    better = sweep.better[figure]
    found = [f"{figure} ({better} is better), mean ± standard error over seeds"]
    all_lines = lines(sweep, figure)
    varied = [*axes_of(sweep)[0], *axes_of(sweep)[1], *axes_of(sweep)[2]]
    for block in dict.fromkeys(line.block for line in all_lines):
        own = [line for line in all_lines if line.block == block]
        own.sort(key=lambda line: line.summary.mean, reverse=better == "higher")
        if block:
            found.append(f"  {words(block)}")
        shown = [
            words(part(line.setting, [a for a in varied if a not in dict(block)])) for line in own
        ]
        width = max(map(len, shown))
        for name, line in zip(shown, own, strict=True):
            found.append(
                f"    {name:<{width}}  {value(line.summary):>17}  {verdict(line)}".rstrip()
            )
    return "\n".join(found)


def value(summary: Summary) -> str:
    """The mean with its error: "0.913 ± 0.004"."""
    mean = f"{summary.mean:.4g}"
    return mean if math.isnan(summary.error) else f"{mean} ± {summary.error:.2g}"


def verdict(line: Line) -> str:
    """What can be said of a setting beside the best."""
    summary = line.summary
    if summary.verdict == "best":
        sure = "" if line.chance is None else f" ({line.chance:.0%} sure)"
        return f"best{sure}"
    if math.isnan(summary.p):
        return "inconclusive (one seed)"
    p = f"p = {summary.p:.2g}"
    return f"inconclusive ({p})" if summary.verdict == "inconclusive" else f"worse ({p})"


def counts(results: Sequence[Result]) -> str:
    """How many cells are in which state."""
    states = [result.state for result in results]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
