"""Ending what an earlier owner of a job still has open on the server.

The epoch alone keeps it from writing. But locks that a frozen process holds would keep the job's
tables from its next owner, for as long as it is frozen; what is ended here is rolled back by the
server. A process that lives makes new sessions for its other jobs.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

from sqlalchemy import Connection, text

from taskwidgets.runtime.store import Owner
from taskwidgets.store.database import Database, application_name
from taskwidgets.store.pooler import MARK_CLASS, mark_number

__all__ = ["end_sessions", "end_transactions"]

PATIENCE = 5.0  # seconds for an owner that lives to hear that the job is taken, and to stop
LOOK = 0.05  # seconds between two looks

# Whoever has the job's owner's name on its connections. Of one's own role one may end all.
BY_NAME = text(
    """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = :name AND pid <> pg_backend_pid()
    """
)

# Whose transaction bears the owner's mark. Behind a pooler, the session is another client's in the
# moment in which that transaction is over; so it is ended only where nothing at all has happened
# for a second: what stood still for that long is not over between this look and the signal.
BY_MARK = text(
    """
    SELECT pid, xact_start,
           CASE WHEN state_change < clock_timestamp() - interval '1 second'
                THEN pg_terminate_backend(pid) END
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND objsubid = 2
      AND classid = :mark_class AND objid = :mark_number
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND pid <> pg_backend_pid()
    """
)


def end_sessions(database: Database, owner: Owner) -> None:
    """End all of the owner's sessions; or, where a pooler lends them, those that stand still."""
    if owner.lease is not None:
        _end_still(database, owner)
        return
    with _begin(database) as connection:
        connection.execute(BY_NAME, {"name": application_name(owner.session)})


def end_transactions(database: Database, owner: Owner) -> None:
    """See an owner behind a pooler, which has lost its job, out of the transactions it is in.

    One that lives ends them itself when it hears that it may not commit. Returns when they are
    over, or after PATIENCE.
    """
    deadline = time.monotonic() + PATIENCE
    first = left = _end_still(database, owner)
    while left and time.monotonic() < deadline:
        time.sleep(LOOK)
        left = first & _end_still(database, owner)


def _begin(database: Database) -> AbstractContextManager[Connection]:
    """A transaction of whoever may end the owner's sessions, as only a superuser may end his."""
    return (database.administrator or database).begin()


def _end_still(database: Database, owner: Owner) -> set[tuple[object, object]]:
    """End the owner's transactions that stand still; what was open, the ended ones included."""
    where = {"mark_class": MARK_CLASS, "mark_number": mark_number(owner.session)}
    with _begin(database) as connection:
        return {(row.pid, row.xact_start) for row in connection.execute(BY_MARK, where)}
