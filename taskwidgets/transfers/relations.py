"""What a database has to be read: its tables and views, and the first rows of a query."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection, text

from taskwidgets.errors import SourceError
from taskwidgets.store.driver import users_path
from taskwidgets.store.schema import SCHEMA
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.sources import check_query, output_columns
from taskwidgets.transfers.tables import KINDS, braced, search_path

__all__ = ["FirstRows", "Listed", "count_rows", "first_rows", "list_relations", "quoted"]

MOST_LISTED = 5000  # tables and views
MOST_BYTES = 4_000_000  # of first rows; a page shows no more
COUNTING = 2  # seconds that counting one table may take
PATIENCE = 20  # seconds that the first rows of a query may take

LISTED = text(
    """
    SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
           CASE WHEN c.reltuples >= 0 AND c.relkind IN ('r', 'm', 'p')
                THEN c.reltuples::bigint END AS rows,
           CASE WHEN c.relkind IN ('r', 'm') THEN pg_table_size(c.oid) END AS bytes,
           coalesce(n.nspname = (
             SELECT s.nspname FROM pg_class o JOIN pg_namespace s ON s.oid = o.relnamespace
             WHERE o.relname = c.relname AND s.nspname = ANY (:path)
               AND o.relkind IN ('r', 'p', 'v', 'm', 'f')
             ORDER BY array_position(CAST(:path AS text[]), s.nspname::text) LIMIT 1), false
           ) AS visible
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
      AND n.nspname <> ALL (:hidden)
      AND n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp%'
      AND has_schema_privilege(n.oid, 'USAGE')
      AND (has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'))
    ORDER BY n.nspname <> ALL (:path), n.nspname, c.relname
    LIMIT :most
    """
)
# COPY's text format: https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.55.9.2
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True)
class Listed:
    """A table or view that this role may read.

    ``rows`` is the server's estimate, None where it has none; ``bytes`` its size without indexes,
    None for what stores nothing itself. ``visible``: the search path finds it by its bare name.
    """

    name: TableName
    kind: str
    rows: int | None
    bytes: int | None
    visible: bool

    @property
    def source(self) -> str:
        """The name as ``tw.download`` takes it: quoted where it has to be."""
        table = _written(self.name.table)
        return table if self.visible else f"{_written(self.name.schema or '')}.{table}"


@dataclass(frozen=True)
class FirstRows:
    """The first rows of a query, each value as an export would write it, None for NULL."""

    columns: tuple[str, ...]
    types: Mapping[str, str]
    rows: list[tuple[str | None, ...]]


def quoted(name: str) -> str:
    """An identifier in double quotes, for a statement that is shown to its author."""
    return '"' + name.replace('"', '""') + '"'


def _written(name: str) -> str:
    """A part of a table's name: bare where that is read as the same name."""
    return name if re.fullmatch(r"[^\W\d]\w*", name) else quoted(name)


def list_relations(connection: Connection) -> list[Listed]:
    """All tables and views that this role may read, those of the search path first."""
    hidden = ["pg_catalog", "information_schema", SCHEMA]
    path = search_path(connection)
    found = connection.execute(LISTED, {"hidden": hidden, "most": MOST_LISTED, "path": path})
    return [
        Listed(TableName(row.schema, row.name), KINDS[row.kind], row.rows, row.bytes, row.visible)
        for row in found
    ]


def count_rows(connection: Connection, name: TableName) -> int:
    """How many rows a table has, counted; the driver's error where that is not done at once."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute("SET TRANSACTION READ ONLY")
        cursor.execute(f"SET LOCAL statement_timeout = '{COUNTING}s'")
        cursor.execute(f"SET LOCAL lock_timeout = '{COUNTING}s'")
        with users_path(connection):  # a policy of the table may call functions
            cursor.execute(sql.SQL("SELECT pg_catalog.count(*) FROM {}").format(name.identifier))
        row = cursor.fetchone()
        return int(row[0]) if row else 0
    finally:
        cursor.close()


def first_rows(
    connection: Connection,
    query: str,
    limit: int,
    began: Callable[[Any], None] = lambda _driver: None,
) -> FirstRows:
    """The first rows of a query that only reads, under the rules of a download.

    ``began`` is given the driver's connection, whose ``cancel()`` ends the wait from another
    thread; after ``PATIENCE`` seconds the server ends it itself. Raises SourceError, OptionError,
    RightsMissing, or the driver's error of a statement that was cancelled.
    """
    began(connection.connection.driver_connection)
    connection.execute(text(f"SET LOCAL statement_timeout = '{PATIENCE}s'"))
    checked = check_query(connection, query)
    select = sql.SQL(braced(checked)).format()
    columns = output_columns(connection, select)
    taken = _Bounded()
    cursor: Any = connection.connection.cursor()
    try:
        copy = sql.SQL(
            "COPY (SELECT * FROM ({}\n) AS source LIMIT {}) TO STDOUT WITH (ENCODING 'UTF8')"
        ).format(select, sql.Literal(limit))
        with users_path(connection):
            cursor.copy_expert(copy, taken)
    finally:
        cursor.close()
    return FirstRows(
        tuple(column.name for column in columns),
        {column.name: column.base_type for column in columns},
        [_row(line) if columns else () for line in taken.lines()],
    )


class _Bounded:
    """Takes what COPY writes; SourceError for rows too large to be looked at."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MOST_BYTES:
            raise SourceError(
                "the first rows are too large to be shown; choose fewer columns. The download "
                "itself has no such limit"
            )
        self._parts.append(data)

    def lines(self) -> list[str]:
        return b"".join(self._parts).decode("utf-8", "replace").split("\n")[:-1]


def _row(line: str) -> tuple[str | None, ...]:
    return tuple(
        None
        if field == "\\N"
        else _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), field)
        for field in line.split("\t")
    )
