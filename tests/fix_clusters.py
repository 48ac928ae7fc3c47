"""Dask clusters in processes of their own, whose workers a test may kill."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from fix_scripts import Script
from fix_servers import wait_until

# Without pickles of this process's main module, and with the nannies that a cluster has usually.
CLUSTER = """
    import sys
    from distributed import LocalCluster
    workers, threads, port = map(int, sys.argv[1:])
    with LocalCluster(
        n_workers=workers, threads_per_worker=threads, processes=True, host="127.0.0.1",
        scheduler_port=port, dashboard_address="127.0.0.1:0",
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        for line in sys.stdin:
            verb, _, number = line.partition(" ")
            if verb == "scale":
                cluster.scale(int(number))
            print(*(one.pid for one in list(cluster.scheduler.workers.values())), flush=True)
"""


class DaskCluster:
    """A scheduler at ``address`` and its workers, on this machine."""

    def __init__(
        self, script: Callable[..., Script], workers: int, threads: int, port: int
    ) -> None:
        self._script = script(
            CLUSTER, str(workers), str(threads), str(port), PYTHONWARNINGS="ignore"
        )
        self._lock = threading.Lock()
        self.address = self._script.line()

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def workers(self) -> list[int]:
        """The process numbers of the workers that the scheduler knows of now."""
        return self._ask("workers")

    def scale(self, workers: int) -> None:
        """Have so many workers from soon on."""
        self._ask(f"scale {workers}")

    def _ask(self, what: str) -> list[int]:
        with self._lock:
            self._script.say(what)
            return [int(word) for word in self._script.line().split()]

    def kill(self) -> None:
        """End scheduler and workers, with no word to anybody."""
        children = psutil.Process(self._script.process.pid).children(recursive=True)
        self._script.kill()
        for child in children:
            wait_until(lambda child=child: not child.is_running(), "for a worker's end")


def free_port() -> int:
    """One that nobody listens at, just now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture
def cluster_of(script: Callable[..., Script]) -> Callable[..., DaskCluster]:
    """A factory of clusters of the test's own: ``cluster_of(workers, threads, port)``."""

    def make(workers: int = 2, threads: int = 1, port: int = 0) -> DaskCluster:
        return DaskCluster(script, workers, threads, port)

    return make


@pytest.fixture(scope="module")
def cluster() -> Iterator[DaskCluster]:
    """Two workers of one thread each, that the tests of a file share."""
    made: list[Any] = []

    def start(code: str, *arguments: str, **variables: str) -> Script:
        made.append(Script(code, *arguments, **variables))
        return made[-1]

    yield DaskCluster(start, 2, 1, 0)
    for one in made:
        one.kill()
