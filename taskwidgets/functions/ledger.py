"""The durable side of a run: its checkpoints and its transactions. Everything here blocks.

Every commit raises the number of the checkpoint by one, under the job's claim. So when the reply to
a COMMIT is lost, the number tells whether it went through.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy import Connection

from taskwidgets.errors import DatabaseError, TaskwidgetsError
from taskwidgets.runtime.control import Wish
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.progress import Progress
from taskwidgets.runtime.run import Run
from taskwidgets.store import run_states
from taskwidgets.store.budget import Lease
from taskwidgets.store.copy_stdin import quiet_driver, read_by_session
from taskwidgets.store.driver import READ_WRITE, USERS_PATH, ClosingConnection
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.run_states import RunState
from taskwidgets.store.translate import is_away, translated

__all__ = ["CLEANING", "Change", "Ledger", "RunConnection"]

WORKING = ["running", "pausing"]  # the states in which a run may write
CLEANING = ["terminating"]  # that in which on_terminate may


@dataclass
class Change:
    """What a checkpoint says that is new; None and nothing keep what was said before."""

    state: str | None = None  # JSON
    done: int | None = None
    total: int | None = None
    unit: str | None = None
    places: dict[str, int] = field(default_factory=dict)

    def join(self, later: Change) -> None:
        """Take in what was said later."""
        self.state = later.state if later.state is not None else self.state
        self.done = later.done if later.done is not None else self.done
        self.total = later.total if later.total is not None else self.total
        self.unit = later.unit if later.unit is not None else self.unit
        self.places |= later.places


ENDED_BY_SQL = (
    "run.transaction(): a statement in the block ended the transaction (COMMIT or ROLLBACK), so "
    "rows and checkpoint are not one. Leave that to the end of the block; SAVEPOINT is allowed"
)


class RunCursor(psycopg2.extensions.cursor):
    """A cursor that notices when a statement has ended the transaction."""

    def execute(self, query: Any, vars: Any = None) -> Any:
        """As psycopg2 has it."""
        with self._watched():
            return super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Any) -> Any:
        """As psycopg2 has it."""
        with self._watched():
            return super().executemany(query, vars_list)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> Any:
        """As psycopg2 has it."""
        with self._watched(), quiet_driver():
            return super().copy_expert(sql, read_by_session(sql, file), size)

    def callproc(self, procname: Any, parameters: Any = None) -> Any:
        """As psycopg2 has it."""
        with self._watched():
            return super().callproc(procname, parameters)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        connection: Any = self.connection
        try:
            yield
        finally:
            connection.look()
        if connection.is_ended:
            raise TaskwidgetsError(ENDED_BY_SQL)


class RunConnection(ClosingConnection):
    """The connection of ``run.transaction()``: its block commits, nothing within it.

    ``is_ended``: a statement of the block has ended the transaction.
    """

    def __init__(self, dsn: str, **given: Any) -> None:
        super().__init__(dsn, **given)
        self.cursor_factory = RunCursor
        self.is_ended = False

    def look(self) -> None:
        """Called after each statement: look whether the transaction still is open."""
        if not self.closed and not self.autocommit:
            self.is_ended |= self.info.transaction_status == TRANSACTION_STATUS_IDLE

    def _refuse(self) -> Any:
        raise TaskwidgetsError(
            "run.transaction() commits at the end of its block, together with the checkpoint; an "
            "exception rolls both back. Within it, write: with connection.cursor() as cursor"
        )

    def commit(self) -> None:
        """Refused: what is written must not be durable before the checkpoint is."""
        self._refuse()

    def rollback(self) -> None:
        """Refused: see commit()."""
        self._refuse()

    def __enter__(self) -> Any:
        self._refuse()

    def really_commit(self) -> None:
        """Commit."""
        super().commit()

    def really_roll_back(self) -> None:
        """Roll back."""
        super().rollback()


class Ledger:
    """One run's checkpoint as it is committed, and the ways to commit the next."""

    def __init__(self, store: PostgresJobStore, run: Run, states: list[str] = WORKING) -> None:
        self._store = store
        self._database = store.database
        self._run = run
        self._states = states
        self._lock = threading.RLock()  # a plain function may call from threads of its own
        self._connection: RunConnection | None = None
        self._lease: Lease | None = None  # that of the connection
        self._known = RunState()

    @property
    def known(self) -> RunState:
        """The last checkpoint that is committed."""
        return self._known

    def load(self) -> None:
        """Read the last checkpoint, and set the meter by it."""

        def act() -> None:
            with self._store.in_transaction() as connection:
                self._known = run_states.latest(connection, self._run.job_id)

        self.patiently(act)
        progress = self._known.progress
        self._run.meter.set(
            done=progress.done, rows=progress.done, total=progress.total, unit=progress.unit
        )

    # ------------------------------------------------------------------ a checkpoint alone

    def save(self, change: Change) -> None:
        """Commit a checkpoint; JobFenced when the claim is not valid any more.

        While the database is away it is tried again, within the store's patience; whether an
        attempt whose reply was lost went through, its number tells.
        """
        with self._lock:
            following, tried = self._following(change), False

            def act() -> None:
                nonlocal tried
                if tried and self._arrived(following.serial):
                    return
                tried = True
                with self._store.in_transaction() as connection:
                    written = connection.exec_driver_sql(
                        run_states.RECORD, self._parameters(following)
                    )
                    if written.rowcount != 1:
                        raise self._store.fenced(self._run.claim)

            self.patiently(act)
            self._took(following)

    # ------------------------------------------------------------------ with the user's rows

    def begin(self) -> RunConnection | None:
        """The run's own connection; JobFenced without the claim.

        With no transaction open yet; behind a pooler it is open, and marked as this process's.
        None when a wish came while other jobs had all the connections that there may be. Between
        two transactions it is kept only as long as no other job waits for one.
        """

        def act() -> None:
            try:
                with translated(self._database.url):
                    if self._connection is None:
                        self._connection = psycopg2.connect(
                            **self._database.connect_arguments, connection_factory=RunConnection
                        )
                    self._connection.is_ended = False  # that was a block before
                    with self._connection.cursor() as cursor:
                        opening = [*self._database.prologue, run_states.BEGUN]
                        cursor.execute(";\n".join(opening), self._claim())
                        valid = cursor.rowcount == 1
                    self._connection.really_roll_back()
                    with self._connection.cursor() as cursor:
                        if prologue := self._database.prologue:
                            cursor.execute(";\n".join([READ_WRITE, *prologue, USERS_PATH]))
            except DatabaseError:
                self._drop()
                raise
            if not valid:
                raise self._store.fenced(self._run.claim)

        with self._lock:
            if not self._take():
                return None
            try:
                self.patiently(act)
            except BaseException:
                self.close()
                raise
            assert self._connection is not None
            reach("before the rows")
            return self._connection

    def commit(self, change: Change) -> None:
        """Commit what the user wrote since ``begin()``, and the checkpoint with it."""
        with self._lock:
            connection, following = self._connection, self._following(change)
            assert connection is not None
            committing = False
            try:
                with translated(self._database.url):
                    if connection.autocommit:
                        raise TaskwidgetsError(
                            "run.transaction(): autocommit was switched on in the block, so its "
                            "rows did not wait for the checkpoint"
                        )
                    if connection.is_ended:
                        raise TaskwidgetsError(ENDED_BY_SQL)
                    with connection.cursor() as cursor:
                        cursor.execute(run_states.RECORD, self._parameters(following))
                        if cursor.rowcount != 1:
                            raise self._store.fenced(self._run.claim)
                    reach("after the rows")
                    committing = True
                    connection.really_commit()
                    reach("after the checkpoint")
            except BaseException as error:
                self._drop()
                if not (committing and is_away(error) and self._surely_arrived(following.serial)):
                    raise
            finally:
                self._rest()
            self._took(following)

    def roll_back(self) -> None:
        """Undo what the user wrote since ``begin()``."""
        connection = self._connection
        if connection is None:
            return
        try:
            # A statement that a cancelled await has left behind in a thread: it is broken off.
            if connection.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_ACTIVE:
                connection.cancel()
            connection.really_roll_back()
        except psycopg2.Error:
            self._drop()  # closed, the server rolls back by itself
        finally:
            self._rest()

    def cancel(self) -> None:
        """Break off the statement in flight on the run's connection, from another thread."""
        connection = self._connection
        if connection is not None:
            with suppress(psycopg2.Error):
                connection.cancel()

    def close(self) -> None:
        """Close the run's connection; what was not committed is rolled back."""
        self._drop()
        if self._lease is not None:
            self._lease.end()

    # ------------------------------------------------------------------ inside

    def _take(self) -> bool:
        """Be allowed a connection, the one at rest or another; False after a wish."""
        if self._lease is not None and self._lease.wake():
            return True
        self._drop()  # closed already by whoever needed it more
        control, cleans = self._run.control, self._states is CLEANING
        self._lease = self._database.budget.take(
            1,
            1,
            given_up=lambda: control.wish >= (Wish.YIELD if cleans else Wish.PAUSE),
            waiting=self._run.say,
        )
        if self._lease is None and cleans:
            raise self._store.fenced(self._run.claim)
        return self._lease is not None

    def _rest(self) -> None:
        """Keep the connection until the next transaction, if nobody else needs it."""
        lease, connection = self._lease, self._connection
        if lease is not None and connection is not None:
            lease.rest(1, connection.close)
        elif lease is not None:
            lease.end()

    def _following(self, change: Change) -> RunState:
        known, progress = self._known, self._known.progress
        return RunState(
            serial=known.serial + 1,
            state=known.state if change.state is None else json.loads(change.state),
            progress=Progress(
                done=progress.done if change.done is None else change.done,
                total=progress.total if change.total is None else change.total,
                unit=progress.unit if change.unit is None else change.unit,
                rows=progress.done if change.done is None else change.done,
                elapsed=self._run.meter.snapshot().elapsed,
            ),
            places={**known.places, **change.places},
        )

    def _took(self, following: RunState) -> None:
        self._known = following
        progress = following.progress
        self._run.meter.reach(progress.done, progress.total, progress.unit)
        self._run.checkpointed()

    def _claim(self) -> dict[str, Any]:
        claim = self._run.claim
        return {"job_id": claim.job_id, "epoch": claim.epoch, "states": self._states}

    def _parameters(self, following: RunState) -> dict[str, Any]:
        return {
            **self._claim(),
            "serial": following.serial,
            "state": json.dumps(following.state),
            "progress": json.dumps(following.progress_json()),
        }

    def _arrived(self, serial: int) -> bool:
        """Whether the checkpoint of this number is committed; JobFenced without the claim."""
        with self._store.in_transaction() as connection:
            self._store.lock(connection, self._run.claim)
            return self._serial(connection) == serial

    def _serial(self, connection: Connection) -> int:
        return run_states.latest(connection, self._run.job_id).serial

    def _surely_arrived(self, serial: int) -> bool:
        return bool(self.patiently(lambda: self._arrived(serial)))

    def patiently(self, act: Any) -> object:
        """Do something, again while the database or a cluster is away, as long as that may be."""
        return self._database.patiently(act, self._run.say, given_up=self._given_up)

    def _given_up(self) -> bool:
        # A clean-up runs because of a TERMINATE; only a new owner ends its patience.
        enough = Wish.YIELD if self._states is CLEANING else Wish.TERMINATE
        return self._run.control.wish >= enough

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg2.Error):
                connection.close()
