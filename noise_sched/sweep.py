r"""Trains and judges every cell of a grid, and reports on it.

    python -m noise_sched.sweep --sweep=configs/sweeps/input_scale_grid.py:digits --workdir=runs/input_scale
    python -m noise_sched.sweep report runs/input_scale
    python -m noise_sched.sweep status runs/input_scale

A sweep file has a base config and the cells, each a dict of the config keys that it changes;
--config.KEY=VALUE changes the base. Each cell becomes a workdir, WORKDIR/cells/NAME, that `sample`,
`evaluate` and `audit` take. Killed, the same command goes on; with more cells in the file it adds those.
--dry_run shows what would run.

--engine says where: stack (here, many cells as one program on all devices), local (processes), slurm, ray, or
commands, which prints a command line for each model. All of them give a cell the same numbers.
"""

import pathlib
import shlex
import sys

from absl import flags, logging

from noise_sched import command_line
from noise_sched.command_line import sweep_files
from noise_sched.experiment import locks
from noise_sched.experiment.ranges import ConfigError
from noise_sched.messages import did_you_mean
from noise_sched.sweeping import cells, choice, here, record, report, stack
from noise_sched.sweeping.display import Display, table
from noise_sched.sweeping.record import Definition

ENGINES = ("stack", "local", "slurm", "ray", "commands")
_AGAIN = 75  # EX_TEMPFAIL: stopped by a signal, the same command goes on


def run(
    sweep: pathlib.Path, wanted: Definition, *, engine: str = "stack", way: str = "auto"
) -> None:
    """Runs a sweep, or what is left of one.

    Args:
      sweep: its folder.
      wanted: what it is; a sweep that is there may get new cells.
      engine: one of `ENGINES`.
      way: how a stack is trained, one of `choice.WAYS`.

    Raises:
      stack.Stopped: after a signal; the same call goes on.
      ValueError, OSError: what cannot work, before anything is trained.
    """
    record.check(sweep, wanted)
    with locks.hold(sweep, "--workdir"):
        whole = record.claim(sweep, wanted)
        display = Display(sweep, whole.cells)
        names = [cell.name for cell in wanted.cells]
        here.run(sweep, whole, names, way=way, poll=display.poll, say=display.say)
        display.show()


def run_cells(sweep: pathlib.Path, names: list[str], way: str = "auto") -> None:
    """Runs some cells of a sweep whose folder is there: what the other engines start elsewhere.

    Raises:
      stack.Stopped: after a signal.
      ValueError, OSError: a name that is none, and what cannot work.
    """
    whole = record.load(sweep)
    known = [cell.name for cell in whole.cells]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--cells: {name!r} is no cell of {sweep}. {did_you_mean(name, known)}"
            )
    here.run(sweep, whole, names, way=way)


def _definition() -> Definition:
    """What --sweep and --config say."""
    spec = command_line.required("sweep", "--sweep=configs/sweeps/input_scale_grid.py:digits")
    loaded = sweep_files.load(spec)
    base = flags.FLAGS.config
    made = cells.make(base, loaded.cells)
    for key in command_line.config_overrides():
        if all(key in cell.overrides for cell in made):
            raise ConfigError(
                f"--config.{key} has no effect: every cell of {spec} sets {key}. Change the sweep file."
            )
    return Definition(spec, base, made, loaded.layout)


def main() -> None:
    """The command: flags in, mistakes reported in one message."""
    logging.set_verbosity(logging.WARNING)
    options = flags.FLAGS
    with command_line.clear_errors():
        place = command_line.required("workdir", "--workdir=runs/input_scale")
        command_line.check_path("workdir", place)
        sweep = pathlib.Path(place).expanduser()
        if options.command == "report":
            print(report.write(sweep, options.figures or ()))
            return
        if options.command == "status":
            print(table(sweep, record.load(sweep).cells))
            return
        try:
            if options.cells is not None:
                run_cells(sweep, options.cells.split(";"), options.stack)
                return
            wanted = _definition()
            if options.dry_run:
                _say_plan(wanted)
                return
            run(sweep, wanted, engine=options.engine, way=options.stack)
        except stack.Stopped:
            print(
                "stopped by a signal; all cells are saved: the same command goes on.",
                file=sys.stderr,
            )
            sys.exit(_AGAIN)


def _say_plan(wanted: Definition) -> None:
    """What would run: the groups that are one program, and the cells."""
    for number, group in enumerate(here.build(wanted.cells), start=1):
        models = len({each.leader for each in group})
        print(f"group {number}: {here.described(group)}, {models} models to train")
        for each in group:
            print(f"  {each.cell.name}")
    print(f"{len(wanted.cells)} cells")


def _commands() -> None:
    """`sweep report DIR` is --command=report --workdir=DIR."""
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        name, *rest = sys.argv[1:]
        known = ("report", "status")
        if name not in known:
            command_line.stop(f"unknown command {shlex.quote(name)}. {did_you_mean(name, known)}")
        place = [f"--workdir={rest.pop(0)}"] if rest and not rest[0].startswith("-") else []
        sys.argv[1:] = [f"--command={name}", *place, *rest]


def _define_flags() -> None:
    """Called by the binary only: in one process, as in the tests, several may be imported."""
    _commands()
    flags.DEFINE_enum("command", "run", ("run", "report", "status"), "What to do.")
    flags.DEFINE_string("workdir", None, "The sweep's folder: new, or of the same base.")
    flags.DEFINE_enum("engine", "stack", ENGINES, "Where the cells run.")
    flags.DEFINE_enum("stack", "auto", choice.WAYS, "How a stack is trained; auto times the ways.")
    flags.DEFINE_string("cells", None, "Names of cells of a sweep that is there, divided by ;.")
    flags.DEFINE_list("figures", None, "Of a report: those that matter, such as swd/distance.")
    flags.DEFINE_bool("dry_run", False, "Show what would run, and stop.")
    command_line.define_sweep_file()


if __name__ == "__main__":
    command_line.run(main, _define_flags)
