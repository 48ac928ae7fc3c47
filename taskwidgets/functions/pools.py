"""Who computes what run.map() hands out: threads of this process, its loop, or a cluster."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from taskwidgets.functions.slices import Done, compute, compute_awaiting

__all__ = ["LoopPool", "Pool", "ThreadPool"]


class Pool(Protocol):
    """``lanes``: how many slices it computes at once, just now."""

    @property
    def lanes(self) -> int:
        """How many slices it computes at once, just now."""

    def send(self, items: Sequence[Any], first: int) -> Future[Done]:
        """Have the items computed, whose first one has that number; returns soon.

        From any thread. The future's callbacks run in any thread, too.
        """

    def close(self) -> None:
        """Forget what is in flight; from any thread, and at once."""


class ThreadPool:
    """Threads of this process, begun by ``start``, which has their end in view."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        lanes: int,
        start: Callable[[Callable[[], object]], object],
    ) -> None:
        self.lanes = lanes
        self._function = function
        self._start = start
        self._lock = threading.Lock()
        self._started = 0
        self._closed = False
        self._sent: queue.SimpleQueue[tuple[Sequence[Any], Future[Done]] | None]
        self._sent = queue.SimpleQueue()

    def send(self, items: Sequence[Any], first: int) -> Future[Done]:
        """See Pool."""
        answer: Future[Done] = Future()
        with self._lock:
            if not self._closed and self._started < self.lanes:
                self._started += 1
                self._start(self._live)
        self._sent.put((items, answer))
        return answer

    def close(self) -> None:
        """See Pool; a thread ends after the item that it has in hand."""
        with self._lock:
            self._closed = True
        for _ in range(self.lanes):
            self._sent.put(None)

    def _live(self) -> None:
        while not self._closed and (sent := self._sent.get()) is not None:
            items, answer = sent
            if not self._closed:
                try:
                    done = compute(self._function, items, lambda: not self._closed)
                except BaseException as error:  # noqa: BLE001 - SystemExit must not end the thread
                    answer.set_exception(error)
                else:
                    answer.set_result(done)


class LoopPool:
    """Tasks on the loop, for an async function."""

    def __init__(
        self, function: Callable[[Any], Any], lanes: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.lanes = lanes
        self._function = function
        self._loop = loop
        self._lock = threading.Lock()
        self._sent: set[Future[Done]] = set()

    def send(self, items: Sequence[Any], first: int) -> Future[Done]:
        """See Pool."""
        work = compute_awaiting(self._function, items)
        try:
            answer = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed, and the job's function with it
            work.close()
            return Future()
        with self._lock:
            self._sent.add(answer)
        answer.add_done_callback(self._forget)
        return answer

    def _forget(self, answer: Future[Done]) -> None:
        with self._lock:
            self._sent.discard(answer)

    def close(self) -> None:
        """See Pool; each task is cancelled at the await that it is in."""
        with self._lock:
            sent = list(self._sent)
        for answer in sent if not self._loop.is_closed() else ():
            answer.cancel()
