"""One job's way to a Dask cluster: calls that wait for their answer, and what is to be seen of it.

Everything is by a client of the job's own, with a loop and a thread of its own. A scheduler that
was restarted is connected with anew; whoever waited for an answer of the old one is told that the
cluster was away, and looks into the ledger before anything is done a second time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from taskwidgets.cluster.scheduler import Scheduler
from taskwidgets.errors import ClusterUnreachable

__all__ = ["Cluster", "Facts"]

ResultT = TypeVar("ResultT")

CONNECT_SECONDS = 5.0  # until a scheduler that does not answer counts as away
RATE_SECONDS = 5.0  # over which the workers' rates are taken
FACTS_SECONDS = 1.0  # for which an answer about the workers is good


@dataclass(frozen=True)
class Facts:
    """What is to be seen of a cluster: workers, what they have in hand, bytes per second of each.

    ``rates`` has those that have done something lately. ``dashboard`` is Dask's own, "" without.
    """

    workers: int
    in_flight: int
    rates: tuple[float, ...]
    dashboard: str


class Cluster:
    """The workers of one scheduler; safe to use from several threads, nothing happens before."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._lock = threading.Lock()
        self._client: Any = None
        self._futures: dict[object, Any] = {}  # by who waits
        self._done: deque[tuple[float, str, int]] = deque()  # when, by which worker, bytes
        self._threads: dict[str, int] = {}  # by worker
        self._threads_at = 0.0
        self._dashboard = ""

    def __repr__(self) -> str:
        return f"<the Dask cluster at {self.scheduler.address}>"

    @property
    def threads(self) -> int:
        """How many calls the workers carry out at once, now. Raises ClusterUnreachable."""
        self._look()
        return sum(self._threads.values())

    def call(self, who: object, name: str, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """Have a worker call the function; blocks until its answer is here.

        ``who`` waits, and is what `cancel` is told; ``name`` is what Dask's dashboard shows. Raises
        what the function raises, and ClusterUnreachable where there is no answer to be had: then
        it may have been called, once or several times.
        """
        client = self._connected()
        try:
            future = client.submit(
                function, *args, key=f"{name}-{uuid.uuid4().hex[:12]}", pure=False, fifo_timeout=0
            )
            with self._lock:
                self._futures[who] = future
            try:
                answer: ResultT = future.result()
            finally:
                with self._lock:
                    self._futures.pop(who, None)
                future.release()
        except BaseException as error:
            if not _is_lost(error):
                raise
            raise ClusterUnreachable(f"{self!r} gave no answer: {_words(error)}") from None
        return answer

    def submit(
        self, name: str, function: Callable[..., ResultT], *args: Any
    ) -> concurrent.futures.Future[ResultT]:
        """The same, for whoever does not wait: the answer as a future; returns soon.

        Raises ClusterUnreachable where nobody is there to be asked. The future's is that of a call;
        its ``__cause__`` is Dask's own error. One that is cancelled gives the call up.
        """
        client = self._connected()
        who = object()
        future = client.submit(
            function, *args, key=f"{name}-{uuid.uuid4().hex[:12]}", pure=False, fifo_timeout=0
        )
        with self._lock:
            self._futures[who] = future

        async def wait() -> ResultT:
            try:
                answer: ResultT = await future
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if not _is_lost(error):
                    raise
                raise ClusterUnreachable(f"{self!r} gave no answer: {_words(error)}") from error
            finally:
                with self._lock:
                    self._futures.pop(who, None)
                future.release()
            return answer

        waiting = wait()
        try:
            return asyncio.run_coroutine_threadsafe(waiting, client.loop.asyncio_loop)
        except RuntimeError as error:  # its loop was closed just now
            waiting.close()
            raise ClusterUnreachable(f"{self!r} gave no answer: {_words(error)}") from error

    def cancel(self, who: object) -> None:
        """Have the call of ``who`` end without an answer; one that has begun is not stopped."""
        with self._lock:
            future = self._futures.get(who)
        if future is not None:
            with suppress(Exception):
                future.cancel()

    def did(self, worker: str, size: int) -> None:
        """A worker has done so many bytes."""
        with self._lock:
            self._done.append((time.monotonic(), worker, size))

    def facts(self) -> Facts:
        """What is to be seen of it now; asks nobody."""
        now = time.monotonic()
        with self._lock:
            while self._done and self._done[0][0] < now - RATE_SECONDS:
                self._done.popleft()
            sums: dict[str, int] = {}
            for _, worker, size in self._done:
                sums[worker] = sums.get(worker, 0) + size
            since = now - self._done[0][0] if self._done else 0.0
            rates = [sums[worker] / max(since, 0.5) for worker in sorted(sums)]
            return Facts(len(self._threads), len(self._futures), tuple(rates), self._dashboard)

    def look(self) -> None:
        """Ask the scheduler for its workers, if that was long ago; one that is away has none."""
        with suppress(ClusterUnreachable):
            self._look()

    def close(self) -> None:
        """End the connection; idempotent. What is used again opens a new one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close(timeout=CONNECT_SECONDS)

    # ------------------------------------------------------------------ inside

    def _look(self) -> None:
        if time.monotonic() - self._threads_at < FACTS_SECONDS and self._client is not None:
            return
        client = self._connected()
        try:
            threads = client.nthreads()
        except BaseException as error:
            if not _is_lost(error):
                raise
            raise ClusterUnreachable(f"{self!r} does not answer: {_words(error)}") from None
        with self._lock:
            self._threads, self._threads_at = dict(threads), time.monotonic()

    def _connected(self) -> Any:
        from distributed import Client

        with self._lock:
            client = self._client
            if client is not None and client.status == "running":
                return client
            if client is not None:
                self._client = None
                with suppress(Exception):
                    client.close(timeout=0)
            try:
                client = Client(  # type: ignore[no-untyped-call]
                    self.scheduler.address,
                    security=self.scheduler.security,
                    timeout=CONNECT_SECONDS,
                    set_as_default=False,
                    asynchronous=False,
                    name="taskwidgets",
                )
            except (OSError, TimeoutError, ValueError) as error:
                raise ClusterUnreachable(
                    f"{self!r} does not answer: {_words(error)}; check the address, and that its "
                    "scheduler runs"
                ) from None
            self._client = client
            self._dashboard = client.dashboard_link or ""
            return client


def _is_lost(error: BaseException) -> bool:
    """Whether the cluster, and not what it was asked to do, is to blame."""
    from distributed.comm.core import CommClosedError
    from distributed.scheduler import KilledWorker

    return isinstance(
        error,
        CommClosedError
        | KilledWorker
        | concurrent.futures.CancelledError
        | asyncio.CancelledError
        | TimeoutError,
    )


def _words(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
