"""The dashboard in JupyterLab: all jobs, whoever runs them, and their buttons."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_tiers import slow
from playwright.sync_api import Locator

from .conftest import LabOpen, LabRows
from .notebook import Notebook, Panel, seen_texts
from .server import NEWEST, OLD, LabServer
from .test_looks import CONTRASTS, LEAST_CONTRAST, OVERFLOWS, THEMES, WIDTHS

pytestmark = pytest.mark.browser

IMPORT = "import taskwidgets as tw"


def upload(table: str, rate: float = 1e5, source: str = "rows.csv") -> str:
    return f"{IMPORT}\njob = tw.upload({source!r}, {table!r}, max_rate={rate})"


class Board:
    """The dashboard in a cell's outputs."""

    def __init__(self, notebook: Notebook, index: int) -> None:
        self.notebook = notebook
        self.lab = notebook.lab
        self.cell = notebook.cell(index)
        self.node = self.cell.locator(".taskwidgets-dashboard")
        self.rows = self.node.locator(".taskwidgets-row")
        self.detail = self.node.locator(".taskwidgets-detail")
        self.still = self.cell.locator("details")
        notebook.start(index)
        self.node.wait_for(state="visible", timeout=30_000)

    def row(self, job: int) -> Locator:
        number = re.compile(rf"^#{job}$")
        return self.rows.filter(
            has=self.notebook.lab.page.locator(".taskwidgets-number", has_text=number)
        )

    def state(self, job: int) -> str:
        return "".join(seen_texts(self.row(job).locator(".taskwidgets-state")))

    def percent(self, job: int) -> int:
        values: list[str | None] = (
            self.row(job)
            .get_by_role("progressbar")
            .evaluate_all("bars => bars.map(bar => bar.getAttribute('aria-valuenow'))")
        )
        return int(values[0]) if len(values) == 1 and values[0] else -1

    def click(self, job: int, name: str) -> None:
        self.row(job).get_by_role("button", name=name, exact=True).click(timeout=30_000)

    def buttons(self, job: int) -> list[str]:
        return seen_texts(self.row(job).get_by_role("button"))

    def wait_state(self, job: int, state: str) -> None:
        self.lab.wait(lambda: self.state(job) == state, f"the row of job {job} says {state}", 60.0)

    def wait_jobs(self, *jobs: int) -> None:
        """Until the list has these rows, in this order, and no others."""
        wanted = [f"#{job}" for job in jobs]

        def listed() -> bool:
            return self.node.locator(".taskwidgets-number").all_inner_texts() == wanted

        self.lab.wait(listed, f"the list has the jobs {jobs}")

    def choose(self, state: str) -> None:
        self.node.get_by_label("State").select_option(label=state)

    def search(self, text: str) -> None:
        self.node.get_by_label("Search").fill(text)


@pytest.fixture(autouse=True)
def _no_jobs(lab_server: LabServer) -> Iterator[None]:
    """Each test begins with an empty list."""
    lab_server.forget_jobs()
    yield
    lab_server.forget_jobs()


def test_a_job_of_another_kernel_is_seen_to_progress(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """Two jobs are listed, the newest first; the one that another kernel runs goes on live.

    Slow: two kernels are started.
    """
    lab_rows()
    other = lab_open(upload("board_other"))
    other.run(0)
    here = lab_open(f"{upload('board_here', 1e7)}\nawait job", f"{IMPORT}\ntw.jobs()")
    here.run(0)
    first, second = lab_server.job_of("board_other"), lab_server.job_of("board_here")
    board = Board(here, 1)
    board.wait_jobs(second, first)
    board.wait_state(second, "completed")
    board.wait_state(first, "running")
    assert "this kernel" not in board.row(first).inner_text()
    assert re.search(r"process \d+ on", board.row(first).inner_text())
    assert board.buttons(second) == ["Open"]
    assert board.buttons(first) == ["Pause", "Terminate", "Open"]
    begun = board.percent(first)
    seen: set[int] = set()

    def risen() -> bool:
        seen.add(board.percent(first))
        return len(seen) >= 4

    here.lab.wait(risen, "the other kernel's job rises in the list", 60.0)
    assert min(seen) >= begun
    board.wait_state(first, "completed")
    here.lab.wait(lambda: "2 jobs, as of" in board.still.inner_text(), "the still table is there")


@pytest.mark.slow
def test_filter_and_search_choose(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """The list follows the filter by state and the search, and says when nothing is like this."""
    lab_rows()
    notebook = lab_open(
        f"{IMPORT}\n"
        "await tw.upload('rows.csv', 'board_plain')\n"
        "await tw.upload('rows.csv', 'board_special')\n"
        "job = tw.upload('rows.csv', 'board_bad', types={'name': 'integer'})\n"
        "try:\n    await job\nexcept tw.JobFailed:\n    pass",
        "tw.jobs()",
    )
    notebook.run(0)
    plain, special, bad = (
        lab_server.job_of(f"board_{name}") for name in ("plain", "special", "bad")
    )
    board = Board(notebook, 1)
    board.wait_jobs(bad, special, plain)
    assert board.node.get_by_label("State").input_value() == "all"
    board.choose("failed")
    board.wait_jobs(bad)
    board.choose("paused")
    board.wait_jobs()
    assert "no job is like this" in board.node.inner_text()
    board.choose("all")
    board.wait_jobs(bad, special, plain)
    board.search("SPECIAL")
    board.wait_jobs(special)
    board.search("")
    board.wait_jobs(bad, special, plain)
    # In the list, a key is no command of the notebook: b would add a cell.
    cells = notebook.node.locator(".jp-CodeCell")
    assert cells.count() == 2
    board.node.get_by_label("State").focus()
    notebook.lab.page.keyboard.press("b")
    notebook.lab.page.wait_for_timeout(1500)  # so that what follows is another word's beginning
    notebook.lab.page.keyboard.press("f")
    board.wait_jobs(bad)
    assert cells.count() == 2


@pytest.mark.slow
def test_open_shows_panel_owner_events_and_receipt(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """Open shows all of one job below the list; its panel's buttons work; Close takes it away."""
    lab_rows()
    notebook = lab_open(upload("board_opened"), f"{IMPORT}\ntw.jobs()", "job.max_rate = None")
    notebook.run(0)
    job = lab_server.job_of("board_opened")
    board = Board(notebook, 1)
    board.wait_state(job, "running")
    board.click(job, "Open")
    panel = Panel(notebook, board.cell)
    panel.wait_state("running")

    def says(text: str) -> None:
        notebook.lab.wait(
            lambda: text in board.detail.inner_text(), f"the opened job says {text!r}"
        )

    says("(this kernel)")
    says("last sign of life")
    says("pending → running")
    panel.click("Pause")
    panel.wait_state("paused")
    says("pausing → paused")
    board.wait_state(job, "paused")
    notebook.start(2)
    notebook.wait_done(2)
    panel.click("Resume")
    panel.wait_state("completed")
    says("running → completed")
    says("50,000 loaded")
    board.click(job, "Close")
    panel.node.wait_for(state="hidden")


@pytest.mark.parametrize(
    ("kernel", "route"), [(NEWEST, "subshell"), slow(NEWEST, "main"), slow(OLD, "subshell")]
)
def test_a_row_pauses_resumes_and_terminates(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer, kernel: str, route: str
) -> None:
    """The buttons of a row do what the panel's do; Terminate asks once more."""
    lab_rows()
    table = f"board_row_{kernel}_{route}".replace("-", "_")
    notebook = lab_open(upload(table), f"{IMPORT}\ntw.jobs()", kernel=kernel, route=route)
    notebook.run(0)
    job = lab_server.job_of(table)
    board = Board(notebook, 1)
    board.wait_state(job, "running")
    assert "this kernel" in board.row(job).inner_text()
    pause = board.row(job).get_by_role("button", name="Pause", exact=True)
    assert pause.get_attribute("title") == f"Pause job {job}"
    board.click(job, "Pause")
    board.wait_state(job, "paused")
    assert lab_server.state_of(job) == "paused"
    board.lab.wait(
        lambda: board.buttons(job) == ["Resume", "Terminate", "Open"], "Resume has come for Pause"
    )
    board.click(job, "Resume")
    board.wait_state(job, "running")
    board.click(job, "Terminate")
    board.click(job, "No, keep it")
    board.lab.wait(lambda: "Yes, terminate" not in board.buttons(job), "the question has gone")
    assert lab_server.state_of(job) == "running"
    board.click(job, "Terminate")
    board.click(job, "Yes, terminate")
    board.wait_state(job, "terminated")
    assert lab_server.state_of(job) == "terminated"


@pytest.mark.slow
def test_markup_in_names_stays_text(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """A file's name with tags in it is shown as it is, in the list and in the still table."""
    name = "<img src=x onerror=window.hacked=1>&lt;b.csv"
    lab_rows(name, rows=10)
    notebook = lab_open(
        f"{IMPORT}\nawait tw.upload({name!r}, 'board_tags')", "tw.jobs()", "window = 1"
    )
    notebook.run(0)
    job = lab_server.job_of("board_tags")
    board = Board(notebook, 1)
    board.wait_jobs(job)
    assert name in board.row(job).inner_text()
    board.still.locator("summary").click()
    assert name in board.still.inner_text()
    board.click(job, "Open")
    notebook.lab.wait(lambda: "Receipt" in board.detail.inner_text(), "the job is opened")
    assert notebook.lab.page.evaluate("() => window.hacked") is None


@pytest.mark.slow
def test_older_and_newer_turn_pages(lab_open: LabOpen, lab_server: LabServer) -> None:
    """25 jobs are shown at once; the buttons below the list go to older ones and back."""
    notebook = lab_open(f"{IMPORT}\nworkspace = tw.connect()", "tw.jobs()")
    notebook.run(0)
    numbers = lab_server.invent_jobs(60, "completed")[::-1]
    board = Board(notebook, 1)
    board.wait_jobs(*numbers[:25])
    older = board.node.get_by_role("button", name="Older", exact=True)
    newer = board.node.get_by_role("button", name="Newer", exact=True)
    notebook.lab.wait(lambda: older.is_enabled() and not newer.is_enabled(), "only Older can be")
    older.click()
    board.wait_jobs(*numbers[25:50])
    older.click(timeout=10_000)
    board.wait_jobs(*numbers[50:])
    notebook.lab.wait(lambda: newer.is_enabled() and not older.is_enabled(), "only Newer can be")
    newer.click()
    board.wait_jobs(*numbers[25:50])


@pytest.mark.slow
def test_a_list_at_rest_sends_nothing_and_a_lively_one_little(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """Only what has changed is sent: of a page of 25 jobs, the row of the one that runs."""
    lab_rows()
    notebook = lab_open(upload("board_traffic", 1e5), "tw.jobs()", "job.pause()")
    notebook.run(0)
    job = lab_server.job_of("board_traffic")
    lab_server.invent_jobs(24, "completed")
    board = Board(notebook, 1)
    board.wait_state(job, "running")
    board.lab.wait(lambda: board.rows.count() == 25, "all rows are there")
    assert 1 <= messages(board, 4.0) <= 40  # a row's line a second, and what is left of the start
    notebook.start(2)
    board.wait_state(job, "paused")
    board.lab.wait(lambda: messages(board, 2.0) == 0, "it has come to rest", 30.0)
    assert messages(board, 6.0) == 0


def messages(board: Board, seconds: float) -> int:
    """Widget messages that come to the page in so many seconds."""
    board.lab.frames.clear()
    begun = time.monotonic()
    board.lab.page.wait_for_timeout(seconds * 1000)
    return sum(
        at >= begun and b'"comm_msg"' in data and b'"update"' in data
        for at, data in board.lab.frames
    )


@pytest.mark.slow
def test_the_polling_ends_with_the_output(lab_open: LabOpen, lab_server: LabServer) -> None:
    """When no cell shows the list any more, its thread ends; shown again, a new one lives."""
    threads = (
        "import threading\n"
        "print(sum(t.name == 'taskwidgets dashboard' for t in threading.enumerate()), 'threads')"
    )
    notebook = lab_open(f"{IMPORT}\ntw.jobs()", threads, threads)
    Board(notebook, 0)
    notebook.run(1)
    assert "1 threads" in notebook.output(1)
    notebook.cell(0).locator(".cm-content").click()
    notebook.lab.command("notebook:clear-cell-output")

    def ended() -> bool:
        notebook.run(2)
        return "0 threads" in notebook.output(2)

    notebook.lab.wait(ended, "the thread has ended")


LOOKS = """
import taskwidgets as tw
await tw.upload("rows.csv", "board_completed")
failed = tw.upload("rows.csv", "board_failed", types={"name": "integer"})
paused = tw.upload("rows.csv", "board_paused", max_rate=1e5)
running = tw.upload("rows.csv", "board_running", max_rate=1e5)
"""


def test_the_list_reads_well(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer, lab_pictures: Path
) -> None:
    """In both themes and on both widths all texts have contrast, and nothing sticks out.

    Slow: pictures in two themes and two widths.
    """
    lab_rows()
    notebook = lab_open(LOOKS, "tw.jobs()", "running.max_rate = 1e3")
    notebook.start(0)
    notebook.wait_done(0)
    lab_server.invent_jobs(1, "interrupted")
    lab_server.invent_jobs(1, "terminated")
    board = Board(notebook, 1)
    jobs = {
        state: lab_server.job_of(f"board_{state}")
        for state in ("completed", "failed", "paused", "running")
    }
    board.wait_state(jobs["failed"], "failed")
    board.click(jobs["paused"], "Pause")
    board.wait_state(jobs["paused"], "paused")
    board.lab.wait(lambda: board.percent(jobs["running"]) > 10, "there is a bar to see")
    notebook.start(2)
    board.click(jobs["paused"], "Terminate")
    board.row(jobs["paused"]).get_by_role("button", name="Yes, terminate").wait_for()
    board.click(jobs["completed"], "Open")
    board.lab.wait(lambda: "Receipt" in board.detail.inner_text(), "the opened job is shown")
    board.still.locator("summary").click()
    lab = board.lab
    try:
        for theme in THEMES:
            for width in WIDTHS:
                lab.set_theme(THEMES[theme])
                lab.page.set_viewport_size({"width": width, "height": 1900})
                lab.page.mouse.move(5, 790)  # no button is hovered over
                board.node.scroll_into_view_if_needed()
                lab.page.wait_for_timeout(250)  # the transitions of theme, width and bar
                board.cell.locator(".jp-OutputArea").first.screenshot(
                    path=lab_pictures / f"dashboard-{theme}-{width}.png"
                )
                texts = [*board.node.evaluate(CONTRASTS), *board.still.evaluate(CONTRASTS)]
                assert len(texts) > 60
                assert [text for text in texts if text[1] < LEAST_CONTRAST] == []
                assert board.node.evaluate(OVERFLOWS) + board.still.evaluate(OVERFLOWS) == []
    finally:
        lab.set_theme(THEMES["light"])
        lab.page.set_viewport_size({"width": 1280, "height": 800})


@pytest.mark.slow
def test_a_row_pauses_another_kernel_s_job_while_both_are_busy(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """Neither kernel's main thread has its turn: the click is obeyed all the same."""
    lab_rows()
    other = lab_open(
        f"{upload('board_busy', 5e4)}\nimport asyncio, time\n"
        "asyncio.get_running_loop().call_later(1, time.sleep, 600)"  # it is shut down before
    )
    other.run(0)
    job = lab_server.job_of("board_busy")
    here = lab_open(f"{IMPORT}\ntw.jobs()", "import time\nprint('begun')\ntime.sleep(12)")
    board = Board(here, 0)
    board.wait_state(job, "running")
    here.lab.wait(lambda: board.buttons(job) == ["Pause", "Terminate", "Open"], "the buttons")
    here.start(1)
    here.lab.wait(lambda: "begun" in here.output(1), "the cell has begun here")
    board.click(job, "Pause")
    here.lab.wait(lambda: lab_server.state_of(job) == "paused", "it is paused", 10.0)
    assert here.is_running(1)
    here.wait_done(1)
    board.wait_state(job, "paused")
