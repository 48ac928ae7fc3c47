"""The thread that keeps this process's jobs its own.

It holds one connection; on it, one session-level advisory lock a job. The server frees these locks
in the instant in which the process dies, so whoever looks sees who is alive, with no lease to wait
for. Where the connection breaks, the keeper makes a new one and takes the locks again; a job that
somebody else claimed in between is told to yield.

Behind a pooler no session is the process's own, and no lock can be held. Then a sign of life is all
there is: the job's row says for how long one counts, by the database's clock, and who looks later
takes the owner for gone. One that comes back after that and finds another owner yields as well.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import psycopg2
import sqlalchemy.exc
from sqlalchemy import Connection, bindparam, text

from taskwidgets.errors import DatabaseError, JobFenced
from taskwidgets.runtime.control import Control, Wish
from taskwidgets.runtime.states import OWNED
from taskwidgets.runtime.threads import start_thread
from taskwidgets.store.database import Database
from taskwidgets.store.translate import translated

__all__ = ["LOCK_CLASS", "Keeper", "lock_key"]

LOCK_CLASS = 0x74776A62  # "twjb", the first half of each advisory lock's key
HEARTBEAT = 5.0  # seconds between two signs of life
LEASE = 15.0  # seconds for which one counts, where there is no lock: two may be lost or late
RETRY = 0.5  # seconds until a lost connection is tried again

TAKE = text("SELECT pg_try_advisory_lock(:lock_class, :number)")
# After a lost connection: only while the job still has this owner.
TAKE_AGAIN = text(
    """
    SELECT pg_try_advisory_lock(:lock_class, :number) FROM taskwidgets.jobs
    WHERE id = :id AND owner ->> 'session' = :session
    """
)
FREE = text("SELECT pg_advisory_unlock(:lock_class, :number)")
# A sign of life for all owned jobs at once; what does not come back has another epoch by now.
BEAT = text(
    """
    UPDATE taskwidgets.jobs SET heartbeat_at = clock_timestamp()
    WHERE id IN :ids AND owner ->> 'session' = :session
    RETURNING id
    """
).bindparams(bindparam("ids", expanding=True))
# What is no longer worked on is seen to be interrupted at once, not only when the lease is over.
LEAVE = text(
    """
    UPDATE taskwidgets.jobs SET heartbeat_at = NULL
    WHERE id = :id AND owner ->> 'session' = :session AND state IN :states
    """
).bindparams(bindparam("states", sorted(OWNED), expanding=True))


def lock_key(job_id: int) -> dict[str, int]:
    """Both halves of a job's advisory lock; the second is a positive 32-bit integer."""
    return {"lock_class": LOCK_CLASS, "number": job_id % 0x7FFFFFFF}


class Keeper:
    """Takes, holds and frees the locks of this process's jobs; one per database and process."""

    def __init__(self, database: Database, session: str) -> None:
        self._database = database
        self._session = session
        self._asked: queue.Queue[tuple[Callable[[], object], Future[object] | None]]
        self._asked = queue.Queue()
        self._held: dict[int, Control] = {}
        self._confirmed: set[int] = set()  # of the held ones, those whose claim is committed
        self._unlocked: set[int] = set()  # of the held ones, those whose lock was lost
        self._connection: Connection | None = None
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def lease(self) -> float | None:
        """For how many seconds a sign of life counts; None when the locks tell who is alive."""
        return LEASE if self._database.is_pooled else None

    def take(self, job_id: int, control: Control) -> bool:
        """Take the job's lock; False when another session, or this one, holds it already.

        Behind a pooler there is none, and the claim's transaction excludes the others.
        """
        return bool(self._ask(lambda: self._take(job_id, control)))

    def confirm(self, job_id: int) -> None:
        """The claim is committed: from now on another owner in the job's row means a takeover."""
        self._ask(lambda: self._confirmed.add(job_id))

    def held(self) -> dict[int, Control]:
        """The jobs whose claims are committed, and how they are asked to stop; from any thread."""
        held = dict(self._held)
        return {job_id: held[job_id] for job_id in list(self._confirmed) if job_id in held}

    def free(self, job_id: int) -> None:
        """Give the lock back; when the connection is gone, the server has freed it already."""
        self._ask(lambda: self._free(job_id))

    def close(self) -> None:
        """End the thread and its connection, unless jobs are still held; a claim starts it anew."""
        with self._start:
            thread = self._thread
            if thread is None or not thread.is_alive() or self._held:
                return
            self._thread = None
            self._asked.put((self._drop_connection, None))
            thread.join()

    def _ask(self, action: Callable[[], object]) -> object:
        answer: Future[object] = Future()
        with self._start:
            if self._thread is None or not self._thread.is_alive():
                self._thread = start_thread(self._live, name="keeper")
            self._asked.put((action, answer))
        return answer.result()

    # ------------------------------------------------------- from here on, in the keeper's thread

    def _live(self) -> None:
        next_beat = time.monotonic() + HEARTBEAT
        while True:
            try:
                action, answer = self._asked.get(timeout=max(0.0, next_beat - time.monotonic()))
            except queue.Empty:
                next_beat = time.monotonic() + (HEARTBEAT if self._beat() else RETRY)
                continue
            if answer is None:  # from close()
                action()
                return
            try:
                answer.set_result(action())
            except BaseException as error:  # noqa: BLE001 - handed to the thread that asked
                answer.set_exception(error)

    def _take(self, job_id: int, control: Control) -> bool:
        if job_id in self._held:
            return False  # the server would grant it twice to one session
        try:
            taken = self._try_lock(job_id)
        except (DatabaseError, psycopg2.Error, sqlalchemy.exc.SQLAlchemyError):
            self._drop_connection()  # it was stale, perhaps: once more, on a new one
            taken = self._try_lock(job_id)
        if taken:
            self._held[job_id] = control
        return taken

    def _try_lock(self, job_id: int) -> bool:
        if self._database.is_pooled:
            return True
        return bool(self._connected().scalar(TAKE, lock_key(job_id)))

    def _free(self, job_id: int) -> None:
        was_claimed = job_id in self._confirmed
        self._confirmed.discard(job_id)
        self._unlocked.discard(job_id)
        if self._held.pop(job_id, None) is None:
            return
        try:
            if not self._database.is_pooled:
                if self._connection is not None:
                    self._connection.execute(FREE, lock_key(job_id))
            elif was_claimed:
                self._connected().execute(LEAVE, {"id": job_id, "session": self._session})
        except (DatabaseError, psycopg2.Error, sqlalchemy.exc.SQLAlchemyError):
            self._drop_connection()

    def _beat(self) -> bool:
        """A sign of life, and a look whether the jobs and their locks still are ours.

        False when the connection was lost: the next beat, soon, makes a new one. Until then each
        write checks the epoch.
        """
        if not self._confirmed:
            return True
        try:
            ids = {"ids": list(self._confirmed), "session": self._session}
            alive = set(self._connected().scalars(BEAT, ids))
            for job_id in self._confirmed - alive:
                self._yield(job_id)
            self._lock_again(self._connected())
        except (DatabaseError, psycopg2.Error, sqlalchemy.exc.SQLAlchemyError):
            self._drop_connection()
            return False
        return True

    def _connected(self) -> Connection:
        """The keeper's connection; a new one takes all locks again first."""
        if self._connection is None:
            self._connection = self._database.connect()
            with translated(self._database.url):
                self._connection.execution_options(isolation_level="AUTOCOMMIT")
                self._unlocked = set() if self._database.is_pooled else set(self._held)
                self._lock_again(self._connection)
        return self._connection

    def _lock_again(self, connection: Connection) -> None:
        """Take the locks that were lost with a connection.

        One that is not to be had may still be held by our own old session, of which the server has
        not noticed that it is gone; whether somebody else owns the job, only its row tells. The
        lock of such a job is left alone, as it would keep others from it until the next beat.
        """
        for job_id in list(self._unlocked):
            key = lock_key(job_id)
            if job_id in self._confirmed:
                mine = {"id": job_id, "session": self._session}
                taken = connection.scalar(TAKE_AGAIN, {**key, **mine})
            else:
                taken = connection.scalar(TAKE, key)
            if taken:
                self._unlocked.discard(job_id)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None

    def _yield(self, job_id: int) -> None:
        """Somebody else has the job: our lock, if it stands, must not keep it from them."""
        control = self._held[job_id]
        self._free(job_id)
        control.ask(Wish.YIELD, str(JobFenced(f"job {job_id} was taken over by another process")))
