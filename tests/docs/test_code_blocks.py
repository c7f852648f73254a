"""Every code block of README.md and docs/ runs as it stands there, page by page, in one empty folder.

Python blocks of a page share their names. Commands of the package run in this process, smaller: a config at
`:tiny`, few images. A block that cannot run says why in a comment before it, and its flags are checked.
"""

import contextlib
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys

import in_process
import jax
import numpy as np
import pages
import pytest
from absl import flags
from PIL import Image

pytestmark = pytest.mark.docs

KINDS = {"python", "bash", "text", "bibtex"}
WITH_CODE = [p for p in pages.pages() if {b.kind for b in pages.blocks(p)} & {"python", "bash"}]


def ident(page):
    return str(page.relative_to(pages.ROOT))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with what a reader has: the checkout's configs and a folder of photographs."""
    for name in ("configs", "launch"):
        (tmp_path / name).symlink_to(pages.ROOT / name)
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(40):
        pixels = rng.integers(0, 256, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i:02}.png")
    monkeypatch.chdir(tmp_path)
    # What a reader's process has: the suite's own strictness is not the reader's.
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


@pytest.mark.parametrize("page", WITH_CODE, ids=ident)
def test_page(page, place, monkeypatch):
    scope = {"__name__": "a_page"}
    for block in pages.blocks(page):
        assert block.kind in KINDS, f"a block of an unknown kind: {block.kind}"
        if block.kind == "python":
            with readers_numerics():
                exec(compile(block.code, ident(page), "exec"), scope)
        elif block.kind == "bash":
            for command in commands(block.code):
                check(command, monkeypatch) if block.why_not else run(command)


@contextlib.contextmanager
def readers_numerics():
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def commands(code: str) -> list[list[str]]:
    """The command lines of a block: continued lines joined, comments left out."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run(command: list[str]) -> None:
    if command[:2] != ["python", "-m"]:
        raise AssertionError(f"{command}: say in a comment before the block why it is not run")
    module, arguments = command[2].removeprefix("noise_sched."), command[3:]
    assert in_process.run(
        importlib.import_module(f"noise_sched.{module}"), smaller(module, arguments)
    ) in (0, None)


def smaller(module: str, arguments: list[str]) -> list[str]:
    """The same, in seconds."""
    made = [shrunk(argument) for argument in arguments]
    if module == "train":
        config = next(a for a in made if a.startswith("--config="))
        if config.endswith("digits.py:tiny"):
            made.append("--config.data.image_size=8")  # as the digits that it is judged by
        if "own_images" in config:
            made += [
                "--config.train.steps=3",
                "--config.train.batch_size=4",
                "--config.sample.steps=2",
            ]
            made += ["--config.train.image_every=0", "--config.optimizer.warmup_steps=1"]
            made = [a for a in made if a != "--config.train.steps=1000"]
    if module == "evaluate":
        made.append("--metrics=spectrum,brightness")
    if module == "sampler_sweep":
        made += ["--num_images=8", "--metrics=spectrum"]
    if module == "calibrate":
        made.append("--num_images=20")
    if module in ("levels", "fit_steps"):
        made.append("--num_images=8")
    if module == "fit_steps":
        made += ["--grid=6", "--rounds=1"]
    return made


def shrunk(argument: str) -> str:
    argument = re.sub(r"^(--config=configs/(?!own_images)\w+\.py)$", r"\1:tiny", argument)
    argument = re.sub(r"^(--sweep=configs/sweeps/\w+\.py)(:\w+)?$", r"\1:tiny", argument)
    argument = re.sub(r"^--config\.train\.eval_every=.*", "--config.train.eval_every=6", argument)
    return re.sub(r"^--num_images=\d+$", "--num_images=8", argument)


def check(command: list[str], monkeypatch) -> None:
    """Of what is not run: the file is there, and a command's flags exist."""
    if command[0] == "bash":
        assert (pages.ROOT / command[1]).is_file(), command
        if "--" in command:  # a launcher says what it would do
            dry = [*command[:2], "--dry_run", *command[2:]]
            done = subprocess.run(dry, cwd=pages.ROOT, capture_output=True, text=True)
            assert done.returncode == 0 and done.stdout, (dry, done.stderr)
    if command[:2] == ["python", "-m"] and command[2].startswith("noise_sched."):
        monkeypatch.setattr(sys, "argv", ["command"])
        with in_process.own_flags(importlib.import_module(command[2])):
            named = {a.lstrip("-").split("=")[0] for a in command[3:] if a.startswith("--")}
            own = {name for name in named if not name.startswith("config.")}
            assert own <= set(flags.FLAGS) | {"config"}


def measured() -> list[tuple[str, list[str]]]:
    """The commands in the pages of results, which take minutes to hours."""
    found = []
    for page in sorted((pages.ROOT / "docs" / "results").glob("*.md")):
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^ {4,}(python -m .*)$", text, re.MULTILINE):
            found.append((ident(page), shlex.split(line.split(" > ")[0], comments=True)))
    return found


@pytest.mark.parametrize(("page", "command"), measured())
def test_commands_of_results_still_exist(page, command, monkeypatch):
    """Their modules and flags; `launch` and `benchmarks` have parsers of their own."""
    assert importlib.util.find_spec(command[2]), command
    check(command, monkeypatch)
