"""Cells that are trained together are what they are when they are trained alone."""

import contextlib
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sweeps import EIGHT, definition, with_small_network

from noise_sched.experiment import training, workdir
from noise_sched.experiment.hyper import stack as stack_numbers
from noise_sched.sweeping import choice, families, here, programs, record, stack
from noise_sched.sweeping.cell_run import CellRun
from noise_sched.sweeping.streams import Sources
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.metrics import read_metrics

COLLECTIVES = re.compile(
    "all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute|collective-broadcast"
)


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    with_small_network(monkeypatch)


def train(sweep, wanted, way="shared", devices=None, each=None):
    """Trains all cells, without judging them."""
    record.claim(sweep, wanted)
    (group,) = here.build(wanted.cells)
    exps, hypers = [b.exp for b in group], [b.hyper for b in group]
    mesh = programs.mesh_of(devices or jax.devices()[:1])
    maker = choice._Maker(exps, hypers, mesh)
    chosen = maker.make(way, each or (1 if way == "shared" else len(group) // mesh.size))
    sources = Sources()
    while todo := [
        b for b in group if record.status(sweep, b.cell).state in ("waiting", "running")
    ]:
        part = here._next(sweep, todo, chosen.size)
        stack.train(
            sweep,
            [b.cell for b in part],
            [b.exp for b in part],
            [b.hyper for b in part],
            chosen,
            sources,
        )
    return chosen


def states(sweep, wanted):
    """The newest state of each cell, as plain arrays."""
    found = []
    for built in here.build(wanted.cells)[0]:
        folder = workdir.checkpoints(record.folder_of(sweep, built.cell))
        with Checkpoints(folder, read_only=True) as checkpoints:
            exp = built.exp
            state = checkpoints.restore(
                jax.eval_shape(lambda exp=exp: training.new_state(exp))
            ).state
        found.append(jax.tree.leaves(state.replace(key=jax.random.key_data(state.key))))
    return found


def losses(sweep, wanted):
    return [
        [row["loss"] for row in read_metrics(record.folder_of(sweep, cell))]
        for cell in wanted.cells
    ]


def same_bits(one, other):
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("network", ["small", pytest.param("RIN", marks=pytest.mark.slow)])
def test_eight_cells_together_are_eight_cells_alone(tmp_path, network):
    """On 1 and 4 devices; in a process that has them, and XLA's own way of compiling."""
    flags = "--xla_force_host_platform_device_count=4"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("JAX_DISABLE_MOST_OPTIMIZATIONS", None)
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), network],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["map-1", "vmap-1", "map-4", "vmap-4"]


# Adam divides gradients by their size: with a larger eps what is rounding stays rounding.
FIFTY = {"train.steps": 50, "train.checkpoint_every": 50, "optimizer.eps": 1e-4}


def compare(folder, network):
    """The eight cells one by one, and together: bit for bit with `lax.map`, to 3e-5 with `vmap`."""
    wanted = definition(**FIFTY)
    train(folder / "alone", wanted, "shared")
    expected = states(folder / "alone", wanted)
    for count in (1, 4):
        for way in ("map", "vmap"):
            sweep = folder / f"{way}-{count}"
            chosen = train(sweep, wanted, way, jax.devices()[:count])
            assert chosen.size == 8 and chosen.mesh.size == count
            assert not COLLECTIVES.findall(chosen.program.as_text())
            found = states(sweep, wanted)
            if way == "map":
                same_bits(found, expected)
                assert losses(sweep, wanted) == losses(folder / "alone", wanted)
            np.testing.assert_allclose(
                losses(sweep, wanted), losses(folder / "alone", wanted), rtol=3e-5
            )
            # Some of RIN's parameters have no gradient but rounding's.
            for a, b in zip(found, expected, strict=True) if network == "small" else ():
                for x, y in zip(a, b, strict=True):
                    largest = np.max(np.abs(np.asarray(y, np.float64)), initial=0)
                    np.testing.assert_allclose(x, y, rtol=3e-5, atol=3e-5 * largest)
            print(sweep.name, flush=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The eight cells one by one."""
    with pytest.MonkeyPatch.context() as patch:
        with_small_network(patch)
        sweep, wanted = tmp_path_factory.mktemp("alone"), definition()
        train(sweep, wanted, "shared")
        return sweep, wanted


def test_a_cell_is_what_train_would_make_of_it(tmp_path, alone, monkeypatch):
    from noise_sched import train as command

    sweep, wanted = alone
    from_config = here.experiment.from_config
    monkeypatch.setattr(command.experiment, "from_config", from_config)
    for number in (2, 6):
        folder = tmp_path / str(number)
        command.run(wanted.cells[number].config, folder)
        ours, theirs = (
            [row["loss"] for row in read_metrics(place)]
            for place in (record.folder_of(sweep, wanted.cells[number]), folder)
        )
        np.testing.assert_allclose(ours, theirs, rtol=3e-5)
        same = workdir.load_config(record.folder_of(sweep, wanted.cells[number]))
        assert same == workdir.load_config(folder)


class Killed(BaseException):
    """In the place of a kill: nothing catches it."""


def dying(function, calls, at):
    """`function`, but for the call of that number among all such functions."""

    def call(*args, **kwargs):
        if next(calls) == at:
            raise Killed
        return function(*args, **kwargs)

    return call


@pytest.mark.parametrize("way", ["shared", "vmap"])
def test_killed_anywhere_it_ends_the_same(tmp_path, way, monkeypatch):
    wanted = definition(EIGHT[:3])
    train(tmp_path / "whole", wanted, way)
    rng = np.random.default_rng(len(way))
    for kill in rng.choice(45, 2, replace=False):
        sweep = tmp_path / f"killed {kill}"
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            calls = itertools.count()
            for place, name in ((Checkpoints, "save"), (record, "write_status"), (CellRun, "see")):
                patch.setattr(place, name, dying(getattr(place, name), calls, kill))
            train(sweep, wanted, way)
        train(sweep, wanted, way)
        same_bits(states(sweep, wanted), states(tmp_path / "whole", wanted))
        assert losses(sweep, wanted) == losses(tmp_path / "whole", wanted)


def test_a_signal_saves_all_cells_and_the_same_call_goes_on(tmp_path, monkeypatch):
    wanted = definition(EIGHT[:3], **{"train.checkpoint_every": 100})
    see = CellRun.see

    def stop(run, step, values):
        see(run, step, values)
        if step == 3:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(CellRun, "see", stop)
        patch.setattr(stack, "_CALL_SECONDS", 1e-9)  # few steps a call
        with pytest.raises(stack.Stopped):
            train(tmp_path / "parts", wanted, "vmap")
    steps = [record.status(tmp_path / "parts", cell).step for cell in wanted.cells]
    assert 0 < steps[0] < 12 and len(set(steps)) == 1
    train(tmp_path / "parts", wanted, "vmap")
    train(tmp_path / "whole", wanted, "vmap")
    same_bits(states(tmp_path / "parts", wanted), states(tmp_path / "whole", wanted))


@pytest.mark.parametrize("way", ["map", "vmap"])
def test_a_cell_that_is_not_finite_is_frozen_and_the_others_do_not_notice(tmp_path, way):
    written = [*EIGHT[:3], EIGHT[3] | {"optimizer.learning_rate": 3e38}]
    wanted = definition(written, **{"train.skip_nonfinite": 2})
    healthy = definition([*EIGHT[:3], EIGHT[3]], **{"train.skip_nonfinite": 2})
    train(tmp_path / "with", wanted, way)
    train(tmp_path / "without", healthy, way)
    statuses = [record.status(tmp_path / "with", cell) for cell in wanted.cells]
    assert [s.state for s in statuses] == ["trained"] * 3 + ["stopped"]
    assert "not finite" in statuses[3].message and wanted.cells[3].name in statuses[3].message
    assert statuses[3].step < 12
    same_bits(states(tmp_path / "with", wanted)[:3], states(tmp_path / "without", healthy)[:3])
    frozen = states(tmp_path / "with", wanted)[3]
    assert all(np.isfinite(x).all() for x in frozen if x.dtype == np.float32)


def test_cells_that_are_added_leave_the_others_alone(tmp_path):
    first, more = definition(EIGHT[:2]), definition(EIGHT[:3])
    train(tmp_path, first)
    before = states(tmp_path, first)
    whole = record.claim(tmp_path, more)
    assert [cell.name for cell in whole.cells] == [cell.name for cell in more.cells]
    train(tmp_path, more)
    same_bits(states(tmp_path, more)[:2], before)
    # A file with fewer cells forgets none.
    assert len(record.claim(tmp_path, first).cells) == 3


def test_families_share_a_program_and_keep_their_numbers():
    wanted = definition()
    (group,) = here.build(wanted.cells)
    t = jnp.linspace(0.01, 0.99, 7)
    kinds = {jax.tree.structure(built.hyper) for built in group}
    assert len(kinds) == 1
    numbers = stack_numbers([built.hyper for built in group])
    for i, built in enumerate(group):
        own = jax.tree.map(lambda x, i=i: x[i], numbers).objective.schedule
        for name in ("logsnr", "gamma"):
            found = jax.jit(getattr(own, name))(t)
            expected = getattr(built.exp.objective.schedule, name)(t)
            np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)
    one = families.unified([group[0].exp.hyper])
    assert one == [group[0].exp.hyper], "one family needs no choice"


def test_cells_are_grouped_by_what_is_compiled_in():
    written = [
        {"seed": 0},
        {"schedule": "cosine()"},
        {"loss.self_conditioning": 0.5},
        {"train.batch_size": 4},
        {"parametrization": "x0()", "loss.space": "x0()"},
        {"seed": 1, "loss.self_conditioning": 0.9},
        {"optimizer.warmup_steps": 3},
        {"sample.steps": 3},
    ]
    groups = here.build(definition(written).cells)
    numbers = [[built.cell.labels for built in group] for group in groups]
    assert [len(group) for group in groups] == [3, 2, 1, 1, 1]
    assert numbers[0] == [written[0], written[1], written[7]]
    assert numbers[1] == [written[2], written[5]]
    # A cell that differs in sampling alone is the same model.
    assert [built.leader for built in groups[0]][2] == groups[0][0].cell.name


def test_memory_splits_a_stack_and_refuses_one_cell(tmp_path, monkeypatch):
    wanted = definition([each | {"seed": 0} for each in EIGHT if "seed" not in each])
    (group,) = here.build(wanted.cells)
    arguments = [b.exp for b in group], [b.hyper for b in group]
    mesh = programs.mesh_of(jax.devices()[:1])
    whole, one = (
        choice.choose(made(tmp_path / way), *arguments, way=way, mesh=mesh)
        for way in ("vmap", "shared")
    )
    assert (whole.size, one.size) == (6, 1)
    between = (whole.bytes + one.bytes) // 2
    monkeypatch.setattr(choice, "memory_limit", lambda device: between / choice.SHARE_OF_MEMORY)
    half = choice.choose(made(tmp_path / "half"), *arguments, way="vmap", mesh=mesh)
    assert half.size == 3 and half.bytes <= between
    monkeypatch.setattr(choice, "memory_limit", lambda device: 1000)
    with pytest.raises(choice.NoMemory, match="no memory for one cell.*GiB"):
        choice.choose(made(tmp_path / "none"), *arguments, way="vmap", mesh=mesh)


def made(folder):
    folder.mkdir()
    return folder


def test_a_choice_is_kept(tmp_path, monkeypatch):
    wanted = definition()
    (group,) = here.build(wanted.cells)
    arguments = [b.exp for b in group], [b.hyper for b in group]
    mesh = programs.mesh_of(jax.devices()[:1])
    fastest = lambda maker, cells, say: maker.make("vmap", cells)
    with monkeypatch.context() as patch:
        patch.setattr(choice, "_fastest", fastest)
        first = choice.choose(tmp_path, *arguments, mesh=mesh)
    fewer = [each[5:] for each in arguments]
    again = choice.choose(tmp_path, *fewer, mesh=mesh)
    assert (again.way, again.size) == ("vmap", first.size)
    assert json.loads((tmp_path / choice.PLAN).read_text())


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        if sys.argv[2] == "small":
            with_small_network(patch)
        compare(pathlib.Path(sys.argv[1]), sys.argv[2])
