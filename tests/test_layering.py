"""Who may import whom, read from the sources.

diffusion, networks, training, data and evaluation never import each other, nor what joins them;
diffusion is mathematics on jax alone; configs are data. No module is a grab bag. `convert` is a command
in several files: it joins rooms as the other commands do, but its readers of foreign files join nothing.
`diffusers` reads and judges foreign settings for a command.
"""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "noise_sched"
ROOMS = ("diffusion", "networks", "training", "data", "evaluation")
COMMANDS = ("convert",)
READERS = ("diffusers",)

# Where a folder or file may import from beyond its folder and the standard library; None: anywhere
# outside. PACKAGE among them: from all of it.
ALLOWED = {
    f"{PACKAGE}/diffusion": {"jax", "jaxtyping", "numpy"},
    f"{PACKAGE}/networks": {"flax", "jax", "jaxtyping", "numpy"},
    f"{PACKAGE}/training": None,
    f"{PACKAGE}/data": None,
    f"{PACKAGE}/evaluation": None,
    # Never torch, whose files it reads.
    f"{PACKAGE}/convert": {
        PACKAGE,
        "absl",
        "configs",
        "jax",
        "ml_collections",
        "ml_dtypes",
        "numpy",
    },
    # Never diffusers, whose files it reads.
    f"{PACKAGE}/diffusers": {PACKAGE, "jax", "jaxtyping", "numpy"},
    f"{PACKAGE}/convert/unpickler.py": {"numpy"},
    f"{PACKAGE}/convert/torch_tensors.py": {"ml_dtypes", "numpy"},
    f"{PACKAGE}/convert/snapshot.py": {"numpy"},
    "configs": {"ml_collections"},
}
GRAB_BAGS = {"utils", "util", "helpers", "misc"}
NOT_OURS = {".venv", ".git", ".cache", "build", "dist", "runs", "data"}


def imported_modules(source, package):
    """The absolute names of all that a source imports, wherever in the file it does.

    `from a import b` counts as `a.b`: b may be a module. `package` is where the source lives, for
    relative imports.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                above = parts[: len(parts) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            # importlib.import_module("a.b") and __import__("a.b")
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            argument = node.args[0]
            if name in ("import_module", "__import__") and isinstance(argument, ast.Constant):
                yield str(argument.value)


def violations(root):
    """Every import under `root` that the rules above forbid, as one line of text each."""
    found = []
    for folder, allowed in ALLOWED.items():
        is_file = folder.endswith(".py")
        own = (folder.rpartition("/")[0] if is_file else folder).replace("/", ".")
        paths = [root / folder] if is_file else (root / folder).rglob("*.py")
        for path in sorted(filter(pathlib.Path.is_file, paths)):
            package = ".".join(path.relative_to(root).parent.parts)
            for module in imported_modules(path.read_text(encoding="utf-8"), package):
                if f"{module}.".startswith(f"{own}."):
                    continue
                top = module.split(".")[0]
                if top == PACKAGE:
                    known = allowed is not None and PACKAGE in allowed
                else:
                    known = allowed is None or top in allowed or top in sys.stdlib_module_names
                if not known:
                    found.append(f"{path.relative_to(root)} imports {module}")
    return found


def test_rooms_import_only_what_they_may():
    assert violations(ROOT) == []


def test_every_room_has_a_rule():
    folders = {p.parent.name for p in (ROOT / PACKAGE).glob("*/__init__.py")}
    ruled = {rule.split("/")[1] for rule in ALLOWED if "/" in rule}
    assert folders == {*ROOMS, *COMMANDS, *READERS} == ruled


def test_no_module_is_a_grab_bag():
    ours = (
        path for path in ROOT.rglob("*.py") if NOT_OURS.isdisjoint(path.relative_to(ROOT).parts[:1])
    )
    assert [str(path.relative_to(ROOT)) for path in ours if path.stem in GRAB_BAGS] == []


@pytest.mark.parametrize(
    ("path", "source", "forbidden"),
    [
        ("noise_sched/diffusion/a.py", "import flax", "flax"),
        ("noise_sched/diffusion/a.py", "from flax import linen", "flax.linen"),
        ("noise_sched/diffusion/solvers/a.py", "import optax.losses", "optax.losses"),
        ("noise_sched/diffusion/a.py", "import noise_sched", "noise_sched"),
        ("noise_sched/networks/a.py", "from noise_sched import diffusion", "noise_sched.diffusion"),
        ("noise_sched/networks/a.py", "from noise_sched import eps", "noise_sched.eps"),
        ("noise_sched/networks/a.py", "from .. import diffusion", "noise_sched.diffusion"),
        ("noise_sched/networks/a.py", "from ..data import b", "noise_sched.data.b"),
        ("noise_sched/data/a.py", "def f():\n  import noise_sched.train", "noise_sched.train"),
        ("noise_sched/training/a.py", "from noise_sched.data import b", "noise_sched.data.b"),
        ("noise_sched/data/a.py", "from noise_sched.data_too import b", "noise_sched.data_too.b"),
        (
            "noise_sched/evaluation/a.py",
            "import importlib\nimportlib.import_module('noise_sched.experiment')",
            "noise_sched.experiment",
        ),
        ("configs/a.py", "from noise_sched.diffusion import specs", "noise_sched.diffusion.specs"),
        ("configs/sweeps/a.py", "import jax", "jax"),
        ("noise_sched/convert/a.py", "def f():\n  import torch.nn", "torch.nn"),
        ("noise_sched/convert/unpickler.py", "import jax", "jax"),
        (
            "noise_sched/convert/snapshot.py",
            "from noise_sched import networks",
            "noise_sched.networks",
        ),
        ("noise_sched/networks/a.py", "from ..convert import b", "noise_sched.convert.b"),
        ("noise_sched/diffusers/a.py", "import diffusers", "diffusers"),
    ],
)
def test_a_violation_is_found(tmp_path, path, source, forbidden):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    assert violations(tmp_path) == [f"{path} imports {forbidden}"]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("noise_sched/diffusion/a.py", "import math\nimport jax.numpy as jnp\nimport numpy as np"),
        ("noise_sched/diffusion/solvers/a.py", "from noise_sched.diffusion import process"),
        ("noise_sched/diffusion/solvers/a.py", "from .. import process\nfrom . import b"),
        ("noise_sched/data/a.py", "import grain\nimport tensorflow_datasets as tfds"),
        ("configs/a.py", "import ml_collections\nfrom configs import common"),
        (
            "noise_sched/convert/a.py",
            "from noise_sched import networks\nfrom configs import common",
        ),
        ("noise_sched/convert/snapshot.py", "from noise_sched.convert import unpickler"),
        ("noise_sched/experiment.py", "from noise_sched import data, diffusion, networks"),
    ],
)
def test_what_is_allowed_is_not_found(tmp_path, path, source):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    assert violations(tmp_path) == []
