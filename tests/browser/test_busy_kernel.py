"""Clicks while another cell runs, with old and new kernels, over subshells and without.

What is expected here is what was measured of the front end and the kernels. A click comes

    kernel, route           while a cell awaits     while a cell blocks
    6.29, either            after the cell          after the cell
    7, main shell           at once (since 7.4)     after the cell
    7, subshell             at once                 at once
"""

from __future__ import annotations

import importlib.metadata
import re

import pytest
from fix_tiers import some

from .conftest import LabOpen, LabRows
from .notebook import Notebook
from .server import NEWEST, OLD, OLD_IPYKERNEL, LabServer

pytestmark = pytest.mark.browser

SECONDS = 6.0  # that the other cell runs
SOON = 5.0  # seconds after the other cell, within which a click has been obeyed at the latest
PAIRS = [(NEWEST, "subshell"), (NEWEST, "main"), (OLD, "subshell"), (OLD, "main")]
ROUTE = pytest.mark.parametrize("route", ["subshell", "main"])


def open_with_cell(
    lab_open: LabOpen, lab_rows: LabRows, kernel: str, route: str, sleep: str
) -> tuple[Notebook, str]:
    """A notebook with a slow upload, and another cell that keeps the kernel busy."""
    lab_rows()
    table = f"busy_{re.sub('[^a-z]', '_', f'{kernel}_{route}_{sleep}')}"
    notebook = lab_open(
        f"import taskwidgets as tw\njob = tw.upload('rows.csv', {table!r}, max_rate=1e5)\njob",
        "import asyncio, time, ipykernel\n"
        "print('ipykernel', ipykernel.__version__)\n"
        f"print('begun', time.time())\n{sleep}\nprint('ended', time.time())",
        kernel=kernel,
        route=route,
    )
    return notebook, table


def times(notebook: Notebook) -> tuple[str, float, float]:
    """What the other cell printed: ipykernel's version, and when it began and ended."""
    text = notebook.output(1)
    found = re.search(r"ipykernel (\S+)\s+begun (\S+)\s+ended (\S+)", text)
    assert found is not None, text
    return found[1], float(found[2]), float(found[3])


def check_version(kernel: str, version: str) -> None:
    expected = OLD_IPYKERNEL if kernel == OLD else importlib.metadata.version("ipykernel")
    assert version == expected


@pytest.mark.parametrize(("kernel", "route"), some(PAIRS, lambda pair: pair == (NEWEST, "main")))
def test_pause_while_another_cell_awaits(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer, kernel: str, route: str
) -> None:
    """Pause is durable at once with the newest kernel, and right after the cell with the oldest.

    Slow: the other cell takes six seconds.
    """
    notebook, table = open_with_cell(
        lab_open, lab_rows, kernel, route, f"await asyncio.sleep({SECONDS})"
    )
    panel = notebook.run_panel()
    notebook.start(1)
    notebook.lab.wait(lambda: "begun" in notebook.output(1), "the other cell has begun")
    before = panel.percent
    panel.wait_percent(before + 3, SECONDS)  # the panel lives while the cell awaits
    assert notebook.is_running(1)
    panel.click("Pause")
    if kernel == NEWEST:
        panel.wait_state("paused", SECONDS / 2)
        assert notebook.is_running(1)
    notebook.wait_done(1)
    panel.wait_state("paused", SOON)
    version, begun, ended = times(notebook)
    check_version(kernel, version)
    assert ended - begun >= SECONDS
    paused = lab_server.entered(lab_server.job_of(table), "paused")
    assert paused is not None
    assert paused < (ended if kernel == NEWEST else ended + SOON)


@pytest.mark.parametrize(
    ("kernel", "route"),
    some(PAIRS, lambda pair: pair in [(NEWEST, "subshell"), (OLD, "main")]),
)
def test_pause_while_another_cell_blocks(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer, kernel: str, route: str
) -> None:
    """Data goes on being loaded; Pause is durable within the cell over a subshell, else after.

    Slow: the other cell takes six seconds.
    """
    notebook, table = open_with_cell(lab_open, lab_rows, kernel, route, f"time.sleep({SECONDS})")
    panel = notebook.run_panel()
    job = lab_server.job_of(table)
    notebook.start(1)
    notebook.lab.wait(lambda: "begun" in notebook.output(1), "the other cell has begun")
    before = lab_server.committed(job)
    notebook.lab.wait(
        lambda: lab_server.committed(job) > before, "rows are committed meanwhile", SECONDS
    )
    at_once = kernel == NEWEST and route == "subshell"
    panel.click("Pause")
    if at_once:
        notebook.lab.wait(
            lambda: lab_server.state_of(job) == "paused", "paused at once", SECONDS / 2
        )
        notebook.lab.wait(lambda: panel.state != "running", "the panel has heard it", SECONDS / 2)
        assert notebook.is_running(1)
    notebook.wait_done(1)
    panel.wait_state("paused", SOON)
    version, begun, ended = times(notebook)
    check_version(kernel, version)
    paused = lab_server.entered(job, "paused")
    assert paused is not None
    assert begun < paused < (ended if at_once else ended + SOON)
    loaded_meanwhile = lab_server.value(
        "SELECT count(*) FROM taskwidgets.checkpoints"
        " WHERE job_id = %s AND at BETWEEN to_timestamp(%s) AND to_timestamp(%s)",
        job, begun, ended,
    )  # fmt: skip
    assert loaded_meanwhile > 0


@pytest.mark.slow
@ROUTE
def test_a_later_click_while_another_cell_blocks(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer, route: str
) -> None:
    """A button that was used and enabled again is heard as soon as a new one."""
    notebook, table = open_with_cell(
        lab_open, lab_rows, NEWEST, route, f"time.sleep({SECONDS - 0.5})"
    )
    panel = notebook.run_panel()
    job = lab_server.job_of(table)
    panel.click("Pause")
    panel.wait_state("paused")
    panel.click("Resume")
    panel.wait_state("running")
    notebook.lab.wait(lambda: panel.is_enabled("Pause"), "Pause can be clicked")
    notebook.start(1)
    notebook.lab.wait(lambda: "begun" in notebook.output(1), "the other cell has begun")
    panel.click("Pause")
    if route == "subshell":
        notebook.lab.wait(
            lambda: lab_server.state_of(job) == "paused", "paused at once", SECONDS / 2
        )
        assert notebook.is_running(1)
    notebook.wait_done(1)
    panel.wait_state("paused", SOON)
    _, _, ended = times(notebook)
    paused = lab_server.entered(job, "paused")
    assert paused is not None
    assert paused < (ended if route == "subshell" else ended + SOON)
