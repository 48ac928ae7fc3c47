"""Poolers, such as PgBouncer in transaction mode: what they take away, and what is done instead.

Such a pooler lends a process one of its few sessions with the server for a transaction at a time.
So nothing that outlives a transaction may be left in a session: it would be the next client's. A
setting is made by SET LOCAL, here as everywhere. There is no LISTEN: the listener looks by itself.
There is no session-level lock: a process proves by its heartbeat that it is alive (``keeper.py``).

Nor does a session's name say whose it is: a pooler names it after the client that has it, but one
that gave no name inherits that of the client before. So each of our transactions bears a mark, a
transaction-level advisory lock that ends with it; it tells which sessions are in our hands.
"""

from __future__ import annotations

import select
import time
from contextlib import suppress
from typing import Any

import psycopg2
import psycopg2.extensions
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL

from taskwidgets.errors import OptionError

__all__ = ["MARK_CLASS", "declared", "granted", "is_between", "mark", "mark_number"]

# Prisma's word for it, which hosts of databases put into the URLs that they hand out.
ARGUMENT = "pgbouncer"
MARK_CLASS = 0x7477786B  # "twxk", the first half of each mark's key

NEEDED_PATIENCE = 10.0  # seconds for transactions that a job cannot do without
WANTED_PATIENCE = 1.0  # seconds without another one granted, for those that make it faster


def declared(url: URL) -> tuple[URL, bool | None]:
    """The URL without ``pgbouncer=true|false``, and what that says; None when it is not there."""
    query = dict(url.query)
    said = query.pop(ARGUMENT, None)
    if said is None:
        return url, None
    if said not in ("true", "false"):
        raise OptionError(
            f"in a database URL, {ARGUMENT}=true says that a pooler in transaction mode is in "
            f"front of the server, {ARGUMENT}=false that there is none; not {said!r}"
        )
    return url.set(query=query), said == "true"


def is_between(connection: Connection) -> bool:
    """Whether something between us and the server keeps sessions of its own.

    When a connection begins, the server tells the number of its process, which a cancel request
    must name. A pooler that lends sessions cannot pass it on, as there may be another for each
    transaction: it makes numbers up, by which it knows its own clients. So what was told and what
    the server says of itself differ. One in session mode does the same, and is taken for one in
    transaction mode: from outside, it could only be told by what does not happen.
    """
    driver = connection.connection.driver_connection
    assert driver is not None
    return bool(connection.scalar(text("SELECT pg_backend_pid()")) != driver.info.backend_pid)


def mark_number(session: str) -> int:
    """The second half of a mark's key, from the hexadecimal number of the process's session."""
    return int(session[:8], 16) & 0x7FFFFFFF


def mark(session: str) -> str:
    """The statement by which a transaction is marked as this process's."""
    return (
        "SELECT pg_catalog.pg_advisory_xact_lock_shared"
        f"({MARK_CLASS}::pg_catalog.int4, {mark_number(session)}::pg_catalog.int4)"
    )


def granted(connect: dict[str, Any], needed: int, wanted: int) -> int:
    """How many transactions may be open at once, ``wanted`` at most; found out by opening them.

    A pooler keeps those who come when all its sessions are lent waiting for minutes, and a job
    whose parts wait for each other would wait in vain. ``needed``: so many are worth a longer wait.
    Raises psycopg2.Error when the pooler grants none, but refuses.
    """
    waiting: list[_Probe] = []
    begun: list[_Probe] = []
    refusal: psycopg2.Error | None = None
    last = time.monotonic()
    try:
        for _ in range(wanted):
            waiting.append(_Probe(connect))
        while waiting:
            patience = WANTED_PATIENCE if len(begun) >= needed else NEEDED_PATIENCE
            ready = _ready(waiting, last + patience - time.monotonic())
            if not ready:
                break
            for probe in ready:
                try:
                    if not probe.step():
                        continue
                    begun.append(probe)
                except psycopg2.Error as error:
                    refusal = error
                    probe.close()
                waiting.remove(probe)
                last = time.monotonic()
    finally:
        for probe in waiting:  # these first, or they would get what the others give back
            probe.close()
        for probe in begun:
            probe.give_back()
    if refusal is not None and not begun:
        raise refusal
    return len(begun)


class _Probe:
    """A connection that begins a transaction without blocking, one step after the other."""

    def __init__(self, connect: dict[str, Any]) -> None:
        self._connection = psycopg2.connect(**connect, async_=True)
        self._cursor: Any = None
        self._state: int = self._connection.poll()

    @property
    def waits_for(self) -> tuple[int, int]:
        """The file, and what must come for it, as poll() takes them."""
        writes = self._state == psycopg2.extensions.POLL_WRITE
        return self._connection.fileno(), select.POLLOUT if writes else select.POLLIN

    def step(self) -> bool:
        """Go on, as what was waited for has come; True when the transaction has begun."""
        self._state = self._connection.poll()
        if self._state == psycopg2.extensions.POLL_OK and self._cursor is None:
            self._cursor = self._connection.cursor()
            self._cursor.execute("BEGIN; SELECT")
            self._state = self._connection.poll()
        return self._state == psycopg2.extensions.POLL_OK

    def give_back(self) -> None:
        """End the transaction: a session that is left in one is closed by the pooler."""
        with suppress(psycopg2.Error):
            self._cursor.execute("ROLLBACK")
            # Not psycopg2's wait_select: select() knows no descriptors beyond 1,023.
            self._state = self._connection.poll()
            while self._state != psycopg2.extensions.POLL_OK:
                waiting = select.poll()
                waiting.register(*self.waits_for)
                waiting.poll()
                self._state = self._connection.poll()
        self.close()

    def close(self) -> None:
        self._connection.close()


def _ready(probes: list[_Probe], seconds: float) -> list[_Probe]:
    """Those that may go on; none when the time is up."""
    poll = select.poll()
    for probe in probes:
        poll.register(*probe.waits_for)
    files = {file for file, _ in poll.poll(max(0.0, seconds) * 1000)}
    return [probe for probe in probes if probe.waits_for[0] in files]
