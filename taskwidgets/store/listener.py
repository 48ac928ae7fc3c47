"""The thread that hears what others want of this process's jobs, and how other jobs fare.

It has one connection, on which it LISTENs. A notification only wakes it: it also looks by itself,
twice a second, so a lost one costs half a second. Behind a pooler, which passes none on, it only
looks. A kernel that sits in a busy cell hears all the same, as this is a thread of its own.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable

import psycopg2
import sqlalchemy.exc
from sqlalchemy import Connection, text

from taskwidgets.errors import DatabaseError
from taskwidgets.runtime.control import Control, Wish
from taskwidgets.runtime.states import OWNED
from taskwidgets.runtime.store import JobRecord
from taskwidgets.runtime.threads import start_thread
from taskwidgets.store import requests
from taskwidgets.store.database import Database
from taskwidgets.store.requests import Request

__all__ = ["Listener"]

log = logging.getLogger("taskwidgets")

POLL = 0.5  # seconds between two looks when nothing wakes it
REST = 2.0  # seconds, when no job runs, here or among those that are followed
WISHES = {"pause": Wish.PAUSE, "terminate": Wish.TERMINATE}


class Listener:
    """Hears requests for the jobs that are held here, and follows jobs that are run elsewhere.

    ``held`` gives the controls of the jobs that this process owns; ``look_up`` the records of some
    jobs. The thread runs while there is anything to hear, and starts anew when there is again.
    """

    def __init__(
        self,
        database: Database,
        held: Callable[[], dict[int, Control]],
        look_up: Callable[[Connection, list[int]], list[JobRecord]],
    ) -> None:
        self._database = database
        self._held = held
        self._look_up = look_up
        self._followed: dict[int, Callable[[JobRecord | None], None]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False  # until the next claim
        self._bell: tuple[int, int] | None = None  # a pipe by which the thread is woken

    def start(self) -> None:
        """See to it that the thread runs; called after each claim."""
        with self._lock:
            self._closed = False
            self._wake()

    def _wake(self) -> None:
        if self._thread is None:
            self._bell = os.pipe()
            self._thread = start_thread(self._live, name="listener")
        else:
            self._ring()

    def follow(self, job_id: int, hear: Callable[[JobRecord | None], None]) -> None:
        """Have ``hear`` called with the job's record, in the listener's thread, at each look.

        None: there is no such job any more.
        """
        with self._lock:
            if self._closed:  # a job that came to rest in this very moment
                return
            self._followed[job_id] = hear
            self._wake()

    def unfollow(self, job_id: int) -> None:
        """Stop following the job."""
        with self._lock:
            self._followed.pop(job_id, None)

    def close(self) -> None:
        """Follow no job any more; the thread ends with its connection, unless jobs are held."""
        with self._lock:
            self._closed = True
            self._followed.clear()
            thread = None if self._held() else self._thread
            self._ring()
        if thread is not None:
            thread.join()

    def _ring(self) -> None:
        if self._bell is not None:
            os.write(self._bell[1], b"!")

    # ------------------------------------------------------- from here on, in the listener's thread

    def _live(self) -> None:
        connection: Connection | None = None
        pause = threading.Event()
        try:
            while self._has_work():
                try:
                    if connection is None:
                        connection = self._connect()
                    lively = self._look(connection)
                    self._sleep(connection, POLL if lively else REST)
                except (DatabaseError, psycopg2.Error, sqlalchemy.exc.SQLAlchemyError, OSError):
                    _drop(connection)
                    connection = None
                    pause.wait(POLL)  # the database is away; each job's own work deals with that
                except Exception:
                    # Nobody else would hear of it, and without this thread no job hears requests.
                    log.exception("the listener could not look")
                    pause.wait(POLL)
        finally:
            _drop(connection)

    def _has_work(self) -> bool:
        with self._lock:
            if self._followed or self._held():
                return True
            assert self._bell is not None
            for end in self._bell:
                os.close(end)
            self._thread = self._bell = None
            return False

    def _connect(self) -> Connection:
        connection = self._database.connect()
        connection.execution_options(isolation_level="AUTOCOMMIT")
        if not self._database.is_pooled:  # else the session that listens is somebody else's next
            connection.execute(text(f"LISTEN {requests.CHANNEL}"))
        return connection

    def _look(self, connection: Connection) -> bool:
        """Hear the requests, tell the followers; whether any of the jobs runs."""
        held = self._held()
        if held:
            for request in requests.unanswered(connection, held, self._database.session):
                requests.answer(connection, request, _obey(held[request.job_id], request))
        with self._lock:
            followed = dict(self._followed)
        lively = bool(held)
        if followed:
            found = {record.id: record for record in self._look_up(connection, list(followed))}
            for job_id, hear in followed.items():
                record = found.get(job_id)
                lively = lively or (record is not None and record.state in OWNED)
                try:
                    hear(record)
                except Exception:
                    log.exception("job %s: what follows it failed", job_id)
                    self.unfollow(job_id)
        return lively

    def _sleep(self, connection: Connection, seconds: float) -> None:
        """Until a notification comes, the bell rings, or it is time to look."""
        driver = connection.connection.driver_connection
        assert driver is not None
        assert self._bell is not None
        poll = select.poll()
        for file in (driver.fileno(), self._bell[0]):
            poll.register(file, select.POLLIN)
        ready = [file for file, _ in poll.poll(seconds * 1000)]
        if self._bell[0] in ready:
            os.read(self._bell[0], 4096)
        driver.poll()
        driver.notifies.clear()


def _obey(control: Control, request: Request) -> str:
    wish = WISHES.get(request.verb)
    if wish is None:
        return "it runs already"
    control.ask(wish, f"{request.cause}, asked by {request.asked_by}")
    return "heard"


def _drop(connection: Connection | None) -> None:
    if connection is not None:
        connection.invalidate()
        connection.close()
