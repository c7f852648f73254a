"""Every notebook in colabs/ runs from top to bottom, with fewer steps, and is stored with small pictures."""

import os
import re
import sys

import nbformat
import pages
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.docs

NOTEBOOKS = sorted((pages.ROOT / "colabs").glob("*.ipynb"))
ADDRESS = re.search(r"^repo_url: (.*)$", (pages.ROOT / "mkdocs.yml").read_text(), re.MULTILINE)[1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, monkeypatch):
    monkeypatch.setenv("NOISE_SCHED_SHORT", "1")
    # A notebook's own processes do as a reader's: the suite's strictness is not theirs.
    for name in ("JAX_NUMPY_RANK_PROMOTION", "JAX_NUMPY_DTYPE_PROMOTION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(pages.ROOT))
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    for cell in notebook.cells:
        said = "".join(out.get("text", "") for out in cell.get("outputs", []))
        assert "error:" not in said and "Traceback" not in said, said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_how_it_is_stored(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [out for cell in code for out in cell.outputs]
    pictures = [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert pictures, "run it, and store it with its pictures"
    assert path.stat().st_size < 1_500_000
    text = "".join(cell.source for cell in notebook.cells)
    assert ADDRESS in code[0].source and f"/blob/main/colabs/{path.name}" in text
    said = "".join(out.get("text", "") for out in outputs)
    assert "error:" not in said and "Traceback" not in said and str(pages.ROOT) not in said


def test_all_pages_name_the_same_address():
    for page in [*pages.pages(), pages.ROOT / "mkdocs.yml"]:
        for found in re.findall(
            r"github\.com/([\w-]+/noise_sched)", page.read_text(encoding="utf-8")
        ):
            assert ADDRESS.endswith(found), page
