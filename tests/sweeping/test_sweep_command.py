"""The command from its flags to a finished folder: killed, extended, damaged, and given nonsense."""

import json
import re

import in_process
import pytest
from sweeps import with_small_network

from noise_sched import sweep
from noise_sched.experiment import workdir
from noise_sched.sweeping import record, stack

FILE = """
from configs import common, digits
from configs.sweeps.cells import choices, product, seeds

ROWS, FIGURES = ("schedule",), ("spectrum/distance",)


def get_config(variant=None):
    config = common.tiny(digits.get_config())
    config.loss.self_conditioning = 0.0
    config.eval.update(num_images=20, metrics="spectrum")
    return config


def sweep(variant=None):
    cells = choices("schedule", ("linear()", "cosine()"))
    if variant == "more":
        cells += choices("schedule", ("sigmoid(-3.0, 3.0, tau=0.9)",))
    if variant == "samplers":
        return product(cells, choices("sample.steps", (2, 3)))
    return product(cells, seeds(1))
"""


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    with_small_network(monkeypatch)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sweep.py"
    path.write_text(FILE)
    return path


def command(*argv):
    return in_process.run(sweep, list(map(str, argv)))


def states(folder):
    cells = record.load(folder).cells
    return {cell.name: record.status(folder, cell).state for cell in cells}


def trained(monkeypatch):
    """The cells that are trained from now on, by their labels."""
    found, train = [], stack.train

    def noted(folder, cells, *rest):
        found.extend(cell.labels for cell in cells)
        return train(folder, cells, *rest)

    monkeypatch.setattr(stack, "train", noted)
    return found


def test_a_sweep_from_beginning_to_end(file, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    seen = trained(monkeypatch)
    assert command(f"--sweep={file}", f"--workdir={out}") == 0
    assert "2 of 2 cells done" in capsys.readouterr().out and len(seen) == 2
    assert set(states(out).values()) == {"done"}

    # Again: there is nothing to do.
    assert command(f"--sweep={file}", f"--workdir={out}") == 0
    assert len(seen) == 2

    # More cells in the file: only they are trained.
    assert command(f"--sweep={file}:more", f"--workdir={out}") == 0
    assert [labels["schedule"][:7] for labels in seen[2:]] == ["sigmoid"]
    assert list(states(out).values()) == ["done"] * 3

    # A finished cell whose files are damaged is made anew, and what there was is kept.
    capsys.readouterr()
    folder = record.folder_of(out, record.load(out).cells[1])
    before = json.loads((folder / record.EVALUATION).read_text())["figures"]
    parameters = max(folder.glob("checkpoints/*/state/d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(parameters.read_bytes())
    content[len(content) // 2] ^= 1
    parameters.write_bytes(content)
    assert command(f"--sweep={file}:more", f"--workdir={out}") == 0
    assert "is not what was written: it is made anew" in capsys.readouterr().out
    assert json.loads((folder / record.EVALUATION).read_text())["figures"] == before
    assert folder.with_name(f"{folder.name}.damaged-1").is_dir() and len(seen) == 4

    # Each cell is a workdir like any other.
    config = workdir.load_config(folder)
    assert config.schedule == "cosine()" and (folder / "checkpoints" / "6").is_dir()

    # status and report
    assert command("status", out) == 0
    assert capsys.readouterr().out.count("done") == 3
    assert command("report", out) == 0
    text = capsys.readouterr().out
    assert "spectrum/distance" in text and "inconclusive (one seed)" in text
    assert (out / "report" / "report.html").is_file()


def test_cells_that_only_sample_otherwise_share_a_model(file, tmp_path, monkeypatch):
    out = tmp_path / "out"
    seen = trained(monkeypatch)
    assert command(f"--sweep={file}:samplers", f"--workdir={out}") == 0
    assert len(seen) == 2 and list(states(out).values()) == ["done"] * 4
    cells = record.load(out).cells
    weights = [
        sorted(p.read_bytes() for p in record.folder_of(out, c).glob("checkpoints/6/ema/d/*"))
        for c in cells
    ]
    assert weights[0] == weights[1] != weights[2] == weights[3]
    steps = [workdir.load_config(record.folder_of(out, c)).sample.steps for c in cells]
    assert steps == [2, 3, 2, 3]


def test_a_signal_is_told_and_the_same_command_goes_on(file, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"

    def stopped(*args):
        raise stack.Stopped

    with monkeypatch.context() as patch:
        patch.setattr(stack, "train", stopped)
        assert command(f"--sweep={file}", f"--workdir={out}") == 75
    assert "the same command goes on" in capsys.readouterr().err
    assert command(f"--sweep={file}", f"--workdir={out}") == 0
    assert list(states(out).values()) == ["done"] * 2


def test_dry_run_and_commands_train_nothing(file, tmp_path, capsys):
    out = tmp_path / "out"
    assert command(f"--sweep={file}:samplers", f"--workdir={out}", "--dry_run") == 0
    text = capsys.readouterr().out
    assert "2 models to train" in text and "4 cells" in text and not out.exists()
    assert command(f"--sweep={file}:samplers", f"--workdir={out}", "--engine=commands") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("'--cells=schedule=" in line for line in lines)
    assert set(states(out).values()) == {"waiting"}


def test_a_cell_by_its_name_is_what_the_other_engines_run(file, tmp_path, capsys):
    out = tmp_path / "out"
    command(f"--sweep={file}", f"--workdir={out}", "--engine=commands")
    first, second = (cell.name for cell in record.load(out).cells)
    assert command(f"--workdir={out}", f"--cells={second}") == 0
    assert list(states(out).values()) == ["waiting", "done"]
    capsys.readouterr()
    assert command(f"--workdir={out}", f"--cells={first[:-1]}") == 2
    assert f"Did you mean {first!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--workdir={out}"], "--sweep is missing"),
        (["--sweep={file}"], "--workdir is missing"),
        (["--sweep={file}", "--workdir={out}", "--engine=slurms"], "should be one of"),
        (
            ["--sweep={file}", "--workdir={out}", "--config.schedule=linear()"],
            "every cell of .* sets schedule",
        ),
        (["--sweep={file}", "--workdir={out}", "--config.trian.steps=3"], "Did you mean 'train'"),
        (["--sweep={file}", "--workdir={out}", "--config.train.steps=0"], "train.steps"),
        (["--sweep={file}", "--workdir={out}", "--config.eval.metrics=fdi"], "no metric 'fdi'"),
        (
            ["--sweep={file}", "--workdir={out}", "--config.data.name=digit"],
            "Did you mean|did you mean",
        ),
        (["--sweep={file}x", "--workdir={out}"], "there is no file"),
        (["reprot", "{out}"], "Did you mean 'report'"),
        (["report", "{out}"], "is no sweep"),
        (["status"], "--workdir is missing"),
        (["--config.seed=1", "--workdir={out}"], "there is no --sweep"),
        (
            ["--sweep={file}", "--workdir={out}", "--engine=ray", "--ray=num_cpus"],
            "is no pair|needs the package",
        ),
    ],
)
def test_nonsense_is_told_and_writes_nothing(file, tmp_path, capsys, argv, words):
    out = tmp_path / "out"
    code = command(*(each.format(file=file, out=out) for each in argv))
    error = capsys.readouterr().err
    assert code == 2 and "Traceback" not in error
    assert re.search(words, error), error
    assert not out.exists()


def test_a_folder_of_another_base_or_of_something_else_is_refused(file, tmp_path, capsys):
    out, other = tmp_path / "out", tmp_path / "other"
    assert command(f"--sweep={file}", f"--workdir={out}") == 0
    capsys.readouterr()
    kept = (out / record.RECORD).read_text()
    changed = "--config.optimizer.weight_decay=0.5"
    assert command(f"--sweep={file}", f"--workdir={out}", changed) == 2
    error = capsys.readouterr().err
    assert "another base" in error and "optimizer.weight_decay: 0.01 there, 0.5 given" in error
    assert (out / record.RECORD).read_text() == kept
    # What changes no number may change.
    assert command(f"--sweep={file}", f"--workdir={out}", "--config.train.log_every=3") == 0

    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    assert command(f"--sweep={file}", f"--workdir={other}") == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]
