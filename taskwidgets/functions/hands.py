"""A thread that does a run's database work, in the order in which it was asked for."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from taskwidgets.runtime.threads import start_thread

__all__ = ["Hands"]


class Hands:
    """One daemon thread, started at once.

    Not an executor's: at the interpreter's exit no new thread starts any more and executors are
    closed, and just then a pause has a last checkpoint to write.
    """

    def __init__(self, name: str) -> None:
        self._asked: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]
        self._asked = queue.SimpleQueue()
        self._thread = start_thread(self._live, name=name)

    def do(self, action: Callable[[], Any]) -> Future[Any]:
        """Have the action done after all that was asked before."""
        answer: Future[Any] = Future()
        self._asked.put((action, answer))
        return answer

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be done."""
        return self._asked.empty()

    def close(self) -> None:
        """Wait until all is done, and end the thread."""
        self.finish()
        self._thread.join()

    def finish(self) -> None:
        """End the thread once all is done; returns at once."""
        self._asked.put(None)

    def _live(self) -> None:
        while (asked := self._asked.get()) is not None:
            action, answer = asked
            try:
                answer.set_result(action())
            except BaseException as error:  # noqa: BLE001 - handed to whoever asked
                answer.set_exception(error)
