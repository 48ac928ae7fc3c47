"""Kernels that die or are restarted in the middle of a load."""

from __future__ import annotations

import re

import pytest

from .conftest import LabOpen, LabRows
from .notebook import Notebook
from .server import LabServer

pytestmark = pytest.mark.browser

ROWS = 50_000


def open_upload(lab_open: LabOpen, lab_rows: LabRows, table: str) -> Notebook:
    lab_rows()
    return lab_open(
        f"import taskwidgets as tw\njob = tw.upload('rows.csv', {table!r}, max_rate=3e5)\njob"
    )


def rows_of(lab_server: LabServer, table: str) -> list[tuple[int, int, int, int]]:
    """Count, distinct ids, and the ends of their range."""
    return lab_server.query(f"SELECT count(*), count(DISTINCT id), min(id), max(id) FROM {table}")


ALL_ROWS = [(ROWS, ROWS, 1_000_000, 1_000_000 + ROWS - 1)]


def check_snapshot(text: str, job: int) -> None:
    """The static line dates what it says, tells how to go on, and never says a bare "running"."""
    assert re.search(r"as of \d\d:\d\d:\d\d UTC on \d{4}-\d\d-\d\d", text), text
    assert f"Run this cell again to go on, or tw.resume({job})." in text
    assert "running" not in text


def test_a_killed_kernel_leaves_a_true_line_and_the_same_cell_goes_on(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """After SIGKILL the line below the dead panel holds; the cell run again loads the rest.

    Slow: a kernel is started, killed and started again.
    """
    notebook = open_upload(lab_open, lab_rows, "killed")
    panel = notebook.run_panel()
    job = lab_server.job_of("killed")
    panel.wait_percent(20)
    check_snapshot(panel.snapshot, job)
    lab_server.kill(notebook.path)
    committed = lab_server.committed(job)
    assert 0 < committed < ROWS
    check_snapshot(panel.snapshot, job)
    notebook.lab.wait(lambda: notebook.kernel_status() != "idle", "JupyterLab has noticed")
    notebook.dismiss()
    notebook.wait_ready()
    notebook.dismiss()
    check_snapshot(panel.snapshot, job)

    notebook.start(0)
    panel.wait_text(f"resuming job {job} at ")
    resumed_at = re.search(rf"resuming job {job} at (\d+) %", panel.text)
    assert resumed_at is not None, panel.text
    assert int(resumed_at[1]) >= 20
    panel.wait_state("completed")
    assert rows_of(lab_server, "killed") == ALL_ROWS
    assert lab_server.job_of("killed") == job
    panel.wait_snapshot(f"completed: {ROWS:,} rows")


@pytest.mark.slow
def test_a_restarted_kernel_goes_on_with_the_same_cell(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """A graceful restart leaves the job paused, not lost; the same cell completes it."""
    notebook = open_upload(lab_open, lab_rows, "restarted")
    panel = notebook.run_panel()
    job = lab_server.job_of("restarted")
    panel.wait_percent(20)
    lab_server.restart(notebook.path)
    notebook.lab.wait(lambda: lab_server.state_of(job) == "paused", "the job is paused", 30.0)
    notebook.dismiss()
    notebook.wait_ready()
    check_snapshot(panel.snapshot, job)
    notebook.start(0)
    panel.wait_text(f"resuming job {job}")
    panel.wait_state("completed")
    assert rows_of(lab_server, "restarted") == ALL_ROWS
    assert lab_server.job_of("restarted") == job
