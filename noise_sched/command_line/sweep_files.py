"""Loading a sweep file: --sweep=FILE.py or --sweep=FILE.py:VARIANT.

Besides `get_config`, which makes the base, it has a function `sweep` that yields the cells. It may say
which axes are ROWS and COLUMNS of a table, WITHIN the values of which alone cells can be compared, and which
FIGURES matter.
"""

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from noise_sched.command_line import config_files
from noise_sched.experiment.ranges import ConfigError
from noise_sched.messages import shown


class SweepFile(NamedTuple):
    """What a sweep file says.

    Attributes:
      base: the config that all cells start from.
      cells: a dict of what each changes.
      layout: the axes that are "rows", "columns" and "within", and the "figures" that matter.
    """

    base: ConfigDict
    cells: list[dict[str, Any]]
    layout: dict[str, list[str]]


def load(spec: str) -> SweepFile:
    """The sweep of "FILE.py" or "FILE.py:VARIANT".

    Raises:
      ConfigError: if there is no such file, it fails, or it is no sweep.
    """
    loaded = config_files.load_module(spec, "sweep")
    sweep = getattr(loaded.module, "sweep", None)
    if not callable(sweep):
        raise ConfigError(
            f"{loaded.given}: {loaded.path} has no function sweep(); it has to yield the cells, each a dict "
            'such as {"schedule": "cosine()", "seed": 1}. A single config is trained by '
            "`python -m noise_sched.train`."
        )
    takes_variant = bool(inspect.signature(sweep).parameters)
    cells = loaded.run(lambda: _listed(sweep(*loaded.arguments[: int(takes_variant)])))
    for number, cell in enumerate(cells):
        if not isinstance(cell, dict) or not all(isinstance(key, str) for key in cell):
            raise ConfigError(
                f"{loaded.given}: cell {number} of its sweep() is {shown(cell)}; expected a dict of config "
                'keys, such as {"schedule": "cosine()", "seed": 1}.'
            )
    return SweepFile(loaded.config, cells, _layout(loaded.given, loaded.module, cells))


def _listed(cells: Iterable[Any]) -> list[Any]:
    return list(cells)


def _layout(given: str, module: Any, cells: list[dict[str, Any]]) -> dict[str, list[str]]:
    axes = list(dict.fromkeys(axis for cell in cells for axis in cell))
    layout: dict[str, list[str]] = {}
    for name in ("ROWS", "COLUMNS", "WITHIN"):
        # At `:tiny`, say, an axis may be left out.
        layout[name.lower()] = [axis for axis in getattr(module, name, ()) if axis in axes]
    layout["figures"] = list(getattr(module, "FIGURES", ()))
    return layout
