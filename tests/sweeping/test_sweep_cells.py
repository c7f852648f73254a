"""What a sweep file writes becomes cells; what cannot work is told before anything is compiled."""

import pathlib
import types

import pytest
from sweeps import base

from configs.sweeps import cells as algebra
from noise_sched.command_line import sweep_files
from noise_sched.experiment.ranges import ConfigError
from noise_sched.sweeping import cells, here

FILES = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parents[2] / "configs" / "sweeps").glob("*.py")
    if "def sweep(" in path.read_text() and path.stem != "__init__"
)
VARIANTS = {
    "edm_rows": ("", "ve", "digits", "tiny"),
    "sampler_grid": ("", "digits", "tiny"),
    "zero_snr_grid": ("", "digits", "tiny"),
}
COUNTS = {
    ("noise_schedule_grid", ""): 12 * 3,
    ("noise_schedule_grid", "mnist5k"): 12 * 3 * 3,
    ("input_scale_grid", ""): 8 * 2 * 3,
    ("input_scale_grid", "digits"): 8 * 2 * 3,
    ("edm_rows", ""): 6,
}


def test_products_zips_and_seeds():
    a, b = algebra.choices("a", (1, 2)), algebra.choices("b", "xy")
    assert algebra.product(a, b) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    assert algebra.zipped(a, b) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert algebra.product(a, algebra.seeds(3))[-1] == {"a": 2, "seed": 2}
    with pytest.raises(ValueError, match="both set a"):
        algebra.product(a, a)
    with pytest.raises(ValueError):
        algebra.zipped(a, algebra.seeds(3))


def test_a_cell_is_the_base_with_what_it_changes():
    size = algebra.named("size", 8, {"data.image_size": 8, "network.patch_size": 4})
    (cell,) = cells.make(base(), [size | {"optimizer.learning_rate": 1, "seed": 3}])
    assert cell.labels == {"size": 8, "optimizer.learning_rate": 1, "seed": 3}
    assert (cell.config.network.patch_size, cell.config.seed) == (4, 3)
    assert cell.config.optimizer.learning_rate == 1.0
    assert type(cell.config.optimizer.learning_rate) is float
    assert cell.name.startswith("size=8,optimizer.learning_rate=1,seed=3-")
    assert base().network.patch_size != 4, "the base is left as it is"


def test_a_name_does_not_depend_on_other_cells_and_tells_cells_apart():
    one = {"schedule": "sigmoid(-3, 3, tau=0.9)"}
    alone = cells.make(base(), [one])[0].name
    among = cells.make(base(), [{"seed": 1}, one])[1].name
    assert alone == among
    # Labels that look alike as folders are still different cells.
    written = [{"schedule": "sigmoid(-3, 3,  tau=0.9)"}, one]
    assert len({cell.name for cell in cells.make(base(), written)}) == 2
    assert set(alone) <= set("abcdefghijklmnopqrstuvwxyz0123456789_=,.-")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ([{"shedule": "linear()"}], "'shedule' names no key.*Did you mean 'schedule'"),
        (
            [{"seed": 1}, {"schedule": "cosine()"}, {"seed": 1}],
            "cells 0 and 2 of the sweep are the same",
        ),
        ([{"seed": 1}, {"seed": -1}], "1 of 2 cells cannot work.*seed=-1.*expected"),
        ([{"schedule": "cosin()"}], "Did you mean 'cosine'"),
        ([{"train.steps": "many"}], "train.steps"),
        ([], "no cells"),
        ([algebra.named("x", 1, {"seed": 2}) | {"seed": 1}], "sets seed twice"),
    ],
)
def test_what_cannot_work_is_told(written, words):
    with pytest.raises(ConfigError, match=f"(?s){words}"):
        cells.make(base(), written)


def test_all_cells_that_cannot_work_are_named():
    written = [{"seed": s, "schedule": name} for s in range(4) for name in ("linear()", "cosin()")]
    with pytest.raises(ConfigError, match="4 of 8 cells cannot work") as error:
        cells.make(base(), written)
    assert "and 3 like it" in str(error.value)


@pytest.mark.parametrize("name", FILES)
def test_the_sweeps_that_come_with_the_package(name):
    for variant in VARIANTS.get(name, ("", "digits", "mnist5k", "dead_leaves", "tiny")):
        spec = f"configs/sweeps/{name}.py" + (f":{variant}" if variant else "")
        found = sweep_files.load(spec)
        made = cells.make(found.base, found.cells)
        assert len(made) == COUNTS.get((name, variant), len(made))
        axes = set(made[0].labels)
        assert all(set(cell.labels) == axes for cell in made)
        assert set(found.layout["rows"] + found.layout["columns"]) <= axes
        if variant == "tiny":
            assert sum(len(group) for group in here.build(made)) == len(made) <= 9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no function get_config"),
        ("def get_config(): return C()", "has no function sweep"),
        ("def get_config(): return C()\ndef sweep(): yield 3", "cell 0 of its sweep.* is 3"),
        ("def get_config(): return C()\ndef sweep(): 1 / 0", "division by zero.*line 3"),
        ("def get_config(v): return C()\ndef sweep(v): yield {}", "needs a variant"),
    ],
)
def test_a_file_that_is_no_sweep_is_told(tmp_path, text, words):
    path = tmp_path / "sweep.py"
    path.write_text(f"from configs.common import base as C\n{text}")
    with pytest.raises(ConfigError, match=f"(?s){words}"):
        sweep_files.load(str(path))


def test_a_file_that_is_not_there_is_told():
    with pytest.raises(ConfigError, match="Did you mean configs/sweeps/edm_rows.py"):
        sweep_files.load("configs/sweeps/edm_row.py")


def test_layout_names_axes_that_there_are():
    module = types.SimpleNamespace(ROWS=("b",), COLUMNS=("size",))
    layout = sweep_files._layout("", module, [{"b": 1}, {"b": 2}])
    assert layout == {"rows": ["b"], "columns": [], "within": [], "figures": []}
