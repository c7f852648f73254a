"""Who may import whom, read from the sources: an arrow of the import graph never leads upwards.

`FLOORS` is the picture of ARCHITECTURE.md. The five rooms know nothing of each other; `experiment` joins
them; the commands are on top. `OUTSIDE` says which libraries a room may use. No module is a grab bag.
"""

import ast
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "noise_sched"

# From the ground up. A folder or file imports from its own, and from the floors below.
FLOORS = (
    {"messages": "the words that error messages have in common"},
    {
        "diffusion": "the mathematics, without a config, a file or a network",
        "networks": "flax modules, which know nothing of diffusion",
        "training": "the step, its state, checkpoints and the loop, without data or diffusion",
        "data": "where images come from",
        "evaluation": "how images are judged",
    },
    {"figures": "curves of schedules and levels, and grids of images"},
    {"experiment": "config -> objects, the rules, a run's folder, images from a trained model"},
    {
        "auditing": "what a set-up is, as numbers, text and picture",
        "preflight": "a config's programs, compiled for TPUs that are not there",
        "calibration": "the input scale of a resolution, from the images alone",
    },
    {"interop": "other projects' files <-> our choices"},
    {"judging": "images by any name -> features, figures and a report"},
    {"sweeping": "the cells of a grid, trained and judged, many as one program"},
    {"command_line": "flags and config files, which the commands share"},
    {"*": "the commands"},
)

# The libraries of a folder or file beyond the standard library; what is not listed may use any.
_NETWORKS = {"flax", "jax", "jaxtyping", "numpy"}
_NO_TORCH = {"absl", "configs", "jax", "ml_collections", "ml_dtypes", "numpy"}
OUTSIDE = {
    "noise_sched/messages.py": set(),
    "noise_sched/diffusion": {"jax", "jaxtyping", "numpy"},
    "noise_sched/networks": _NETWORKS,
    # Neither diffusers nor torch, whose files are read as data.
    "noise_sched/interop/diffusers": {"jax", "jaxtyping", "numpy"},
    "noise_sched/interop/nvlabs": _NO_TORCH,
    "noise_sched/interop/nvlabs/snapshot.py": {"numpy"},
    "noise_sched/interop/pickles": {"ml_dtypes", "numpy"},
    "noise_sched/interop/pickles/unpickler.py": {"numpy"},
    "noise_sched/interop/torch_weights.py": {"ml_dtypes", "numpy"},
    "configs": {"ml_collections"},
    "configs/own_images.py": {"noise_sched", "ml_collections"},  # the config that looks at data
}
# Files that know less than their folder may: nothing of the package but these.
ALONE = {
    "noise_sched/interop/pickles/unpickler.py": set(),
    "noise_sched/interop/pickles/torch_tensors.py": {"noise_sched.interop.pickles.unpickler"},
    "noise_sched/interop/nvlabs/snapshot.py": {
        "noise_sched.interop.pickles.unpickler",
        "noise_sched.interop.pickles.torch_tensors",
    },
    "noise_sched/interop/torch_weights.py": {"noise_sched.interop.pickles"},
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


def floor_of(room):
    """The number of a room's floor; a command is on the top one."""
    floors = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    return floors[0] if floors else len(FLOORS) - 1


def forbidden(path, module):
    """Why a file of the package may not import a module of the package; None if it may."""
    own, other = path.parts[1].removesuffix(".py"), f"{module}.*".split(".")[1]
    if own == other or own == "__init__" or floor_of(other) < floor_of(own):
        return None
    below = [room for rooms in FLOORS[: floor_of(own)] for room in rooms]
    return (
        f"{own} may import from {', '.join(below) or 'nothing of the package'}: put what both need there, "
        f"or move the file to the room of its subject:\n{the_house()}"
    )


def the_house():
    """Where a new file belongs."""
    return "\n".join(
        f"  {PACKAGE}/{room if room != '*' else 'NAME.py'}: {what}"
        for rooms in FLOORS
        for room, what in rooms.items()
    )


def violations(root):
    """Every import under `root` that the rules above forbid, as one line of text each, and why."""
    found = []
    for path in sorted([*(root / PACKAGE).rglob("*.py"), *(root / "configs").rglob("*.py")]):
        path = path.relative_to(root)
        allowed = [libraries for place, libraries in OUTSIDE.items() if path.is_relative_to(place)]
        source = (root / path).read_text(encoding="utf-8")
        for module in imported_modules(source, ".".join(path.parent.parts)):
            top = module.split(".")[0]
            if top == PACKAGE == path.parts[0]:
                why = forbidden(path, module)
                only = ALONE.get(str(path))
                if only is not None and not any(f"{module}.".startswith(f"{o}.") for o in only):
                    why = f"{path} stands alone"
            elif {top} & {path.parts[0], *sys.stdlib_module_names, *(allowed or [{top}])[-1]}:
                why = None
            else:
                why = f"of libraries it may use {', '.join(sorted(allowed[-1])) or 'none'}"
            if why:
                found.append((f"{path} imports {module}", why))
    return found


def test_no_arrow_leads_upwards():
    found = violations(ROOT)
    assert not found, "\n".join(f"{what}: {why}" for what, why in found)


def test_every_room_has_its_floor():
    folders = {path.parent.name for path in (ROOT / PACKAGE).glob("*/__init__.py")}
    rooms = {room for floor in FLOORS for room in floor} - {"*", "messages"}
    assert folders == rooms, f"a new folder needs a floor:\n{the_house()}"


def test_a_file_on_the_top_floor_is_a_command():
    for path in (ROOT / PACKAGE).glob("*.py"):
        source = path.read_text(encoding="utf-8")
        is_command = 'if __name__ == "__main__":' in source
        assert is_command or path.stem in ("__init__", "messages"), (
            f"{path.name} is no command; it belongs into one of\n{the_house()}"
        )


def modules_of(room):
    """{module: the modules of the package that it imports} for the files of a room."""
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in (ROOT / PACKAGE / room).rglob("*.py")
        if path.stem != "__init__"
    }
    imports = {
        module: set(imported_modules(path.read_text(encoding="utf-8"), module.rpartition(".")[0]))
        for module, path in paths.items()
    }
    # `from a.b import name` was read as a.b.name.
    return {
        module: {n for name in names for n in (name, name.rpartition(".")[0])} & paths.keys()
        for module, names in imports.items()
    }


@pytest.mark.parametrize(
    "room", sorted({room for rooms in FLOORS for room in rooms} - {"*", "messages"})
)
def test_within_a_room_no_two_files_need_each_other(room):
    left = modules_of(room)
    while ready := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in ready:
            del left[module]
    assert not left, f"these import each other in a circle: {sorted(left)}"


def callers(function):
    """The files of the package, outside the room that has it, that name a function of a module."""
    return {
        str(path.relative_to(ROOT / PACKAGE))
        for path in (ROOT / PACKAGE).rglob("*.py")
        if re.search(rf"\b{function}\(", path.read_text(encoding="utf-8"))
        and not path.is_relative_to(ROOT / PACKAGE / "diffusion")
    }


def test_a_config_is_built_in_one_place():
    """On its way to the compiled step its strings become objects once, and the step is made once."""
    assert callers("specs.build") == {"experiment/build.py", "audit.py"}  # audit's own flag
    assert callers("compile_step") == {"experiment/training.py", "training/step.py"}


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
        ("noise_sched/interop/nvlabs/a.py", "def f():\n  import torch.nn", "torch.nn"),
        ("noise_sched/interop/pickles/unpickler.py", "import jax", "jax"),
        (
            "noise_sched/interop/nvlabs/snapshot.py",
            "from noise_sched import networks",
            "noise_sched.networks",
        ),
        ("noise_sched/networks/a.py", "from ..interop import b", "noise_sched.interop.b"),
        ("noise_sched/interop/diffusers/a.py", "import diffusers", "diffusers"),
        ("noise_sched/messages.py", "import numpy", "numpy"),
        ("noise_sched/messages.py", "from noise_sched import figures", "noise_sched.figures"),
        ("noise_sched/evaluation/a.py", "from ..figures import b", "noise_sched.figures.b"),
        ("noise_sched/experiment/a.py", "from noise_sched import train", "noise_sched.train"),
        ("noise_sched/auditing/a.py", "from ..interop import b", "noise_sched.interop.b"),
        ("noise_sched/interop/a.py", "from ..command_line import b", "noise_sched.command_line.b"),
        ("noise_sched/sweep.py", "from noise_sched import train", "noise_sched.train"),
    ],
)
def test_a_violation_is_found(tmp_path, path, source, forbidden):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    assert [what for what, _ in violations(tmp_path)] == [f"{path} imports {forbidden}"]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("noise_sched/diffusion/a.py", "import math\nimport jax.numpy as jnp\nimport numpy as np"),
        ("noise_sched/diffusion/solvers/a.py", "from noise_sched.diffusion import process"),
        ("noise_sched/diffusion/solvers/a.py", "from .. import process\nfrom . import b"),
        ("noise_sched/data/a.py", "import grain\nimport tensorflow_datasets as tfds"),
        ("configs/a.py", "import ml_collections\nfrom configs import common"),
        (
            "noise_sched/interop/nvlabs/a.py",
            "from noise_sched import networks\nfrom configs import common",
        ),
        (
            "noise_sched/interop/nvlabs/snapshot.py",
            "from noise_sched.interop.pickles import unpickler",
        ),
        ("noise_sched/experiment/a.py", "from noise_sched import data, diffusion, networks"),
        ("noise_sched/train.py", "from noise_sched import command_line, messages"),
    ],
)
def test_what_is_allowed_is_not_found(tmp_path, path, source):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    assert violations(tmp_path) == []
