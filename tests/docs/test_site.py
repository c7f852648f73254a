"""The site builds without a warning; every public name is in its reference; links lead to files."""

import importlib
import re
import subprocess
import sys

import pages
import pytest

import noise_sched as ns
from noise_sched import networks
from noise_sched.diffusion import specs
from noise_sched.judging import catalogue

pytestmark = pytest.mark.docs


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Built as `mkdocs build`; strict, so a warning fails."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(out)]
    done = subprocess.run(command, cwd=pages.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING -" not in done.stderr
    return out


def test_every_public_name_is_in_the_reference(site):
    text = "".join(p.read_text() for p in (site / "reference").rglob("*.html"))
    found = set(re.findall(r'id="(noise_sched\.[\w.]+)"', text))
    wanted = {
        f"{v.__module__}.{n}"
        for n, v in vars(ns).items()
        if hasattr(v, "__module__") and not n.startswith("_")
    }
    for kind in specs.KINDS:
        wanted |= {f"{made.__module__}.{name}" for name, made in specs.choices(kind).items()}
    wanted |= {f"{getattr(networks, n).__module__}.{n}" for n in networks.__all__}
    for metric in catalogue.METRICS.values():
        wanted.add(f"{metric.judge.__module__}.{metric.judge.__name__}")
    assert wanted - found == set()


def test_every_command_and_key_is_there(site):
    hooks = importlib.util.spec_from_file_location("hooks", pages.ROOT / "docs" / "_hooks.py")
    module = importlib.util.module_from_spec(hooks)
    hooks.loader.exec_module(module)
    text = (site / "reference/commands/index.html").read_text()
    assert {"train", "sample", "describe"} <= set(module.commands())
    assert all(f'id="{name}"' in text for name in module.commands())


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_links_of_files_outside_the_site(name):
    text = (pages.ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith("http"):
            assert (pages.ROOT / target).exists(), target


def test_what_a_page_does_not_run_has_a_reason():
    for page in pages.pages():
        for block in pages.blocks(page):
            assert not block.why_not or len(block.why_not) > 15
