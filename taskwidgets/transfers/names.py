"""Names of tables, as users write them and as SQL wants them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from psycopg2 import sql

from taskwidgets.errors import OptionError
from taskwidgets.store.schema import SCHEMA, staging_table

__all__ = ["LONGEST_NAME", "TableName", "parse_table_name", "staging_name"]

LONGEST_NAME = 63  # bytes; Postgres cuts longer identifiers without a word (NAMEDATALEN - 1)

# A name in SQL's own notation: parts in double quotes (doubled inside) or bare, joined by a dot.
_PART = r'(?:"(?:[^"]|"")+"|[^".]+)'
_SQL_NAME = re.compile(rf"^(?:({_PART})\.)?({_PART})$")


@dataclass(frozen=True)
class TableName:
    """A table's name in its schema; None: the first schema of the search path."""

    schema: str | None
    table: str

    def __str__(self) -> str:
        return self.table if self.schema is None else f"{self.schema}.{self.table}"

    @property
    def identifier(self) -> sql.Identifier:
        """Quoted for a statement."""
        parts = (self.table,) if self.schema is None else (self.schema, self.table)
        return sql.Identifier(*parts)


def parse_table_name(text: str) -> TableName:
    """``flights``, ``sales.orders``, ``"a.b"``, ``sales."My table"``: as written, case kept.

    What is not in SQL's notation, such as ``5" pipes``, is taken as the name of a table, to the
    letter. Raises OptionError for an empty name, one with a NUL, or one too long for Postgres.
    """
    if not isinstance(text, str):
        raise OptionError(f"table must be a string, not {type(text).__name__}")
    match = _SQL_NAME.match(text)
    if match:
        schema, table = (None if part is None else _unquote(part) for part in match.groups())
        assert table is not None
        name = TableName(schema, table)
    else:
        name = TableName(None, text)
    for part in (name.schema, name.table):
        if part is None:
            continue
        if not part or "\0" in part:
            raise OptionError(f"{text!r} is no name for a table")
        length = len(part.encode())
        if length > LONGEST_NAME:
            raise OptionError(
                f"the name {part!r} has {length} bytes; Postgres allows {LONGEST_NAME} and would "
                "cut it; choose a shorter one"
            )
    return name


def _unquote(part: str) -> str:
    if part.startswith('"'):
        return part[1:-1].replace('""', '"')
    return part


def staging_name(job_id: int) -> TableName:
    """Where a job's rows are until the final switch: in our own schema, seen by nobody."""
    return TableName(SCHEMA, staging_table(job_id))
