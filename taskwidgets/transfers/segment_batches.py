"""The segments of an upload as a crew's task: COPY and checkpoint in one transaction each."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import psycopg2
from psycopg2 import sql
from sqlalchemy import Connection, text

from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.run import Run
from taskwidgets.store import checkpoints
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular.segments import Segment, SegmentReader
from taskwidgets.transfers import tables
from taskwidgets.transfers.crew import Session
from taskwidgets.transfers.faults import source_error, uncounted
from taskwidgets.transfers.pace import LARGEST_BATCH, Pace
from taskwidgets.transfers.upload_plan import UploadPlan

__all__ = ["SEND_BYTES", "Follower", "Pieces", "Segments", "StrictSegments", "copy_statement"]

SegmentT = TypeVar("SegmentT", bound=Segment)
SegmentT_co = TypeVar("SegmentT_co", bound=Segment, covariant=True)

# Bytes that the driver reads and sends at once: larger pieces give the loop's thread its turn
# less often, smaller ones cost a call each. Measured flat between 64 KiB and 1 MiB.
SEND_BYTES = 256 * 1024


class Reader(Protocol[SegmentT_co]):
    """What cuts the source."""

    def next(self, target_bytes: int, buffer: bytearray | None = None) -> SegmentT_co | None:
        """The next whole records, about so many bytes of them; None when nothing is left."""


class Follower(Protocol):
    """What reads the file beside the workers."""

    def allow(self, position: int) -> None:
        """The workers have come this far."""


class Segments(Generic[SegmentT]):
    """A crew's task: one batch is one segment. How its records are loaded, the kinds say."""

    def __init__(
        self,
        run: Run,
        store: PostgresJobStore,
        plan: UploadPlan,
        reader: Reader[SegmentT],
        digest: Follower,
    ) -> None:
        self._run = run
        self._store = store
        self._plan = plan
        self._reader = reader
        self._digest = digest
        self._pace = Pace(run.control)
        self._buffers = threading.local()

    def share(self, other: Segments[Any]) -> None:
        """Use what another has learnt of the pace, and its workers' buffers."""
        self._pace, self._buffers = other._pace, other._buffers

    def load(self, connection: Connection, batch: SegmentT) -> Checkpoint:
        """Load the segment in the transaction that is open; what its checkpoint is to say."""
        raise NotImplementedError

    def take(self) -> SegmentT | None:
        segment = self._reader.next(self._pace.batch_bytes(), self._buffer())
        if segment is not None:
            # Positions in an unpacked source say nothing of the file's own bytes.
            self._digest.allow(min(segment.stop, self._plan.size))
        return segment

    def _buffer(self) -> bytearray:
        """The calling worker's own: it holds one segment at a time, and a retry has the same."""
        if not hasattr(self._buffers, "buffer"):
            self._buffers.buffer = bytearray(LARGEST_BATCH)
        buffer: bytearray = self._buffers.buffer
        return buffer

    def tool(self) -> Session:
        return Session(self._store.database)

    def carry(self, tool: Session, batch: SegmentT) -> None:
        connection = tool.connection
        began = time.monotonic()
        with connection.begin():
            # A checkpoint need not be on the disk before the next segment begins. What must be
            # durable, a pause, a failure and the final switch, is a commit of its own that waits
            # for the disk, and with it for all that was written before it. On two cores this is a
            # fifth of the time. (LOCAL: behind a pooler, the session is soon somebody else's.)
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            if self._plan.source_column is not None:
                tables.name_source(connection, self._plan.source_name)
            reach("before the rows")
            checkpoint = self.load(connection, batch)
            if base := self._plan.base:
                checkpoint = replace(
                    checkpoint, start=base + checkpoint.start, stop=base + checkpoint.stop
                )
            if not checkpoints.record(connection, self._run.claim, checkpoint):
                raise self._store.fenced(self._run.claim)
            reach("after the rows")
        reach("after the checkpoint")
        self._pace.took(len(batch.data), time.monotonic() - began)

    def is_done(self, tool: Session, batch: SegmentT) -> bool:
        with tool.connection.begin():
            self._store.lock(tool.connection, self._run.claim)
            return checkpoints.is_committed(
                tool.connection, self._run.job_id, self._plan.base + batch.start
            )

    def count(self, batch: SegmentT) -> None:
        self._run.meter.add(len(batch.data), batch.records)
        self._run.checkpointed()
        self._run.control.pay(len(batch.data))


class StrictSegments(Segments[Segment]):
    """Segments go into COPY as they stand; the first record that it refuses stops the job."""

    def __init__(
        self,
        run: Run,
        store: PostgresJobStore,
        plan: UploadPlan,
        staging: Any,
        reader: SegmentReader,
        digest: Follower,
    ) -> None:
        super().__init__(run, store, plan, reader, digest)
        self._copy = copy_statement(staging, plan)

    def load(self, connection: Connection, batch: Segment) -> Checkpoint:
        arrived = self._copy_in(connection, batch)
        if arrived != batch.records:
            raise uncounted(self._plan.path, batch, arrived)
        return Checkpoint(batch.start, batch.stop, arrived, batch.crc32)

    def _copy_in(self, connection: Connection, batch: Segment) -> int:
        cursor = connection.connection.cursor()
        try:
            cursor.copy_expert(self._copy, Pieces(batch.data), SEND_BYTES)
            return int(cursor.rowcount)
        except psycopg2.Error as error:
            plan = self._plan
            fault = source_error(error, plan.path, plan.dialect, plan.columns, batch)
            if fault is None:
                raise
            raise fault from None
        finally:
            cursor.close()


class Pieces:
    """A segment as the file that the driver reads, without another copy of all of it."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._rest = memoryview(data)

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; none at the end."""
        size = len(self._rest) if size < 0 else size
        piece, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return piece


def copy_statement(staging: Any, plan: UploadPlan, *, tolerant: bool = False) -> sql.Composed:
    """COPY of data in the plan's dialect; ``tolerant``: it passes over values that do not fit.

    Then it tells of each such line in a notice (ON_ERROR, LOG_VERBOSITY: Postgres 17 and newer,
    https://www.postgresql.org/docs/current/sql-copy.html).
    """
    options = plan.dialect.copy_options
    more = ", ON_ERROR ignore, LOG_VERBOSITY verbose" if tolerant else ""
    return sql.SQL(
        "COPY {} ({}) FROM STDIN WITH (FORMAT csv, DELIMITER {}, QUOTE {}, NULL {}, ENCODING {}"
        + more
        + ")"
    ).format(
        staging.identifier,
        sql.SQL(", ").join(map(sql.Identifier, plan.columns)),
        *(sql.Literal(options[name]) for name in ("delimiter", "quote", "null", "encoding")),
    )
