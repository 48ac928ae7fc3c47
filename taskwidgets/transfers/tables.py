"""The target table: what there is, what may be made of it, and the switch at the end."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import sql
from sqlalchemy import Connection, text

from taskwidgets.errors import OptionError, RightsMissing, TargetExists, TargetMismatch
from taskwidgets.publish import replacement
from taskwidgets.store.driver import users_path
from taskwidgets.store.schema import SCHEMA
from taskwidgets.tabular.types import TEXT
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.staging import SOURCE_SETTING, revoke_grants

__all__ = [
    "MOST_COLUMNS",
    "Column",
    "Landing",
    "Table",
    "append",
    "base_types",
    "braced",
    "check_assignable",
    "check_replace",
    "check_target",
    "count_blocks",
    "count_rows",
    "create_like",
    "create_staging",
    "drop",
    "drop_default",
    "execute",
    "find_table",
    "has_aside",
    "in_any_path",
    "landing",
    "locate",
    "lock_out_others",
    "name_source",
    "put_in_place",
    "resolve_types",
    "search_path",
    "spoken",
    "type_sql",
    "untouched",
    "value_functions",
]

KINDS = {
    "r": "table", "p": "partitioned table", "f": "foreign table", "v": "view",
    "m": "materialized view", "S": "sequence", "c": "composite type", "i": "index",
}  # fmt: skip

# What the grammar itself takes for a type of pg_catalog, whatever the search path is.
IN_GRAMMAR = re.compile(
    r"(?:bigint|bit|boolean|character|char|dec|decimal|double\s+precision|float|int|integer"
    r"|interval|national|nchar|numeric|real|smallint|time|timestamp|varchar)\b",
    re.IGNORECASE,
)
QUALIFIED = re.compile(r'\s*(?:"(?:[^"]|"")+"|[^\s".(\[]+)\s*\.')
# A type's modifiers, and what makes an array of it.
MODIFIERS = re.compile(r"\([^()]*\)(?=\s*(?:\[|$))")

# Run in the user's path: all that is ours names its schema.
USERS_SCHEMAS = "SELECT pg_catalog.current_schemas(false)"
USERS_TYPE = text("SELECT pg_catalog.to_regtype(:name)::pg_catalog.oid::pg_catalog.int8")
OWN_TYPE = text("SELECT to_regtype(:name)::oid::bigint, format_type(CAST(:oid AS oid), NULL)")

MOST_COLUMNS = 1600  # of a table (MaxHeapAttributeNumber)

FIND = text(
    """
    SELECT c.oid, c.relkind::text AS kind,
           pg_has_role(c.relowner, 'USAGE') AS mine
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = :table
    """
)
COLUMNS = text(
    """
    SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
           a.attidentity = 'a' OR a.attgenerated <> '' AS computed,
           a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required,
           has_column_privilege(a.attrelid, a.attnum, 'INSERT') AS may_insert
    FROM pg_attribute a
    WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
    """
)
BASE_TYPES = text(
    """
    WITH RECURSIVE walk (name, type, base, depth) AS (
        SELECT name, to_regtype(name)::oid, NULL::text, 0
        FROM unnest(CAST(:names AS text[])) AS given (name)
        UNION ALL
        SELECT walk.name, t.typbasetype, format_type(t.typbasetype, t.typtypmod), depth + 1
        FROM walk JOIN pg_type t ON t.oid = walk.type
        WHERE t.typtype = 'd'
    )
    SELECT name, base FROM walk WHERE base IS NOT NULL ORDER BY depth
    """
)
# Views and rules that read the table: they would go with it, or rather keep it from going.
DEPENDENTS = text(
    """
    SELECT DISTINCT format('%I.%I', n.nspname, v.relname)
    FROM pg_depend d
    JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_class v ON v.oid = r.ev_class
    JOIN pg_namespace n ON n.oid = v.relnamespace
    WHERE d.refobjid = :oid AND d.refclassid = 'pg_class'::regclass AND v.oid <> :oid
    UNION
    SELECT format('%I.%I', n.nspname, c.relname)
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype = 'f' AND k.confrelid = :oid AND k.conrelid <> :oid
    ORDER BY 1
    """
)
# What tells later whether a table is still as a job left it: its identity, and the transaction
# that put the rows in.
LANDING = text(
    """
    SELECT oid::bigint AS oid, mod(txid_current(), 4294967296) AS xid
    FROM pg_class WHERE oid = :oid
    """
)


@dataclass(frozen=True)
class Column:
    """A column of an existing table; ``computed`` ones cannot be loaded into.

    ``may_insert``: this role may, by a grant on the table or on the column.
    """

    name: str
    type: str
    computed: bool
    required: bool
    may_insert: bool


@dataclass(frozen=True)
class Table:
    """An existing table."""

    oid: int
    kind: str
    mine: bool
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Landing:
    """A table as a job left it."""

    oid: int
    xid: int


def execute(connection: Connection, statement: sql.Composable | str) -> int:
    """Run a statement with quoted names on the driver's own cursor; returns the row count.

    SQLAlchemy's text() would take a colon in a column's name for a parameter.
    """
    cursor = connection.connection.cursor()
    try:
        cursor.execute(statement)
        return int(cursor.rowcount)
    finally:
        cursor.close()


def spoken(connection: Connection, statement: sql.Composable) -> str:
    """A composed statement as text, quoted as this server wants it."""
    driver: Any = connection.connection.driver_connection
    return statement.as_string(driver)


def locate(connection: Connection, name: TableName, given: str) -> TableName:
    """The name with its schema filled in; RightsMissing, OptionError where there is none.

    A dotted name without such a schema, as in ``flights.2013``, is a table's name with a dot.
    """
    schemas = set(connection.scalars(text("SELECT nspname FROM pg_namespace")))
    if name.schema is not None:
        if name.schema in schemas:
            return name
        if '"' in given:
            raise OptionError(
                f"there is no schema {name.schema!r}; create it first, or name another"
            )
        name = TableName(None, given)
    # Not into our own schema, which is the first of the path for a role named taskwidgets.
    schema = next((name for name in search_path(connection) if name != SCHEMA), None)
    if schema is None:
        raise OptionError(
            "the search_path of this role names no schema that exists; "
            f"write the table's schema: schema.{name.table}"
        )
    return TableName(str(schema), name.table)


def search_path(connection: Connection) -> list[str]:
    """The schemas of the user's search path that exist."""
    with users_path(connection):
        return list(connection.exec_driver_sql(USERS_SCHEMAS).scalar() or [])


def find_table(connection: Connection, name: TableName) -> Table | None:
    """The table of this very name, or None."""
    row = connection.execute(FIND, {"schema": name.schema, "table": name.table}).one_or_none()
    if row is None:
        return None
    columns = connection.execute(COLUMNS, {"oid": row.oid})
    return Table(row.oid, row.kind, row.mine, tuple(Column(*c) for c in columns))


def check_target(
    connection: Connection, name: TableName, columns: Sequence[str], if_exists: str
) -> dict[str, str]:
    """Whether the target may be made as asked; returns the types of the columns it has already."""
    may_create = connection.scalar(
        text("SELECT has_schema_privilege(:schema, 'CREATE')"), {"schema": name.schema}
    )
    table = find_table(connection, name)
    if table is None or if_exists == "replace":
        if not may_create:
            raise RightsMissing(
                f'this role may not create tables in the schema "{name.schema}"; ask its owner to '
                f'run: GRANT CREATE ON SCHEMA "{name.schema}" TO the role',
                sqlstate="42501",
            )
        if table is None:
            return {}
    kind = KINDS.get(table.kind, "relation")
    if if_exists == "fail":
        raise TargetExists(
            f'the {kind} "{name}" exists already; choose if_exists="replace" or "append", '
            "or another name"
        )
    if if_exists == "replace":
        check_replace(connection, name, table)
        return {}
    return _check_append(name, table, kind, columns)


def check_replace(connection: Connection, name: TableName, table: Table) -> None:
    """Raise what keeps a table from being replaced: TargetMismatch, RightsMissing."""
    kind = KINDS.get(table.kind, "relation")
    if table.kind != "r":
        raise TargetMismatch(f'"{name}" is a {kind}; only an ordinary table can be replaced')
    if not table.mine:
        raise RightsMissing(
            f'this role does not own the table "{name}" and may not replace it', sqlstate="42501"
        )
    dependents = list(connection.scalars(DEPENDENTS, {"oid": table.oid}))
    if dependents:
        raise TargetMismatch(
            f'"{name}" cannot be replaced: {", ".join(dependents)} depend on it; '
            'drop them first, or TRUNCATE the table and use if_exists="append"'
        )
    reasons = replacement.blockers(connection, table.oid)
    if reasons:
        raise TargetMismatch(
            f'"{name}" cannot be replaced: {"; ".join(reasons)}. TRUNCATE the table and use '
            'if_exists="append", or load into another table'
        )


def _check_append(
    name: TableName, table: Table, kind: str, columns: Sequence[str]
) -> dict[str, str]:
    if table.kind not in ("r", "p", "f", "v"):
        raise TargetMismatch(f'"{name}" is a {kind}; rows cannot be appended to it')
    if not any(column.may_insert for column in table.columns):
        raise RightsMissing(f'this role may not insert into "{name}"', sqlstate="42501")
    existing = {column.name: column for column in table.columns}
    unknown = [column for column in columns if column not in existing]
    missing = [c.name for c in table.columns if c.required and c.name not in set(columns)]
    computed = [column for column in columns if column in existing and existing[column].computed]
    faults = []
    if unknown:
        faults.append(f"it has no column {_list(unknown)}")
    if missing:
        faults.append(f"its column {_list(missing)} must have a value, and the file has none")
    if computed:
        faults.append(f"its column {_list(computed)} is computed by the database")
    if faults:
        raise TargetMismatch(
            f'the file does not fit into the {kind} "{name}": {"; ".join(faults)}. '
            f"The table has {_list([c.name for c in table.columns])}; "
            f"the file has {_list(columns)}"
        )
    closed = [column for column in columns if not existing[column].may_insert]
    if closed:
        raise RightsMissing(
            f'this role may not insert into the column {_list(closed)} of "{name}"; ask its owner '
            f"to run: GRANT INSERT ({_list(closed)}) ON {name} TO the role",
            sqlstate="42501",
        )
    return {column: existing[column].type for column in columns}


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"


def resolve_types(connection: Connection, types: dict[str, str]) -> dict[str, str]:
    """The types by names that mean the same in every search path.

    Each is looked up in the user's search path. Types of pg_catalog keep the name that was given,
    modifiers and all (``numeric(10,2)``); others get that of their schema. OptionError unless every
    type is one that this server knows.
    """
    found: dict[str, str] = {}
    for column, name in types.items():
        if name not in found:
            known = _resolved(connection, name)
            if known is None or ";" in name or "--" in name:
                raise OptionError(f"types: {name!r}, given for column {column!r}, is no type here")
            found[name] = known
    return {column: found[name] for column, name in types.items()}


def _resolved(connection: Connection, name: str) -> str | None:
    if name == TEXT:
        return name
    try:
        with connection.begin_nested():
            with users_path(connection):
                oid = connection.scalar(USERS_TYPE, {"name": name})
            if oid is None:
                return None
            own, written = connection.execute(OWN_TYPE, {"name": name, "oid": oid}).one()
    except Exception:  # noqa: BLE001 - older servers raise on what does not even parse
        return None
    if own == oid:
        return name
    modifiers = MODIFIERS.search(name)
    if modifiers is None:
        return str(written)
    base = str(written).removesuffix("[]")
    return f"{base}{modifiers[0]}{written[len(base) :]}"


def in_any_path(kind: str) -> str:
    """A type of the plan as it may stand in a statement, whatever the search path is."""
    if IN_GRAMMAR.match(kind) or QUALIFIED.match(kind):
        return kind
    return f"pg_catalog.{kind}"


def base_types(connection: Connection, names: Collection[str]) -> dict[str, str]:
    """Of the types that are domains, what they are made of in the end, such as numeric(10,2)."""
    found = connection.execute(BASE_TYPES, {"names": list(names)})
    return {row.name: row.base for row in found}  # the deepest comes last


def create_staging(
    connection: Connection,
    name: TableName,
    columns: Sequence[str],
    types: dict[str, str],
    source_column: str | None = None,
) -> None:
    """An empty table in our own schema; ``types`` are checked ones, as they stand in SQL.

    ``source_column``: one of the columns that COPY does not fill; each transaction says what goes
    in there (``name_source``).
    """
    parts = [
        sql.SQL("{} {}").format(sql.Identifier(column), type_sql(types[column]))
        for column in columns
    ]
    _define(
        connection,
        sql.SQL("CREATE TABLE {} ({})").format(name.identifier, sql.SQL(", ").join(parts)),
    )
    revoke_grants(connection, name)
    if source_column is not None:
        _define(
            connection,
            sql.SQL(
                "ALTER TABLE {} ALTER COLUMN {}"
                " SET DEFAULT pg_catalog.current_setting({}, true)::{}"
            ).format(
                name.identifier,
                sql.Identifier(source_column),
                sql.Literal(SOURCE_SETTING),
                type_sql(types[source_column]),
            ),
        )


def type_sql(kind: str) -> sql.SQL:
    """A type of the plan for a statement that runs in any search path."""
    return sql.SQL(braced(in_any_path(kind)))


def _define(connection: Connection, statement: sql.Composable) -> None:
    """Run a statement that makes, changes or drops a table.

    Event triggers run with it: they are the user's code.
    """
    with users_path(connection):
        execute(connection, statement)


def name_source(connection: Connection, name: str) -> None:
    """Have the source column say this, for rows that come in this transaction."""
    connection.execute(
        text("SELECT set_config(:setting, :name, true)"), {"setting": SOURCE_SETTING, "name": name}
    )


def drop_default(connection: Connection, name: TableName, column: str) -> None:
    """Leave no trace of how the source column was filled."""
    _define(
        connection,
        sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP DEFAULT").format(
            name.identifier, sql.Identifier(column)
        ),
    )


def create_like(connection: Connection, name: TableName, like: TableName) -> None:
    """An empty table with the columns of another."""
    _define(
        connection,
        sql.SQL("CREATE TABLE {} (LIKE {})").format(name.identifier, like.identifier),
    )


def check_assignable(
    connection: Connection, target: TableName, types: dict[str, str], existing: dict[str, str]
) -> None:
    """TargetMismatch unless columns of ``types`` may be appended to those of an existing table.

    The server judges, by planning the final INSERT without running it.
    """
    other = [column for column in types if types[column] != existing[column]]
    if not other:
        return
    names = sql.SQL(", ").join(map(sql.Identifier, other))
    values = sql.SQL(", ").join(
        sql.SQL("NULL::{}").format(type_sql(types[column])) for column in other
    )
    statement = sql.SQL("EXPLAIN INSERT INTO {} ({}) SELECT {}").format(
        target.identifier, names, values
    )
    try:
        with connection.begin_nested(), users_path(connection):
            execute(connection, statement)
    except psycopg2.errors.DatatypeMismatch as error:
        raise TargetMismatch(
            f'rows with these types cannot be appended to "{target}": {error.diag.message_primary}'
        ) from None


def braced(statement: str) -> str:
    """A ready statement for sql.SQL(), to which braces are placeholders."""
    return statement.replace("{", "{{").replace("}", "}}")


def count_blocks(connection: Connection, name: TableName) -> int:
    """How many blocks a table of ours has."""
    table = find_table(connection, name)
    assert table is not None
    return int(
        connection.scalar(
            text("SELECT pg_relation_size(:oid) / current_setting('block_size')::int"),
            {"oid": table.oid},
        )
        or 0
    )


def count_rows(connection: Connection, name: TableName) -> int:
    """How many rows a table has, in the connection's snapshot."""
    cursor = connection.connection.cursor()
    try:
        with users_path(connection):  # a policy of the table may call functions
            cursor.execute(sql.SQL("SELECT pg_catalog.count(*) FROM {}").format(name.identifier))
        return int(cursor.fetchall()[0][0])
    finally:
        cursor.close()


def lock_out_others(connection: Connection, name: TableName) -> None:
    """Keep every other session away from a table of ours, until the transaction ends."""
    execute(connection, sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(name.identifier))


def has_aside(connection: Connection, name: TableName) -> bool:
    """Whether a table keeps long values beside its rows (TOAST)."""
    statement = text(
        "SELECT pg_relation_size(reltoastrelid) > 0 FROM pg_class WHERE oid = to_regclass(:name)"
    )
    return bool(connection.scalar(statement, {"name": spoken(connection, name.identifier)}))


def value_functions(connection: Connection, name: TableName) -> dict[str, tuple[str, str]]:
    """By which C functions each column is sent in binary, and written as text.

    Only where they are the server's own; those of a domain are its base's.
    """
    statement = text(
        "SELECT a.attname, s.prosrc, o.prosrc FROM pg_attribute a"
        " JOIN pg_type t ON t.oid = a.atttypid"
        " JOIN pg_proc s ON s.oid = t.typsend JOIN pg_proc o ON o.oid = t.typoutput"
        " JOIN pg_language l ON l.oid = s.prolang AND l.oid = o.prolang"
        " WHERE a.attrelid = to_regclass(:name) AND a.attnum > 0 AND l.lanname = 'internal'"
    )
    rows = connection.execute(statement, {"name": spoken(connection, name.identifier)})
    return {column: (sent, written) for column, sent, written in rows}


def drop(connection: Connection, name: TableName) -> None:
    """Drop a table of ours, if it is there."""
    _define(connection, sql.SQL("DROP TABLE IF EXISTS {}").format(name.identifier))


def put_in_place(
    connection: Connection, staging: TableName, target: TableName, *, replace: bool
) -> None:
    """Make the staging table the target, by renaming; the old one goes in the same transaction."""
    if replace:
        _define(connection, sql.SQL("DROP TABLE IF EXISTS {}").format(target.identifier))
    if target.schema != staging.schema:
        _define(
            connection,
            sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
                staging.identifier, sql.Identifier(str(target.schema))
            ),
        )
    moved = TableName(target.schema, staging.table)
    _define(
        connection,
        sql.SQL("ALTER TABLE {} RENAME TO {}").format(
            moved.identifier, sql.Identifier(target.table)
        ),
    )


def append(
    connection: Connection, staging: TableName, target: TableName, columns: Sequence[str]
) -> int:
    """Insert the staging table's rows into the target; returns how many arrived."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(
        target.identifier, names, names, staging.identifier
    )
    with users_path(connection):
        return execute(connection, statement)


def landing(connection: Connection, target: TableName) -> Landing:
    """The target as it is at the end of this transaction."""
    table = find_table(connection, target)
    assert table is not None
    return Landing(*connection.execute(LANDING, {"oid": table.oid}).one())


def untouched(
    connection: Connection, target: TableName, landed: dict[str, Any], rows: int, *, appended: bool
) -> bool | None:
    """Whether the target still is what a job left; None where that cannot be told.

    For a table that the job made: the same number of rows, none younger than the job. After an
    append, others may have changed the table too; there it counts that the job's rows are in it.
    None: rows are in the table, but none of them are the job's as it left them.
    """
    table = find_table(connection, target)
    if table is None or table.oid != landed["oid"]:
        return False
    if table.kind not in ("r", "p"):
        return True  # views and foreign tables do not tell who wrote a row
    xid = sql.SQL("{}::pg_catalog.xid").format(sql.Literal(str(landed["xid"])))
    with users_path(connection):  # a policy of the table may call functions
        return _is_untouched(connection, target, xid, rows, appended=appended)


def _is_untouched(
    connection: Connection, target: TableName, xid: sql.Composable, rows: int, *, appended: bool
) -> bool | None:
    cursor = connection.connection.cursor()
    try:
        if appended:
            cursor.execute(
                sql.SQL(
                    "SELECT EXISTS (SELECT FROM {0} WHERE xmin OPERATOR(pg_catalog.=) {1}),"
                    " EXISTS (SELECT FROM {0})"
                ).format(target.identifier, xid)
            )
            ours, any_row = cursor.fetchall()[0]
            return True if ours or rows == 0 else (None if any_row else False)
        cursor.execute(
            sql.SQL(
                "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE"
                " pg_catalog.age(xmin) OPERATOR(pg_catalog.<) pg_catalog.age({1})) FROM {0}"
            ).format(target.identifier, xid)
        )
        counted, younger = cursor.fetchall()[0]
        return bool(counted == rows and younger == 0)
    finally:
        cursor.close()
