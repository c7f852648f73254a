"""A command of the package, run as `python -m` would but without starting a process."""

import contextlib
import sys

from absl import flags

from noise_sched import command_line


@contextlib.contextmanager
def own_flags(module):
    """Defines the flags of a command; they are global, so they are taken back at the end."""
    before, own = set(flags.FLAGS), set()
    try:
        try:
            module._define_flags()
        finally:
            # Not later: libraries that the command imports define flags of their own, once.
            own = set(flags.FLAGS) - before
        yield
    finally:
        for name in own:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


def run(module, argv: list[str]) -> int | str | None:
    """What the process would exit with."""
    before = sys.argv
    sys.argv = ["command", *argv]
    try:
        with own_flags(module):
            command_line.parse(command_line.arguments())
            module.main()
    except SystemExit as end:
        return end.code
    finally:
        sys.argv = before
    return 0
