"""Rows by a named pipe, from a server on this machine that may write files: nobody in between.

Whatever speaks the protocol gets each row as a message of its own. A server that writes a file
gives bytes, and this process takes what a megabyte of pipe has gathered. Measured for 475 MB in 5
million rows, by two sessions: 0.1 CPU seconds of the client and 1.6 s in all, against 0.7 and 2.0
through psql (``psql.py``).

Whoever writes into a pipe that is full hears nothing until somebody reads: neither a cancel nor the
end of his server. So what reads must read on, or close.

It takes a superuser, and a server whose socket lies in a directory that is closed to others: such
is the embedded one. Whether the server sees the same directory is asked before anything is written.
"""

from __future__ import annotations

import select
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from io import FileIO
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_WRITE
from sqlalchemy.engine import URL

from taskwidgets.errors import ServerUnreachable
from taskwidgets.store.driver import PINNED_PATH
from taskwidgets.store.translate import address
from taskwidgets.transfers.reader import (
    CANCEL_SECONDS,
    PIPE_BYTES,
    CopyOut,
    Gathered,
    Piece,
    Pieces,
    socket_directory,
    told_error,
)

__all__ = ["NoPipe", "PipeReader"]

# Only who may write files is asked whether the server sees this one.
SEEN = f"""
    {PINNED_PATH};
    SELECT CASE WHEN current_setting('is_superuser') = 'on'
                THEN (SELECT size FROM pg_stat_file(%s, true)) IS NOT NULL ELSE false END
"""


DRAIN_LOOK = 20  # ms between two looks whether a cancelled statement is over


class NoPipe(Exception):
    """This server, or this role, cannot write into a pipe of ours."""


class PipeReader:
    """A Reader by a named pipe; ``begin`` opens the transaction in which it reads."""

    def __init__(self, url: URL, connect: dict[str, Any], begin: Sequence[str]) -> None:
        """NoPipe where the server is not made for it: then another reader is."""
        from taskwidgets.embedded.pipes import NamedPipe, sweep  # not before an export needs it

        directory = socket_directory(connect)
        assert directory is not None
        if set("'\\") & set(str(directory)):  # it is to stand in a statement
            raise NoPipe
        self._url = url
        self._session: Any = None
        self._reading: FileIO | None = None
        self._is_cancelled = False
        try:
            sweep(directory)
            self._pipe = NamedPipe(directory)
        except OSError:
            raise NoPipe from None
        try:
            self._guarded(lambda: self._connect(connect, begin))
        except BaseException:
            self.close()
            raise

    @staticmethod
    def serves(connect: dict[str, Any]) -> bool:
        """Whether the server may be one that can; the constructor finds out."""
        from taskwidgets.embedded.pipes import is_closed

        directory = socket_directory(connect)
        return directory is not None and is_closed(directory)

    def _connect(self, connect: dict[str, Any], begin: Sequence[str]) -> None:
        self._session = psycopg2.connect(**connect, async_=True)
        # libpq itself heeds this only where it may block.
        self._wait(float(connect.get("connect_timeout") or 0))
        cursor = self._session.cursor()
        try:
            self._execute(cursor, SEEN, [str(self._pipe.path)])
            if not cursor.fetchone()[0]:
                raise NoPipe
            # It may see the pipe and still not be let write into it.
            self._execute(cursor, f"COPY (SELECT 1 WHERE false) TO '{self._pipe.path}'")
        except psycopg2.Error as error:
            if error.pgcode is None:
                raise
            raise NoPipe from None
        if begin:  # at once: each alone would be a way to the server and back
            self._execute(cursor, ";\n".join(begin))

    def read(self, copy: CopyOut) -> Pieces:
        if self._is_cancelled:
            raise ServerUnreachable(f"the session with {address(self._url)} was cancelled")
        return copy.pieces(self._run, f"'{self._pipe.path}'")

    def _run(self, statement: str) -> Generator[Piece, None, int]:
        self._end_reading()
        self._reading = reading = self._pipe.open()
        cursor = self._session.cursor()
        self._guarded(lambda: self._send(cursor, statement))
        return self._pieces(reading, cursor)

    def _pieces(self, reading: FileIO, cursor: Any) -> Generator[Piece, None, int]:
        news = self._session.fileno()
        gathered = Gathered(reading.fileno(), news)
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        poll.register(news, select.POLLIN)
        over = False
        while not over:
            poll.poll()
            over = self._guarded(self._is_over)
            if not over:
                yield from gathered.take()
        yield from gathered.rest()
        self._end_reading()
        return int(cursor.rowcount)

    def _end_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()

    def cancel(self) -> None:
        self._is_cancelled = True
        with suppress(psycopg2.Error):
            self._session.cancel()

    def close(self) -> None:
        self._is_cancelled = True
        if self._reading is not None:
            self._drain(self._reading)
        self._end_reading()
        self._pipe.close()  # what writes into it wakes up, and ends
        if self._session is not None:
            self._session.close()

    def _drain(self, reading: FileIO) -> None:
        """Have the server end its statement, and take what it has written until then."""
        deadline = time.monotonic() + CANCEL_SECONDS
        with suppress(psycopg2.Error):  # it was cancelled, as was wanted, or the session is gone
            poll = select.poll()
            poll.register(self._session.fileno(), select.POLLIN)
            while not self._is_over() and time.monotonic() < deadline:
                self._session.cancel()
                while reading.read(PIPE_BYTES):
                    pass
                poll.poll(DRAIN_LOOK)

    # ------------------------------------------------------------------ the session

    def _is_over(self) -> bool:
        """Hear the server; True when the statement is over."""
        return bool(self._session.poll() == POLL_OK)

    def _execute(self, cursor: Any, statement: str, parameters: Any = None) -> None:
        cursor.execute(statement, parameters)
        self._wait()

    def _send(self, cursor: Any, statement: str) -> None:
        """Until the server has all of it, and has yet to answer."""
        cursor.execute(statement)
        while self._session.poll() == POLL_WRITE:
            poll = select.poll()
            poll.register(self._session.fileno(), select.POLLOUT)
            poll.poll()

    def _wait(self, seconds: float = 0) -> None:
        """Until the server has answered; ServerUnreachable if it does not within so many."""
        deadline = time.monotonic() + seconds
        while (state := self._session.poll()) != POLL_OK:
            event = select.POLLOUT if state == POLL_WRITE else select.POLLIN
            poll = select.poll()
            poll.register(self._session.fileno(), event)
            left = (deadline - time.monotonic()) * 1000 if seconds else None
            if (left is not None and left <= 0) or not poll.poll(left):
                raise ServerUnreachable(f"{address(self._url)} does not answer")

    def _guarded(self, action: Any) -> Any:
        """Do it; what the driver complains about, in our words."""
        try:
            return action()
        except psycopg2.Error as error:
            message = error.diag.message_primary or str(error).strip()
            raise told_error(self._url, error.pgcode, message, away=error.pgcode is None) from None
