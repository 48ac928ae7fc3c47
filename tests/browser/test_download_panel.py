"""The panel of an export in JupyterLab: what it shows, and the link to the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskwidgets.runtime.words import bytes_text

from .conftest import LabOpen, LabRows
from .server import LabServer

pytestmark = pytest.mark.browser

ROWS = 50_000


def test_the_finished_export_can_be_fetched_by_the_browser(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer, tmp_path: Path
) -> None:
    """The panel names file, rows and size, and its link brings the very bytes of the file."""
    lab_rows()
    notebook = lab_open(
        "import taskwidgets as tw\ntw.upload('rows.csv', 'exported')",
        "tw.download('exported', 'out of it.csv')",
    )
    notebook.run_panel(0, state="completed")
    panel = notebook.run_panel(1, state="completed")
    panel.wait_text(f"{ROWS:,} rows")
    written = lab_server.root / "out of it.csv"
    panel.wait_text(str(written))
    panel.wait_text(bytes_text(written.stat().st_size))
    link = panel.node.get_by_role("link", name="Download the file")
    with notebook.lab.page.expect_download() as started:
        link.click()
    assert started.value.suggested_filename == "out of it.csv"
    started.value.save_as(tmp_path / "fetched.csv")
    assert (tmp_path / "fetched.csv").read_bytes() == written.read_bytes()
    assert written.read_bytes().count(b"\n") == ROWS + 1


@pytest.mark.slow
def test_a_file_outside_of_the_server_s_root_has_no_link(
    lab_open: LabOpen, lab_rows: LabRows, tmp_path: Path
) -> None:
    """What the server may not hand out is named, and not offered."""
    lab_rows()
    target = tmp_path / "outside.csv"
    notebook = lab_open(
        f"import taskwidgets as tw\njob = tw.download('SELECT 1 AS a', {str(target)!r})\njob"
    )
    panel = notebook.run_panel(state="completed")
    panel.wait_text(str(target))
    assert panel.node.get_by_role("link").count() == 0
    assert target.read_text() == "a\n1\n"
