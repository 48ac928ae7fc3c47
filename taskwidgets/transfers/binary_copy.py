"""COPY of whole records as binary rows, where all of their values are of the plain form.

To find and read values costs the server more than it costs us, who know what form they have.
Measured on 514 MB of flight records, in seconds of CPU: the server takes 12.7 for their text and
8.1 for binary rows, and to make those takes 1.5.

Whatever is not plain goes to COPY as it stands, so that what is wrong with it, or unusual, is
judged and told there. So does everything where the encoder is not there: it is compiled when the
package is installed, if there is a compiler.
"""

from __future__ import annotations

import threading
from typing import Any

import psycopg2
from psycopg2 import sql
from sqlalchemy import Connection, text

from taskwidgets.transfers.copy_in import SEND_BYTES, Pieces
from taskwidgets.transfers.faults import is_data_error
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.upload_plan import UploadPlan

try:
    from taskwidgets.transfers import _binary_rows as encoder
except ImportError:
    encoder = None  # type: ignore[assignment]

__all__ = ["BinaryCopy", "encoder"]

# The types whose values the encoder knows, by their names in pg_type, which no one can change.
KINDS = {
    "int2": "s", "int4": "i", "int8": "l", "float8": "d", "numeric": "n", "bool": "b", "date": "D",
    "timestamp": "T", "timestamptz": "Z", "text": "t", "varchar": "t", "bpchar": "t",
}  # fmt: skip
TYPES = text(
    """
    SELECT a.attname, a.atttypid::bigint AS oid,
           CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname::text END AS typname
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = to_regclass(:table) AND a.attnum > 0 AND NOT a.attisdropped
    """
)
# In one go, as each statement is a way to the server and back. The types are compared once more,
# with the table locked: had it got others meanwhile, of the same length, then what is sent would be
# read as something else. Where they differ, the division by zero is the error that is wanted.
COPY = sql.SQL(
    """
    SAVEPOINT taskwidgets_rows;
    LOCK TABLE {table} IN ROW EXCLUSIVE MODE;
    SELECT 1 / (count(*) = {number})::int
    FROM pg_attribute a JOIN unnest({names}::text[], {oids}::oid[]) AS known (name, oid)
      ON a.attname = known.name AND a.atttypid = known.oid
    WHERE a.attrelid = {regclass}::regclass AND a.attnum > 0 AND NOT a.attisdropped;
    COPY {table} ({columns}) FROM STDIN WITH (FORMAT binary)
    """
)
# Characters that stand in plain numbers and moments: a value would not end at them.
IN_VALUES = frozenset("+-.: ")
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # signature, flags, length of an extension
TRAILER = b"\xff\xff"
CHUNK_BYTES = 1 << 20
# After so many segments that were not plain, one more is tried; twice as many after each that is
# not, up to the second number.
FIRST_SKIP, MOST_SKIPPED = 4, 64


class _Scratch(threading.local):
    """A thread's memory for rows: new memory costs more than what fills it."""

    def __init__(self) -> None:
        self._chunks: list[memoryview] = []

    def chunk(self, number: int) -> memoryview:
        """CHUNK_BYTES, good until the thread asks for the same number again."""
        if number == len(self._chunks):
            self._chunks.append(memoryview(bytearray(CHUNK_BYTES)))
        return self._chunks[number]


_scratch = _Scratch()


class BinaryCopy:
    """COPY into the table ``staging``, from data in the plan's dialect; safe to share."""

    def __init__(self, staging: TableName, plan: UploadPlan) -> None:
        dialect = plan.dialect
        self._staging = staging
        self._columns = plan.columns
        self._delimiter, self._quote = ord(dialect.delimiter), dialect.quote_byte
        self._null = dialect.null_value.encode(dialect.codec)
        self._statement = ""
        self._is_possible = dialect.codec in ("utf-8", "ascii") and not any(
            mark in IN_VALUES or mark.isalnum() for mark in (dialect.delimiter, dialect.quotechar)
        )
        self._kinds: bytes | None = None
        self._to_skip, self._skips = 0, FIRST_SKIP

    def run(self, connection: Connection, data: bytes | memoryview, records: int) -> bool:
        """Load so many records in the transaction that is open; False: nothing was done.

        Then, and only then, COPY's other formats may load them. Raises the driver's errors that
        are not about the data.
        """
        if encoder is None or not self._is_possible or not records:
            return False
        if self._to_skip:  # several threads may count at once; nothing depends on the number
            self._to_skip -= 1
            return False
        driver: Any = connection.connection.driver_connection
        if driver.encoding != "UTF8":  # what the server takes binary texts for
            self._is_possible = False
            return False
        if self._kinds is None:
            self._kinds = self._look_up(connection)
            if self._kinds is None:
                self._is_possible = False
                return False
        chunks = self._encode(data, records, self._kinds)
        if chunks is not None and self._copy(driver, chunks, records):
            self._skips = FIRST_SKIP
            return True
        self._to_skip, self._skips = self._skips, min(2 * self._skips, MOST_SKIPPED)
        return False

    def _look_up(self, connection: Connection) -> bytes | None:
        """The letters of the columns' types; None where one is not known to the encoder."""
        driver: Any = connection.connection.driver_connection
        name = self._staging.identifier.as_string(driver)
        found = {row.attname: row for row in connection.execute(TYPES, {"table": name})}
        kinds, oids = [], []
        for column in self._columns:
            row = found.get(column)
            kind = None if row is None else KINDS.get(row.typname)
            if row is None or kind is None:
                return None
            kinds.append(kind)
            oids.append(row.oid)
        self._statement = COPY.format(
            table=self._staging.identifier,
            number=sql.Literal(len(oids)),
            names=sql.Literal(list(self._columns)),
            oids=sql.Literal(oids),
            regclass=sql.Literal(name),
            columns=sql.SQL(", ").join(map(sql.Identifier, self._columns)),
        ).as_string(driver)
        return "".join(kinds).encode()

    def _encode(
        self, data: bytes | memoryview, records: int, kinds: bytes
    ) -> list[memoryview] | None:
        """The rows; None where they are not plain."""
        view = memoryview(data)
        chunks: list[memoryview] = []
        at = rows = 0
        begun = len(HEADER)
        ends_in_cr = -1
        while at < len(view):
            chunk = _scratch.chunk(len(chunks))
            done = encoder.encode(
                view[at:],
                chunk[begun : -len(TRAILER)],
                kinds,
                self._delimiter,
                self._quote,
                self._null,
                ends_in_cr,
            )
            if done is None or not done[0]:  # a record that is longer than a chunk
                return None
            read, written, found, ends_in_cr = done
            at += read
            rows += found
            chunks.append(chunk[: begun + written])
            begun = 0
        if rows != records:
            return None
        chunks[0][: len(HEADER)] = HEADER
        last = len(chunks[-1])
        chunks[-1] = _scratch.chunk(len(chunks) - 1)[: last + len(TRAILER)]
        chunks[-1][last:] = TRAILER
        return chunks

    def _copy(self, driver: Any, chunks: list[memoryview], records: int) -> bool:
        """Whether the rows are in the table; else all is as before."""
        cursor = driver.cursor()
        try:
            try:
                cursor.copy_expert(self._statement, Pieces(*chunks), SEND_BYTES)
            except psycopg2.Error as error:
                if not is_data_error(error):
                    raise
            else:
                if cursor.rowcount == records:
                    return True  # the transaction's end releases the savepoint
            cursor.execute("ROLLBACK TO SAVEPOINT taskwidgets_rows")
            return False
        finally:
            cursor.close()
