"""Lanes to a cluster: each has one segment under way, as a worker's connection has here.

A crew's threads hand out segments, hear wishes and ask the ledger, with a cluster as without one.
A lane sends a segment to whichever worker is free, and waits.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from taskwidgets.cluster import Cluster
from taskwidgets.errors import (
    ClusterUnreachable,
    DatabaseError,
    ServerUnreachable,
    TaskwidgetsError,
)
from taskwidgets.runtime.control import Control, Stopped, Wish
from taskwidgets.runtime.run import Run
from taskwidgets.store.database import Database
from taskwidgets.transfers.crew import Session
from taskwidgets.transfers.pace import LARGEST_BATCH, SMALLEST_BATCH, Pace
from taskwidgets.transfers.remote import Access, Errand, Outcome, carry_out

__all__ = ["MOST_LANES", "Lane", "Lanes", "most_lanes", "threads_of"]

ResultT = TypeVar("ResultT")

MOST_BYTES = 128 << 20  # of segments that are under way, which this process holds
MOST_LANES = 64
WORKER_LOOK = 0.5  # seconds between two looks whether a cluster has workers by now
# What a segment should take: Dask's own work is some 10 ms for each. One that is under way at a
# pause is cancelled if it takes longer, and done again.
LANE_SECONDS = 0.25
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
    has a connection, and this process may need one besides, so that where these are fewer, there
    are no more than these.
    """
    return min(MOST_LANES, 2 * threads if connections > threads else connections)


def threads_of(cluster: Cluster, database: Database, run: Run) -> int:
    """How many segments a cluster's workers carry out at once; waits until it has some.

    Stopped after a wish.
    """
    found = [0]

    def has_wish() -> bool:
        return run.control.wish > Wish.NONE

    def look() -> None:
        found[0] = cluster.count_threads(has_wish)

    said = False
    while True:
        try:
            database.patiently(look, run.say, given_up=has_wish)
        except ClusterUnreachable:
            if not has_wish():
                raise
            found[0] = 0
        if has_wish():
            raise Stopped(run.control.wish)
        if found[0]:
            break
        if not said:
            run.say("waiting for a worker of the cluster")
            said = True
        run.control.wait_until(has_wish, WORKER_LOOK)
    if said:
        run.say("")
    return found[0]


class Lanes:
    """What one attempt at a transfer has of a cluster: so many lanes."""

    def __init__(
        self,
        cluster: Cluster,
        database: Database,
        run: Run,
        size: int,
        connections: int | None = None,
    ) -> None:
        """``connections``: those that may be open at once, the workers' and one of our own."""
        self.cluster = cluster
        self.database = database
        self.job_id = run.job_id
        self.size = size
        self._connections = size if connections is None else connections
        self._under_way = 0
        self._change = threading.Condition()
        self.ships = False  # bytes travel along: the workers do not see the file, or another one
        self.alone = threading.Lock()
        self._numbers = itertools.count()

    def pace(self, control: Control) -> Pace:
        """How large segments are."""
        most = max(SMALLEST_BATCH, min(LARGEST_BATCH, MOST_BYTES // self.size))
        return Pace(control, most, LANE_SECONDS)

    def lane(self) -> Lane:
        """A new one."""
        return Lane(self, next(self._numbers))

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """For one segment: waits while all connections are taken; whether its worker keeps its own.

        A cluster may have more workers by now than when the lanes were made.
        """
        threads = max(1, self.cluster.seen_threads)
        keeps, most = self._connections > threads, most_lanes(threads, self._connections)
        with self._change:
            self._change.wait_for(lambda: self._under_way < most)
            self._under_way += 1
        try:
            yield keeps
        finally:
            with self._change:
                self._under_way -= 1
                self._change.notify_all()


class Lane:
    """A tool of the crew (`crew.Tool`); ``name`` is what the server knows its session by."""

    def __init__(self, lanes: Lanes, number: int) -> None:
        self._lanes = lanes
        self._session: Session | None = None
        self.name = f"taskwidgets job {lanes.job_id} lane {number}"

    @property
    def access(self) -> Access:
        """How a worker reaches the database just now."""
        database = self._lanes.database
        return Access(
            database.url.render_as_string(),
            database.login_url.render_as_string(hide_password=False),
        )

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
            with lanes.turn() as keeps:
                outcome = self._call(
                    replace(errand, segment=replace(segment, data=data), keeps=keeps)
                )
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
        return self.ask(errand.title, carry_out, errand)

    def ask(self, title: str, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
        """Have a worker call a function of this package; what it raises that is ours is raised.

        ``title`` is what anybody sees of it. Raises ClusterUnreachable where no answer came.
        """
        cluster = self._lanes.cluster
        cluster.look()
        try:
            return cluster.call(self, title, function, *arguments)
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
