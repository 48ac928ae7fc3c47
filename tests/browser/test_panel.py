"""The panel in a living kernel: what it shows, and what its buttons do."""

from __future__ import annotations

import re

import pytest

from .conftest import LabOpen, LabRows
from .server import LabServer

pytestmark = pytest.mark.browser

ROWS = 50_000


def upload(table: str, rate: float | None = 4e5, source: str = "rows.csv") -> str:
    """The cell that users write: 2 MB, at 0.4 MB/s unless told otherwise."""
    return f"import taskwidgets as tw\njob = tw.upload({source!r}, {table!r}, max_rate={rate})\njob"


def test_a_cell_loads_a_file_and_shows_how_far_it_is(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """The panel appears, its percentage rises, it says completed, and the table has the rows."""
    lab_rows()
    notebook = lab_open(upload("seen"))
    panel = notebook.run_panel()
    seen = {panel.percent}
    while panel.state == "running":
        seen.add(panel.percent)
        notebook.lab.page.wait_for_timeout(50)
    panel.wait_state("completed")
    assert len(seen) >= 4, seen
    assert min(seen) < 60
    assert panel.percent == 100
    panel.wait_text(f"{ROWS:,} rows")
    panel.wait_enabled()
    assert lab_server.query("SELECT count(*), count(DISTINCT id) FROM seen") == [(ROWS, ROWS)]
    panel.wait_snapshot(f"completed: {ROWS:,} rows")


def test_pause_is_durable_and_resume_completes(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """Pause in an idle kernel is in the database, loads nothing more, and Resume goes on.

    Slow: a kernel is started; the job takes some seconds, so that it can be paused.
    """
    lab_rows()
    notebook = lab_open(upload("paused_idle"))
    panel = notebook.run_panel()
    panel.wait_enabled("Pause", "Terminate")
    panel.wait_percent(10)
    panel.click("Pause")
    panel.wait_state("paused")
    job = lab_server.job_of("paused_idle")
    assert lab_server.state_of(job) == "paused"
    panel.wait_enabled("Resume", "Terminate")
    committed = lab_server.committed(job)
    assert 0 < committed < ROWS
    panel.wait_text(f"{committed:,} rows")
    panel.wait_snapshot(f"{committed:,} rows committed")
    notebook.lab.page.wait_for_timeout(600)
    assert lab_server.committed(job) == committed
    panel.click("Resume")
    panel.wait_state("completed")
    assert lab_server.query("SELECT count(*), count(DISTINCT id) FROM paused_idle") == [
        (ROWS, ROWS)
    ]


@pytest.mark.slow
def test_a_double_click_does_no_harm(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """Two clicks at once are one: on Pause it pauses, on Resume it runs, and nothing complains."""
    lab_rows()
    notebook = lab_open(upload("doubled", 1e5), "job.max_rate = None")
    panel = notebook.run_panel()
    panel.wait_percent(5)
    panel.button("Pause").dblclick()
    panel.wait_state("paused")
    panel.button("Resume").dblclick()
    panel.wait_state("running")
    notebook.run(1)
    panel.wait_state("completed")
    assert not panel.fault.is_visible()
    assert lab_server.value("SELECT count(*) FROM doubled") == ROWS
    moves = lab_server.query(
        "SELECT to_state FROM taskwidgets.events WHERE job_id = %s AND to_state IS NOT NULL"
        " ORDER BY id",
        lab_server.job_of("doubled"),
    )
    states = [state for (state,) in moves if state != "pending"]
    assert states == ["running", "pausing", "paused", "running", "completed"]


def test_terminate_asks_and_cleans_up(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """Terminate asks inside the panel; "No" keeps the job, "Yes" leaves neither table nor rows."""
    lab_rows()
    notebook = lab_open(upload("ended", 2e5))
    panel = notebook.run_panel()
    job = lab_server.job_of("ended")
    staging = "SELECT count(*) FROM pg_class WHERE relname LIKE %s"
    assert lab_server.value(staging, f"taskwidgets_staging_{job}%") > 0
    question = panel.node.get_by_text("Terminate this job")
    assert not question.is_visible()
    panel.click("Terminate")
    question.wait_for(state="visible")
    panel.click("No, keep it")
    question.wait_for(state="hidden")
    assert panel.state == "running"
    panel.wait_enabled("Pause", "Terminate")
    panel.click("Terminate")
    panel.click("Yes, terminate")
    panel.wait_state("terminated")
    assert not question.is_visible()
    panel.wait_enabled()
    assert lab_server.state_of(job) == "terminated"
    assert lab_server.value(staging, f"taskwidgets_staging_{job}%") == 0
    assert lab_server.value("SELECT to_regclass('ended')::text") is None
    panel.wait_snapshot("terminated and cleaned up")


@pytest.mark.slow
def test_await_shows_the_panel_before_the_cell_ends(lab_open: LabOpen, lab_rows: LabRows) -> None:
    """A job that is awaited in its own cell is seen at once, and gives its receipt."""
    lab_rows()
    notebook = lab_open(
        "import taskwidgets as tw\n"
        "receipt = await tw.upload('rows.csv', 'awaited', max_rate=4e5)\n"
        "receipt.rows_loaded, receipt.rows_rejected"
    )
    panel = notebook.run_panel()
    assert notebook.is_running(0)
    panel.wait_state("completed")
    notebook.wait_done(0)
    assert f"({ROWS}, 0)" in notebook.output(0)


@pytest.mark.slow
def test_one_job_in_two_cells_is_live_in_both(lab_open: LabOpen, lab_rows: LabRows) -> None:
    """The job shown a second time moves in both cells, and either's buttons work."""
    lab_rows()
    notebook = lab_open(upload("twice", 2e5), "job")
    first = notebook.run_panel(0)
    second = notebook.run_panel(1)
    least = max(first.percent, second.percent) + 2
    first.wait_percent(least)
    second.wait_percent(least)
    second.click("Pause")
    first.wait_state("paused")
    second.wait_state("paused")
    for panel in (first, second):
        panel.wait_snapshot("Paused.")
    first.click("Resume")
    second.wait_state("running")


def test_a_row_that_does_not_fit_is_named_and_the_mended_file_goes_on(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """A failed job shows line, column and reason in full; Resume completes the mended file."""
    good = lab_rows().read_text()
    source = lab_server.root / "bad row.csv"
    lines = good.splitlines(keepends=True)
    lines[40_000] = lines[40_000].replace(".25,", ".25x,")
    source.write_text("".join(lines))
    notebook = lab_open(
        "import taskwidgets as tw\n"
        "job = tw.upload('bad row.csv', 'mended', types={'amount': 'numeric'}, max_rate=8e6)\n"
        "job"
    )
    panel = notebook.run_panel(state="failed")
    text = panel.fault.inner_text()
    assert "line 40,001" in text
    assert 'column "amount"' in text
    assert "invalid input syntax for type numeric" in text
    assert lines[40_000].strip() in text
    assert panel.fault.get_attribute("role") == "alert"
    panel.wait_enabled("Resume", "Terminate")
    panel.wait_snapshot("line 40,001")
    source.write_text(good)
    panel.click("Resume")
    panel.notebook.lab.wait(lambda: panel.state == "completed", "the job completes")
    assert not panel.fault.is_visible()
    assert lab_server.query("SELECT count(*), count(DISTINCT id) FROM mended") == [(ROWS, ROWS)]


def test_names_and_errors_from_outside_stay_text(lab_open: LabOpen, lab_server: LabServer) -> None:
    """Markup in a file's name, a table's, a column's or a database's words makes no element."""
    evil = '<img src=x onerror="window.hurt=1"> \'"&amp;'
    name = f"{evil}\n.csv"
    source = lab_server.root / name
    column = f"{evil}\nb"
    quoted = column.replace('"', '""')
    source.write_text(f'a,"{quoted}"\n' + "1,2\n" * 1000 + f'3,"{evil.replace(chr(34), "")}"\n')
    table = '"' + f"{evil}\ntable".replace('"', '""') + '"'
    notebook = lab_open(
        "import taskwidgets as tw\n"
        f"job = tw.upload({name!r}, {table!r}, types={{{column!r}: 'integer'}})\n"
        "job"
    )
    panel = notebook.run_panel(state="failed")
    panel.wait_snapshot("It stopped")
    page = notebook.lab.page
    elements = "() => document.querySelectorAll('.jp-OutputArea img').length"
    assert page.evaluate(elements) == 0
    assert page.evaluate("() => window.hurt") is None
    heading = panel.node.locator(".taskwidgets-name").inner_text()
    assert heading.count("<img src=x onerror=") == 2
    assert heading.count("&amp;") == 2
    for text in (panel.fault.inner_text(), panel.snapshot):
        assert re.search(r"<img src=x onerror=window\.hurt=1>", text), text
    title = panel.node.locator(".taskwidgets-name").get_attribute("title") or ""
    assert evil in title
    label = panel.bar.get_attribute("aria-label") or ""
    assert evil in label
    source.write_text(f'a,"{quoted}"\n' + "1,2\n" * 1000)
    panel.click("Resume")
    notebook.lab.wait(lambda: panel.state == "completed", "the job completes")
    assert panel.text.count("<img src=x") >= 2
    assert page.evaluate(elements) == 0
    assert lab_server.value(f"SELECT count(*) FROM {table}") == 1000
