"""One snapshot for a whole export, and the proof that a later one may take its place.

While it lives, a snapshot is a transaction that a connection of ours holds open; other sessions
join it by its number. When it is lost, with the kernel or the server, the export may go on in a new
snapshot N if the part of the table that is written already, its blocks up to some block B, is the
same in N as it was in the old snapshot S: then the whole file is the table as N has it, and no
mixture. That is proven by counting:

- each row of the table that is visible in N carries an inserting transaction (xmin) that precedes
  the oldest one that was still running at S. So it was committed before S, its subtransactions
  included, and since it is visible in N nobody had deleted it at S either: it was visible in S;
- there are as many rows in the blocks before B as were written of them. So none is missing. (Of an
  export into a folder, whose parts are written in any order: in the blocks of its parts.)

The first point takes the oldest running transaction, not the list of running ones, since that list
leaves subtransactions out: a row inserted under a savepoint of a transaction that was open across
S would pass for an old one. It is asked of the whole table, so that any INSERT and UPDATE since is
refused. A DELETE among the rows written leaves fewer; one behind them is seen by the table's count
in S, where that was made. It is made aside, at once for a small table, for a large one when the
export has taken a while; a DELETE behind what is written that it misses does no harm, as the file
is then the table of the later moment, whole. TRUNCATE and what rewrites the table (VACUUM
FULL, CLUSTER, ALTER TYPE) change its file node, and so the place of each row. Plain VACUUM and
freezing change none of these. An xmin so old that its 32 bits have come around can only look
younger, which refuses, never older.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg2
import sqlalchemy.exc
from psycopg2 import sql
from sqlalchemy import Connection, text

from taskwidgets.errors import DatabaseError, SourceChanged
from taskwidgets.store.database import Database
from taskwidgets.store.driver import users_path
from taskwidgets.store.translate import translated
from taskwidgets.transfers.names import TableName

__all__ = [
    "LOCK_NOT_AVAILABLE", "SETTINGS", "Snapshot", "Witness", "Written", "before_block", "compare",
    "from_block", "verify",
]  # fmt: skip

# A pause keeps the snapshot, so that resuming needs no proof; but a transaction left open holds
# back the clean-up of the whole database. The server itself ends it after this time without a sign
# of life, whatever has become of us.
LONGEST_REST = "15min"

LOCK_NOT_AVAILABLE = "55P03"
UNDEFINED_TABLE = "42P01"

# What a value's text depends on; kept with the job, so that a resume writes as it began.
SETTINGS = (
    "DateStyle", "IntervalStyle", "TimeZone", "extra_float_digits", "bytea_output", "xmlbinary",
    "lc_monetary", "lc_numeric", "lc_time",
)  # fmt: skip

FACTS = text(
    """
    SELECT coalesce(nullif(c.relfilenode, 0), pg_relation_filenode(c.oid))::bigint AS filenode,
           pg_relation_size(c.oid) / current_setting('block_size')::int AS blocks,
           pg_snapshot_xmin(pg_current_snapshot())::text::numeric AS oldest,
           pg_relation_filenode(c.oid)::bigint AS filenode_now,
           (SELECT string_agg(
                concat_ws(' ', attnum, quote_ident(attname), atttypid,
                          CASE WHEN attgenerated <> '' THEN md5(pg_get_expr(adbin, adrelid)) END),
                ',' ORDER BY attnum)
            FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
            WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns
    FROM pg_class c WHERE c.oid = :oid
    """
)
# The enums among the columns' types, however deep: in arrays, domains, ranges, composite types.
LABELS = text(
    """
    WITH RECURSIVE used AS (
        SELECT atttypid AS oid FROM pg_attribute
        WHERE attrelid = :oid AND attnum > 0 AND NOT attisdropped
        UNION
        SELECT part.oid FROM used
        JOIN pg_type t ON t.oid = used.oid
        LEFT JOIN pg_range r ON r.rngtypid = t.oid OR r.rngmultitypid = t.oid
        CROSS JOIN LATERAL (
            VALUES (t.typelem), (t.typbasetype), (r.rngsubtype)
            UNION ALL
            SELECT atttypid FROM pg_attribute
            WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped
        ) AS part (oid)
        WHERE part.oid <> 0
    )
    SELECT e.oid || ' ' || enumlabel FROM pg_enum e JOIN used ON used.oid = enumtypid
    """
)


@dataclass(frozen=True)
class Witness:
    """What is remembered of a table in a snapshot, to prove later that it is unchanged.

    ``oldest`` is the oldest transaction then running (64 bits). ``labels``: those of the enums.
    ``rows``: all of the table's, None until they are counted.
    """

    filenode: int
    blocks: int
    oldest: int
    columns: str
    labels: list[str]
    rows: int | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for the store."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Witness:
        """The reverse of ``to_json``."""
        return cls(**stored)


@dataclass(frozen=True)
class Written:
    """What an export has of a table: all ``rows`` of the blocks before ``blocks``.

    ``gaps``: ranges of blocks among them that it does not have.
    """

    blocks: int
    rows: int
    gaps: tuple[tuple[int, int], ...] = ()

    @property
    def where(self) -> str:
        """The condition for a row to be among them."""
        parts = [before_block(self.blocks)]
        for start, stop in self.gaps:
            parts.append(f"NOT ({from_block(start)} AND {before_block(stop)})")
        return " AND ".join(parts)


def from_block(block: int) -> str:
    """The condition for a row to be in this block or behind it, in any search path."""
    return f"ctid OPERATOR(pg_catalog.>=) '({block},0)'::pg_catalog.tid"


def before_block(block: int) -> str:
    """The condition for a row to be in a block before this one, in any search path."""
    return f"ctid OPERATOR(pg_catalog.<) '({block},0)'::pg_catalog.tid"


class Snapshot:
    """An open read-only transaction whose view of the database others may join."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._connection: Connection | None = database.connect()
        try:
            with translated(database.url):
                connection = self._connection.execution_options(isolation_level="REPEATABLE READ")
                connection.execute(  # at once: each is a way to the server and back
                    text(
                        "SET TRANSACTION READ ONLY;"
                        f"SET LOCAL idle_in_transaction_session_timeout = '{LONGEST_REST}';"
                        "SET LOCAL statement_timeout = 0"
                    )
                )
                self.number = str(connection.scalar(text("SELECT pg_export_snapshot()")))
        except BaseException:
            self.close()
            raise

    @property
    def connection(self) -> Connection:
        """The connection that holds the snapshot, for queries under it."""
        if self._connection is None:
            raise DatabaseError("the snapshot is closed")
        return self._connection

    @property
    def begin(self) -> list[str]:
        """The statements by which another session joins."""
        return [
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            self.join,
        ]

    @property
    def join(self) -> str:
        """The statement that has a transaction of this isolation see the snapshot."""
        return f"SET TRANSACTION SNAPSHOT '{self.number}'"

    def witness(self, table: TableName, oid: int, patience: str = "0") -> Witness:
        """What the table is like in this snapshot.

        From here on the snapshot holds a lock that keeps away who would alter or truncate the
        table. DatabaseError of the state LOCK_NOT_AVAILABLE when the table is locked by others for
        longer than ``patience`` (a Postgres interval, "0" for any time), or was rewritten in the
        very moment: then another snapshot is needed. SourceChanged when it is there no more.
        """
        lock = sql.SQL("SELECT FROM {} LIMIT 0").format(table.identifier)
        try:
            with self._lock, translated(self._database.url):
                connection = self.connection
                connection.execute(text(f"SET LOCAL lock_timeout = '{patience}'"))
                cursor = connection.connection.cursor()
                try:
                    cursor.execute(lock)
                    cursor.execute("SELECT %s::regclass::oid", (self._spoken(table),))
                    named = int(cursor.fetchall()[0][0])
                finally:
                    cursor.close()
                row = connection.execute(FACTS, {"oid": oid}).one_or_none()
                labels = sorted(connection.scalars(LABELS, {"oid": oid}))
        except DatabaseError as error:
            if error.sqlstate == UNDEFINED_TABLE:
                raise _gone(table) from None
            raise
        if named != oid or row is None:
            raise _gone(table)
        if row.filenode != row.filenode_now:
            raise DatabaseError("the table was just rewritten", sqlstate=LOCK_NOT_AVAILABLE)
        return Witness(int(row.filenode), int(row.blocks), int(row.oldest), row.columns, labels)

    def _spoken(self, table: TableName) -> str:
        driver: Any = self.connection.connection.driver_connection
        return table.identifier.as_string(driver)

    def alive(self) -> bool:
        """Whether the snapshot can still be joined; also the sign of life that keeps it."""
        try:
            with self._lock:
                self.connection.execute(text("SELECT 1"))
        except (DatabaseError, psycopg2.Error, sqlalchemy.exc.SQLAlchemyError):
            self.close()
            return False
        return True

    def cancel(self) -> None:
        """Break off a statement that another thread runs on this connection."""
        connection = self._connection
        with suppress(psycopg2.Error, sqlalchemy.exc.SQLAlchemyError):
            driver = None if connection is None else connection.connection.driver_connection
            if driver is not None:
                driver.cancel()

    def close(self) -> None:
        """Let the snapshot go; idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


def compare(table: TableName, then: Witness, now: Witness) -> None:
    """Raises SourceChanged where one sees at once that the table is another."""
    if now.columns != then.columns:
        raise _changed(table, "its columns are others")
    if now.filenode != then.filenode:
        raise _changed(table, "it was truncated or rewritten")
    if not set(then.labels) <= set(now.labels):  # no row had one that came since
        raise _changed(table, "the labels of its enums are others")


def verify(snapshot: Snapshot, table: TableName, then: Witness, written: Written) -> None:
    """Return if ``snapshot`` provably shows of the table's first blocks what was written of them.

    Looks at all rows; where ``compare`` has no doubts. Raises SourceChanged, saying what changed.
    """
    with snapshot._lock, translated(snapshot._database.url):
        cursor = snapshot.connection.connection.cursor()
        try:
            # Ages are compared by 32 bits around the present, as xmin has no more.
            statement = sql.SQL(
                "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE {}),"
                " pg_catalog.count(*) FILTER (WHERE pg_catalog.age(xmin) OPERATOR(pg_catalog.<=)"
                " pg_catalog.age({}::pg_catalog.xid)) FROM {}"
            ).format(
                sql.SQL(written.where),
                sql.Literal(str(then.oldest % (1 << 32))),
                table.identifier,
            )
            with users_path(snapshot.connection):
                cursor.execute(statement)
            total, rows, younger = cursor.fetchall()[0]
        finally:
            cursor.close()
    if younger:
        raise _changed(
            table,
            f"{younger:,} rows were inserted or updated since, or were still being written "
            "when the export began",
        )
    if rows != written.rows:
        raise _changed(
            table, f"{written.rows - rows:,} of the {written.rows:,} rows written were deleted"
        )
    if then.rows is not None and total != then.rows:
        raise _changed(table, f"it has {total:,} rows instead of {then.rows:,}")


def _gone(table: TableName) -> SourceChanged:
    return SourceChanged(
        f'the table "{table}" is not the one any more that this export was to read: it was dropped '
        "or renamed, or replaced by another; start over with again=True"
    )


def _changed(table: TableName, how: str) -> SourceChanged:
    return SourceChanged(
        f'the snapshot of this export is lost, and the table "{table}" cannot take its place: '
        f"{how}. What is written and what is left would not be of one moment; start over with "
        "again=True"
    )
