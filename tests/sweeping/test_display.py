"""Progress is read from the cells' own files, on a terminal and in a log."""

import io
import os
import re

import pytest
from sweeps import definition

from noise_sched.sweeping import display, record
from noise_sched.sweeping.display import Display
from noise_sched.sweeping.record import Status


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def cells(tmp_path):
    found = definition().cells
    for cell in found:
        record.folder_of(tmp_path, cell).mkdir(parents=True)
    return found


def test_a_log_gets_a_line_with_counts_losses_and_time_left(tmp_path, cells, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    log = io.StringIO()
    shown = Display(tmp_path, cells, log)
    for cell in cells[:4]:
        record.write_status(tmp_path, cell, Status("done", 12, 12, 0.5))
    record.write_status(tmp_path, cells[4], Status("running", 6, 12, 0.25))
    record.write_status(tmp_path, cells[5], Status("running", 6, 12, 0.75))
    record.write_status(tmp_path, cells[6], Status("stopped", 2, 12, None, "not finite"))
    now[0] = 60.0
    shown.show()
    line = log.getvalue()
    assert line.startswith(
        "4 of 8 cells done, 2 running, 1 stopped, step 6 of 12, loss 0.2500 to 0.7500"
    )
    # 5 cells and twice half the training in a minute; two cells and a bit are left.
    (left,) = re.findall(r"about (\d+) s left", line)
    assert 20 < int(left) < 30
    now[0] = 61.0
    shown.poll()
    assert log.getvalue() == line, "not too often"


def test_a_terminal_gets_one_block_that_is_drawn_again(tmp_path, cells):
    terminal = Terminal()
    shown = Display(tmp_path, cells, terminal)
    for cell in cells:
        record.write_status(tmp_path, cell, Status("running", 3, 12, 0.5))
    shown.show()
    first = terminal.getvalue()
    assert first.count("\n") == 9 and all(cell.name[:20] in first for cell in cells)
    shown.show()
    assert terminal.getvalue()[len(first) :].startswith("\x1b[9F\x1b[J")
    shown.say("a word")
    assert terminal.getvalue().endswith("\x1b[9F\x1b[Ja word\n")


def test_more_cells_than_lines(tmp_path, cells, monkeypatch):
    monkeypatch.setattr(display.shutil, "get_terminal_size", lambda: os.terminal_size((60, 8)))
    terminal = Terminal()
    for cell in cells:
        record.write_status(tmp_path, cell, Status("running", 3, 12, 0.5))
    Display(tmp_path, cells, terminal).show()
    lines = terminal.getvalue().splitlines()
    assert lines[-1].strip() == "and 5 more" and max(map(len, lines[1:])) < 60


def test_the_table_has_every_cell_and_why_it_stopped(tmp_path, cells):
    record.write_status(tmp_path, cells[0], Status("stopped", 3, 12, None, "not finite"))
    text = display.table(tmp_path, cells)
    assert text.count("\n") == 7 and text.count("waiting") == 7
    assert "stopped" in text.splitlines()[0] and "not finite" in text.splitlines()[0]
