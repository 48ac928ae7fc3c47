"""The notebooks run from top to bottom, as papermill or a reader would run them."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from fix_scripts import ROOT, environment
from fix_tiers import slow
from nbclient import NotebookClient

from taskwidgets.embedded import EmbeddedServer

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize(
    "path",
    # The quickstart is run by a test of its own below, and the examples of the docs by theirs.
    [slow(path) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_notebook_runs_from_top_to_bottom(
    path: Path,
    tmp_path: Path,
    embedded_server: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
) -> None:
    """Every cell of the notebook runs without an error in an empty folder."""
    for name, value in environment(TASKWIDGETS_DATABASE_URL=database_url).items():
        monkeypatch.setenv(name, value)
    shutil.copy(path, tmp_path)
    notebook = nbformat.read(tmp_path / path.name, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs(path: Path) -> None:
    """Outputs are in no notebook, but where a cell's tag says that the picture is the point."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and "keep_output" not in cell.metadata.get("tags", []):
            assert not cell.outputs
            assert cell.execution_count is None


def test_quickstart_loads_the_flights_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    """The quickstart, run twice on one database, ends with one table and one job.

    Slow: a kernel is started twice, and loads 34 MB.
    """
    from fix_databases import run_sql

    monkeypatch.setenv("TASKWIDGETS_DATABASE_URL", database_url)
    for _ in range(2):
        notebook = nbformat.read(ROOT / "notebooks" / "01_quickstart.ipynb", as_version=4)
        for cell in notebook.cells:
            cell.source = cell.source.replace("max_rate=2_000_000", "max_rate=None")
            # the second run finds the very file that the first one loaded
            cell.source = cell.source.replace(
                'flights.to_csv("flights.csv", index=False)',
                "from pathlib import Path\n"
                'Path("flights.csv").exists() or flights.to_csv("flights.csv", index=False)',
            )
        NotebookClient(notebook, timeout=240, resources={"metadata": {"path": tmp_path}}).execute()
    assert run_sql(database_url, "SELECT count(*) FROM flights") == [(336776,)]
    assert run_sql(database_url, "SELECT count(*) FROM taskwidgets.jobs") == [(1,)]
