"""The package as others get it: its version, what importing it costs, what is kept beside it."""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys

import pytest

import noise_sched

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What `import noise_sched` must not pull in: large, slow to import, or only there to prepare data.
HEAVY = ["clu", "grain", "matplotlib", "orbax", "sklearn", "tensorflow", "tensorflow_datasets"]


def requirements():
    """The names of the run-time requirements in setup.py, read without running it."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    lists = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    return [re.match(r"[\w.-]+", item)[0] for item in ast.literal_eval(lists["DEPENDENCIES"])]


def test_the_version_is_a_version_and_the_installed_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+", noise_sched.__version__)
    try:
        installed = importlib.metadata.version("noise_sched")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("noise_sched is not installed: run from a checkout")
    assert installed == noise_sched.__version__


def test_importing_the_package_is_light():
    # A process of its own: here the tests have imported everything.
    program = (
        "import sys\n"
        f"heavy = {HEAVY!r}\n"
        # None makes an import fail as if the package were not installed.
        "sys.modules['tensorflow'] = None\n"
        "import noise_sched\n"
        "print([name for name in heavy if sys.modules.get(name) is not None])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_every_requirement_is_pinned_in_the_constraints():
    def normal(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.match(r"[\w.-]+==\S+( ; .+)?$", pin) for pin in pins)
    pinned = {normal(pin.split("==")[0]) for pin in pins}
    assert {normal(name) for name in requirements()} <= pinned


@pytest.mark.parametrize("script", ["launch/quickstart.sh", "launch/test.sh", ".ci/run"])
def test_scripts_are_executable_and_parse(script):
    path = ROOT / script
    assert path.stat().st_mode & 0o100
    subprocess.run(["bash", "-n", str(path)], check=True)
