"""What a download is to do: decided once, kept with the job, followed by every resume."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection, text

from taskwidgets.errors import OptionError
from taskwidgets.runtime.store import JobSpec
from taskwidgets.transfers.csv_rows import CsvForm
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.part_formats import FORMATS, PARQUET, PARQUET_SETTINGS
from taskwidgets.transfers.partial_file import check_target_path
from taskwidgets.transfers.snapshot import SETTINGS, Witness
from taskwidgets.transfers.sources import (
    TEXTUAL,
    OutputColumn,
    check_query,
    find_relation,
    is_query,
    output_columns,
)
from taskwidgets.transfers.tables import MOST_COLUMNS, braced, spoken

__all__ = ["KIND", "DownloadOptions", "DownloadPlan", "described", "make_plan"]

KIND = "download"
# By the functions that send a value in binary and write its text: what converts the one into the
# other, see csv_rows.c. Of a "t", they are the same.
KINDS_SENT = {
    ("textsend", "textout"): "t",
    ("varcharsend", "varcharout"): "t",
    ("bpcharsend", "bpcharout"): "t",
    ("namesend", "nameout"): "t",
    ("json_send", "json_out"): "t",
    ("enum_send", "enum_out"): "t",
    ("int2send", "int2out"): "i",
    ("int4send", "int4out"): "i",
    ("int8send", "int8out"): "i",
    ("boolsend", "boolout"): "b",
}
NOTATION = text(
    "SELECT name, current_setting(name) AS setting FROM unnest(CAST(:names AS text[])) AS name"
)
LONGEST_QUERY = 1_000_000  # characters: what is written by hand, or by a program with sense
CONCAT = sql.SQL("pg_catalog.concat")  # a search path may have another one first
FORMULA_BEGINS = "=+-@\t\r"  # what a spreadsheet takes for a formula (OWASP, "CSV Injection")


@dataclass(frozen=True)
class DownloadOptions:
    """What the caller asked for, as far as it makes the job the one that it is."""

    source: str
    path: str  # absolute; a folder's ends in "/", and is a URL, without its secrets, with "://"
    if_exists: str = "fail"
    delimiter: str = ","
    null_value: str = ""
    header: bool = True
    quote_all: bool = False
    escape_formulas: bool = False
    format: str | None = None  # of a folder's parts
    path_hash: str | None = None  # of the whole URL, where ``path`` is its display form
    database: str | None = None  # that is read, where the job is kept in another one

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source.strip() or "\0" in self.source:
            raise OptionError("source must be the name of a table, or a query")
        if len(self.source) > LONGEST_QUERY:
            raise OptionError(
                f"source is a query of {len(self.source):,} characters; {LONGEST_QUERY:,} are the "
                "most. Put long lists of values into a table, and join it"
            )
        for name in ("delimiter", "null_value"):
            if not isinstance(getattr(self, name), str) or "\0" in getattr(self, name):
                raise OptionError(f"{name} must be a string, not {getattr(self, name)!r}")
        for name in ("header", "quote_all", "escape_formulas"):
            if not isinstance(getattr(self, name), bool):
                raise OptionError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if self.if_exists not in ("fail", "replace"):
            raise OptionError(f'if_exists must be "fail" or "replace", not {self.if_exists!r}')
        if len(self.delimiter) != 1 or not self.delimiter.isascii() or self.delimiter in '"\r\n\0':
            raise OptionError(
                f"delimiter must be one ASCII character, not a quote, not a line ending; "
                f"not {self.delimiter!r}"
            )
        if any(character in self.null_value for character in (self.delimiter, '"', "\r", "\n")):
            raise OptionError(
                f"null_value={self.null_value!r} must not contain the delimiter, a quote or a "
                "line ending"
            )
        self._check_format()

    def _check_format(self) -> None:
        if self.format is None:
            return
        if self.format not in FORMATS:
            known = ", ".join(f'"{one}"' for one in FORMATS)
            raise OptionError(f"format must be one of {known}, not {self.format!r}")
        if not self.path.endswith("/"):
            raise OptionError(
                "format= is that of a folder's parts, and a folder's path ends in /; a single "
                "file is CSV, packed where its name ends in .gz or .zst"
            )
        if self.format == PARQUET:
            for name in ("delimiter", "null_value", "header", "quote_all", "escape_formulas"):
                if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                    raise OptionError(f'{name}= is for CSV and makes no sense with "{PARQUET}"')

    @property
    def is_folder(self) -> bool:
        """Whether part files are made, not one file."""
        return self.format is not None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for the store; as it ever was where one file is made."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def key(self) -> str:
        """What says that two calls mean the same job: source, target and options."""
        return hashlib.sha256(
            json.dumps({**self.to_json(), "kind": KIND}, sort_keys=True).encode()
        ).hexdigest()


@dataclass(frozen=True)
class DownloadPlan:
    """Everything that was decided before the first byte, and what later steps settled for good.

    ``select`` reads the source; ``table`` is set where it can be read in ranges of blocks.
    ``columns``, ``types`` (their numbers in the catalog) and ``escaped`` go side by side.
    ``witness`` tells of the table in the first snapshot; ``materialized`` how many rows and blocks
    the staging table has; ``published`` what the file was when it got its name. ``type_names``: as
    Postgres writes them. ``folder``, where part files are made: the ``token`` in their names,
    whether the address has a ``secret``, and how many ``parts`` there are.
    """

    path: Path
    select: str
    table: TableName | None
    oid: int | None
    options: DownloadOptions
    settings: dict[str, str]
    columns: list[str]
    types: list[int]
    escaped: list[bool]
    witness: dict[str, Any] | None = None
    materialized: dict[str, int] | None = None
    published: dict[str, Any] | None = None
    type_names: list[str] = field(default_factory=list)
    folder: dict[str, Any] | None = None

    @property
    def is_replacing(self) -> bool:
        """Whether an older file, or folder, may be replaced."""
        return self.options.if_exists == "replace"

    @property
    def seen(self) -> Witness | None:
        """The witness, if a snapshot was taken."""
        return None if self.witness is None else Witness.from_json(self.witness)

    def with_(self, **changes: Any) -> DownloadPlan:
        """The plan with something settled."""
        return replace(self, **changes)

    def select_from(self, relation: TableName, columns: list[str] | None) -> sql.Composable:
        """A SELECT of all columns of a table, with formulas made harmless where asked for.

        None: of the columns as they are.
        """
        if columns is None or not any(self.escaped):
            return sql.SQL("SELECT * FROM {}").format(relation.identifier)
        parts = [
            _harmless_text(name) if escaped else sql.Identifier(name)
            for name, escaped in zip(columns, self.escaped, strict=True)
        ]
        return sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(parts), relation.identifier)

    def binary_from(
        self, relation: TableName, columns: list[str], functions: Mapping[str, tuple[str, str]]
    ) -> tuple[sql.Composable, bytes]:
        """The same for COPY in binary, and what kind each column is: see ``CsvForm``.

        ``functions``: the server's own by which each column is sent and written.
        """
        parts: list[sql.Composable] = []
        kinds = []
        for name, escaped in zip(columns, self.escaped or [False] * len(columns), strict=True):
            column = sql.Identifier(name)
            kind = KINDS_SENT.get(functions.get(name, ("", "")))
            kinds.append("t" if escaped or kind is None else kind)
            if escaped:
                parts.append(_harmless_text(name))
            elif kind is None:
                # For a record of NULLs, IS NOT NULL is false.
                as_text = sql.SQL("CASE WHEN {0} IS DISTINCT FROM NULL THEN {1}({0}) END")
                parts.append(as_text.format(column, CONCAT))
            else:
                parts.append(column)
        select = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(parts), relation.identifier)
        return select, "".join(kinds).encode()

    def header_select(self) -> sql.Composable:
        """A query without rows whose columns have the export's names."""
        titles = (harmless(name) if self.options.escape_formulas else name for name in self.columns)
        parts = [sql.SQL("NULL AS {}").format(sql.Identifier(title)) for title in titles]
        return sql.SQL("SELECT {} WHERE false").format(sql.SQL(", ").join(parts))

    def copy_options(self, *, header: bool = False) -> sql.Composable:
        """What stands behind WITH in the COPY to the client."""
        options = [
            sql.SQL("FORMAT csv"),
            sql.SQL("DELIMITER {}").format(sql.Literal(self.options.delimiter)),
            sql.SQL("NULL {}").format(sql.Literal(self.options.null_value)),
            sql.SQL("ENCODING 'UTF8'"),
        ]
        if header:
            options.append(sql.SQL("HEADER"))
        if self.options.quote_all and self.columns:
            options.append(sql.SQL("FORCE_QUOTE *"))
        return sql.SQL(", ").join(options)

    def text_options(self) -> sql.Composable:
        """The same for rows of COPY's text format, with the same delimiter."""
        return sql.SQL("DELIMITER {}, ENCODING 'UTF8'").format(sql.Literal(self.options.delimiter))

    def csv_form(self, select: str, options: str, kinds: bytes = b"") -> CsvForm:
        """How to make here what ``copy_options`` ask for."""
        return CsvForm(
            select,
            options,
            self.options.delimiter,
            self.options.null_value,
            self.options.quote_all,
            len(self.columns),
            kinds,
        )

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for the store."""
        return {
            "path": str(self.path),
            "select": "",  # no SQL is kept: it is made again of the options, see recorded_download
            "table": None if self.table is None else [self.table.schema, self.table.table],
            "oid": self.oid,
            "options": self.options.to_json(),
            "settings": self.settings,
            "columns": self.columns,
            "types": self.types,
            "escaped": self.escaped,
            "witness": self.witness,
            "materialized": self.materialized,
            "published": self.published,
            "type_names": self.type_names,
            "folder": self.folder,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> DownloadPlan:
        """The reverse of ``to_json``."""
        return cls(
            **{
                **stored,
                "path": Path(stored["path"]),
                "table": None if stored["table"] is None else TableName(*stored["table"]),
                "options": DownloadOptions(**stored["options"]),
            }
        )


def _harmless_text(column: str) -> sql.Composable:
    # concat() gives a value's own text; a cast would cut the blanks from a char(n).
    return sql.SQL(
        "CASE WHEN pg_catalog.left({1}({0}), 1) OPERATOR(pg_catalog.=) ANY ({2})"
        " THEN {1}('''', {0})"
        " WHEN {0} IS NOT NULL THEN {1}({0}) END"
    ).format(sql.Identifier(column), CONCAT, sql.Literal(list(FORMULA_BEGINS)))


def harmless(text: str) -> str:
    """The text with an apostrophe in front when a spreadsheet would take it for a formula."""
    return f"'{text}" if text[:1] and text[0] in FORMULA_BEGINS else text


def make_plan(
    connection: Connection, options: DownloadOptions, folder: dict[str, Any] | None = None
) -> JobSpec:
    """Look at source and target, and decide; nothing is created.

    ``folder``: of the plan, where part files are made, in a place that was looked at before. Runs
    in a transaction of its own, which it makes read-only for a query. Raises SourceError,
    RightsMissing, TargetError or OptionError.
    """
    path = Path(options.path)
    if not options.is_folder:
        check_target_path(path, replace=options.if_exists == "replace")
    told = connection.execute(NOTATION, {"names": list(SETTINGS)})
    settings = {row.name: row.setting for row in told}
    if options.format == PARQUET:
        settings |= PARQUET_SETTINGS
    table: TableName | None = None
    oid: int | None = None
    if is_query(options.source):
        query = check_query(connection, options.source)
        select: sql.Composable = sql.SQL(braced(query)).format()
        title = _short(query)
    else:
        relation = find_relation(connection, options.source)
        select = sql.SQL("SELECT * FROM {}").format(relation.name.identifier)
        title = relation.name.table
        if relation.in_blocks:
            table, oid = relation.name, relation.oid
    plan = DownloadPlan(
        path=path,
        select=spoken(connection, select),
        table=table,
        oid=oid,
        options=options,
        settings=settings,
        folder=folder,
        **described(output_columns(connection, select), options),
    )
    if plan.table is None and len(plan.columns) > MOST_COLUMNS:
        raise OptionError(
            f"the rows of a query or view are kept in a table until they are written, and this one "
            f"has {len(plan.columns):,} columns; Postgres allows {MOST_COLUMNS:,}. Select fewer of "
            "them"
        )
    if options.format == PARQUET:
        _check_names(plan.columns)
    return JobSpec(
        key=options.key(),
        kind=KIND,
        name=f"{title} → {path.name}{'/' if options.is_folder else ''}",
        source=options.source,
        target=options.path,
        options=options.to_json(),
        plan=plan.to_json(),
    )


def described(columns: list[OutputColumn], options: DownloadOptions) -> dict[str, Any]:
    """What the plan keeps of the columns."""
    return {
        "columns": [column.name for column in columns],
        "types": [column.type_oid for column in columns],
        "type_names": [column.type_name for column in columns],
        "escaped": [options.escape_formulas and column.category in TEXTUAL for column in columns],
    }


def _check_names(columns: list[str]) -> None:
    """OptionError where a Parquet file cannot have such columns."""
    if not columns:
        raise OptionError("a Parquet file has one column at least")
    twice = [name for place, name in enumerate(columns) if name in columns[:place]]
    if twice:
        raise OptionError(
            f'two columns are called "{twice[0]}", and a Parquet file needs a name for each; give '
            "them names in a query: SELECT ... AS name"
        )


def _short(query: str) -> str:
    """A query on one line, cut to a title."""
    line = " ".join(query.split())
    return line if len(line) <= 48 else f"{line[:47]}…"
