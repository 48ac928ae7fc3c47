"""A segment's load as a worker elsewhere carries it out: what it is told, what it tells.

Rows and checkpoint commit in one transaction under the job's claim, here as there. A segment may be
sent more than once, and carried out by two workers at a time: whoever comes second waits for the
first one's transaction, then finds it in the ledger and does nothing. The ledger's key alone would
not do: checkpoints that follow each other are merged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from psycopg2 import sql
from sqlalchemy import Connection, text
from zlib_ng import zlib_ng

from taskwidgets.errors import TaskwidgetsError
from taskwidgets.runtime.store import Claim
from taskwidgets.store import checkpoints
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.database import Database
from taskwidgets.store.merging import merge
from taskwidgets.store.translate import is_away, is_cancelled, scrubbed, translated
from taskwidgets.tabular.pieces import PiecedSegment
from taskwidgets.tabular.segments import Segment
from taskwidgets.transfers import tables
from taskwidgets.transfers.loading import LenientLoader, StrictLoader
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.pace import LARGEST_BATCH
from taskwidgets.transfers.upload_plan import UploadPlan

__all__ = ["Access", "Errand", "Outcome", "carry_out", "worker_address"]

IDLE_SECONDS = 3.0  # for which a worker keeps a connection that nobody uses

# In one go, as each statement is a way to the server and back.
BEGIN = text(
    """
    SET LOCAL synchronous_commit = off;
    SET LOCAL application_name = :name
    """
)
# To be asked with the staging table locked: who begins the load anew has it alone, and whoever was
# late with a segment of the old one must not add it to the new one.
IS_CLAIMED = text(
    """
    SELECT EXISTS (
        SELECT FROM taskwidgets.jobs
        WHERE id = :job_id AND epoch = :epoch AND state IN ('running', 'pausing')
          AND coalesce((plan ->> 'beginnings')::int, 0) = :beginnings
    )
    """
)


@dataclass(frozen=True)
class Access:
    """How to reach the database: ``login`` is the URL with its password, and is never shown.

    ``url`` has none, and stays the same where the password changes.
    """

    url: str
    login: str = field(repr=False)


@dataclass(frozen=True, repr=False)
class Errand:
    """One segment to load; ``segment.data`` is empty where the worker is to read it in the file.

    ``name`` is what the server is to know the session by; ``merges``: merge the ledger, too;
    ``keeps``: the connection may be kept for the next errand.
    """

    access: Access
    name: str
    claim: Claim
    plan: UploadPlan
    staging: TableName
    segment: Segment
    merges: bool
    keeps: bool = False

    @property
    def title(self) -> str:
        """What it is called where anybody may see it."""
        return f"taskwidgets-job-{self.claim.job_id}-at-{self.plan.base + self.segment.start}"

    def __repr__(self) -> str:  # what a worker logs of a call that failed
        return f"<{self.title}>"


@dataclass(frozen=True)
class Outcome:
    """What came of an errand.

    ``skipped``: it was committed before; ``refused``: something is wrong with the segment, or with
    what it takes, and nothing was done; ``unseen``: the file is not there, or another one;
    ``fenced``: the job is not its sender's any more, or at rest; ``away``: the database is.
    ``seconds`` are those of the errand alone, ``waiting`` those of them outside of the load.
    """

    kind: Literal["done", "skipped", "refused", "unseen", "fenced", "cancelled", "away"]
    worker: str
    checkpoint: Checkpoint | None = None
    seconds: float = 0.0
    waiting: float = 0.0
    words: str = ""


class _Unseen(Exception):
    """The file is not there, or is another one."""


class _Fenced(Exception):
    """The job is not its sender's any more."""


class _NoLine(Exception):
    """Which line it is, only the sender can tell."""


def carry_out(errand: Errand) -> Outcome:
    """Load the segment, unless that is done or not wanted any more. Raises nothing."""
    here = worker_address()
    began = time.monotonic()
    try:
        segment = _with_data(errand)
        with (
            _connections.one(errand.access, keeps=errand.keeps) as connection,
            connection.begin(),
        ):
            checkpoint, load_took = _load(connection, errand, segment)
    except _Unseen:
        return Outcome("unseen", here)
    except _Fenced:
        return Outcome("fenced", here)
    except Exception as error:  # noqa: BLE001 - what is wrong, the sender finds out by itself
        if is_cancelled(error):
            return Outcome("cancelled", here)
        if is_away(error):
            return Outcome("away", here, words=_words(error, errand.access))
        return Outcome("refused", here)
    kind: Literal["done", "skipped"] = "skipped" if checkpoint is None else "done"
    seconds = time.monotonic() - began
    return Outcome(kind, here, checkpoint, seconds, seconds - load_took)


def _load(
    connection: Connection, errand: Errand, segment: Segment
) -> tuple[Checkpoint | None, float]:
    """Load and record it in the transaction that is open; None where that was done before.

    And the seconds that the load took.
    """
    plan, claim = errand.plan, errand.claim
    start = plan.base + segment.start
    connection.execute(BEGIN, {"name": errand.name})
    checkpoints.wait_for_others(connection, claim.job_id, start)
    tables.execute(
        connection,
        sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(errand.staging.identifier),
    )
    facts = {"job_id": claim.job_id, "epoch": claim.epoch, "beginnings": plan.beginnings}
    if not connection.scalar(IS_CLAIMED, facts):
        raise _Fenced
    if checkpoints.is_committed(connection, claim.job_id, start):
        return None, 0.0
    began = time.monotonic()
    if plan.source_column is not None:
        tables.name_source(connection, plan.source_name)
    loader: LenientLoader | StrictLoader
    if isinstance(segment, PiecedSegment):
        loader = LenientLoader(plan, errand.staging, claim.job_id, _no_line)
        checkpoint = loader.load(connection, segment)
    else:
        loader = StrictLoader(plan, errand.staging)
        checkpoint = loader.load(connection, segment)
    took = time.monotonic() - began
    placed = replace(checkpoint, start=start, stop=plan.base + checkpoint.stop)
    if not checkpoints.record(connection, claim, placed):
        raise _Fenced
    if errand.merges:
        merge(connection, claim.job_id)
    return checkpoint, took


def _no_line(_position: int) -> int:
    raise _NoLine


def _with_data(errand: Errand) -> Segment:
    """The segment and its bytes: those of the file, if they are those that were cut."""
    segment = errand.segment
    if segment.data:
        return segment
    length = segment.stop - segment.start
    try:
        with errand.plan.path.open("rb", buffering=0) as file:
            file.seek(segment.start)
            view, read = _buffer(length), 0
            while read < length and (got := file.readinto(view[read:])):
                read += got
    except OSError:
        raise _Unseen from None
    if read < length or zlib_ng.crc32(view) != segment.crc32:
        raise _Unseen
    return replace(segment, data=view)


_buffers = threading.local()


def _buffer(length: int) -> memoryview:
    """Memory of the calling thread's own: what was touched before costs a third of the time."""
    if len(getattr(_buffers, "buffer", b"")) < length:
        _buffers.buffer = bytearray(max(length, LARGEST_BATCH))
    return memoryview(_buffers.buffer)[:length]


def worker_address() -> str:
    """The address of the Dask worker that this process is; "" where it is none."""
    try:
        from distributed import get_worker

        return str(get_worker().address)
    except (ImportError, ValueError):  # called without a cluster
        return ""


def _words(error: BaseException, access: Access) -> str:
    database = _connections.database(access)
    try:
        with translated(database.url):
            raise error
    except TaskwidgetsError as told:
        return str(told)
    except BaseException as other:  # noqa: BLE001 - it is only to be put into words
        return scrubbed(str(other), database.url)


class _Connections:
    """Those of this process that wait for the next errand; they are closed after a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._databases: dict[str, tuple[str, Database]] = {}  # by URL, with the login of each
        self._idle: dict[str, list[tuple[float, Connection]]] = {}
        self._sweeper: threading.Thread | None = None

    def database(self, access: Access) -> Database:
        """The one of this URL, with this login."""
        with self._lock:
            login, database = self._databases.get(access.url, (None, None))
            if database is None or login != access.login:  # what is open under an older one is good
                database = Database(access.login)
                self._databases[access.url] = access.login, database
            return database

    @contextmanager
    def one(self, access: Access, *, keeps: bool) -> Iterator[Connection]:
        """A connection for one errand."""
        database = self.database(access)
        connection = self._waiting(access.url)
        if connection is None:
            with translated(database.url):
                connection = database.connect()
        try:
            with translated(database.url):
                yield connection
        except BaseException:
            _close(connection)
            raise
        if not keeps:
            _close(connection)
            return
        with self._lock:
            self._idle.setdefault(access.url, []).append((time.monotonic(), connection))
            if self._sweeper is None:
                self._sweeper = threading.Thread(
                    target=self._sweep, name="taskwidgets connections", daemon=True
                )
                self._sweeper.start()

    def _waiting(self, url: str) -> Connection | None:
        with self._lock:
            idle = self._idle.get(url)
            return idle.pop()[1] if idle else None

    def _sweep(self) -> None:
        while True:
            time.sleep(IDLE_SECONDS / 2)
            before = time.monotonic() - IDLE_SECONDS
            with self._lock:
                old = [one for idle in self._idle.values() for one in idle if one[0] < before]
                self._idle = {
                    url: [one for one in idle if one[0] >= before]
                    for url, idle in self._idle.items()
                }
                if not any(self._idle.values()):
                    self._sweeper = None
            for _, connection in old:
                _close(connection)
            with self._lock:
                if self._sweeper is not threading.current_thread():
                    return


def _close(connection: Connection) -> None:
    with suppress(Exception):
        connection.invalidate()
        connection.close()


_connections = _Connections()
