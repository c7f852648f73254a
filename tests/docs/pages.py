"""The documentation's code blocks, page by page."""

import pathlib
import re
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
_BLOCK = re.compile(
    r"(<!-- not run: (?P<why>.*?) -->\s*\n)?```(?P<kind>\w+)\n(?P<code>.*?)```", re.DOTALL
)


class Block(NamedTuple):
    """A code block: its language, its text, and why it is not run ("" if it is)."""

    kind: str
    code: str
    why_not: str


def pages() -> list[pathlib.Path]:
    """Every page with code for people to run; CONTRIBUTING.md has a test of its own."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: pathlib.Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(m["kind"], m["code"], m["why"] or "") for m in _BLOCK.finditer(text)]
