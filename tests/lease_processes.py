"""Owner processes for ``test_lease_state_machine.py``: real stores, in one process.

Each has sessions of its own on a real server, and does nothing by itself: it sends a heartbeat, and
looks for requests, when it is told to. Each is the twin of something in ``lease_model``.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import psycopg2
import sqlalchemy.exc
from fix_servers import wait_until
from fix_virtual_clock import VirtualClock
from lease_model import (
    SEGMENT_BYTES,
    Ending,
    Mode,
    Process,
    Transaction,
    bytes_of,
    positions_of,
    rows_of,
)
from sqlalchemy import Connection, bindparam, event

from taskwidgets.errors import DatabaseError
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.progress import Progress
from taskwidgets.runtime.store import Claim, JobRecord
from taskwidgets.store import checkpoints, run_states
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.database import Database, application_name
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.merging import merge
from taskwidgets.store.records import as_record, selection
from taskwidgets.store.run_states import RunState
from taskwidgets.store.schema import jobs

CONNECTION_ERRORS = (DatabaseError, psycopg2.Error, sqlalchemy.exc.SQLAlchemyError)

# All that there is, in one statement: a row for each job.
STORED = """
    SELECT id, state, epoch, owner ->> 'session', (plan ->> 'version')::int,
        (SELECT coalesce(json_agg(json_build_array(from_byte, to_byte, rows, crc32, segments)
                                  ORDER BY from_byte), '[]')
         FROM taskwidgets.checkpoints WHERE job_id = jobs.id),
        (SELECT coalesce(array_agg(position ORDER BY position), '{}')
         FROM public.data WHERE job_id = jobs.id),
        (SELECT coalesce(json_agg(json_build_array(id, kind, from_state, to_state, cause, details)
                                  ORDER BY id), '[]')
         FROM taskwidgets.events WHERE job_id = jobs.id AND id > %s),
        (SELECT coalesce(json_agg(answer ORDER BY asked_at), '[]')
         FROM taskwidgets.requests WHERE job_id = jobs.id),
        (SELECT coalesce(max(serial), 0) FROM taskwidgets.run_states WHERE job_id = jobs.id)
    FROM taskwidgets.jobs ORDER BY id
"""
SELECTION = selection().where(jobs.c.id.in_(bindparam("job_ids", expanding=True)))
RESET = """
    DELETE FROM public.data;
    DELETE FROM taskwidgets.jobs;
    ALTER TABLE taskwidgets.jobs ALTER id RESTART;
"""


class Server:
    """The database that all examples share: its clock, its sessions, and looks into it."""

    def __init__(self, url: str, clock: VirtualClock) -> None:
        self.url = url
        self.clock = clock
        self._connection = psycopg2.connect(clock.url)
        self._connection.autocommit = True
        self("CREATE TABLE public.data (job_id bigint, position bigint)")
        # A statement that waits for ever by mistake is a failure, not a hang.
        self(f"ALTER DATABASE {self._connection.info.dbname} SET lock_timeout = '5s'")
        self.observer = PostgresJobStore(Database(f"{url}&pgbouncer=false"))
        self._reading = self.observer.database.connect()
        self._reading.execution_options(isolation_level="AUTOCOMMIT")

    def __call__(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def reset(self) -> None:
        """No job, no row, and the clock at its beginning."""
        self(RESET)
        self.clock.reset()

    def records(self, job_ids: list[int]) -> list[JobRecord]:
        """The jobs as another process sees them."""
        rows = self._reading.execute(SELECTION, {"job_ids": job_ids})
        return [as_record(row) for row in rows]

    def sessions(self, process: OwnerProcess) -> list[int]:
        """The numbers of the server's processes for a process's sessions."""
        found = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
        return [pid for (pid,) in self(found, process.name)]

    def end_sessions(self, condition: str, value: Any) -> None:
        """Have the server end sessions, and return when they are gone, with their locks."""
        found = f"FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
        self(f"SELECT pg_terminate_backend(pid) {found}", value)
        self.wait_for_end(condition, value)

    def wait_for_end(self, condition: str, value: Any) -> None:
        """Return when no such session is there."""
        found = f"SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
        wait_until(lambda: not self(found, value), "for a session's end")

    def wait_for_all(self) -> None:
        """Return when no process but the observer has a session."""
        name = application_name(self.observer.database.session)
        others = "application_name LIKE 'taskwidgets%%' AND application_name <> %s"
        self.wait_for_end(others, name)

    def close(self) -> None:
        self._reading.close()
        self.observer.database.dispose()
        self._connection.close()


class OwnerProcess:
    """A store with sessions of its own, as another process has it."""

    def __init__(self, server: Server, model: Process) -> None:
        self.model = model
        pooled = "true" if model.mode is Mode.LEASE else "false"
        self.database = Database(f"{server.url}&pgbouncer={pooled}")
        self.store = PostgresJobStore(self.database)
        self.name = application_name(self.database.session)
        self.while_waiting: Callable[[], None] | None = None
        self._looks = 0
        self._lease_thread = self.store._keeper
        self._listener = self.store._listener
        self._listener.start = lambda: None  # type: ignore[method-assign]
        self._listening: Connection | None = None
        self.store._claims._look_up = self._look_up

    def __repr__(self) -> str:
        return repr(self.model)

    def _look_up(self, job_id: int) -> JobRecord:
        """What a claim does each time that it could not have the job's row."""
        self._looks += 1
        assert self._looks < 30, "the claim waits for ever"
        if self.while_waiting is not None:
            act, self.while_waiting = self.while_waiting, None
            act()
        return self.store.record(job_id)

    def claim(
        self, *arguments: Any, while_waiting: Callable[[], None] | None, **options: Any
    ) -> Claim:
        """As the store's; ``while_waiting`` is called when it cannot have the job's row."""
        self._looks, self.while_waiting = 0, while_waiting
        return self.store.claim(*arguments, **options)

    def heartbeat(self) -> object:
        return self._lease_thread._ask(self._lease_thread._beat)

    @property
    def lock_session(self) -> int:
        """The number of the server's process for it."""
        connection = self._lease_thread._connection
        assert connection is not None
        return server_process(connection)

    def hear_requests(self) -> None:
        try:
            self._look()
        except CONNECTION_ERRORS:  # it was ended, with all sessions of this process
            drop(self._listening)
            self._listening = None
            self._look()

    def _look(self) -> None:
        self._listening = self._listening or self._listener._connect()
        self._listener._look(self._listening)

    def close(self) -> None:
        """End the threads and the connections, when the process is no more."""
        self._lease_thread._held.clear()
        self.store.close()
        drop(self._listening)
        self.database.dispose()


class Race:
    """Another process acts in the moment of a claim: it begins before the claim's COMMIT.

    As the claim has the job's row locked by then, whoever wants to write for the job waits for the
    COMMIT, and must then find that it is fenced.
    """

    def __init__(
        self,
        server: Server,
        claimant: OwnerProcess,
        job_id: int,
        epoch: int,
        act: Callable[[], Any],
    ) -> None:
        """``epoch``: the job's before the claim."""
        self._server = server
        self._engine = claimant.database.engine
        self._job_id = job_id
        self._epoch = epoch
        self._act = act
        self._thread: threading.Thread | None = None
        self.outcome: Any = None

    def __enter__(self) -> Race:
        event.listen(self._engine, "commit", self._begin)
        return self

    def __exit__(self, *error: object) -> None:
        event.remove(self._engine, "commit", self._begin)
        if self._thread is not None:
            self._thread.join()

    @property
    def has_begun(self) -> bool:
        return self._thread is not None

    def _begin(self, connection: Connection) -> None:
        if self.has_begun:
            return
        with connection.connection.cursor() as cursor:
            cursor.execute("SELECT epoch FROM taskwidgets.jobs WHERE id = %s", (self._job_id,))
            if cursor.fetchone() == (self._epoch,):
                return  # the COMMIT of something else, or of a claim that was refused at first
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        waiting = (
            "SELECT 1 FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while self._thread.is_alive() and not self._server(waiting):
            time.sleep(0.001)

    def _run(self) -> None:
        try:
            self.outcome = self._act()
        except Exception as error:  # noqa: BLE001 - for the thread that asked
            self.outcome = error


class HeldClaim:
    """A claim, valid or not, and the process that made it."""

    def __init__(self, process: OwnerProcess, claim: Claim, control: Control) -> None:
        self.process = process
        self.claim = claim
        self.control = control
        self.job_id, self.epoch = claim.job_id, claim.epoch
        self.facts = (claim.job_id, claim.epoch)

    def __repr__(self) -> str:
        return f"job {self.job_id}, epoch {self.epoch}, of {self.process}"

    @property
    def is_held(self) -> bool:
        """Whether the process believes that the job is its own."""
        return self.process.model.held.get(self.job_id) == self.epoch


class OpenTransaction:
    """A transaction that a worker of a claim has open."""

    def __init__(self, held: HeldClaim, model: Transaction) -> None:
        self.held = held
        self.model = model
        self._connection = held.process.database.engine.connect()
        self._connection.begin()
        self.pid = server_process(self._connection)
        insert_rows(self._connection, model.job_id, model.segment)

    def __repr__(self) -> str:
        return f"segment {self.model.segment} of {self.held}"

    def record(self, *, merges: bool) -> bool:
        return write(self._connection, self.held, self.model.segment, merges=merges)

    def end(self, ending: Ending) -> None:
        """Commit, or roll back, and give the connection back; raises what the driver raises."""
        try:
            if ending is Ending.COMMIT:
                self._connection.commit()
            else:
                self._connection.rollback()
        except BaseException:
            self.abandon()
            raise
        self._connection.close()

    def abandon(self) -> None:
        """Close the connection to the server, whatever state it is in."""
        drop(self._connection)


def insert_rows(connection: Connection, job_id: int, segment: int) -> None:
    """Load a segment into the data table."""
    positions = positions_of(segment)
    connection.exec_driver_sql(
        "INSERT INTO public.data SELECT %s, generate_series(%s, %s)",
        (job_id, positions[0], positions[-1]),
    )


def write(connection: Connection, held: HeldClaim, segment: int, *, merges: bool) -> bool:
    """Record a segment's checkpoint, and merge the log, in the caller's transaction."""
    start = segment * SEGMENT_BYTES
    crc32 = zlib.crc32(bytes_of(segment))
    checkpoint = Checkpoint(start, start + SEGMENT_BYTES, rows_of(segment), crc32)
    accepted = checkpoints.record(connection, held.claim, checkpoint)
    if accepted and merges:
        merge(connection, held.job_id)
    return accepted


def save_state(connection: Connection, held: HeldClaim, serial: int) -> bool:
    """Save the state of a user's own job under its next number, in the caller's transaction."""
    progress = Progress(done=serial, rows=serial, unit="items")
    saved = connection.exec_driver_sql(
        run_states.RECORD,
        {
            "job_id": held.job_id,
            "epoch": held.epoch,
            "states": ["running", "pausing"],
            "serial": serial,
            "state": "{}",
            "progress": json.dumps(RunState(serial, progress=progress).progress_json()),
        },
    )
    return saved.rowcount == 1


def server_process(connection: Connection) -> int:
    driver = connection.connection.driver_connection
    assert driver is not None
    pid: int = driver.info.backend_pid
    return pid


def drop(connection: Connection | None) -> None:
    if connection is not None and not connection.closed:
        connection.invalidate()
        connection.close()
