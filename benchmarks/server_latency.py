"""Whether a Jupyter server that loads a file still answers others: the latency of /api/status.

    python benchmarks/server_latency.py [--parts 4]

A server with the extension answers one small request after the other, first idle, then while it
loads a file at full speed, then while it exports it. Prints median, 99th percentile and most.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import common
from datasets import DATA_SETS, FOLDER

PAUSE = 0.005  # seconds between two requests
IDLE = 400  # requests


class Server:
    """A Jupyter server over ``root``, and one connection to it."""

    def __init__(self, root: Path, url: str) -> None:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.token = secrets.token_hex(8)
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root",
                "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self.port}",
                f"--ServerApp.root_dir={root}", f"--IdentityProvider.token={self.token}",
                "--ServerApp.jpserver_extensions={'taskwidgets': True}",
            ],
            env={**os.environ, "TASKWIDGETS_DATABASE_URL": url},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)
        while True:
            with suppress(OSError):
                self.ask("GET", "/api/status")
                return
            assert self.process.poll() is None, "the server has ended"
            self.connection.close()  # else it still waits for the answer to a request in vain
            time.sleep(0.1)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"token {self.token}"}
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        return json.loads(self.connection.getresponse().read())

    def latency(self) -> float:
        time.sleep(PAUSE)
        start = time.perf_counter()
        self.ask("GET", "/api/status")
        return time.perf_counter() - start

    def during(self, kind: str, body: dict[str, object]) -> list[float]:
        """Latencies while a job runs; the job's state is asked for now and then, unmeasured."""
        job = self.ask("POST", f"/taskwidgets/{kind}/start", body)["id"]
        taken: list[float] = []
        while True:
            taken += [self.latency() for _ in range(20)]
            state = self.ask("GET", f"/taskwidgets/jobs/{job}")["state"]
            if state != "running":
                assert state == "completed", state
                return taken


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--parts", type=int, default=4, help="how large the file is")
    given = options.parse_args()
    FOLDER.mkdir(exist_ok=True)
    print(common.machine())
    with common.server() as workspace, tempfile.TemporaryDirectory() as folder:
        shutil.copy(DATA_SETS["flights"].file(given.parts), Path(folder) / "flights.csv")
        server = Server(Path(folder), workspace.engine.url.render_as_string(hide_password=False))
        try:
            report("idle", [server.latency() for _ in range(IDLE)])
            load = {"source": "flights.csv", "table": "over_http", "if_exists": "replace"}
            report("loading", server.during("upload", load))
            report("exporting", server.during("download", {"source": "over_http", "path": "o.csv"}))
        finally:
            server.process.terminate()
            server.process.wait()


def report(what: str, taken: list[float]) -> None:
    taken = sorted(1000 * seconds for seconds in taken)
    print(
        f"{what}: {len(taken)} requests, median {statistics.median(taken):.1f} ms, "
        f"99 % within {taken[int(0.99 * len(taken))]:.1f} ms, most {taken[-1]:.1f} ms"
    )


if __name__ == "__main__":
    main()
