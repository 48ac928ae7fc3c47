"""What reads from the server, as a worker's tool: started, asked, read from.

``CopierReader`` does so by ``copier.py``, for any server; ``psql.py`` and ``pipe.py`` have faster
ones for some.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.engine import URL

from taskwidgets.errors import DatabaseError, RightsMissing, ServerUnreachable
from taskwidgets.store.driver import PINNED_PATH, USERS_PATH
from taskwidgets.store.translate import address
from taskwidgets.transfers.copier import FRAME
from taskwidgets.transfers.csv_rows import CsvForm, Piece

__all__ = [
    "CANCEL_SECONDS",
    "LEAVE_SECONDS",
    "PIPE_BYTES",
    "CopierReader",
    "CopyOut",
    "Gathered",
    "Piece",
    "Pieces",
    "Reader",
    "opening",
    "socket_directory",
    "told_error",
    "widen",
]

PROGRAM = Path(__file__).with_name("copier.py")
CANCEL_SECONDS = 2.0  # how long a process may take to cancel its statement, before it is killed
LEAVE_SECONDS = 5.0  # how long a process that was killed may take to be gone
PIPE_BYTES = 1 << 20  # the most that an ordinary user may have by default (pipe(7))
# How long a pipe is left alone for more to come, in ms: each look costs some 80 us, and who finds a
# megabyte has kept the writer waiting.
SHORTEST_NAP, LONGEST_NAP = 1, 8

# What a server or a role may have set for short statements would end an export in its middle; what
# waits for its turn in the file is idle in its transaction. (pg_dump does the same.) Settings that
# are unknown to the server's version are not in its list.
PATIENT = (
    "SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN ('statement_timeout',"
    " 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout',"
    " 'transaction_timeout')"
)


@dataclass(frozen=True)
class CopyOut:
    """A COPY of a query's rows; ``options`` are those of WITH.

    ``csv``: another one, of which what these options ask for may be made here; ``where`` follows
    the query in both.
    """

    query: str
    options: str = ""
    csv: CsvForm | None = None
    where: str = ""

    def to(self, place: str = "STDOUT") -> str:
        """The statement."""
        return self._statement(self._form, place)

    def pieces(
        self, run: Callable[[str], Generator[Piece, None, int]], place: str = "STDOUT"
    ) -> Pieces:
        """What is asked for; ``run`` begins a statement, whose pieces end with its rows' number."""
        form = self._form
        given = run(self.to(place))
        if form is None:
            return Pieces(given)
        return Pieces(form.convert(given, lambda: run(self._statement(None, place))))

    def _statement(self, form: CsvForm | None, place: str) -> str:
        query, options = self.query, self.options
        if form is not None:
            query, options = form.select, form.options
        if options:
            options = f" WITH ({options})"
        # The query may end with a comment.
        return f"COPY ({query}{self.where}\n) TO {place}{options}"

    @property
    def _form(self) -> CsvForm | None:
        """What is to be made here, in whatever process this is."""
        return self.csv if self.csv is not None and self.csv.is_possible else None


class Pieces:
    """The bytes of one statement; ``rows`` is known when they are through.

    A piece is good until the next one is asked for.
    """

    def __init__(self, pieces: Generator[Piece, None, int]) -> None:
        """``pieces`` returns the number of rows."""
        self._pieces = pieces
        self.rows = 0

    def __iter__(self) -> Iterator[Piece]:
        self.rows = yield from self._pieces


class Reader(Protocol):
    """Reads what statements give, in one session with the server."""

    def read(self, copy: CopyOut) -> Pieces:
        """Run a COPY: iterate over its bytes, piece by piece; then it has ``rows``."""

    def cancel(self) -> None:
        """Break off the statement in flight, from another thread; the session ends with it."""

    def close(self) -> None:
        """End the session, its statement with it, and wait until it is gone."""


def opening(
    begin: Sequence[str], prologue: Sequence[str], settings: Sequence[str], *checks: str
) -> list[str]:
    """The statements that open the one transaction in which a reader does all its reading.

    ``begin`` comes first: a snapshot is joined before anything else. ``prologue``: that of the
    database. All that is set is set for this transaction. What is read then is read in the search
    path of the user: a query is the user's, and so is what a view or a computed column calls.
    """
    return [*begin, PINNED_PATH, *prologue, PATIENT, *settings, *checks, USERS_PATH]


class CopierReader:
    """A Reader by ``copier.py``; ``begin`` opens the transaction in which it reads."""

    def __init__(self, url: URL, connect: dict[str, Any], begin: Sequence[str]) -> None:
        self._url = url
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Ctrl-C at a terminal is for the program that started us; it pauses the job.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        widen(self._process.stdout.fileno())
        try:
            # Through the pipe, not as an argument or a variable: the password is in it.
            self._order({"connect": connect, "begin": list(begin)})
            self._next()
        except BaseException:
            self.close()
            raise

    def read(self, copy: CopyOut) -> Pieces:
        return copy.pieces(self._run)

    def _run(self, statement: str) -> Generator[Piece, None, int]:
        self._order(statement)
        return self._pieces()

    def _pieces(self) -> Generator[Piece, None, int]:
        while True:
            piece, told = self._next()
            if piece is None:
                return int(told["rows"])
            yield piece

    def cancel(self) -> None:
        # Without input the process ends, and cancels its statement first.
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def close(self) -> None:
        self.cancel()
        try:
            self._process.wait(CANCEL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(LEAVE_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _order(self, what: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._gone() from None

    def _next(self) -> tuple[bytes | None, dict[str, Any]]:
        """The next piece of data, or None with what is told at the end of a statement."""
        kind, length = FRAME.unpack(self._exactly(FRAME.size))
        payload = self._exactly(length)
        if kind == b"d":
            return payload, {}
        told: dict[str, Any] = json.loads(payload)
        if kind == b"e":
            return None, told
        raise told_error(self._url, told["sqlstate"], told["message"], away=told["away"])

    def _exactly(self, length: int) -> bytes:
        assert self._process.stdout is not None
        try:
            data = self._process.stdout.read(length)
        except ValueError:  # closed by another thread
            data = b""
        if len(data) < length:
            raise self._gone()
        return data

    def _gone(self) -> ServerUnreachable:
        return ServerUnreachable(f"the process that reads from {address(self._url)} has ended")


def told_error(url: URL, sqlstate: str | None, message: str, *, away: bool) -> DatabaseError:
    """What a process told of the server's complaint, as an error of our tree."""
    text = f"{address(url)}: {message}"
    if away or (sqlstate or "").startswith(("08", "57P")):
        return ServerUnreachable(text, sqlstate=sqlstate)
    if sqlstate == "42501":
        return RightsMissing(text, sqlstate=sqlstate)
    return DatabaseError(message, sqlstate=sqlstate)


class Gathered:
    """The reading end of a pipe into which rows come in small pieces, taken out in large ones.

    To be woken for each piece would cost more than all else; so after a look at it, it is left
    alone for a moment, in which half of it or more fills up.
    """

    def __init__(self, pipe: int, news: int) -> None:
        """``news``: a descriptor on which the end of the statement is heard."""
        self._pipe = pipe
        self._news = select.poll()
        self._news.register(news, select.POLLIN)
        self._may_wait = widen(pipe) >= PIPE_BYTES
        self._nap = SHORTEST_NAP
        # One for all: a new one would be new memory each time, which costs as much as the reading.
        self._buffer = memoryview(bytearray(PIPE_BYTES))

    def take(self) -> Iterator[memoryview]:
        """What is there, and what comes soon; each good until the next."""
        piece = self._read()
        if len(piece) < PIPE_BYTES // 2:
            self._nap = min(self._nap + 1, LONGEST_NAP)
        elif len(piece) > PIPE_BYTES * 3 // 4:
            self._nap = max(self._nap - 1, SHORTEST_NAP)
        while piece:
            yield piece
            if self._may_wait and len(piece) < PIPE_BYTES // 2:
                self._news.poll(self._nap)
                return
            piece = self._read()

    def rest(self) -> Iterator[memoryview]:
        """All that is left, when nobody writes any more."""
        while piece := self._read():
            yield piece

    def _read(self) -> memoryview:
        try:
            return self._buffer[: os.readv(self._pipe, [self._buffer])]
        except BlockingIOError:
            return self._buffer[:0]


def socket_directory(connect: dict[str, Any]) -> Path | None:
    """The directory of the server's Unix socket; None where it is not reached by one."""
    host = str(connect.get("host", ""))
    # An address counts more than a socket's directory; in a list, hosts may follow it.
    is_socket = (
        host.startswith("/")
        and "," not in host
        and not connect.get("hostaddr", os.environ.get("PGHOSTADDR"))
    )
    return Path(host) if is_socket else None


def widen(pipe: int) -> int:
    """Have a pipe hold more, so that two processes wake each other less often; what it holds."""
    set_size = getattr(fcntl, "F_SETPIPE_SZ", None)  # Linux only
    if set_size is not None:
        with suppress(OSError):  # more than this user may have: it works with less
            return fcntl.fcntl(pipe, set_size, PIPE_BYTES)
    return 0  # unknown
