"""Rejects in the panel: shown when asked for, mended in place, replayed, by mouse or keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator

from .conftest import LabOpen
from .notebook import Notebook, Panel
from .server import OLD, LabServer
from .test_looks import CONTRASTS, LEAST_CONTRAST, OVERFLOWS, THEMES, WIDTHS

pytestmark = pytest.mark.browser

MARKUP = "x3,<img src=x onerror=window.boom=1><b>bold</b>"
TYPES = '{"id": "integer", "note": "text"}'
CELL = """
import taskwidgets as tw
job = tw.upload({name!r}, {table!r}, types={types}, on_error="reject")
job
"""


def write_bad(server: LabServer, name: str, bad: int) -> Path:
    """Two good rows, and so many that are none: the first has markup, the second a line break."""
    path = server.root / name
    rows = [
        MARKUP,
        'x4,"two\r\nlines"',
        *(f"x{number},long {'word ' * 30}" for number in range(bad)),
    ]
    path.write_bytes("\r\n".join(["id,note", "1,good", *rows[:bad], "2,good", ""]).encode())
    return path


def open_rejects(notebook: Notebook, many: str) -> Panel:
    panel = notebook.run_panel(state="completed")
    panel.wait_text(f"{many} kept as rejects")
    assert panel.node.get_by_role("textbox").count() == 0
    panel.click("Show rejects")
    panel.node.get_by_role("textbox").first.wait_for(state="visible")
    return panel


def line(panel: Panel, number: int) -> Locator:
    return panel.node.get_by_role("textbox", name=f"Line {number:,}", exact=True)


@pytest.mark.slow
def test_one_of_three_is_mended_and_loaded_once(lab_open: LabOpen, lab_server: LabServer) -> None:
    """Place, reason and text of each; one is mended, one mended wrongly; the counts follow."""
    write_bad(lab_server, "bad3.csv", 3)
    notebook = lab_open(
        CELL.format(name="bad3.csv", table="mended3", types=TYPES),
        "print(job.receipt.rows_loaded, job.receipt.rows_rejected, list(job.rejects().line))",
    )
    panel = open_rejects(notebook, "3 rows were")
    page = notebook.lab.page
    assert line(panel, 3).input_value() == MARKUP
    assert page.evaluate("() => window.boom") is None
    assert panel.node.locator("img, b").count() == 0
    panel.wait_text('invalid input syntax for type integer: "x3"')
    panel.wait_text("line 4, column id")
    assert not panel.is_enabled("Replay 0 mended")

    line(panel, 3).fill(MARKUP.replace("x3", "3"))
    panel.button("Replay 1 mended").wait_for(state="visible")
    line(panel, 4).fill('still wrong,"two\nlines"')
    panel.click("Replay 2 mended")
    panel.wait_text("1 mended row loaded, 1 still refused:")
    panel.wait_text('line 4: invalid input syntax for type integer: "still wrong"')
    panel.wait_text("2 rows were kept as rejects")
    panel.wait_text("3 rows")
    panel.wait_text("2 rejected")
    panel.wait_snapshot("3 rows, 2 rejected")
    notebook.lab.wait(lambda: line(panel, 3).count() == 0, "what is loaded is gone from the grid")
    assert line(panel, 4).input_value() == 'still wrong,"two\nlines"'  # as it was mended
    assert not panel.is_enabled("Replay 0 mended")

    line(panel, 4).fill('4,"two\nlines"')
    panel.click("Replay 1 mended")
    panel.wait_text("1 row was kept as rejects")
    rows = "SELECT note FROM mended3 WHERE id = %s"
    assert lab_server.value(rows, 3) == MARKUP.partition(",")[2]
    assert lab_server.value(rows, 4) == "two\r\nlines"  # its line break is still the file's
    assert lab_server.value("SELECT count(*) FROM mended3") == 4
    notebook.run(1)
    assert "4 1 [3, 4, 6]" in notebook.output(1)
    assert page.evaluate("() => window.boom") is None


def test_the_keyboard_alone_mends_and_replays(lab_open: LabOpen, lab_server: LabServer) -> None:
    """Tab goes from Show rejects into the text, and on to Replay; here with the oldest kernel."""
    write_bad(lab_server, "bad1.csv", 1)
    cell = CELL.format(name="bad1.csv", table="typed1", types=TYPES)
    notebook = lab_open(cell, kernel=OLD, route="main")
    panel = notebook.run_panel(state="completed")
    panel.wait_text("1 row was kept as rejects")
    page = notebook.lab.page
    focused = (
        "() => document.activeElement?.labels?.[0]?.textContent"
        " ?? document.activeElement?.textContent?.trim()"
    )
    page.keyboard.press("Escape")

    def tab_to(name: str) -> None:
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate(focused) == name:
                return
        raise AssertionError(f"Tab does not reach {name}")

    tab_to("Show rejects")
    page.keyboard.press("Enter")
    line(panel, 3).wait_for(state="visible")
    tab_to("Line 3")
    assert "2px" in line(panel, 3).evaluate("node => getComputedStyle(node).boxShadow")
    page.keyboard.press("Control+Home")
    page.keyboard.press("Delete")
    panel.button("Replay 1 mended").wait_for(state="visible")
    tab_to("Replay 1 mended")
    page.keyboard.press("Enter")
    panel.wait_text("No rejects are left")
    assert lab_server.value("SELECT count(*) FROM typed1") == 3


@pytest.mark.slow
def test_many_are_shown_page_by_page(lab_open: LabOpen, lab_server: LabServer) -> None:
    """Twenty at a time; what was typed on one page is there when it is come back to."""
    write_bad(lab_server, "bad50.csv", 50)
    notebook = lab_open(CELL.format(name="bad50.csv", table="paged50", types=TYPES))
    panel = open_rejects(notebook, "50 rows were")
    boxes = panel.node.get_by_role("textbox")
    panel.wait_text("1 to 20 of 50")
    assert boxes.count() == 20
    line(panel, 6).fill("6,mended")
    panel.click("Next")
    panel.wait_text("21 to 40 of 50")
    panel.click("Next")
    panel.wait_text("41 to 50 of 50")
    notebook.lab.wait(lambda: boxes.count() == 10, "the last page has ten")
    assert not panel.is_enabled("Next")
    panel.click("Previous")
    panel.click("Previous")
    panel.wait_text("1 to 20 of 50")
    line(panel, 6).wait_for(state="visible")
    assert line(panel, 6).input_value() == "6,mended"
    panel.click("Replay 1 mended")
    panel.wait_text("1 to 20 of 49")
    # At rest, nothing is sent.
    page, frames = notebook.lab.page, notebook.lab.frames
    panel.wait_text("1 mended row loaded")
    page.wait_for_timeout(500)
    frames.clear()
    page.wait_for_timeout(1000)
    assert [data for _, data in frames if b'"comm_' in data] == []
    panel.click("Hide rejects")
    notebook.lab.wait(lambda: boxes.count() == 0, "the texts are gone")


@pytest.mark.slow
def test_before_the_job_is_completed_the_button_says_so(
    lab_open: LabOpen, lab_server: LabServer
) -> None:
    """A job that failed shows its rejects; they can be loaded when it is completed."""
    write_bad(lab_server, "bad9.csv", 9)
    cell = CELL.format(name="bad9.csv", table="never9", types=TYPES)
    notebook = lab_open(cell.replace('"reject")', '"reject", max_rejects=2)'))
    panel = notebook.run_panel(state="failed")
    panel.wait_text("9 rows were kept as rejects")
    panel.click("Show rejects")
    line(panel, 3).wait_for(state="visible")
    line(panel, 3).fill("3,mended")
    button = panel.button("Replay 1 mended (once the job is completed)")
    button.wait_for(state="visible")
    assert not button.is_enabled()
    panel.click("Terminate")
    panel.click("Yes, terminate")
    notebook.lab.wait(lambda: panel.state == "terminated", "the panel says terminated")
    button.wait_for(state="hidden")


def test_the_grid_reads_well(lab_open: LabOpen, lab_server: LabServer, lab_pictures: Path) -> None:
    """Light and dark, wide and narrow: contrast, nothing cut or sticking out."""
    write_bad(lab_server, "bad4.csv", 4)
    notebook = lab_open(CELL.format(name="bad4.csv", table="looks4", types=TYPES))
    panel = open_rejects(notebook, "4 rows were")
    line(panel, 3).fill("wrong,again")
    line(panel, 4).fill("4,fine")
    panel.click("Replay 2 mended")
    panel.wait_text("still refused")
    notebook.lab.wait(lambda: line(panel, 4).count() == 0, "what is loaded is gone")
    line(panel, 3).fill("3,mended")
    lab = notebook.lab
    pale, wide = {}, {}
    try:
        for theme, name in THEMES.items():
            lab.set_theme(name)
            for width in WIDTHS:
                lab.page.set_viewport_size({"width": width, "height": 800})
                lab.page.mouse.move(5, 790)
                lab.page.wait_for_timeout(300)
                shown = notebook.cell(0).locator(".jp-OutputArea").first
                shown.scroll_into_view_if_needed()
                shown.screenshot(path=lab_pictures / f"rejects-{theme}-{width}.png")
                texts = panel.node.evaluate(CONTRASTS)
                assert len(texts) > 10
                if faint := [one for one in texts if one[1] < LEAST_CONTRAST]:
                    pale[theme, width] = faint
                if broad := panel.node.evaluate(OVERFLOWS):
                    wide[theme, width] = broad
    finally:
        lab.set_theme(THEMES["light"])
        lab.page.set_viewport_size({"width": 1280, "height": 800})
    assert not pale
    assert not wide
