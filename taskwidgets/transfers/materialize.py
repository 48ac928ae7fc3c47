"""A crew's task of one batch: the rows of a query, put into a staging table of our own.

The query runs in a read-only transaction, and a read-only transaction makes no table. So its rows
come out on one session and go in on another, in Postgres's own text format. Since the export needs
no more of a value than its text, that is what is kept: a text column takes it as it is, also where
a type cannot be a table's (void, record, anyarray), would not read its own output back
(pg_node_tree), or checks what it reads (a domain that is NOT NULL, behind an outer join). Types
whose text is the same whatever the settings are kept as they are, since they take less room: a row
of hundreds of numbers would not fit into a page as text.

The table is made in the transaction that fills it: then COPY puts the rows side by side in the
order in which they come (it does not look for room in earlier pages), and the blocks, read in
order, give the query's own order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg2
from psycopg2 import sql
from sqlalchemy import Connection

from taskwidgets.errors import DatabaseError, SourceError
from taskwidgets.runtime.run import Run
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.transfers import tables
from taskwidgets.transfers.crew import Session
from taskwidgets.transfers.download_plan import DownloadPlan
from taskwidgets.transfers.faults import ROW_TOO_BIG
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.reader import CopyOut, Piece, Reader
from taskwidgets.transfers.recorded_download import checked_values
from taskwidgets.transfers.sources import WRITES, not_reading

__all__ = ["Materialize", "staging_columns"]

BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

# By their numbers in the catalog, which never change (pg_type.dat).
KEPT_TYPES = {
    16: "boolean", 21: "smallint", 23: "integer", 20: "bigint", 26: "oid", 700: "real",
    701: "double precision", 1700: "numeric", 2950: "uuid",
}  # fmt: skip


def staging_columns(count: int) -> list[str]:
    """The names of a staging table's columns: a query's own may occur twice."""
    return [f"c{number}" for number in range(1, count + 1)]


class _Pair:
    """The two sessions, as one tool."""

    def __init__(self, session: Session, reader: Reader) -> None:
        self.session = session
        self.reader = reader

    def cancel(self) -> None:
        self.reader.cancel()
        self.session.cancel()

    def close(self) -> None:
        self.reader.close()
        self.session.close()


class Materialize:
    """Fills the staging table; ``settled`` is the plan that knows of it."""

    def __init__(
        self,
        store: PostgresJobStore,
        run: Run,
        plan: DownloadPlan,
        staging: TableName,
        reader: Callable[[list[str]], Reader],
    ) -> None:
        self._store = store
        self._run = run
        self._plan = plan
        self._staging = staging
        self._reader = reader
        self._left = ["rows"]
        self.settled: DownloadPlan | None = None
        run.meter.set(done=0, rows=0, total=None, unit="rows")

    def take(self) -> str | None:
        return self._left.pop() if self._left else None

    def tool(self) -> _Pair:
        session = Session(self._store.database)  # where the job is kept, also if it reads elsewhere
        try:
            return _Pair(session, self._reader([BEGIN]))
        except BaseException:
            session.close()
            raise

    def carry(self, tool: _Pair, batch: str) -> None:
        self._run.say("running the query")
        self._run.meter.set(done=0, rows=0, total=None, unit="rows")
        connection = tool.session.connection
        with connection.begin():
            tables.drop(connection, self._staging)
            names = staging_columns(len(self._plan.types))
            types = [KEPT_TYPES.get(oid, "text") for oid in self._plan.types]
            tables.create_staging(
                connection, self._staging, names, dict(zip(names, types, strict=True))
            )
            rows = self._fill(connection, tool.reader)
            blocks = tables.count_blocks(connection, self._staging)
            settled = self._plan.with_(materialized={"rows": rows, "blocks": blocks})
            self._store.change_plan(connection, self._run.claim, settled.to_json())
        self.settled = settled

    def _fill(self, connection: Connection, reader: Reader) -> int:
        """Have the query's rows flow into the staging table; how many there were."""
        pieces = reader.read(CopyOut(self._plan.select))
        source = _Rows(iter(pieces), self._counted)
        into = sql.SQL("COPY {} FROM STDIN WITH (FREEZE)").format(self._staging.identifier)
        cursor = connection.connection.cursor()
        try:
            cursor.copy_expert(into, source)
            rows = int(cursor.rowcount)
        except psycopg2.Error as error:
            if source.fault is None:
                if error.pgcode == ROW_TOO_BIG:
                    raise SourceError(
                        f"a row of the query does not fit into a page of the table in which it is "
                        f"kept until it is written ({error.diag.message_primary}). Select fewer "
                        "columns, or export a table, which is read as it is",
                        sqlstate=error.pgcode,
                    ) from None
                raise
            # What was wrong with the query, not that the one COPY broke off the other.
            if source.fault.sqlstate in WRITES:
                raise not_reading(str(source.fault)) from None
            raise source.fault from None
        finally:
            cursor.close()
        if rows != pieces.rows:
            raise DatabaseError(
                f"the query gave {pieces.rows:,} rows, but {rows:,} arrived in the staging table"
            )
        return rows

    def is_done(self, tool: _Pair, batch: str) -> bool:
        with tool.session.connection.begin():
            self._store.lock(tool.session.connection, self._run.claim)
        spec = self._store.record(self._run.job_id).spec
        stored = checked_values(spec, self._run.job_id)
        if stored.materialized is not None:
            self.settled = self._plan.with_(materialized=stored.materialized)
        return stored.materialized is not None

    def count(self, batch: str) -> None:
        self._run.say("")

    def _counted(self, rows: int) -> None:
        self._run.meter.add(rows, rows)


class _Rows:
    """The rows of the one session as the file that the other one reads."""

    def __init__(self, pieces: Iterator[Piece], counted: Callable[[int], None]) -> None:
        self._pieces = pieces
        self._counted = counted
        self._rest = b""
        self.fault: DatabaseError | None = None  # why the rows broke off

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; none at the end."""
        if not self._rest:
            try:
                self._rest = bytes(next(self._pieces, b""))
            except DatabaseError as fault:
                self.fault = fault
                raise
            self._counted(self._rest.count(b"\n"))  # one a row: those in values are escaped
        piece, self._rest = (
            (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        )
        return piece
