"""COPY FROM STDIN without the driver's own traceback when the server ends the session.

psycopg2 2.9 reads two errors then: the server's ("terminating connection due to administrator
command") and libpq's ("server closed the connection unexpectedly"). It makes the second one while
the first one is set, which Python takes for a fault of the driver: a SystemError, which psycopg2
prints by ``sys.excepthook``. It then raises an OperationalError all the same. What is printed would
be in the middle of a notebook, of a job that goes on a moment later.

While a COPY runs, this very SystemError is kept from the hook; all else goes to whoever had it.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import psycopg2

__all__ = ["ReadBySession", "quiet_driver", "read_by_session"]

# A query that is copied out may have the first words in a text.
_FROM_STDIN = re.compile(r"\bFROM\s+STDIN\b", re.IGNORECASE)
_TO_STDOUT = re.compile(r"\bTO\s+STDOUT\b", re.IGNORECASE)

_lock = threading.Lock()
_running = 0  # COPYs
_previous = sys.__excepthook__


class ReadBySession:
    """A file that the driver reads for COPY."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int = -1) -> Any:
        """As the file has it. IPython sets a hook of its own for each cell: ours comes again."""
        if sys.excepthook is not _hook:
            with _lock:
                _install()
        return self._file.read(size)

    def readline(self, size: int = -1) -> Any:
        """As the file has it."""
        return self._file.readline(size)


def read_by_session(statement: object, file: Any) -> Any:
    """The file for ``copy_expert``: as it is, unless the statement certainly reads it."""
    text = statement if isinstance(statement, str) else ""
    if _FROM_STDIN.search(text) and not _TO_STDOUT.search(text):
        return ReadBySession(file)
    return file


@contextmanager
def quiet_driver() -> Iterator[None]:
    """Keep the driver's SystemError off the screen while a COPY runs inside."""
    global _running
    with _lock:
        _running += 1
        _install()
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if not _running and sys.excepthook is _hook:
                sys.excepthook = _previous


def _install() -> None:
    global _previous
    if sys.excepthook is not _hook:
        _previous = sys.excepthook
        sys.excepthook = _hook


def _hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if isinstance(error, SystemError) and isinstance(error.__cause__, psycopg2.Error):
        return
    _previous(kind, error, traceback)
