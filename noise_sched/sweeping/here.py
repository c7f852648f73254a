"""Running the cells of a sweep in this process: groups of them, stack by stack, trained and judged."""

import concurrent.futures
import functools
import pathlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from noise_sched import experiment
from noise_sched.experiment import Experiment, workdir
from noise_sched.experiment.hyper import Hyper
from noise_sched.sweeping import choice, families, groups, record, stack
from noise_sched.sweeping.cells import Cell
from noise_sched.sweeping.choice import Choice
from noise_sched.sweeping.judged import Judging
from noise_sched.sweeping.record import Definition
from noise_sched.sweeping.streams import Sources

FINISHED = ("done", "stopped")
_TRAINED = ("trained", "failed", *FINISHED)


class Built(NamedTuple):
    """A cell, built.

    Attributes:
      cell: the cell.
      exp: its experiment.
      hyper: its numbers, in the structure that all cells of its group share.
      leader: the first cell that trains the same model; itself where none before it does.
    """

    cell: Cell
    exp: Experiment
    hyper: Hyper
    leader: str


def build(cells: Sequence[Cell]) -> list[list[Built]]:
    """The cells group by group: those of a group are trained by one program."""
    experiments = [experiment.from_config(cell.config) for cell in cells]
    leaders = _leaders(cells)
    found = []
    for numbers in groups.group(experiments):
        hypers = families.unified([experiments[i].hyper for i in numbers])
        found.append(
            [
                Built(cells[i], experiments[i], hyper, leaders[i])
                for i, hyper in zip(numbers, hypers, strict=True)
            ]
        )
    return found


class Tools(NamedTuple):
    """What cells share: opened data sets, and what judges their images."""

    sources: Sources
    judging: Judging


def prepare(sweep: pathlib.Path, cells: Sequence[Cell], judge: bool = True) -> Tools:
    """Opens the data and the references of cells: what cannot work is said before anything is written.

    Raises:
      ValueError, OSError: data, metrics or references that cannot work.
    """
    sources = Sources()
    judging = Judging(sweep, sources)
    for cell in cells:
        exp = experiment.from_config(cell.config)
        sources.of(exp)
        if judge:
            judging.check(exp)
    return Tools(sources, judging)


def run(
    sweep: pathlib.Path,
    definition: Definition,
    names: Iterable[str],
    tools: Tools,
    *,
    way: str = "auto",
    judge: bool = True,
    poll: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = print,
) -> None:
    """Trains and judges cells until all of them are finished.

    Args:
      sweep: the sweep's folder.
      definition: the whole sweep: how cells are grouped does not depend on which of them are asked for.
      names: of the cells that are asked for.
      tools: from `prepare`.
      way: see `choice`.
      judge: whether they are judged, too.
      poll: called every few seconds.
      say: what is told in between.

    Raises:
      stack.Stopped: after a signal; all is saved.
      ValueError, OSError: folders that cannot work; cells that are finished stay so.
    """
    asked = set(names)
    built = build(definition.cells)
    mend(sweep, [each.cell for group in built for each in group if each.cell.name in asked], say)
    for number, group in enumerate(built):
        own = [each for each in group if each.cell.name in asked]
        if any(not finished(sweep, each.cell) for each in own):
            say(f"group {number + 1} of {len(built)}: {described(own)}")
            _run_group(sweep, group, own, tools, way, judge, poll, say)


def mend(sweep: pathlib.Path, cells: Sequence[Cell], say: Callable[[str], None]) -> None:
    """Puts aside finished cells whose files are damaged: they are made anew."""
    for cell in cells:
        if record.status(sweep, cell).state == "done" and (why := record.broken(sweep, cell)):
            kept = record.set_aside(sweep, cell)
            say(
                f"{cell.name} was finished, but {why}: it is made anew; what there is is kept as {kept}"
            )


def _run_group(
    sweep: pathlib.Path,
    group: Sequence[Built],
    own: Sequence[Built],
    tools: Tools,
    way: str,
    judge: bool,
    poll: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Trains and judges the asked-for cells of one group."""
    leaders = {each.leader for each in own}
    models = [each for each in group if each.cell.name in leaders]
    chosen: Choice | None = None
    with _Saving() as saving:
        while todo := [m for m in models if not (_trained(sweep, m) or saving.has(m))]:
            if chosen is None:
                exps, hypers = [each.exp for each in todo], [each.hyper for each in todo]
                chosen = choice.choose(sweep, exps, hypers, way=way, say=say)
                say(f"  {_told(chosen)}")
            part = _next(sweep, todo, chosen.size)
            stack.train(
                sweep,
                [each.cell for each in part],
                [each.exp for each in part],
                [each.hyper for each in part],
                chosen,
                tools.sources,
                poll,
                functools.partial(saving.begin, part),
            )
            if judge:
                _judge(sweep, own, tools.judging, poll)
        saving.wait()
        if judge:
            _judge(sweep, own, tools.judging, poll)


class _Saving:
    """Saves the cells of a stack in a thread, while the next stack is trained."""

    def __init__(self):
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._cells: set[str] = set()
        self._future: concurrent.futures.Future | None = None

    def __enter__(self) -> "_Saving":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._thread.shutdown()

    def begin(self, cells: Sequence[Built], save: Callable[[], None]) -> None:
        """Begins to save cells, once the ones before are saved."""
        self.wait()
        self._cells = {each.cell.name for each in cells}
        self._future = self._thread.submit(save)

    def has(self, built: Built) -> bool:
        """Whether a cell is being saved."""
        return built.cell.name in self._cells

    def wait(self) -> None:
        """Waits until all is saved; raises what went wrong."""
        if self._future is not None:
            self._future.result()
        self._cells, self._future = set(), None


def _judge(
    sweep: pathlib.Path, cells: Sequence[Built], judging: Judging, poll: Callable[[], None]
) -> None:
    for each in cells:
        if each.leader != each.cell.name:
            _follow(sweep, each)
        status = record.status(sweep, each.cell)
        if status.state in ("trained", "failed"):
            try:
                judging(each.cell, each.exp, each.hyper)
            except ValueError as error:  # of this cell: the others are not held up by it
                failed = status._replace(state="failed", message=str(error))
                record.write_status(sweep, each.cell, failed)
            poll()


def _follow(sweep: pathlib.Path, each: Built) -> None:
    """A cell that is sampled otherwise than one that is trained: the same model in a folder of its own."""
    leader = Cell(each.leader, {}, {}, each.cell.config)
    status = record.status(sweep, leader)
    folder = record.folder_of(sweep, each.cell)
    if record.status(sweep, each.cell).state != "waiting" or status.state not in _TRAINED:
        return
    workdir.claim(folder, each.cell.config)
    source = workdir.checkpoints(record.folder_of(sweep, leader))
    shutil.copytree(source, workdir.checkpoints(folder), dirs_exist_ok=True)
    trained = status.state if status.state == "stopped" else "trained"
    record.write_status(sweep, each.cell, status._replace(state=trained))


def _leaders(cells: Sequence[Cell]) -> list[str]:
    first: dict[Any, str] = {}
    return [first.setdefault(workdir.trained_by(cell.config), cell.name) for cell in cells]


def finished(sweep: pathlib.Path, cell: Cell) -> bool:
    """Whether there is nothing left to do for a cell."""
    return record.status(sweep, cell).state in FINISHED


def _trained(sweep: pathlib.Path, each: Built) -> bool:
    return record.status(sweep, each.cell).state in _TRAINED


def _next(sweep: pathlib.Path, todo: Sequence[Built], size: int) -> list[Built]:
    """The cells of the next stack: those that are furthest, all at one step."""
    steps = [_step(sweep, each) for each in todo]
    return [each for each, step in zip(todo, steps, strict=True) if step == max(steps)][:size]


def _step(sweep: pathlib.Path, each: Built) -> int:
    folder = workdir.checkpoints(record.folder_of(sweep, each.cell))
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdecimal()), default=0)


def described(cells: Sequence[Built]) -> str:
    """What the cells of a group have in common, in a line."""
    config = cells[0].exp.config
    kinds = {type(each.exp.objective.schedule).__name__ for each in cells}
    schedules = f", schedules of {len(kinds)} families ({', '.join(sorted(kinds))})"
    return (
        f"{len(cells)} cells of {config.network.name}, {config.data.image_size} px, batch "
        f"{config.train.batch_size}, {config.train.steps} steps{schedules if len(kinds) > 1 else ''}"
    )


def _told(chosen: Choice) -> str:
    pace = "" if chosen.seconds is None else f", {1e3 * chosen.seconds:.2f} ms a step and cell"
    return (
        f"one program ({chosen.way}), {chosen.size} cell{'s' * (chosen.size > 1)} at a time on "
        f"{chosen.mesh.size} device(s){pace}, {chosen.bytes / 2**20:,.0f} MiB on each"
    )
