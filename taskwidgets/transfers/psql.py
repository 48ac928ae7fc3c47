"""psql as a worker's tool, for a server on this machine: it hands rows on with the least effort.

Of all that reads COPY, libpq in a C program costs least. Measured for 475 MB in 5 million rows: 0.7
CPU seconds through psql, 1.4 through the driver in a process of its own (``reader.py``); on two
cores, of which the server needs one and a half, that is an eighth of an export's time.

The psql is the one that comes with the embedded Postgres. It is built without TLS, so it is used on
a Unix socket only, where nothing is encrypted anyway. Its statements go to its standard input; the
rows come by a pipe of their own; on its standard error, ``\\warn`` says when a statement is over,
by when psql has flushed them, and how many they were. (Of rows on its standard output, it does not
know the number.)

It writes all the time, except for what it waits for the server; so when its reader is gone, as when
the kernel is killed, the next write ends it. A statement that is silent for long is not for it.
"""

from __future__ import annotations

import os
import re
import secrets
import select
import signal
import subprocess
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from psycopg2.extensions import make_dsn
from sqlalchemy.engine import URL

from taskwidgets.errors import DatabaseError
from taskwidgets.transfers.reader import (
    CANCEL_SECONDS,
    LEAVE_SECONDS,
    PIPE_BYTES,
    CopyOut,
    Gathered,
    Piece,
    Pieces,
    socket_directory,
    told_error,
)

__all__ = ["PsqlReader"]

# "ERROR:  42P01: relation ..."; the classes 00 to 02 are those of notices and warnings, which a
# function that sets client_min_messages for itself can still send.
ERROR = re.compile(r"^\w+:  (?!0[012])([0-9A-Z]{5}): (.*)", re.MULTILINE)


class PsqlReader:
    """A Reader by psql; ``begin`` opens the transaction in which it reads."""

    def __init__(self, url: URL, connect: dict[str, Any], begin: Sequence[str]) -> None:
        program = find_psql()
        assert program is not None
        self._url = url
        # The driver heeds no wish for TLS on a socket; this psql refuses to hear one.
        arguments = {
            name: value
            for name, value in connect.items()
            if name != "password" and not name.startswith("ssl")
        }
        arguments["sslmode"] = "disable"
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PGSSL")
        }
        self._rows, into = os.pipe()
        self._copy_into = f"\\g /dev/fd/{into}\n"
        self._process = subprocess.Popen(
            [program, "-X", "-q", "-A", "-t", "-d", make_dsn(**arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=[into],
            # Ctrl-C at a terminal is for the program that started us; it pauses the job.
            start_new_session=True,
        )
        os.close(into)
        assert self._process.stderr is not None
        self._words = self._process.stderr.fileno()
        self._gathered = Gathered(self._rows, self._words)
        for pipe in (self._rows, self._words):
            os.set_blocking(pipe, False)
        self._said = ""  # by psql, on its standard error, since the last mark
        # What no words of the server's can hold, as they may be anybody's.
        self._mark = f"taskwidgets:{secrets.token_hex(8)}:"
        try:
            quiet = "SET LOCAL client_min_messages = error"
            prepare = "".join(f"{statement};\n" for statement in (*begin, quiet))
            self._order(
                "\\set ON_ERROR_STOP on\n\\set VERBOSITY verbose\n\\set SHOW_CONTEXT never\n"
                f"{prepare}"
            )
            b"".join(self._pieces())
        except BaseException:
            self.close()
            raise

    @staticmethod
    def serves(connect: dict[str, Any]) -> bool:
        """Whether the server is on this machine, behind a Unix socket, and psql is there.

        Not where it would have to be told a password: psql takes one only from its environment or
        from a file, and there other programs of the same user may read it.
        """
        if connect.get("password"):
            return False
        return socket_directory(connect) is not None and find_psql() is not None

    def read(self, copy: CopyOut) -> Pieces:
        return copy.pieces(self._run)

    def _run(self, statement: str) -> Generator[Piece, None, int]:
        self._order(f"{statement} {self._copy_into}")
        return self._pieces()

    def cancel(self) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        self.cancel()
        process = self._process
        if self._rows >= 0:
            os.close(self._rows)  # what writes into it wakes up, and ends
            self._rows = -1
        for pipe in (process.stdin, process.stderr):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        try:
            process.wait(CANCEL_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(LEAVE_SECONDS)

    def _order(self, what: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{what}\\warn {self._mark}:ROW_COUNT\n".encode())
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._error() from None

    def _pieces(self) -> Generator[Piece, None, int]:
        poll = select.poll()
        poll.register(self._rows, select.POLLIN)
        poll.register(self._words, select.POLLIN)
        over = False
        while not over:
            poll.poll()
            over = self._listen()
            if not over:
                yield from self._gathered.take()
        yield from self._gathered.rest()
        said, self._said = self._said, ""
        return int(said.rpartition(self._mark)[2])

    def _listen(self) -> bool:
        """Hear what is said; True when the statement is over."""
        try:
            words = os.read(self._words, PIPE_BYTES)
        except BlockingIOError:
            return False
        self._said += words.decode(errors="replace")
        if not words:
            raise self._error()
        return self._said.endswith("\n") and self._mark in self._said

    def _error(self) -> DatabaseError:
        """What psql complained about before it ended."""
        if found := ERROR.search(self._said):
            return told_error(self._url, found[1], found[2], away=False)
        return told_error(self._url, None, self._said.strip() or "psql has ended", away=True)


def find_psql() -> Path | None:
    """The psql of the wheel that has the embedded Postgres; None where it cannot be run."""
    from taskwidgets.embedded import wheel_binaries  # not before an export needs it

    programs = wheel_binaries()
    if programs is None or not os.access(programs.psql, os.X_OK):
        return None
    return programs.psql
