"""What a download reads: a table, a view, or a query; found, checked, and described."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import sql
from sqlalchemy import Connection, text

from taskwidgets.errors import OptionError, RightsMissing, SourceError
from taskwidgets.store.driver import users_path
from taskwidgets.store.schema import SCHEMA
from taskwidgets.store.translate import is_away
from taskwidgets.transfers.names import TableName, parse_table_name
from taskwidgets.transfers.tables import KINDS, locate, search_path

__all__ = [
    "WRITES",
    "OutputColumn",
    "Relation",
    "check_query",
    "find_relation",
    "is_query",
    "not_reading",
    "output_columns",
]

# White space, comments and parentheses, before which a query may begin. Possessive: many comments
# in a row must not be tried in all their divisions.
_BEFORE = r"^(?:\s|\(|--[^\n]*(?:\n|$)|/\*(?:(?!\*/).)*+\*/)*+"
_QUERY = re.compile(
    _BEFORE + r"(?:select|with|values|table)(?=[\s(*\"'$+.@~-]|/\*)", re.IGNORECASE | re.DOTALL
)
# Statements that people might try, for a better word than "no such table".
_STATEMENT = re.compile(
    _BEFORE
    + r"(?:insert|update|delete|merge|drop|create|alter|truncate|copy|call|do|explain|grant|revoke"
    r"|set|show|begin|vacuum|analyze|refresh|execute|declare|fetch|lock|commit|rollback|savepoint"
    r"|release|abort|start|end|reset|discard|prepare|deallocate|listen|notify|unlisten|load"
    r"|checkpoint|close|move|comment|reindex|cluster|security|import|reassign)(?:[\s;]|\Z)",
    re.IGNORECASE | re.DOTALL,
)
# The pieces of SQL's text in which a semicolon is none, and the one that is: the group "end". What
# is not closed goes to the end of the text: to look for the end of each of many such pieces would
# take time that grows with the square of the text.
_PIECES = re.compile(
    r"""
    [^\W\d][\w$]*(?<![eE])(?=')        # a word just before a quote, unless it is E'...'
    | \b[eE]'(?:[^'\\]|''|\\.)*+(?:'|\Z)
    | '(?:[^']|'')*+(?:'|\Z) | "(?:[^"]|"")*+(?:"|\Z)
    | [^\W\d][\w$]*+
    | \$(?P<tag>[^\W\d]\w*+|)\$(?:.*?\$(?P=tag)\$|.*+)
    | (?P<comment>--[^\n]*+|/\*(?:(?!\*/).)*+(?:\*/|\Z)) | (?P<space>\s++) | (?P<end>;) | .
    """,
    re.DOTALL | re.VERBOSE,
)

RELATION = text(
    """
    SELECT c.oid::bigint AS oid, c.relkind::text AS kind, c.relhassubclass AS has_children,
           c.relrowsecurity AS row_security, c.relpersistence::text AS persistence,
           has_table_privilege(c.oid, 'SELECT')
             OR has_any_column_privilege(c.oid, 'SELECT') AS may_read
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = :table
      AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    """
)
ALL_NAMES = text(
    """
    SELECT CASE WHEN n.nspname = ANY (:path) THEN c.relname
                ELSE n.nspname || '.' || c.relname END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> ALL (:hidden)
      AND n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp%'
    LIMIT 20000
    """
)
# In the user's path, in which the names are as the user knows them.
TYPE_FACTS = text(
    "SELECT oid::pg_catalog.int8 AS oid, typcategory::pg_catalog.text AS typcategory,"
    " pg_catalog.format_type(oid, NULL) AS name FROM pg_catalog.pg_type"
    " WHERE oid::pg_catalog.int8 OPERATOR(pg_catalog.=) ANY (CAST(:oids AS pg_catalog.int8[]))"
)
NUMERIC = 1700  # the type's number in the catalog

# read_only_sql_transaction; what is no cursor's query; two states of a transaction that was ended.
WRITES = frozenset({"25006", "42P11", "34000", "2D000"})

# insufficient_privilege, lock_not_available, query_canceled: the query's text is not at fault.
NOT_THE_QUERY = frozenset({"42501", "55P03", "57014"})

LONGEST_SHOWN = 400  # characters of a statement in an error

TEXTUAL = frozenset("SEXU")  # strings, enums, unknown, user-defined: what can begin with "="


@dataclass(frozen=True)
class Relation:
    """A table or view that may be read; ``in_blocks``: one heap, to be read range by range."""

    name: TableName
    oid: int
    kind: str
    in_blocks: bool


def is_query(source: str) -> bool:
    """Whether the text is a query, not the name of a table."""
    return bool(_QUERY.match(source))


def find_relation(connection: Connection, source: str) -> Relation:
    """The table or view of this name; SourceError with the nearest names, or RightsMissing."""
    try:
        given = parse_table_name(source)
        name = _search(connection, given, source)
    except OptionError:  # longer than any name, a schema that is not there
        if _STATEMENT.match(source):
            raise _no_query(source) from None
        raise
    row = None
    if name is not None:
        found = connection.execute(RELATION, {"schema": name.schema, "table": name.table})
        row = found.one_or_none()
    if name is None or row is None:
        if _STATEMENT.match(source):  # only now: a table may be called "update log"
            raise _no_query(source)
        raise SourceError(_missing(connection, source))
    if not row.may_read:
        raise RightsMissing(f'this role may not read "{name}"', sqlstate="42501")
    return Relation(
        name=name,
        oid=row.oid,
        kind=KINDS[row.kind],
        # Views, foreign and partitioned tables have no blocks; with children or row security, what
        # a query on the table returns is more, or less, than what its blocks hold.
        in_blocks=row.kind in "rm"
        and not row.has_children
        and not row.row_security
        and row.persistence != "t",
    )


def _no_query(source: str) -> OptionError:
    shown = source if len(source) <= LONGEST_SHOWN else f"{source[:LONGEST_SHOWN]}…"
    return OptionError(
        f"a download reads: a table, or a SELECT, WITH, VALUES or TABLE query; not {shown!r}"
    )


def _search(connection: Connection, given: TableName, source: str) -> TableName | None:
    """The schema in which the search path finds the name."""
    if given.schema is not None:
        return locate(connection, given, source)
    schemas = connection.scalars(
        text(
            """
            SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relname = :table AND n.nspname = ANY (:path)
              AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
            ORDER BY array_position(CAST(:path AS text[]), n.nspname::text)
            """
        ),
        {"table": given.table, "path": search_path(connection)},
    ).all()
    return TableName(schemas[0], given.table) if schemas else None


def _missing(connection: Connection, source: str) -> str:
    hidden = ["pg_catalog", "information_schema", SCHEMA]
    names = list(connection.scalars(ALL_NAMES, {"hidden": hidden, "path": search_path(connection)}))
    folded = {name.lower(): name for name in names}
    near = difflib.get_close_matches(source.lower(), folded, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(folded[name] for name in near)}?" if near else ""
    return f"there is no table or view {source!r} in this database{hint}"


def check_query(connection: Connection, query: str) -> str:
    """The query without its final semicolon, tried in a read-only transaction; nothing is fetched.

    OptionError for a statement that writes, or for several; SourceError for one that Postgres does
    not understand, with the place under the text.
    """
    query = _without_end(query)
    # A cursor takes one statement that returns rows, nothing else; opening it runs none of it.
    tried = sql.SQL("DO {}").format(
        sql.Literal(
            "DECLARE c pg_catalog.refcursor; BEGIN OPEN c FOR EXECUTE "
            + _dollar_quoted(query)
            + "; CLOSE c; END"
        )
    )
    understood = False
    cursor = connection.connection.cursor()
    try:
        cursor.execute("SET TRANSACTION READ ONLY")
        with users_path(connection):
            cursor.execute(tried)
            understood = True
            # A data-modifying WITH may be a cursor's query as well; but not what a SELECT reads
            # from.
            cursor.execute(f"SELECT * FROM ({query}\n) AS source LIMIT 0")
    except psycopg2.Error as error:
        if understood and not (error.pgcode in NOT_THE_QUERY or is_away(error)):
            raise not_reading(error.diag.message_primary or str(error)) from None
        raise _query_error(error, query) from None
    finally:
        cursor.close()
    return query


def _dollar_quoted(text: str) -> str:
    tag = "taskwidgets"
    while f"${tag}$" in text:
        tag += "_"
    return f"${tag}$\n{text}\n${tag}$"


def _query_error(error: psycopg2.Error, query: str) -> Exception:
    state = error.pgcode or ""
    reason = error.diag.message_primary or str(error).strip()
    if state == "42501":
        return RightsMissing(reason, sqlstate=state)
    if state in WRITES:
        return not_reading(reason)
    if is_away(error) or state in NOT_THE_QUERY:
        return error
    position = error.diag.internal_position
    place = _pointer(query, int(position) - 2) if position else ""  # less the newline in front
    hint = f"\nHINT: {error.diag.message_hint}" if error.diag.message_hint else ""
    return SourceError(f"the query has an error: {reason}{place}{hint}", sqlstate=state)


def not_reading(reason: str) -> OptionError:
    """The error for what is not one query that only reads; ``reason``: Postgres's own words."""
    return OptionError(
        "a download runs one query that only reads; this one would write, returns no rows, or "
        f"is several statements ({reason})"
    )


def _without_end(query: str) -> str:
    """The query without its final semicolon, and what is written behind it."""
    end = None
    for piece in _PIECES.finditer(query):
        match piece.lastgroup:
            case "end":
                end = piece.start() if end is None else end
            case "comment" | "space":
                continue
            case _:
                end = None  # there is more: then the semicolon was not the last, and is refused
    return query.rstrip() if end is None else query[:end].rstrip()


def _pointer(query: str, offset: int) -> str:
    """The line of the query that is wrong, and a caret under the place."""
    offset = max(0, min(offset, len(query)))
    start = query.rfind("\n", 0, offset) + 1
    stop = query.find("\n", offset)
    line = query[start : stop if stop >= 0 else len(query)]
    number = query.count("\n", 0, offset) + 1
    prefix = f"line {number}: "
    before = line[: offset - start]
    # A tab is as wide above as it is below, and so must be what is in front of the caret.
    room = "".join("\t" if character == "\t" else " " for character in before)
    return f"\n{prefix}{line}\n{' ' * len(prefix)}{room}^"


@dataclass(frozen=True)
class OutputColumn:
    """A column of what a query returns; ``category``: of its type, one letter (pg_type).

    ``base_type``: as Postgres writes it; ``type_name``: with the digits of a numeric where they are
    declared.
    """

    name: str
    category: str
    type_oid: int
    type_name: str = ""
    base_type: str = ""


def output_columns(connection: Connection, select: sql.Composable) -> list[OutputColumn]:
    """What columns a query returns, none of it run."""
    cursor = connection.connection.cursor()
    try:
        with users_path(connection):
            cursor.execute(sql.SQL("SELECT * FROM ({}\n) AS source LIMIT 0").format(select))
            described: Sequence[Any] = cursor.description or ()
            oids = [column.type_code for column in described]
            facts = {row.oid: row for row in connection.execute(TYPE_FACTS, {"oids": oids})}
    finally:
        cursor.close()
    found = []
    for column in described:
        kind = facts.get(column.type_code)
        category, base = ("U", "") if kind is None else (kind.typcategory, kind.name)
        name = base
        if column.type_code == NUMERIC and column.internal_size != -1:  # its digits are declared
            scale = column.scale - 2048 if column.scale > 1000 else column.scale  # 11 bits, signed
            name = f"{name}({column.precision},{scale})"
        found.append(OutputColumn(column.name, category, column.type_code, name, base))
    return found
