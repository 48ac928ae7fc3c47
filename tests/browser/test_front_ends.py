"""Front ends besides JupyterLab: Notebook 7, and Voila's page without code."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import psutil
import pytest
from playwright.sync_api import Browser, Page

from .conftest import LabRows
from .notebook import BUTTONS, Lab, seen_texts
from .server import NEWEST, LabServer, wait_for

pytestmark = pytest.mark.browser

ROWS = 50_000


def cell(table: str) -> str:
    return f"import taskwidgets as tw\njob = tw.upload('rows.csv', {table!r}, max_rate=1e5)\njob"


@pytest.fixture
def page(lab_browser: Browser) -> Iterator[Page]:
    """A page of the test's own."""
    context = lab_browser.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


def pause_and_resume(page: Page, server: LabServer, table: str) -> None:
    """What a user does with the one panel on a page, by clicking; it ends with the table loaded."""
    lab = Lab(server, page)
    panel = page.locator(".taskwidgets-panel")

    def state() -> str:
        words = seen_texts(panel.locator(".taskwidgets-state"))
        return words[0].split()[-1] if len(words) == 1 and words[0] else ""

    def percent() -> int:
        return int(panel.get_by_role("progressbar").get_attribute("aria-valuenow") or -1)

    def enabled() -> list[str]:
        return [
            name
            for name in BUTTONS
            if panel.get_by_role("button", name=name, exact=True).is_enabled()
        ]

    lab.wait(lambda: state() == "running", "the panel appears and says running", 90.0)
    lab.wait(lambda: percent() >= 2, "the bar has moved", 60.0)
    panel.get_by_role("button", name="Pause", exact=True).click(timeout=30_000)
    lab.wait(lambda: state() == "paused", "the panel says paused", 60.0)
    job = server.job_of(table)
    assert server.state_of(job) == "paused"
    assert 0 < server.committed(job) < ROWS
    lab.wait(lambda: enabled() == ["Resume", "Terminate"], "Resume can be clicked")
    panel.get_by_role("button", name="Resume", exact=True).click(timeout=30_000)
    lab.wait(lambda: state() == "completed", "the panel says completed", 120.0)
    lab.wait(lambda: f"{ROWS:,} rows" in panel.inner_text(), "the panel has the rows")
    counts = server.query(f"SELECT count(*), count(DISTINCT id) FROM {table}")
    assert counts == [(ROWS, ROWS)]


def test_notebook_7(page: Page, lab_server: LabServer, lab_rows: LabRows) -> None:
    """In Notebook 7 a cell shows the panel, and its buttons pause and resume the job.

    Slow: a server of its own is started, with another front end.
    """
    lab_rows()
    path = lab_server.write_notebook("front-end-notebook.ipynb", [cell("in_notebook_7")], NEWEST)
    try:
        page.goto(f"{lab_server.url}/notebooks/{path}?token={lab_server.token}")
        lab = Lab(lab_server, page)
        page.locator(".jp-CodeCell .cm-content").first.wait_for(timeout=90_000)
        lab.wait(lambda: "Idle" in kernel_titles(page), "the kernel is idle", 90.0)
        code = page.locator(".jp-CodeCell").first

        def begun() -> bool:
            """A page that is not ready yet may not hear the keys; a second call does no harm."""
            code.locator(".cm-content").click()
            page.keyboard.press("Control+Enter")
            page.wait_for_timeout(1000)
            return code.locator(".jp-InputPrompt").inner_text() != "[ ]:"

        lab.wait(begun, "the cell has begun", 60.0)
        pause_and_resume(page, lab_server, "in_notebook_7")
    finally:
        lab_server.shut_down(path)


def kernel_titles(page: Page) -> str:
    """What the sign of the kernel's state tells who points at it."""
    nodes = page.locator(".jp-Notebook-ExecutionIndicator")
    return " ".join(
        nodes.evaluate_all("nodes => nodes.map(node => node.getAttribute('data-status') ?? '')")
    ).title()


@pytest.fixture
def voila(lab_server: LabServer) -> Iterator[Callable[[str], str]]:
    """Serve one notebook by Voila, as its command line does; the address."""
    started: list[subprocess.Popen[bytes]] = []

    def serve(notebook: str) -> str:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = lab_server.root / "voila.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "voila", str(lab_server.root / notebook), "--no-browser",
                 f"--port={port}", "--Voila.ip=127.0.0.1"],
                env=lab_server.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        started.append(process)

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            with closing(socket.socket()) as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        wait_for(listens, "Voila listens", 90.0)
        return f"http://127.0.0.1:{port}/"

    yield serve
    for process in started:
        left = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        for child in psutil.wait_procs(left, timeout=20)[1]:
            child.kill()
        process.wait()


@pytest.mark.slow
def test_voila(
    page: Page, lab_server: LabServer, lab_rows: LabRows, voila: Callable[[str], str]
) -> None:
    """Voila's page has the panel, whose buttons work, the list of jobs, and no code."""
    lab_rows()
    cells = [cell("in_voila"), "tw.jobs(search='in_voila')"]
    path = lab_server.write_notebook("front-end-voila.ipynb", cells, NEWEST)
    page.goto(voila(path), timeout=90_000)
    pause_and_resume(page, lab_server, "in_voila")
    row = page.locator(".taskwidgets-row .taskwidgets-state")
    Lab(lab_server, page).wait(lambda: seen_texts(row) == ["completed"], "the list says completed")
    assert "import taskwidgets" not in page.locator("body").inner_text()
