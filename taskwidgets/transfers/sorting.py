"""COPY of data of which some records are not fit: the good ones in, the others told one by one.

Since Postgres 17 COPY can pass over values that do not fit their column, and says of which lines;
what is wrong with them, ``pg_input_error_info`` tells. Whatever else it refuses, and everything
before 17, is found by trying: the record that COPY names is left out, what stands before it is
good, and what stands behind it is tried in small pieces, so that little is sent twice.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from sqlalchemy import Connection, text

from taskwidgets.csvfile.types.exactness import ChangeFinder
from taskwidgets.store.driver import users_path
from taskwidgets.tabular.boundaries import records
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.fields import split_fields, without_ending
from taskwidgets.tabular.lines import records_at_lines
from taskwidgets.transfers.copy_in import CopyIn
from taskwidgets.transfers.faults import (
    ROW_TOO_BIG,
    VALUE_CHANGED,
    changed_value,
    find_fault,
    halved,
    too_wide,
)
from taskwidgets.transfers.tables import spoken
from taskwidgets.transfers.upload_plan import UploadPlan

__all__ = ["Bad", "Sorted", "Sorter", "changed_records"]

TOLERANT = 170000  # the first version that has ON_ERROR and LOG_VERBOSITY
PIECE_BYTES = 32 * 1024  # what is tried at once after a first refusal
NUMBER = re.compile(r"\d+")
UNKNOWN = "22P02"  # invalid_text_representation, where the server does not say which it is
# Only these are asked for what is wrong with a value: text takes everything.
ERRORS = """
    SELECT asked.number, found.message, found.sql_error_code
    FROM ROWS FROM (
             pg_catalog.unnest(%s::pg_catalog.int4[]),
             pg_catalog.unnest(%s::pg_catalog.text[]),
             pg_catalog.unnest(%s::pg_catalog.text[])
         ) AS asked (number, value, name)
    JOIN pg_catalog.pg_attribute a
      ON a.attrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(%s)::pg_catalog.oid
         AND a.attname::pg_catalog.text OPERATOR(pg_catalog.=) asked.name,
         LATERAL pg_catalog.pg_input_error_info(
             asked.value, pg_catalog.format_type(a.atttypid, a.atttypmod)
         ) AS found
    WHERE found.message IS NOT NULL
    ORDER BY asked.number
"""


@dataclass(frozen=True)
class Bad:
    """A record that was not loaded: its bytes ``[start, stop)`` in the data, and why."""

    start: int
    stop: int
    column: str | None
    reason: str
    sqlstate: str | None


@dataclass
class Sorted:
    """How many rows were loaded, and the records that were not, in the data's order."""

    rows: int = 0
    bad: list[Bad] = field(default_factory=list)


def changed_records(
    plan: UploadPlan, data: bytes | memoryview, finder: ChangeFinder | None = None
) -> list[Bad]:
    """The records of which a column's type would change a value, in the data's order."""
    return [
        Bad(one.start, one.stop, plan.columns[one.index], changed_value(one), VALUE_CHANGED)
        for one in (finder or plan.change_finder).find(data)
    ]


class Sorter:
    """Copies into one table."""

    def __init__(
        self,
        copy: CopyIn,
        dialect: Dialect,
        columns: tuple[str, ...],
        types: dict[str, str],
    ) -> None:
        self._copy_in = copy
        self._dialect = dialect
        self._columns = columns
        # The longest first: of two names, one may begin with the other.
        names = "|".join(map(re.escape, sorted(columns, key=len, reverse=True)))
        self._names = re.compile(rf"[\"«»„“”]\s?({names})\s?[\"«»“”]")
        self._typed = [
            (index, column)
            for index, column in enumerate(columns)
            if types.get(column, "text") != "text"
        ]

    def load(
        self, connection: Connection, data: bytes | memoryview, refused: Sequence[Bad] = ()
    ) -> Sorted:
        """Load the data in the caller's transaction; what is wrong otherwise is raised.

        ``refused``: records that are not to be loaded, in the data's order.
        """
        driver: Any = connection.connection.driver_connection
        tolerant = driver.info.server_version >= TOLERANT and bool(self._typed)
        found = Sorted(bad=[*refused])
        begins = [0, *(one.stop for one in refused)]
        ends = [*(one.start for one in refused), len(data)]
        pieces = [*zip(begins, ends, strict=True)][::-1]  # the next one last
        while pieces:
            start, stop = pieces.pop()
            if start == stop:
                continue
            heard: deque[str] = deque()  # of a plain list, the driver keeps the last fifty only
            connection.execute(text("SAVEPOINT taskwidgets_piece"))
            try:
                with users_path(connection):
                    rows = self._copy(driver, data[start:stop], heard, tolerant=tolerant)
            except psycopg2.Error as error:
                piece = bytes(data[start:stop])
                if error.pgcode == ROW_TOO_BIG:
                    # COPY puts many rows into pages at once, and names the row that it read last.
                    connection.execute(text("ROLLBACK TO SAVEPOINT taskwidgets_piece"))
                    halves = halved(piece, self._dialect)
                    if len(halves) == 1:
                        found.bad.append(Bad(start, stop, None, too_wide(error), ROW_TOO_BIG))
                    else:
                        pieces += reversed([(start + a, start + b) for a, b in halves])
                    continue
                fault = find_fault(error, piece, self._dialect, self._columns)
                if fault is None:
                    raise
                connection.execute(text("ROLLBACK TO SAVEPOINT taskwidgets_piece"))
                smaller = self._cut(piece) if stop - start > 2 * PIECE_BYTES else []
                if len(smaller) > 1:  # else it is one long record
                    pieces += reversed([(start + a, start + b) for a, b in smaller])
                    continue
                found.bad.append(
                    Bad(
                        start + fault.start,
                        start + fault.stop,
                        fault.column,
                        fault.reason,
                        fault.sqlstate,
                    )
                )
                pieces += [(start + fault.stop, stop), (start, start + fault.start)]
            else:
                found.rows += rows
                if heard:
                    found.bad += self._heard(connection, bytes(data[start:stop]), start, [*heard])
        found.bad.sort(key=lambda bad: bad.start)
        return found

    def _copy(
        self, driver: Any, data: bytes | memoryview, heard: deque[str], *, tolerant: bool
    ) -> int:
        notices, driver.notices = driver.notices, heard
        cursor = driver.cursor()
        try:
            rows = self._copy_in.run(cursor, data, tolerant=tolerant)
            # The driver hands over what it was told during COPY with the next statement only.
            cursor.execute("RELEASE SAVEPOINT taskwidgets_piece")
            return rows
        finally:
            cursor.close()
            driver.notices = notices

    def _cut(self, data: bytes) -> list[tuple[int, int]]:
        """Pieces of about PIECE_BYTES, cut where records end."""
        cuts, begun = [], 0
        stop = 0
        for _, stop in records(data, self._dialect.quote_byte):
            if stop - begun >= PIECE_BYTES:
                cuts.append((begun, stop))
                begun = stop
        return [*cuts, (begun, stop)] if begun < stop else cuts

    # ------------------------------------------------------------------ what was passed over

    def _heard(
        self, connection: Connection, data: bytes, offset: int, heard: Sequence[str]
    ) -> list[Bad]:
        """The records of which the notices tell."""
        told = [self._told(notice) for notice in heard[:-1]]  # the last one is the sum
        places = records_at_lines(data, self._dialect, [line for line, _ in told])
        errors = self._errors(
            connection,
            [
                (data[start:stop], column)
                for (start, stop, _), (_, column) in zip(places, told, strict=True)
            ],
        )
        return [
            Bad(offset + start, offset + stop, *error)
            for (start, stop, _), error in zip(places, errors, strict=True)
        ]

    def _told(self, notice: str) -> tuple[int, int | None]:
        """The line that a notice names, and the index of the column; None where it is not clear.

        ``skipping row due to data type incompatibility at line 3 for column "a": "x"``, in the
        server's language: the first number is the line in all of them, and the first name after
        it the column's.
        """
        match = NUMBER.search(notice, notice.index(":"))
        assert match is not None
        column = self._names.search(notice, match.end())
        return int(match[0]), None if column is None else self._columns.index(column[1])

    def _errors(
        self, connection: Connection, found: Sequence[tuple[bytes, int | None]]
    ) -> list[tuple[str | None, str, str | None]]:
        """(column, message, SQLSTATE) for the first value of each record that does not fit."""
        numbers: list[int] = []
        values: list[str] = []
        names: list[str] = []
        width = len(self._columns)
        null = self._dialect.null_value
        for number, (record, column) in enumerate(found):
            fields = split_fields(without_ending(record), self._dialect)
            for index, name in self._typed:
                if column is not None and index != column:
                    continue
                if index < len(fields) and (fields[index][1] or fields[index][0] != null):
                    numbers.append(number * width + index)
                    values.append(fields[index][0])
                    names.append(name)
        first: dict[int, tuple[str | None, str, str | None]] = {}
        table = spoken(connection, self._copy_in.table.identifier)
        cursor = connection.connection.cursor()
        try:
            with users_path(connection):  # what a domain checks is users' code
                cursor.execute(ERRORS, (numbers, values, names, table))
            for place, message, state in cursor.fetchall():
                first.setdefault(place // width, (self._columns[place % width], message, state))
        finally:
            cursor.close()
        return [
            first.get(number, (None, "a value does not fit its column", UNKNOWN))
            for number in range(len(found))
        ]
