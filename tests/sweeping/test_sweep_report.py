"""The report of a sweep: what it says, and that its page needs nothing else."""

import csv
import json
import re
import shutil
import subprocess

import fake
import pytest
from PIL import Image

from noise_sched.sweeping import page, report, results, table


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    fake.sweep(folder)
    return folder, report.write(folder)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("running")
    fake.sweep(folder, done=0.5)
    return folder, report.write(folder)


def test_the_best_is_found_in_each_block_and_ties_are_said(finished):
    folder, text = finished
    found = {
        (line.block, dict(line.setting)["b"], dict(line.setting)["schedule"]): line.summary.verdict
        for line in table.lines(results.read(folder), "swd/distance")
    }
    small, large = (("size", 4),), (("size", 8),)
    assert {v for (block, b, _), v in found.items() if block == small and b < 1} == {"worse"}
    assert {v for (block, b, _), v in found.items() if block == large and b == 0.3} == {"worse"}
    tied = [v for (block, b, _), v in found.items() if block == large and b > 0.3]
    assert tied.count("best") == 1 and tied.count("inconclusive") == 3
    assert "swd/distance (lower is better)" in text and "inconclusive (p = " in text
    assert max(map(len, text.splitlines())) <= 110


def test_the_files_hold_the_numbers(finished):
    folder, _ = finished
    out = folder / "report"
    cells = list(csv.DictReader((out / "cells.csv").open()))
    assert len(cells) == 36 and all(row["state"] == "done" for row in cells)
    settings = list(csv.DictReader((out / "settings.csv").open()))
    assert len(settings) == 2 * 12
    content = json.loads((out / "report.json").read_text())
    first = content["settings"][0]
    own = [
        c["swd/distance"]
        for c in content["cells"]
        if all(c[axis] == first[axis] for axis in ("b", "size", "schedule"))
    ]
    assert first["mean"] == pytest.approx(sum(own) / 3)
    for name in ("swd_distance", "class_agreement_agreement", "levels", "loss"):
        with Image.open(out / f"{name}.png") as picture:
            assert min(picture.size) > 200


def test_the_page_needs_nothing_else_and_takes_labels_as_text(running):
    folder, text = running
    content = (folder / "report" / "report.html").read_text()
    assert "&lt;fake&gt;" in content and "<fake>" not in content
    assert "not finite &lt;b&gt;" in content
    assert not re.search(r"""(src|href)=["'](?!data:)""", content) and "http" not in content
    assert "18 done, 17 running, 1 stopped" in text.replace("18 of", "18") and "of 36 cells" in text
    assert len(content) < 5e6


def test_a_sweep_that_has_just_begun_has_a_report(tmp_path):
    fake.sweep(tmp_path, done=0)
    assert "no cell is judged yet" in report.write(tmp_path).lower()
    assert "No cell is judged yet" in (tmp_path / "report" / "report.html").read_text()


def test_mistakes_are_told(tmp_path, finished):
    with pytest.raises(FileNotFoundError, match="no sweep"):
        report.write(tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'swd/distance'"):
        report.write(finished[0], ["swd/distanc"])


def test_axes_that_nobody_named_are_laid_out(finished):
    found = results.read(finished[0])
    axes = table.axes_of(found)
    assert axes == (["b"], ["size"], ["schedule"], ["size"])
    axes = table.axes_of(found._replace(layout={}))
    assert axes.rows == ["b"] and axes.columns == ["schedule"] and axes.panels == ["size"]


@pytest.mark.browser
@pytest.mark.parametrize(("width", "height"), [(1400, 2600), (390, 3000)])
def test_the_page_in_a_browser(finished, tmp_path, width, height):
    """Needs Chromium: apt-get install chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    assert chromium, "no Chromium found"
    shot = tmp_path / "page.png"
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        + [f"--window-size={width},{height}", f"--screenshot={shot}", "--enable-logging=stderr"]
        + [f"file://{finished[0]}/report/report.html"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr
    with Image.open(shot) as picture:
        assert picture.size == (width, height)
        colours = picture.convert("RGB").getcolors(2**24)
        assert len(colours) > 100, "an empty page"


def test_thumbnails_are_small(finished):
    found = results.read(finished[0])
    content = page._samples([r for r in found.results if r.picture])
    assert content.count("<figure>") == 36
