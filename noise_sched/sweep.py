r"""Trains and judges every cell of a grid, and reports on it.

    python -m noise_sched.sweep --sweep=configs/sweeps/input_scale_grid.py:digits --workdir=runs/input_scale
    python -m noise_sched.sweep report runs/input_scale
    python -m noise_sched.sweep status runs/input_scale

A sweep file has a base config and the cells, each a dict of the config keys that it changes;
--config.KEY=VALUE changes the base. Each cell becomes a workdir, WORKDIR/cells/NAME, that `sample`,
`evaluate` and `audit` take. Killed, the same command goes on; with more cells in the file it adds those.
--dry_run shows what would run.

--engine says where: stack (here, many cells as one program on all devices), local (processes), slurm, ray, or
commands, which prints a command line for each model, for xargs or another scheduler. All of them give a cell
the same numbers. config.eval says how cells are judged; what training would do in between (train.eval_every,
train.image_every, ema.snapshot_every) is left out.
"""

import itertools
import pathlib
import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

from absl import flags, logging

from noise_sched import command_line
from noise_sched.command_line import sweep_files
from noise_sched.experiment import locks
from noise_sched.experiment.ranges import ConfigError
from noise_sched.messages import did_you_mean, shown
from noise_sched.sweeping import cells, choice, here, record, report, stack
from noise_sched.sweeping.display import Display, table
from noise_sched.sweeping.engines import jobs, local, on_ray, slurm
from noise_sched.sweeping.engines.jobs import Job
from noise_sched.sweeping.record import Definition

ENGINES = ("stack", "local", "slurm", "ray", "commands")
LOGS = "logs"

Elsewhere: TypeAlias = Callable[[Sequence[Job], pathlib.Path, Callable[[], None]], dict[str, int]]
"""An engine: jobs, a folder for their logs, and what to call meanwhile -> exit codes by name."""


def run(
    sweep: pathlib.Path,
    wanted: Definition,
    *,
    way: str = "auto",
    elsewhere: Elsewhere | None = None,
    judge: bool = True,
) -> None:
    """Runs a sweep, or what is left of one.

    Args:
      sweep: its folder.
      wanted: what it is; a sweep that is there may get new cells.
      way: how a stack is trained, one of `choice.WAYS`.
      elsewhere: the engine that runs a job for each model; None trains them here, as stacks.
      judge: whether cells are judged, too; the other engines always do.

    Raises:
      stack.Stopped, local.Interrupted: after a signal; the same call goes on.
      ValueError, OSError: what cannot work, before anything is trained; jobs that failed.
    """
    record.check(sweep, wanted)
    tools = here.prepare(sweep, wanted.cells, judge)
    with locks.hold(sweep, "--workdir"):
        whole = record.claim(sweep, wanted)
        display = Display(sweep, whole.cells)
        names = [cell.name for cell in wanted.cells]
        if elsewhere is None:
            here.run(
                sweep,
                whole,
                names,
                tools,
                way=way,
                judge=judge,
                poll=display.poll,
                say=display.say,
            )
        else:
            here.mend(sweep, wanted.cells, display.say)
            todo, logs = jobs_of(sweep, whole, names), sweep / LOGS
            codes = elsewhere(todo, logs, display.poll)
            if codes and (told := jobs.failures(todo, codes, logs)):
                raise ValueError(f"{told}\nThe same command tries them again.")
        display.show()
        failed = [c.name for c in wanted.cells if record.status(sweep, c).state == "failed"]
        if failed:
            raise ValueError(
                f"{len(failed)} cells could not be judged; `sweep status` says why: {shown(failed)}. "
                "The same command tries them again."
            )


def jobs_of(sweep: pathlib.Path, whole: Definition, names: Collection[str]) -> list[Job]:
    """A command for each model with a cell that is not finished: it trains it, and judges its cells."""
    found: dict[str, list[str]] = {}
    for built in itertools.chain(*here.build(whole.cells)):
        if built.cell.name in names and not here.finished(sweep, built.cell):
            found.setdefault(built.leader, []).append(built.cell.name)
    command = (sys.executable, "-m", "noise_sched.sweep", f"--workdir={sweep.absolute()}")
    return [Job(own[0], (*command, f"--cells={';'.join(own)}")) for own in found.values()]


def run_cells(sweep: pathlib.Path, names: Sequence[str]) -> None:
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
    tools = here.prepare(sweep, [cell for cell in whole.cells if cell.name in names])
    here.run(sweep, whole, names, tools, way="shared")


def main() -> None:
    """The command: flags in, mistakes reported in one message."""
    logging.set_verbosity(logging.WARNING)
    options = flags.FLAGS
    with command_line.clear_errors():
        place = command_line.required("workdir", "--workdir=runs/input_scale")
        command_line.check_path("workdir", place)
        sweep = pathlib.Path(place).expanduser()
        try:
            _COMMANDS[options.command](sweep)
        except (stack.Stopped, local.Interrupted):
            print("stopped by a signal: the same command goes on from there.", file=sys.stderr)
            sys.exit(jobs.AGAIN)


def _run(sweep: pathlib.Path) -> None:
    options = flags.FLAGS
    if options.cells is not None:
        run_cells(sweep, options.cells.split(";"))
        return
    elsewhere = _engine(options.engine)
    wanted = _definition()
    if options.dry_run:
        _say_plan(wanted)
    elif options.engine == "commands":
        here.prepare(sweep, wanted.cells)
        with locks.hold(sweep, "--workdir"):
            whole = record.claim(sweep, wanted)
        for job in jobs_of(sweep, whole, [cell.name for cell in wanted.cells]):
            print(job.line)
    else:
        run(sweep, wanted, way=options.stack, elsewhere=elsewhere, judge=not options.train_only)
        print(f"The report:\n  python -m noise_sched.sweep report {shlex.quote(str(sweep))}")


def _report(sweep: pathlib.Path) -> None:
    print(report.write(sweep, flags.FLAGS.figures or ()))


def _status(sweep: pathlib.Path) -> None:
    print(table(sweep, record.load(sweep).cells))


_COMMANDS = {"run": _run, "report": _report, "status": _status}


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


def _engine(name: str) -> Elsewhere | None:
    """The engine of --engine with its options; what it needs is checked."""
    options = flags.FLAGS
    if name == "local":
        count = options.processes
        return lambda todo, logs, poll: local.run(todo, logs, processes=count, poll=poll)
    if name == "slurm":
        slurm.check()
        parameters = _pairs("slurm", options.slurm)
        return lambda todo, logs, poll: slurm.run(
            todo, logs, options=parameters, at_once=options.processes, wait=options.wait, poll=poll
        )
    if name == "ray":
        on_ray.check()
        resources = {key: float(value) for key, value in _pairs("ray", options.ray).items()}
        return lambda todo, logs, poll: on_ray.run(
            todo, logs, resources=resources, address=options.ray_address, poll=poll
        )
    return None


def _pairs(flag: str, given: Sequence[str]) -> dict[str, Any]:
    """What --FLAG=key=value,key=value says; whole numbers are numbers."""
    found: dict[str, Any] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key or not value:
            raise ConfigError(f"--{flag}: {pair!r} is no pair. Write --{flag}=key=value,key=value.")
        found[key] = int(value) if value.isdecimal() else value
    return found


def _say_plan(wanted: Definition) -> None:
    """What would run: the groups that are one program, and the cells."""
    for number, group in enumerate(here.build(wanted.cells), start=1):
        models = len({each.leader for each in group})
        print(f"group {number}: {here.described(group)}, {models} models to train")
        for each in group:
            print(f"  {each.cell.name}")
    print(f"{len(wanted.cells)} cells")


def _command_word() -> None:
    """`sweep report DIR` is --command=report --workdir=DIR."""
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        name, *rest = sys.argv[1:]
        if name not in _COMMANDS:
            hint = did_you_mean(name, _COMMANDS)
            command_line.stop(f"unknown command {shlex.quote(name)}. {hint}")
        place = [f"--workdir={rest.pop(0)}"] if rest and not rest[0].startswith("-") else []
        sys.argv[1:] = [f"--command={name}", *place, *rest]


def _define_flags() -> None:
    """Called by the binary only: in one process, as in the tests, several may be imported."""
    _command_word()
    flags.DEFINE_enum("command", "run", list(_COMMANDS), "What to do.")
    flags.DEFINE_string("workdir", None, "The sweep's folder: new, or of the same base.")
    flags.DEFINE_enum("engine", "stack", ENGINES, "Where the cells run.")
    flags.DEFINE_enum("stack", "auto", choice.WAYS, "How a stack is trained; auto times the ways.")
    flags.DEFINE_integer(
        "processes", 2, "Engines local and slurm: how many cells run at once.", lower_bound=1
    )
    flags.DEFINE_list(
        "slurm", [], "Of a Slurm job, as sbatch has them: time=60,partition=gpu,gres=gpu:1."
    )
    flags.DEFINE_bool("wait", True, "Engine slurm: wait for the jobs, and show their progress.")
    flags.DEFINE_list("ray", ["num_cpus=1"], "Of each Ray task: num_cpus=4,num_gpus=1.")
    flags.DEFINE_string("ray_address", None, "Of a Ray cluster; without one Ray runs here.")
    flags.DEFINE_string("cells", None, "Cells of a sweep that is there, divided by ;.")
    flags.DEFINE_bool("train_only", False, "Engine stack: judge no cell, only train.")
    flags.DEFINE_list("figures", None, "Of a report: those that matter, such as swd/distance.")
    flags.DEFINE_bool("dry_run", False, "Show what would run, and stop.")
    command_line.define_sweep_file()


if __name__ == "__main__":
    command_line.run(main, _define_flags)
