"""How an upload's plan comes about: source and target are looked at, and what is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection

from taskwidgets.errors import OptionError, SourceError
from taskwidgets.runtime.store import JobSpec
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.identifiers import SYSTEM_COLUMNS, by_column
from taskwidgets.tabular.source import Fingerprint, check_readable
from taskwidgets.tabular.types import check_types
from taskwidgets.transfers import tables
from taskwidgets.transfers.names import TableName, parse_table_name
from taskwidgets.transfers.reading import Reading, find_reading
from taskwidgets.transfers.upload_options import KIND, UploadOptions
from taskwidgets.transfers.upload_plan import UploadPlan

__all__ = ["dialect_of", "make_plan", "resolve_target", "settled_plan"]


def make_plan(
    connection: Connection, options: UploadOptions, target: TableName, *, again: bool = False
) -> tuple[JobSpec, UploadPlan]:
    """Look at source and target, and decide; nothing is created.

    ``again``: rows that an earlier job has appended are appended once more.

    Raises SourceError, TargetError, RightsMissing or OptionError, whichever finds a fault first:
    the file, then the target, then the types.
    """
    path = check_readable(options.source)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise SourceError(
            f"the name of {str(path)!r} is not UTF-8, so no database can remember it; "
            "rename the file"
        ) from None
    fingerprint = Fingerprint.of(path)
    reading = find_reading(
        path,
        options.overrides,
        keeps_rejects=options.on_error == "reject",
        needs_types=options.types != "text",
        limits=options.limits,
    )
    plan = settled_plan(connection, options, target, path, fingerprint, reading)
    plan = replace(plan, source_key=str(path), loads_again=again)
    spec = JobSpec(
        key=options.key(target),
        kind=KIND,
        name=f"{path.name} → {target.table}",
        source=str(path),
        target=str(target),
        options=options.to_json(),
        plan=plan.to_json(),
        total=None if plan.data_stop is None else plan.data_stop - plan.data_start,
    )
    return spec, plan


def settled_plan(
    connection: Connection,
    options: UploadOptions,
    target: TableName,
    path: Path,
    fingerprint: Fingerprint,
    reading: Reading,
) -> UploadPlan:
    """The plan for a source of which it is known how it is read."""
    columns = reading.columns
    if options.source_column is not None:
        if options.source_column in columns:
            raise OptionError(
                f"source_column: the source has a column {options.source_column!r} of its own; "
                "give another name"
            )
        columns = (*columns, options.source_column)
    _refuse_system_columns(path, columns)
    existing = tables.check_target(connection, target, columns, options.if_exists)
    types = _types(connection, options, reading, target, existing)
    given = _given_types(options, reading)
    exact_types = _exact_types(connection, given, existing) if options.cast == "exact" else {}
    if options.source_column is not None:
        types.setdefault(options.source_column, "text")
    plan = UploadPlan(
        path=path,
        fingerprint=fingerprint,
        dialect=reading.dialect,
        columns=reading.columns,
        types=types,
        data_start=reading.data_start,
        target=target,
        if_exists=options.if_exists,
        description=reading.description,
        data_stop=reading.data_stop,
        first_line=reading.first_line,
        on_error=options.on_error,
        max_rejects=options.max_rejects,
        notes=reading.notes,
        source_column=options.source_column,
        source_name=path.name,
        names=options.names,
        exact_types=exact_types,
        limits=options.limits,
        inferred=tuple(name for name in reading.columns if name not in given)
        if reading.is_guessed and not existing
        else (),
    )
    return replace(plan, dialect=dialect_of(plan, reading))


def _exact_types(
    connection: Connection, given: Mapping[str, str], existing: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """By column, the types through which its values go, none of which may change them."""
    bases = tables.base_types(connection, {*given.values(), *existing.values()})
    exact_types = {}
    for column in {**existing, **given}:
        types = [types[column] for types in (given, existing) if column in types]
        exact_types[column] = tuple(dict.fromkeys(bases.get(name, name) for name in types))
    return exact_types


def _refuse_system_columns(path: Path, columns: Sequence[str]) -> None:
    for column in columns:
        if column in SYSTEM_COLUMNS:
            raise SourceError(
                f"{path}: no column of a table can be called {column!r}, as each has a system "
                f'column of this name; names="snake" makes it {column}_',
                path=path,
                column=column,
            )


def dialect_of(plan: UploadPlan, reading: Reading) -> Dialect:
    """What COPY is told of a source that is read so."""
    if reading.description is None:
        return reading.dialect
    # A conversion of values may need records written anew.
    return replace(plan, columns=reading.columns, description=reading.description).grammar.output


def _types(
    connection: Connection,
    options: UploadOptions,
    reading: Reading,
    target: TableName,
    existing: dict[str, str],
) -> dict[str, str]:
    """Each column's type: given, else the existing table's, else inferred from a sample."""
    given = _given_types(options, reading)
    given = tables.resolve_types(connection, given)
    if existing:
        tables.check_assignable(connection, target, given, existing)
        return {**existing, **given}
    return {**dict.fromkeys(reading.columns, "text"), **reading.inferred, **given}


def _given_types(options: UploadOptions, reading: Reading) -> dict[str, str]:
    """The types that the caller gave, by the columns' names in the table."""
    wanted = options.types
    if isinstance(wanted, Mapping):
        wanted = by_column(wanted, reading.header, reading.columns, "types")
    return check_types(wanted, reading.columns)


def resolve_target(connection: Connection, table: str) -> TableName:
    """The target's full name, as the search path stands now."""
    return tables.locate(connection, parse_table_name(table), table)
