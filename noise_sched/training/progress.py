"""A progress bar: how far, how fast, how long to go."""

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import jax
from tqdm import tqdm


class Progress(tqdm):
    """tqdm's bar on a terminal, and whole lines every ten seconds elsewhere, as in the log of a job.

    Only the first process of a run prints.
    """

    def __init__(self, total: int, *, file: Any = None, **options: Any):
        """Shows that nothing is done yet; `options` are tqdm's, such as `unit`, `initial`, `unit_scale`."""
        file = sys.stderr if file is None else file
        options.setdefault("mininterval", 0.5 if file.isatty() else 10.0)
        super().__init__(total=total, file=file, disable=jax.process_index() != 0, **options)

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """What writes one status."""
        if file.isatty():
            return tqdm.status_printer(file)
        return lambda status: print(status, file=file, flush=True)


class Silent(contextlib.AbstractContextManager):
    """A progress bar that nobody sees."""

    def __exit__(self, *exc_info: Any) -> None:
        return None

    def update(self, count: int = 1) -> None:
        """Shows nothing."""
