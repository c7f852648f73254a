"""A command of the package, run as `python -m` would but without starting a process."""

import sys

from absl import flags

from noise_sched import command_line


def run(module, argv: list[str]) -> int | str | None:
    """What the process would exit with; flags are global, so those of the command are taken back."""
    before, own = sys.argv, set()
    others = set(flags.FLAGS)
    sys.argv = ["command", *argv]
    try:
        try:
            module._define_flags()
            command_line.parse(command_line.arguments())
        finally:
            # Not later: libraries that the command imports define flags of their own, once.
            own = set(flags.FLAGS) - others
        module.main()
    except SystemExit as end:
        return end.code
    finally:
        sys.argv = before
        for name in own:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
    return 0
