"""CONTRIBUTING.md's worked example, done as it says: one definition, one row."""

import importlib.util
import pathlib
import re

import numpy as np
import pytest

from noise_sched.diffusion import schedules, specs
from noise_sched.diffusion.schedules import gammas

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def quadratic(monkeypatch):
    """The example's class, defined where the text says, and reachable by its name."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope = dict(vars(gammas))
    exec(block, scope)
    monkeypatch.setattr(schedules, "quadratic", scope["quadratic"], raising=False)
    return specs.build("quadratic()", "schedule")


@pytest.fixture(scope="module")
def properties():
    """tests/diffusion/test_schedules.py, whose every property the row stands for."""
    path = ROOT / "tests" / "diffusion" / "test_schedules.py"
    spec = importlib.util.spec_from_file_location("schedule_properties", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_worked_example_passes_every_property(quadratic, properties):
    np.testing.assert_allclose(quadratic.gamma(np.float32(0.5)), 0.75, rtol=1e-6)
    for dtype in (np.float32, np.float64):
        properties.test_finite_ordered_and_consistent(quadratic, dtype)
        properties.test_ends_are_exact("quadratic()", dtype == np.float64)
    properties.test_float32_keeps_the_digits_of_float64(quadratic)
    properties.test_gradients_are_never_nan("quadratic()")
    properties.test_jit_and_vmap_over_hyper_parameters(quadratic)


def test_without_its_row_the_suite_complains(quadratic, properties):
    with pytest.raises(AssertionError):
        properties.test_every_schedule_has_a_row()
