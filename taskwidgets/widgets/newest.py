"""Blocking work for a widget: in a thread, the newest wish only, its outcome on the loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from taskwidgets.errors import TaskwidgetsError
from taskwidgets.runtime.threads import LoopHandle, start_thread

__all__ = ["Newest", "error_words"]

ValueT = TypeVar("ValueT")


class Newest(Generic[ValueT]):
    """Does one thing at a time; what is asked for meanwhile waits, and only the last of it.

    ``done`` gets what the work returned, ``failed`` the error in words; both are called on the
    loop, and neither when something newer has been asked for.
    """

    def __init__(
        self,
        loop: LoopHandle,
        name: str,
        done: Callable[[ValueT], None],
        failed: Callable[[str], None],
        pause: float = 0.0,
    ) -> None:
        self._loop = loop
        self._name = name
        self._done = done
        self._failed = failed
        self._pause = pause  # seconds in which wishes are gathered
        self._lock = threading.Lock()
        self._number = 0
        self._wanted: tuple[int, Callable[[], ValueT]] | None = None
        self._is_working = False

    def ask(self, work: Callable[[], ValueT]) -> None:
        """Have this done, in place of whatever was asked for before; from any thread."""
        with self._lock:
            self._number += 1
            self._wanted = (self._number, work)
            if self._is_working:
                return
            self._is_working = True
        start_thread(self._loop.run_here, self._work, name=self._name)

    def forget(self) -> None:
        """Want nothing any more."""
        with self._lock:
            self._number += 1
            self._wanted = None

    def _work(self) -> None:
        while True:
            if self._pause:
                time.sleep(self._pause)
            with self._lock:
                wanted, self._wanted = self._wanted, None
                if wanted is None:
                    self._is_working = False
                    return
            number, work = wanted
            try:
                outcome = work()
            except Exception as error:  # noqa: BLE001 - a thread has nobody who would hear it
                self._loop.call(self._deliver, number, self._failed, error_words(error))
            else:
                self._loop.call(self._deliver, number, self._done, outcome)

    def _deliver(self, number: int, tell: Callable[[Any], None], what: Any) -> None:
        if number == self._number:
            tell(what)


def error_words(error: Exception) -> str:
    """An error of our own tree in its own words, another with its name."""
    text = str(error)
    return text if isinstance(error, TaskwidgetsError) else f"{type(error).__name__}: {text}"
