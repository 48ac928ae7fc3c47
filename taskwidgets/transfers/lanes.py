"""Lanes to a cluster: each has one segment under way, as a worker's connection has here.

A crew's threads hand out segments, hear wishes and ask the ledger, with a cluster as without one.
A lane sends a segment to whichever worker is free, and waits.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from sqlalchemy import Connection, text

from taskwidgets.cluster import Cluster
from taskwidgets.errors import DatabaseError, ServerUnreachable, TaskwidgetsError
from taskwidgets.runtime.run import Run
from taskwidgets.store.database import Database
from taskwidgets.transfers.crew import Session
from taskwidgets.transfers.pace import LARGEST_BATCH, SMALLEST_BATCH
from taskwidgets.transfers.remote import Access, Errand, Outcome, carry_out

__all__ = ["Lane", "Lanes", "most_lanes"]

MOST_BYTES = 128 << 20  # of segments that are under way, which this process holds
MOST_LANES = 64
QUERY_CANCELLED = "57014"

# By name, as only the worker knows its session's number. Names are of one database only.
CANCEL = text(
    """
    SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
    WHERE application_name = :name AND datname = current_database() AND usename = current_user
      AND state = 'active' AND pid <> pg_backend_pid()
    """
)


def most_lanes(threads: int, connections: int) -> int:
    """How many segments may be under way, with so many connections for so many threads.

    Twice the threads, so that none waits for the next segment; but a segment that is carried out
    has a connection, so that where these are fewer, there are no more than these.
    """
    return min(MOST_LANES, 2 * threads if connections >= threads else connections)


class Lanes:
    """What one attempt at an upload has of a cluster: so many lanes."""

    def __init__(self, cluster: Cluster, database: Database, run: Run, size: int) -> None:
        self.cluster = cluster
        self.database = database
        self.job_id = run.job_id
        self.size = size
        self.batch_bytes = max(SMALLEST_BATCH, min(LARGEST_BATCH, MOST_BYTES // size))
        # More connections than workers have threads would be kept, if each kept its own.
        self.keeps = size >= cluster.threads
        self.ships = False  # bytes travel along: the workers do not see the file, or another one
        self.alone = threading.Lock()
        self._numbers = itertools.count()

    def lane(self) -> Lane:
        """A new one."""
        return Lane(self, next(self._numbers))


class Lane:
    """A tool of the crew (`crew.Tool`); ``name`` is what the server knows its session by."""

    def __init__(self, lanes: Lanes, number: int) -> None:
        self._lanes = lanes
        self._session: Session | None = None
        self.name = f"taskwidgets job {lanes.job_id} lane {number}"
        self.access = Access(lanes.database.url.render_as_string(hide_password=False))
        self.keeps = lanes.keeps

    @contextmanager
    def here(self) -> Iterator[Connection]:
        """A connection of this process, for one lane at a time."""
        with self._lanes.alone:
            self._session = session = Session(self._lanes.database)
            try:
                yield session.connection
            finally:
                self._session = None
                session.close()

    def send(self, errand: Errand, *, in_file: bool) -> Outcome:
        """What came of it: ``done``, ``skipped``, ``refused`` or ``fenced``.

        Raises ServerUnreachable where the worker was lost or could not reach the database, and
        DatabaseError (57014) where it was cancelled.
        """
        lanes, segment = self._lanes, errand.segment
        while True:
            ships = lanes.ships or not in_file
            data = bytes(segment.data) if ships else b""
            outcome = self._call(replace(errand, segment=replace(segment, data=data)))
            if outcome.kind == "unseen" and not ships:
                lanes.ships = True
                continue
            if outcome.kind == "cancelled":
                raise DatabaseError("the segment was cancelled", sqlstate=QUERY_CANCELLED)
            if outcome.kind == "away":
                raise ServerUnreachable(f"a worker of the cluster: {outcome.words}")
            if outcome.kind != "fenced":
                lanes.cluster.did(outcome.worker, len(segment.data))
            return outcome

    def _call(self, errand: Errand) -> Outcome:
        cluster = self._lanes.cluster
        try:
            return cluster.call(self, errand.title, carry_out, errand)
        except TaskwidgetsError:
            raise
        except Exception as error:
            raise TaskwidgetsError(
                f"a worker of {cluster!r} could not do its part: {type(error).__name__}: {error}; "
                "the workers need the same release of taskwidgets and its dependencies"
            ) from error

    def cancel(self) -> None:
        """End what is under way, wherever it is; it may be of use afterwards or not."""
        session = self._session
        if session is not None:
            session.cancel()
        stopped = 0
        with suppress(DatabaseError), self._lanes.database.begin() as connection:
            stopped = int(connection.scalar(CANCEL, {"name": self.name}) or 0)
        if not stopped and session is None:  # else there is an answer to come
            self._lanes.cluster.cancel(self)

    def close(self) -> None:
        """Nothing is kept."""
