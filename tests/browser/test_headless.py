"""Notebooks that nobody looks at while they run."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import pytest

from .conftest import LabRows
from .server import NEWEST, LabServer

pytestmark = pytest.mark.browser

ROWS = 50_000


@pytest.mark.slow
def test_a_notebook_executed_headless_completes(lab_server: LabServer, lab_rows: LabRows) -> None:
    """With await in the cell the job completes, and the outputs' plain text is one line each."""
    lab_rows()
    path = lab_server.root / lab_server.write_notebook(
        "headless.ipynb",
        ["import taskwidgets as tw\n"
         "receipt = await tw.upload('rows.csv', 'headless', max_rate=2e6)",
         "tw.upload('rows.csv', 'headless')"],
        NEWEST,
    )  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "jupyter", "execute", "--inplace", str(path)],
        env=lab_server.environment, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert lab_server.value("SELECT count(*) FROM headless") == ROWS
    job = lab_server.job_of("headless")
    book = nbformat.read(path, as_version=4)
    for cell, word in zip(book.cells, ("", "completed"), strict=True):
        panel, snapshot = (output["data"] for output in cell.outputs)
        assert "application/vnd.jupyter.widget-view+json" in panel
        assert "\n" not in panel["text/plain"].strip()
        assert panel["text/plain"].startswith(f"job {job} (rows.csv → headless): {word}")
        assert "\n" not in snapshot["text/plain"]
        assert snapshot["text/plain"].startswith(f"Job {job} completed: {ROWS:,} rows")
        assert "text/html" in snapshot
