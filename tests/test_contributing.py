"""CONTRIBUTING.md's worked examples, done as they say, each followed by the row of its kind's test."""

import importlib
import importlib.util
import pathlib
import re
import sys

import jax
import numpy as np
import pytest

from noise_sched.diffusion import specs

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```python\n# (\S+?)(?:, in (\w+))?\n(.*?)```", re.DOTALL)


def module_at(path, file=None):
    """The module of a file, a new one or one of tests/; of the package it is the imported one."""
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    if file is None and not path.startswith("tests/"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, file or ROOT / path)
    module = importlib.util.module_from_spec(spec)
    if file:
        sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def follow(monkeypatch, tmp_path):
    """Does what a section's blocks say; gives the module of the tests, and the names of the new rows."""

    def done(heading):
        section = TEXT.split(f"### {heading}\n")[1].split("\n### ")[0]
        tests, rows, made = None, [], {}
        for path, listed, code in BLOCK.findall(section):
            if not (ROOT / path).exists():
                name = path.removesuffix(".py").replace("/", ".")
                monkeypatch.setitem(sys.modules, name, None)  # taken back with the rest
                (tmp_path / pathlib.Path(path).name).write_text(code)
                module_at(path, tmp_path / pathlib.Path(path).name)
                continue
            module = module_at(path)
            scope = {**made, **vars(module)}  # a row may name what the section has defined
            tests = module if path.startswith("tests/") else tests
            if listed:
                old = getattr(module, listed)
                inside = ("{", "}") if isinstance(old, dict) else ("[", "]")
                new = eval(inside[0] + code + inside[1], scope)
                if isinstance(old, dict):
                    for key, value in new.items():
                        monkeypatch.setitem(old, key, value)
                else:
                    monkeypatch.setattr(module, listed, old + type(old)(new))
                rows = list(new)
            else:
                exec(code, scope)
                made = {k: v for k, v in scope.items() if k not in vars(module)}
                for key, value in made.items():
                    monkeypatch.setattr(module, key, value, raising=False)
        return tests, rows

    return done


def test_a_schedule(follow, monkeypatch):
    from noise_sched.diffusion import schedules
    from noise_sched.diffusion.schedules import gammas

    properties, (row,) = follow("A schedule")
    # The package hands on all that the file defines.
    monkeypatch.setattr(schedules, "quadratic", gammas.quadratic, raising=False)
    schedule = specs.build(row, "schedule")
    assert schedule.gamma(0.5) == pytest.approx(0.75)
    for dtype in (np.float32, np.float64):
        properties.test_finite_ordered_and_consistent(schedule, dtype)
        properties.test_ends_are_exact(row, dtype == np.float64)
    properties.test_float32_keeps_the_digits_of_float64(schedule)
    properties.test_gradients_are_never_nan(row)
    properties.test_jit_and_vmap_over_hyper_parameters(schedule)
    with pytest.raises(AssertionError):  # the row is in no list that was joined before
        properties.test_every_schedule_has_a_row()


def test_a_solver(follow):
    tests, (row,) = follow("A solver")
    tests.test_a_single_step_lands_on_x0(row)
    tests.test_one_scan_and_finite_from_zero_snr_to_clean_data(row)
    with jax.enable_x64(True):
        tests.test_the_frame_does_not_matter(None, row)


def test_a_network(follow):
    tests, (row,) = follow("A network")
    tests.test_every_network_has_a_row()
    for num_classes in (0, 10):
        tests.test_the_call_that_all_take(row, num_classes)


def test_a_data_set(follow, tmp_path, monkeypatch):
    tests, (row,) = follow("A data set")
    tests.test_every_data_set_has_a_row()
    place = str(tmp_path / "data")
    tests.test_it_is_prepared_and_holds_what_it_should(row, place, tmp_path, monkeypatch)


def test_a_sweep(follow):
    from noise_sched.sweeping import cells, here

    follow("A sweep")
    module = sys.modules["configs.sweeps.learning_rates"]
    made = cells.make(module.get_config(), module.sweep())
    assert len(made) == 8 and len(here.build(made)) == 1
    assert made[-1].labels == {"optimizer.learning_rate": 5e-3, "b": 1.0, "seed": 1}


def test_a_metric(follow, tmp_path):
    from noise_sched.judging import catalogue

    tests, (row,) = follow("A metric")
    assert catalogue.METRICS["dynamic_range"].features == "tones"
    digits, samples = tests.open_digits(), tests.open_samples()
    tests.test_every_metric_sees_its_fault(row, samples, digits, tmp_path)


def test_a_rule(follow, monkeypatch):
    from noise_sched.auditing import report
    from noise_sched.experiment.rules import RULES, choices

    before = choices.CHOICES
    tests, (row,) = follow("A rule")
    new = choices.CHOICES[len(before) :]
    monkeypatch.setattr(report, "RULES", RULES + new)  # joined when it was imported
    tests.test_a_flaw_is_found_where_it_is_and_only_there(*row)
    tests.test_every_rule_of_the_mathematics_has_a_pair()


def test_a_class_of_diffusers(follow, monkeypatch):
    follow("A class of diffusers")
    tests = module_at("tests/interop/diffusers/test_conformance.py")
    # The library has no such class; it would do as its DDIM, which bounds nothing in this run.
    run = next(r for r in tests.DATA["runs"] if tests.name_of(r) == "DDIMScheduler-trailing")
    run = run | {"class": "PlainScheduler", "config": {"timestep_spacing": "trailing"}}
    monkeypatch.setitem(tests.RUNS, "PlainScheduler-trailing", run)
    with jax.enable_x64(True):
        tests.test_levels("PlainScheduler-trailing")
        tests.test_images("PlainScheduler-trailing")


def test_every_example_is_followed():
    headings = set(re.findall(r"^### (.*)", TEXT, re.MULTILINE)) - {"The rest"}
    followed = {"test_" + h.lower().replace(" ", "_") for h in headings}
    assert followed <= set(globals())
