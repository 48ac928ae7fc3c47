"""Several workers, each with a thread and a tool of its own, sharing one job's batches.

Upload and download differ in what a batch is. Everything around it is here, once: stopping within
a quarter of a second, cancelling the statement in flight, waiting for a database that went away,
and asking the ledger before anything is done a second time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Generic, Protocol, TypeVar

import psycopg2
import sqlalchemy.exc
from sqlalchemy import Connection

from taskwidgets.errors import IllegalTransition
from taskwidgets.runtime.control import Stopped, Wish
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.threads import start_thread
from taskwidgets.store.budget import Lease
from taskwidgets.store.database import Database
from taskwidgets.store.translate import is_away, is_cancelled, translated

__all__ = ["CANCEL_INTERVAL", "Crew", "Session", "Task", "Tool", "lease_connections"]

BatchT = TypeVar("BatchT")
ToolT = TypeVar("ToolT", bound="Tool")

# After a click on Pause, batches in flight may finish for this long; then they are cancelled and
# will be done again. With the way to the server and back, paused comes within 250 ms.
GRACE = 0.12  # seconds
CANCEL_INTERVAL = 0.1  # seconds until a statement that ignored a cancel is cancelled again


def lease_connections(database: Database, run: Run, least: int, most: int) -> Lease:
    """Connections for one attempt at a transfer; waits for them. Stopped after a wish."""
    lease = database.budget.take(
        least, most, given_up=lambda: run.control.wish is not Wish.NONE, waiting=run.say
    )
    if lease is None:
        raise Stopped(run.control.wish)
    return lease


class Tool(Protocol):
    """What a worker works with: a connection, or a process that has one."""

    def cancel(self) -> None:
        """Break off what it is doing, from another thread; it may be of use afterwards or not."""

    def close(self) -> None:
        """Give it up, whatever state it is in."""


class Session:
    """A worker's connection as a tool."""

    def __init__(self, database: Database) -> None:
        self.connection: Connection = database.connect()

    @contextmanager
    def here(self) -> Iterator[Connection]:
        """The connection."""
        yield self.connection

    def cancel(self) -> None:
        """Cancel the statement in flight; whoever does nothing is not disturbed."""
        # A connection that is gone already is what was wanted.
        with suppress(psycopg2.Error, sqlalchemy.exc.SQLAlchemyError):
            driver = self.connection.connection.driver_connection
            if driver is not None:
                driver.cancel()

    def close(self) -> None:
        """Close the socket; the server rolls back what was open."""
        self.connection.invalidate()
        self.connection.close()


class Task(Protocol[BatchT, ToolT]):
    """What a crew works on; its methods are called from several threads at once."""

    def take(self) -> BatchT | None:
        """The next batch, or None when there is none left."""

    def tool(self) -> ToolT:
        """A new tool; its worker keeps it for as long as it holds."""

    def carry(self, tool: ToolT, batch: BatchT) -> None:
        """Do the batch and commit it together with its checkpoint, or raise and leave nothing."""

    def is_done(self, tool: ToolT, batch: BatchT) -> bool:
        """Whether the batch is committed already; asked after a broken connection."""

    def count(self, batch: BatchT) -> None:
        """Called once for each batch that is committed, after it."""


class Crew(Generic[BatchT, ToolT]):
    """Runs a task to its end, or to the first safe point after a wish, or to the first fault."""

    def __init__(self, database: Database, run: Run, task: Task[BatchT, ToolT], size: int) -> None:
        self._database = database
        self._run = run
        self._control = run.control
        self._task = task
        self._size = size
        self._at_work = size
        self._lock = threading.Lock()
        self._tools: dict[int, ToolT] = {}  # by worker
        self._fault: BaseException | None = None
        self._cut_short = False  # a worker stopped with work left

    def work(self) -> None:
        """Block until all is done. Raises Stopped after a wish, or the first worker's fault."""
        threads = [
            start_thread(self._worker, number, name=f"job {self._run.job_id} worker {number}")
            for number in range(self._size)
        ]
        self._control.wait_until(lambda: self._at_work == 0 or self._wish > Wish.NONE, 1e9)
        heard, heard_at, cancelled_at = Wish.NONE, 0.0, 0.0
        while self._at_work:
            now = time.monotonic()
            if self._wish > heard:
                heard, heard_at = self._wish, now
                self._acknowledge()
            patience = GRACE if heard is Wish.PAUSE else 0.0
            if now - heard_at >= patience and now - cancelled_at >= CANCEL_INTERVAL:
                self._cancel()
                cancelled_at = now
            self._control.wait_until(lambda: self._at_work == 0 or self._wish > heard, 0.02)  # noqa: B023 - called at once
        for thread in threads:
            thread.join()
        if self._fault is not None and self._wish < Wish.TERMINATE:
            raise self._fault
        # A wish that came when the last batch was through stops nothing: it is all committed.
        if self._cut_short:
            raise Stopped(self._wish)

    @property
    def stopping(self) -> bool:
        """Whether workers are to come home: after a wish, or another worker's fault."""
        return not self._may_go_on()

    @property
    def _wish(self) -> Wish:
        return self._control.wish

    def _acknowledge(self) -> None:
        try:
            self._run.acknowledge()
        except IllegalTransition:
            return  # the batch in flight has just completed the job
        except Exception as fault:  # noqa: BLE001 - raised by work(), once the workers are home
            self._report(fault)

    def _worker(self, number: int) -> None:
        try:
            while self._may_go_on():
                batch = self._task.take()
                if batch is None:
                    return
                self._carry(number, batch)
                self._task.count(batch)
            self._cut_short = True
        except Stopped:
            self._cut_short = True
        except BaseException as fault:  # noqa: BLE001 - raised again by work(), in the job's thread
            self._cut_short = True
            if self._wish is Wish.NONE or not (is_cancelled(fault) or is_away(fault)):
                self._report(fault)
        finally:
            self._close(number)
            with self._lock:
                self._at_work -= 1
            self._control.wake()

    def _may_go_on(self) -> bool:
        return self._wish is Wish.NONE and self._fault is None

    def _report(self, fault: BaseException) -> None:
        with self._lock:
            self._fault = self._fault or fault

    def _carry(self, number: int, batch: BatchT) -> None:
        """One batch, however often the database goes away meanwhile; committed once."""
        tried = False

        def act() -> None:
            nonlocal tried
            try:
                with translated(self._database.url):
                    tool = self._tool(number)
                    if tried and self._task.is_done(tool, batch):
                        return
                    tried = True
                    self._task.carry(tool, batch)
            except BaseException as error:
                if (
                    is_away(error) or is_cancelled(error) or self._database.is_conflict(error)
                ):  # the tool's session is of no more use
                    self._close(number)
                raise

        self._database.patiently(act, self._run.say, given_up=lambda: not self._may_go_on())

    def _tool(self, number: int) -> ToolT:
        with self._lock:
            tool = self._tools.get(number)
        if tool is None:
            tool = self._task.tool()
            with self._lock:
                self._tools[number] = tool
        return tool

    def _close(self, number: int) -> None:
        with self._lock:
            tool = self._tools.pop(number, None)
        if tool is not None:
            tool.close()

    def _cancel(self) -> None:
        with self._lock:
            tools = list(self._tools.values())
        for tool in tools:
            tool.cancel()
