"""Says what the keys of a config may be: every choice with one line and its paper.

    python -m noise_sched.describe
    python -m noise_sched.describe sample.solver

Any command that takes --config.KEY=VALUE says the same of --config.KEY=?
"""

import sys

from absl import flags

from noise_sched import command_line
from noise_sched.experiment import describing


def main() -> None:
    """The command: a table on the screen."""
    with command_line.clear_errors():
        key = flags.FLAGS.key
        if key is not None:
            command_line.say(describing.describe(key.removeprefix("config.")))
            return
    head = "The keys of a config. `python -m noise_sched.describe KEY` says what one may be."
    command_line.say(f"{head}\n\n{describing.overview()}")


def _define_flags() -> None:
    # `describe sample.solver` is --key=sample.solver.
    sys.argv[1:] = [a if a.startswith("-") else f"--key={a}" for a in sys.argv[1:]]
    flags.DEFINE_string("key", None, "A key of a config, such as schedule or sample.solver.")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
