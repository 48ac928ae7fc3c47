"""Installed is enabled; and without Jupyter Server, everything else works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from fix_jupyter import JupyterServer
from fix_servers import make_base, wait_until


def test_installing_the_package_enables_the_extension(tmp_path):
    """Jupyter Server finds the extension without any configuration of the user's, and loads it."""
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", "server", "extension", "list"],
        env={**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path), "NO_COLOR": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line.split() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert any(line[0] == "taskwidgets" and "enabled" in line[1] for line in lines), (
        f"not enabled; was the package installed after the last change of pyproject.toml? {lines}"
    )
    assert any(line[0] == "taskwidgets" and "OK" in line[-1] for line in lines), lines


def test_without_jupyter_server_the_package_works(run_script, database_url, csv_file):
    """Neither the import nor a load needs Jupyter Server or what comes with it."""
    path = csv_file("a", "1", "2")
    printed, _ = run_script(
        """
        import sys
        for name in ("jupyter_server", "tornado", "jsonschema"):
            sys.modules[name] = None
        import taskwidgets as tw
        workspace = tw.connect(sys.argv[1])
        print(tw.upload(sys.argv[2], "t").wait().rows_loaded)
        try:
            tw.upload(sys.argv[2], "t", where="server")
        except tw.TaskwidgetsError as error:
            print(type(error).__name__)
        """,
        database_url,
        str(path),
    )
    assert printed.split() == ["2", "NotebookServerError"]


@pytest.mark.slow
def test_without_a_url_the_server_has_the_embedded_postgres(tmp_path):
    """It is started at the first request, brought up again when it died, and ended at the end.

    This server shows hidden files, so that they are loaded as any other.
    """
    base = make_base()
    server = JupyterServer(tmp_path, "", "--ContentsManager.allow_hidden=True")
    server.environment["TASKWIDGETS_HOME"] = str(base / "home")
    try:
        server.start()
        (server.root / ".data").mkdir()
        (server.root / ".data" / "a.csv").write_text("a\n1\n")
        job_id = server.upload(".data/a.csv", "a")["id"]
        server.wait_for(job_id, "completed")
        (pid_file,) = (base / "home").rglob("postmaster.pid")
        postmaster = psutil.Process(int(pid_file.read_text().split("\n")[0]))
        postmaster.kill()
        postmaster.wait(60)
        wait_until(lambda: server.get("jobs").status == 200, "for the embedded Postgres")
        assert server.job(job_id)["state"] == "completed"
        server.stop()
        wait_until(lambda: not Path(pid_file).exists(), "for the end of the embedded Postgres")
    finally:
        server.stop()
        shutil.rmtree(base)
