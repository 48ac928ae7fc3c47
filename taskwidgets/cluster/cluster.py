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
from taskwidgets.runtime.threads import start_thread

__all__ = ["Cluster", "Facts"]

ResultT = TypeVar("ResultT")

CONNECT_SECONDS = 5.0  # until a scheduler that does not answer counts as away
CLOSE_SECONDS = 1.0  # for saying goodbye
GIVEN_UP_LOOK = 0.05  # seconds between two looks whether whoever waits has given up
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
        self._opening: concurrent.futures.Future[Any] | None = None  # the client that is to come
        self._calls: dict[object, _Call] = {}  # by who waits
        self._done: deque[tuple[float, str, int]] = deque()  # when, by which worker, bytes
        self._threads: dict[str, int] = {}  # by worker
        self._threads_at = 0.0
        self._dashboard = ""

    def __repr__(self) -> str:
        return f"<the Dask cluster at {self.scheduler.address}>"

    @property
    def threads(self) -> int:
        """How many calls the workers carry out at once, now. Raises ClusterUnreachable."""
        return self.count_threads(lambda: False)

    @property
    def seen_threads(self) -> int:
        """How many they were when that was asked last; asks nobody."""
        with self._lock:
            return sum(self._threads.values())

    def count_threads(self, given_up: Callable[[], bool]) -> int:
        """The same; ``given_up`` ends the wait for a scheduler that does not answer."""
        self._look(given_up)
        return self.seen_threads

    def call(self, who: object, name: str, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """Have a worker call the function; blocks until its answer is here.

        ``who`` waits, and is what `cancel` is told; ``name`` is what Dask's dashboard shows. Raises
        what the function raises, and ClusterUnreachable where there is no answer to be had: then
        it may have been called, once or several times.
        """
        call = _Call()
        with self._lock:
            self._calls[who] = call
        try:
            client = self._connected(lambda: call.is_cancelled)
            call.future = future = client.submit(
                function, *args, key=f"{name}-{uuid.uuid4().hex[:12]}", pure=False, fifo_timeout=0
            )
            try:
                if call.is_cancelled:  # while it was sent
                    future.cancel()
                answer: ResultT = future.result()
            finally:
                future.release()
        except BaseException as error:
            if not _is_lost(error):
                raise
            raise ClusterUnreachable(f"{self!r} gave no answer: {_words(error)}") from None
        finally:
            with self._lock:
                self._calls.pop(who, None)
        return answer

    def submit(
        self,
        name: str,
        function: Callable[..., ResultT],
        *args: Any,
        given_up: Callable[[], bool] = lambda: False,
    ) -> concurrent.futures.Future[ResultT]:
        """The same, for whoever does not wait: the answer as a future.

        ``given_up`` ends the wait for a scheduler that does not answer; then, and where there is
        none, ClusterUnreachable is raised. The future's has Dask's own error as its ``__cause__``.
        One that is cancelled gives the call up.
        """
        who, call = object(), _Call()
        client = self._connected(given_up)
        call.future = future = client.submit(
            function, *args, key=f"{name}-{uuid.uuid4().hex[:12]}", pure=False, fifo_timeout=0
        )
        with self._lock:
            self._calls[who] = call

        def over() -> None:
            with self._lock:
                self._calls.pop(who, None)
            future.release()

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
                over()
            return answer

        waiting = wait()
        try:
            return asyncio.run_coroutine_threadsafe(waiting, client.loop.asyncio_loop)
        except RuntimeError as error:  # its loop was closed just now
            waiting.close()
            over()
            raise ClusterUnreachable(f"{self!r} gave no answer: {_words(error)}") from error

    def cancel(self, who: object) -> None:
        """Have the call of ``who`` end without an answer; one that has begun is not stopped."""
        with self._lock:
            call = self._calls.get(who)
        if call is not None:
            call.is_cancelled = True
            if call.future is not None:
                with suppress(Exception):
                    call.future.cancel()

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
            in_flight = sum(call.future is not None for call in self._calls.values())
            return Facts(len(self._threads), in_flight, tuple(rates), self._dashboard)

    def look(self) -> None:
        """Ask the scheduler for its workers, if that was long ago and it can be asked."""
        client = self._client
        if client is None or client.status != "running":
            return
        with suppress(ClusterUnreachable):
            self._look(lambda: False)

    def close(self) -> None:
        """End the connection; idempotent. What is used again opens a new one."""
        with self._lock:
            client, self._client = self._client, None
            self._opening = None
        if client is not None:
            _end(client)

    # ------------------------------------------------------------------ inside

    def _look(self, given_up: Callable[[], bool]) -> None:
        if time.monotonic() - self._threads_at < FACTS_SECONDS and self._client is not None:
            return
        client = self._connected(given_up)
        try:
            threads = client.nthreads()
        except BaseException as error:
            if not _is_lost(error):
                raise
            raise ClusterUnreachable(f"{self!r} does not answer: {_words(error)}") from None
        with self._lock:
            self._threads, self._threads_at = dict(threads), time.monotonic()

    def _connected(self, given_up: Callable[[], bool]) -> Any:
        """The client; all who need one wait for the same one, each until it gives up."""
        with self._lock:
            client = self._client
            if client is not None and client.status == "running":
                return client
            if self._opening is None:
                self._client = None
                self._opening = concurrent.futures.Future()
                start_thread(self._open, self._opening, client, name="taskwidgets cluster")
            opening = self._opening
        while not opening.done():
            if given_up():
                raise ClusterUnreachable(f"{self!r} is not waited for any more")
            concurrent.futures.wait([opening], GIVEN_UP_LOOK)
        return opening.result()

    def _open(self, opening: concurrent.futures.Future[Any], old: Any) -> None:
        if old is not None:
            _end(old)
        try:
            client = self._new_client()
        except BaseException as error:  # noqa: BLE001 - raised again by those who wait
            with self._lock:
                if self._opening is opening:
                    self._opening = None
            opening.set_exception(error)
            return
        with self._lock:
            is_wanted = self._opening is opening
            if is_wanted:
                self._client, self._opening = client, None
                self._dashboard = client.dashboard_link or ""
        if not is_wanted:  # closed meanwhile
            _end(client)
        opening.set_result(client)

    def _new_client(self) -> Any:
        from distributed import Client

        try:
            return Client(  # type: ignore[no-untyped-call]
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


@dataclass
class _Call:
    """Somebody waits for an answer; ``future`` is Dask's, once it is sent."""

    future: Any = None
    is_cancelled: bool = False


def _end(client: Any) -> None:
    # There is nothing of it on the workers; a scheduler that is gone is not waited for.
    with suppress(Exception):
        client.close(timeout=CLOSE_SECONDS)


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
