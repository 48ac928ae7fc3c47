"""A JupyterLab server of the tests' own, its kernels, and the embedded Postgres they share."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import nbformat
import psutil
import psycopg2

from taskwidgets.embedded import join

OLD_IPYKERNEL = "6.29.5"  # the oldest that pyproject.toml allows
NEWEST, OLD = "lab-newest", "lab-old"  # names of kernelspecs

OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}

ValueT = TypeVar("ValueT")


def wait_for(
    look: Callable[[], ValueT],
    what: str,
    seconds: float = 20.0,
    sleep: Callable[[float], object] = time.sleep,
) -> ValueT:
    """The first true value that ``look`` gives; AssertionError with the last one otherwise."""
    deadline = time.monotonic() + seconds
    while True:
        value = look()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what} (last: {value!r})"
        sleep(0.05)


class LabServer:
    """Everything it makes lies in ``home``; ``stop`` leaves no process behind."""

    def __init__(self, home: Path, old_kernel: Path) -> None:
        self.root = home / "notebooks"
        self.jupyter = home / "jupyter"
        self.log = home / "lab.log"
        self.postgres_home = home / "postgres"
        self.token = secrets.token_hex(8)
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.root.mkdir()
        for name, module_path in ((NEWEST, None), (OLD, old_kernel)):
            self._write_kernelspec(name, module_path)
        settings = self.jupyter / "app-settings"
        settings.mkdir(parents=True)
        (settings / "overrides.json").write_text(json.dumps(OVERRIDES))
        self.environment = {
            **os.environ,
            "TASKWIDGETS_HOME": str(self.postgres_home),
            "JUPYTER_CONFIG_DIR": str(self.jupyter / "config"),
            "JUPYTER_DATA_DIR": str(self.jupyter / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.jupyter / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(self.jupyter / "user-settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.jupyter / "workspaces"),
            "IPYTHONDIR": str(self.jupyter / "ipython"),
        }
        self.environment.pop("TASKWIDGETS_DATABASE_URL", None)
        self.postgres = join(self.postgres_home)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
            "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.root}",
            f"--IdentityProvider.token={self.token}",
            f"--LabApp.app_settings_dir={self.jupyter / 'app-settings'}",
            "--LabApp.news_url=None", "--LabApp.expose_app_in_browser=True",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for(self._answers, f"JupyterLab answers; its log:\n{self.log}", 60.0)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.request("GET", "api/status"))
        except urllib.error.URLError:
            return False

    def stop(self) -> None:
        """End the kernels, the server and the embedded Postgres, in this order."""
        try:
            if self.process is not None:
                left = psutil.Process(self.process.pid).children(recursive=True)
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(20)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
                for child in psutil.wait_procs(left, timeout=10)[1]:
                    child.kill()
        finally:
            self.postgres.leave()
            pid_file = self.postgres.data_directory / "postmaster.pid"
            wait_for(lambda: not pid_file.exists(), "the embedded Postgres has stopped", 30.0)

    # ------------------------------------------------------------------ over HTTP

    def request(self, method: str, path: str, body: object = None) -> Any:
        """One call of the server's REST API; the JSON that it answers, or None."""
        request = urllib.request.Request(
            f"{self.url}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def set_setting(self, plugin: str, **values: object) -> None:
        """A user's settings of one plugin, replaced; pages that are loaded later have them."""
        self.request("PUT", f"lab/api/settings/{plugin}", {"raw": json.dumps(values)})

    def kernel_of(self, notebook: str) -> str:
        """The id of the kernel that a notebook is connected to."""
        for session in self.request("GET", "api/sessions"):
            if session["path"] == notebook:
                return str(session["kernel"]["id"])
        raise AssertionError(f"{notebook} has no kernel")

    def shut_down(self, notebook: str) -> None:
        """End a notebook's kernel and its session; nothing when it has none."""
        for session in self.request("GET", "api/sessions"):
            if session["path"] == notebook:
                self.request("DELETE", f"api/sessions/{session['id']}")

    def restart(self, notebook: str) -> None:
        """What "Restart Kernel" asks of the server."""
        self.request("POST", f"api/kernels/{self.kernel_of(notebook)}/restart")

    def kernel_process(self, notebook: str) -> psutil.Process:
        """The process of a notebook's kernel."""
        assert self.process is not None
        kernel = self.kernel_of(notebook)
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if any(kernel in argument for argument in child.cmdline()):
                return child
        raise AssertionError(f"no process of kernel {kernel}")

    def kill(self, notebook: str) -> None:
        """SIGKILL to a notebook's kernel."""
        process = self.kernel_process(notebook)
        process.kill()
        process.wait(10)

    # ------------------------------------------------------------------ files

    def write_notebook(self, name: str, cells: Sequence[str], kernel: str) -> str:
        """A notebook that asks no question when it is opened; its path below the root."""
        book = nbformat.v4.new_notebook(
            metadata={
                "kernelspec": {"name": kernel, "display_name": kernel, "language": "python"},
                "language_info": {"name": "python"},
            },
            cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells],
        )
        nbformat.write(book, self.root / name)
        return name

    def _write_kernelspec(self, name: str, module_path: Path | None) -> None:
        folder = self.jupyter / "data" / "kernels" / name
        folder.mkdir(parents=True)
        spec: dict[str, object] = {
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": name,
            "language": "python",
        }
        if module_path is not None:
            inherited = os.environ.get("PYTHONPATH")
            paths = [str(module_path), *([inherited] if inherited else [])]
            spec["env"] = {"PYTHONPATH": os.pathsep.join(paths)}
        (folder / "kernel.json").write_text(json.dumps(spec))

    # ------------------------------------------------------------------ database

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows from the embedded database, each time over a connection of its own."""
        url = self.postgres.url.replace("+psycopg2", "")
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return cursor.fetchall()

    def value(self, sql: str, *parameters: object) -> Any:
        """The one value of a query."""
        return self.query(sql, *parameters)[0][0]

    def job_of(self, table: str) -> int:
        """The number of the newest job into a table."""
        sql = "SELECT max(id) FROM taskwidgets.jobs WHERE target IN (%s, 'public.' || %s)"
        job = self.value(sql, table, table)
        assert job is not None, f"no job loads into {table}"
        return int(job)

    def forget_jobs(self) -> None:
        """Delete all jobs, so that a list of them begins empty."""
        url = self.postgres.url.replace("+psycopg2", "")
        with (
            closing(psycopg2.connect(url)) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT to_regclass('taskwidgets.jobs') IS NOT NULL")
            if cursor.fetchone() == (True,):
                cursor.execute("DELETE FROM taskwidgets.jobs")

    def invent_jobs(self, count: int, state: str) -> list[int]:
        """Rows of jobs that nobody has run; their numbers, rising."""
        url = self.postgres.url.replace("+psycopg2", "")
        with (
            closing(psycopg2.connect(url)) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(
                "INSERT INTO taskwidgets.jobs (key, kind, name, source, target, options, plan,"
                " state) SELECT gen_random_uuid()::text, 'upload', 'invented ' || n, 's.csv',"
                " 'public.t', '{}', '{}', %s FROM generate_series(1, %s) AS n RETURNING id",
                (state, count),
            )
            return sorted(number for (number,) in cursor.fetchall())

    def state_of(self, job: int) -> str:
        """A job's state as the database has it."""
        return str(self.value("SELECT state FROM taskwidgets.jobs WHERE id = %s", job))

    def committed(self, job: int) -> int:
        """The rows that a job has committed."""
        return int(
            self.value(
                "SELECT coalesce(sum(rows), 0) FROM taskwidgets.checkpoints WHERE job_id = %s", job
            )
        )

    def entered(self, job: int, state: str) -> float | None:
        """When a job last came into a state, in seconds since 1970; None: never."""
        at = self.value(
            "SELECT extract(epoch FROM max(at)) FROM taskwidgets.events"
            " WHERE job_id = %s AND to_state = %s",
            job,
            state,
        )
        return None if at is None else float(at)


def find_chromium() -> str:
    """The path of a Chromium; a failure that says how to get one, never a skip."""
    wanted = os.environ.get("TASKWIDGETS_CHROMIUM")
    for name in [wanted] if wanted else ["chromium", "chromium-browser", "google-chrome"]:
        found = shutil.which(name)
        if found is not None:
            return found
    raise AssertionError(
        "the browser tests need Chromium: install it (Debian: apt-get install chromium; Ubuntu: "
        "snap install chromium; Fedora: dnf install chromium; macOS: brew install --cask "
        "chromium), or let TASKWIDGETS_CHROMIUM hold the path of a Chromium or Chrome"
        + (f"; it holds {wanted!r}, which is no program" if wanted else "")
    )
