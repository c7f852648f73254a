"""What the site takes from the package when it is built: config keys, and what commands say of themselves."""

import importlib
import inspect
import pathlib
import sys
import textwrap

from noise_sched.data import offline
from noise_sched.diffusion import specs
from noise_sched.experiment import describing, ranges

ROOT = pathlib.Path(__file__).parent.parent


def on_page_markdown(markdown, page, config, files):
    """Fills in the two pages that are generated."""
    if page.file.src_uri == "reference/config.md":
        markdown = markdown.replace("<!-- keys -->", _keys()).replace(
            "<!-- choices -->", _choices()
        )
    if page.file.src_uri == "reference/commands.md":
        markdown = markdown.replace("<!-- commands -->", _commands())
    return markdown


def commands() -> list[str]:
    """The names of the commands."""
    files = (ROOT / "noise_sched").glob("*.py")
    return sorted(
        f.stem for f in files if "\nif __name__ ==" in f.read_text() and f.stem != "__init__"
    )


def _commands():
    parts = []
    for name in commands():
        doc = inspect.getdoc(importlib.import_module(f"noise_sched.{name}")) or ""
        parts.append(f"## {name}\n\n{doc}")
    return "\n\n".join(parts)


def _keys():
    sys.path.insert(0, str(ROOT))  # configs/ is not installed
    from configs import common

    rows = ["| key | default | what it may be |", "|---|---|---|"]
    kinds = describing.spec_keys()
    defaults = {key: f"`{value!r}`" for key, value in ranges.leaves(common.base())}
    for key in describing.keys():
        what = f"[{kinds[key]}](#{kinds[key]})" if key in kinds else ""
        what = what or (describing.describe(key).split(" is ", 1)[1] if "name" not in key else "")
        what = "one of [networks](networks.md)" if key == "network.name" else what
        if key == "data.name":
            what = f"{', '.join(f'`{name}`' for name in offline.MODULES)}, `folder:PATH`, or TFDS's name"
        what = (what or ranges.allowed(key)).rstrip(".")
        rows.append(f"| `{key}` | {defaults.get(key, 'of the network')} | {what} |")
    return "\n".join(rows)


def _choices():
    parts = []
    for kind in specs.KINDS:
        rows = [f"### {kind}", "", "| spec | what | paper |", "|---|---|---|"]
        for choice in describing.choices_of(kind):
            paper = choice.source and f"[{choice.source}](https://arxiv.org/abs/{choice.source})"
            what = textwrap.shorten(choice.what, 300).replace("|", "\\|")
            rows.append(f"| `{choice.call}` | {what} | {paper} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)
