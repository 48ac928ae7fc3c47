"""A Jupyter Server of the tests' own, with the extension and nothing else, and its kernels."""

from __future__ import annotations

import http.client
import json
import os
import queue
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from fix_databases import Look, new_database, run_sql
from fix_files import write_many
from fix_scripts import ROOT, environment
from fix_servers import LASTING, PATIENCE, plain, wait_until
from jupyter_client import BlockingKernelClient
from jupyter_server.auth import Authorizer

from taskwidgets import Workspace
from taskwidgets.embedded import EmbeddedServer

# What a user's machine may have installed besides, each of which makes the start longer.
OTHERS = (
    "jupyterlab", "notebook", "notebook_shim", "jupyter_lsp", "jupyter_server_terminals",
    "voila.server_extension",
)  # fmt: skip
SLOW = 40_000  # bytes per second at which a load takes long enough for whatever a test does


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def error(self) -> dict[str, Any]:
        return self.body["error"]


class JupyterServer:
    """Everything it makes lies in ``home``; ``stop`` leaves no process behind."""

    def __init__(self, home: Path, database_url: str, *options: str, base: str = "") -> None:
        self.base = base  # what every address begins with, as under JupyterHub
        self.root = home / "root"
        self.log = home / "log"
        self.runtime = home / "runtime"
        self.token = secrets.token_hex(8)
        self.options = options
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}{base}"
        self.root.mkdir()
        enabled = json.loads((ROOT / "jupyter-config" / "taskwidgets.json").read_text())
        enabled["ServerApp"]["jpserver_extensions"].update(dict.fromkeys(OTHERS, False))
        config = home / "config"
        config.mkdir()
        (config / "jupyter_server_config.json").write_text(json.dumps(enabled))
        self.environment = environment(
            TASKWIDGETS_DATABASE_URL=database_url,
            JUPYTER_CONFIG_DIR=str(config),
            JUPYTER_DATA_DIR=str(home / "data"),
            JUPYTER_RUNTIME_DIR=str(self.runtime),
            IPYTHONDIR=str(home / "ipython"),
            PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root",
            "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self.port}",
            "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.root}",
            f"--IdentityProvider.token={self.token}", f"--ServerApp.base_url={self.base}/",
            *self.options,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        LASTING.add(self.process.pid)
        wait_until(self._answers, f"for the server; its log:\n{self.log}")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.request("GET", "/api/status").status == 200
        except OSError:
            return False

    def stop(self) -> None:
        """End it as a service manager would, and see that its kernels have ended too."""
        if self.process is None:
            return
        left = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None
            for child in psutil.wait_procs(left, timeout=10)[1]:
                child.kill()

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    # ------------------------------------------------------------------ over HTTP

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        token: bool = True,
    ) -> Answer:
        """One call; ``path`` from the slash behind the base; bytes go as they are."""
        sent = {"Authorization": f"token {self.token}"} if token else {}
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with closing(connection):
            connection.request(method, self.base + path, raw, {**sent, **(headers or {})})
            reply = connection.getresponse()
            text = reply.read()
        try:
            answer = json.loads(text) if text else None
        except ValueError:
            answer = text
        return Answer(reply.status, dict(reply.getheaders()), answer)

    def get(self, path: str, **options: Any) -> Answer:
        return self.request("GET", f"/taskwidgets/{path}", **options)

    def post(self, path: str, body: object = None, **options: Any) -> Answer:
        return self.request("POST", f"/taskwidgets/{path}", body, **options)

    def ok(self, answer: Answer) -> Any:
        """The body of an answer that must be a success."""
        assert answer.status == 200, (answer, self.log.read_text()[-3000:])
        return answer.body

    def ok_created(self, answer: Answer) -> Any:
        """The body of an answer that has made something."""
        assert answer.status == 201, (answer, self.log.read_text()[-3000:])
        return answer.body

    def upload(self, source: str, table: str, **options: Any) -> dict[str, Any]:
        return self.ok(self.post("upload/start", {"source": source, "table": table, **options}))

    def download(self, source: str, path: str, **options: Any) -> dict[str, Any]:
        return self.ok(self.post("download/start", {"source": source, "path": path, **options}))

    def job(self, job_id: int) -> dict[str, Any]:
        return self.ok(self.get(f"jobs/{job_id}"))

    def wait_for(self, job_id: int, *states: str) -> dict[str, Any]:
        """The job as soon as it is in one of the states."""
        wait_until(lambda: self.job(job_id)["state"] in states, f"for job {job_id} to be {states}")
        return self.job(job_id)

    def wait_for_rows(self, job_id: int, rows: int = 1) -> None:
        """Return when so many rows are committed."""
        wait_until(lambda: self.job(job_id)["progress"]["rows"] >= rows, f"for rows of {job_id}")


class Kernel:
    """A notebook's kernel, started by the server; cells are run as a front end does."""

    def __init__(self, server: JupyterServer, notebook: str) -> None:
        (server.root / notebook).parent.mkdir(parents=True, exist_ok=True)
        self._server = server
        session = server.ok_created(
            server.request(
                "POST",
                "/api/sessions",
                {"path": notebook, "name": "", "type": "notebook", "kernel": {"name": "python3"}},
            )
        )
        self._session, self.id = session["id"], session["kernel"]["id"]
        self._shown: list[str] = []
        self._client = self._connect()

    def _connect(self) -> BlockingKernelClient:
        file = self._server.runtime / f"kernel-{self.id}.json"
        client = BlockingKernelClient(connection_file=str(file))
        client.load_connection_file()
        client.start_channels()
        deadline = time.monotonic() + 2 * PATIENCE
        while True:
            try:
                client.wait_for_ready(timeout=PATIENCE)
                return client
            except RuntimeError:  # a heartbeat that is late, as everything on a busy machine
                assert time.monotonic() < deadline, self._server.log.read_text()[-3000:]

    def run(self, code: str) -> str:
        """Run a cell to its end; what it prints. Fails with its traceback."""
        asked = self._client.execute(code, store_history=False)
        printed: list[str] = []
        while True:
            message = self._client.get_iopub_msg(timeout=2 * PATIENCE)
            kind, content = message["msg_type"], message["content"]
            self._note(message)
            if message["parent_header"].get("msg_id") != asked:
                continue
            assert kind != "error", "\n".join(content["traceback"])
            if kind == "stream" and content["name"] == "stdout":
                printed.append(content["text"])
            if kind == "status" and content["execution_state"] == "idle":
                return "".join(printed)

    def _note(self, message: dict[str, Any]) -> None:
        self._shown.append(str(message["content"].get("data", {}).get("text/plain", "")))

    def see(self, text: str) -> None:
        """Return when an output that was shown or renewed, by whatever cell, has the text."""
        deadline = time.monotonic() + PATIENCE
        while not any(text in shown for shown in self._shown):
            assert time.monotonic() < deadline, f"{text!r} is not shown, only {self._shown}"
            with suppress(queue.Empty):
                self._note(self._client.get_iopub_msg(timeout=1))

    def restart(self) -> None:
        """What "Restart Kernel" does."""
        self._client.stop_channels()
        self._server.ok(self._server.request("POST", f"/api/kernels/{self.id}/restart"))
        self._client = self._connect()

    def shut_down(self) -> None:
        """What closing the notebook with its kernel does."""
        self._client.stop_channels()
        answer = self._server.request("DELETE", f"/api/sessions/{self._session}")
        assert answer.status == 204, answer


class ReadOnlyAuthorizer(Authorizer):
    """Lets everybody look at taskwidgets' jobs, and nobody act on them."""

    def is_authorized(self, handler: object, user: object, action: str, resource: str) -> bool:
        return resource != "taskwidgets" or action == "read"


def find_curl() -> str:
    """The path of curl; a failure that says how to get it, never a skip."""
    found = shutil.which("curl")
    assert found, "the examples in docs/http.md need curl: apt-get install curl"
    return found


Served = Callable[..., JupyterServer]


@pytest.fixture(scope="session")
def http_database_url(embedded_server: EmbeddedServer, template: str) -> Iterator[str]:
    """The database of the server that many tests share."""
    with new_database(embedded_server.url, template) as url:
        yield plain(url)


@pytest.fixture(scope="session")
def server(
    http_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JupyterServer]:
    """A running server, shared by all tests that leave it as it is: each start takes seconds."""
    home = tmp_path_factory.mktemp("jupyter")
    made = JupyterServer(home, http_database_url, base="/user/ann")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A factory of servers that a test may ill-treat: ``served(database_url, *options)``."""
    made: list[JupyterServer] = []

    def make(database_url: str, *options: str, start: bool = True) -> JupyterServer:
        home = tmp_path / f"jupyter{len(made)}"
        home.mkdir()
        made.append(JupyterServer(home, database_url, *options))
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def seen(http_database_url: str) -> Look:
    """Looks into the servers' database."""
    return Look(http_database_url)


@pytest.fixture
def elsewhere(http_database_url: str) -> Iterator[Workspace]:
    """A workspace on the server's database in the test's own process, as a kernel has it."""
    made = Workspace(http_database_url)
    yield made
    made.close()


@pytest.fixture
def rows_file(server: JupyterServer) -> Callable[..., str]:
    """A factory of files below the server's root: ``rows_file("a.csv", 5000)``; its name."""

    def make(name: str, rows: int = 2000, **options: Any) -> str:
        path = server.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_many(path, rows, **options)
        return name

    return make


@pytest.fixture
def numbers_table(http_database_url: str) -> Callable[..., str]:
    """A factory of tables with one column of numbers and one of text; its name."""

    def make(name: str, rows: int = 20_000) -> str:
        run_sql(
            http_database_url,
            f"CREATE TABLE {name} AS SELECT n, md5(n::text) AS t FROM generate_series(1, {rows}) n",
        )
        return name

    return make
