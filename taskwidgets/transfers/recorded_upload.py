"""The plan of an upload as the database has it, checked before any of it is used."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import sqlalchemy.exc
from sqlalchemy import Connection, text

from taskwidgets.errors import TaskwidgetsError
from taskwidgets.runtime.store import JobSpec
from taskwidgets.transfers import tables
from taskwidgets.transfers.names import TableName, parse_table_name, staging_name
from taskwidgets.transfers.origins.files import paths_of
from taskwidgets.transfers.origins.origin import FILES, FRAME, Origin
from taskwidgets.transfers.origins.remote import REMOTE
from taskwidgets.transfers.origins.tabular_files import TABULAR
from taskwidgets.transfers.recorded_plan import RecordedPlan
from taskwidgets.transfers.staging import check_staging
from taskwidgets.transfers.upload_options import UploadOptions
from taskwidgets.transfers.upload_plan import UploadPlan

__all__ = ["check_origin", "checked_upload", "secure_staging"]

# Whether the server reads each name as a type. Those of pg_catalog run no code of users.
TYPES = text(
    """
    SELECT given.name, t.oid::bigint AS oid, t.typnamespace = 'pg_catalog'::regnamespace AS is_own
    FROM unnest(CAST(:names AS text[])) AS given (name)
    LEFT JOIN pg_type t ON t.oid = to_regtype(given.name)
    """
)
SPOOL_NAME = re.compile(r"[0-9a-f]{32}")
SPOOLED = re.compile(r"(\d+-)?table\.csv|download")


def checked_upload(
    connection: Connection, spec: JobSpec, job_id: int, known: UploadPlan | None = None
) -> UploadPlan:
    """The plan of a recorded upload; PlanRefused where it does not follow from the options.

    ``known``: a plan of the same job, whose files are taken where they are the same.
    """
    record = RecordedPlan(job_id)
    options = check_origin(connection, spec, job_id)
    try:
        plan = UploadPlan.from_json(spec.plan, known)
    except TaskwidgetsError as error:
        record.refuse(str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        record.refuse(f"its plan cannot be read ({type(error).__name__}: {error})")
    for name in ("on_error", "max_rejects", "source_column"):
        record.same(name, getattr(plan, name), getattr(options, name))
    for name in ("data_start", "data_stop", "first_line", "beginnings"):
        record.whole_numbers("plan", vars(plan), name)
    record.texts("columns", plan.columns)
    record.instance("source_name", plan.source_name, str)
    record.same("types", {*plan.types}, {*plan.staged_columns})
    _check_paths(record, options, plan)
    _check_types(connection, record, options, plan)
    return plan


def secure_staging(connection: Connection, plan: UploadPlan, job_id: int) -> None:
    """Make sure of the job's staging table; see `staging.check_staging`."""
    types = _type_numbers(connection, RecordedPlan(job_id), {*plan.types.values()})
    check_staging(connection, staging_name(job_id), job_id, types)


def check_origin(connection: Connection, spec: JobSpec, job_id: int) -> UploadOptions:
    """Check what a plan says before the source was looked at: source and target.

    Returns the options of the call.
    """
    record = RecordedPlan(job_id)
    stored = spec.plan
    try:
        options = UploadOptions.from_json(spec.options)
        target = TableName(*stored["target"])
        given = parse_table_name(options.table)
        key = options.key(target)
    except TaskwidgetsError as error:
        record.refuse(str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        record.refuse(f"its options cannot be read ({type(error).__name__}: {error})")
    record.same("key", spec.key, key)
    record.same("if_exists", stored.get("if_exists"), options.if_exists)
    for part in (target.schema, target.table):
        record.instance("target", part, str)
    if (given.schema, given.table) != (target.schema, target.table):
        now = tables.locate(connection, given, options.table)
        record.same("target", str(target), str(now))
    if stored.get("origin") is not None:
        _check_source(record, options, stored["origin"])
    return options


def _check_source(record: RecordedPlan, options: UploadOptions, stored: Any) -> None:
    """What is made ready must be what the call named, and where only this user can write."""
    record.instance("origin", stored, dict)
    origin = Origin.from_json(stored)
    facts = origin.facts
    record.instance("origin.facts", facts, dict)
    if origin.spool:
        _check_spool(record, origin.spool)
    if origin.kind == FILES:
        paths = _paths(record, facts)
        if "pattern" in facts:
            record.same("origin.facts.pattern", facts["pattern"], options.source)
            pattern = options.source.replace("**/", "*")  # which may stand for no folder at all
            matches = re.compile(fnmatch.translate(pattern)).match
            for path in paths:
                if os.path.normpath(path) != path or not matches(path):
                    record.refuse(f"{path!r} does not match {options.source!r}")
        else:
            named = replace(options, source=json.dumps(paths)).stored_source
            record.same("origin.facts.paths", named, options.stored_source)
    elif origin.kind == REMOTE:
        record.same("origin.facts.url", facts.get("url"), options.source)
    elif origin.kind in TABULAR:
        record.same("origin.facts.path", facts.get("path"), options.source)
    elif origin.kind != FRAME:
        record.refuse(f"it loads from {origin.kind!r}, which this release does not know")


def _check_spool(record: RecordedPlan, folder: object) -> None:
    """A spool has types of columns in it, and data: nobody else may have written them."""
    record.instance("origin.spool", folder, str)
    path = Path(str(folder))
    if not SPOOL_NAME.fullmatch(path.name) or path.parent.name != "spool":
        record.refuse(f"{folder!r} is no folder that is made for a source")
    try:
        facts = path.lstat()
    except OSError:
        return  # it is made when it is needed
    if path.is_symlink() or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        record.refuse(f"others can write into {folder!r}")


def _check_paths(record: RecordedPlan, options: UploadOptions, plan: UploadPlan) -> None:
    """Every file that is read is one that the call named, or was made of one."""
    if plan.origin is None:
        record.same("path", str(plan.path), options.source)
        record.same("parts", list(plan.parts), [])
        return
    spool, facts = Path(plan.origin["spool"] or "/"), plan.origin["facts"]
    allowed = {facts["path"]} if "path" in facts else set()
    if plan.origin["kind"] == FILES:
        allowed.update(_paths(record, facts))
    elif not plan.parts:
        _check_path(record, str(plan.path), spool, allowed)
    for path in plan.parts.paths:
        _check_path(record, path, spool, allowed)
    for made_of in plan.parts.made_of.values():
        if made_of["path"] not in allowed:
            record.refuse(f"it reads {made_of['path']!r}")


def _paths(record: RecordedPlan, facts: Mapping[str, Any]) -> list[str]:
    try:
        paths = paths_of(facts)
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        record.refuse(f"its list of files cannot be read ({type(error).__name__}: {error})")
    record.texts("origin.facts.paths", paths)
    return paths


def _check_path(record: RecordedPlan, name: str, spool: Path, allowed: set[str]) -> None:
    if name in allowed:
        return
    path = Path(name)
    if path.parent != spool or not SPOOLED.fullmatch(path.name):
        record.refuse(f"it reads {name!r}")


def _check_types(
    connection: Connection, record: RecordedPlan, options: UploadOptions, plan: UploadPlan
) -> None:
    """Each type is one of the server's own, or one that the call or the target names."""
    foreign = {}
    for name, row in _look_up(connection, record, plan.types).items():
        if row.oid is None:
            record.refuse(f"{name!r} is no type here")
        if not row.is_own:
            foreign[name] = row.oid
    if not foreign:
        return
    wanted: Mapping[str, str] = options.types if isinstance(options.types, Mapping) else {}
    known = {*tables.resolve_types(connection, dict(wanted)).values()}
    table = tables.find_table(connection, plan.target) if plan.if_exists == "append" else None
    if table is not None:
        known |= {column.type for column in table.columns}
    allowed = _type_numbers(connection, record, known)
    for name, oid in foreign.items():
        if oid not in allowed:
            record.refuse(f"neither the call nor the target has the type {name!r}")


def _type_numbers(connection: Connection, record: RecordedPlan, names: set[str]) -> set[int]:
    """The numbers in the catalog of these types."""
    found = _look_up(connection, record, {name: name for name in names})
    return {int(row.oid) for row in found.values() if row.oid is not None}


def _look_up(connection: Connection, record: RecordedPlan, types: Mapping[str, Any]) -> Any:
    for kind in types.values():
        record.instance("type", kind, str)
        if ";" in kind or "--" in kind or "/*" in kind or "\0" in kind:
            record.refuse(f"{kind!r} is no type")
    names = {tables.in_any_path(kind) for kind in types.values()}
    try:
        with connection.begin_nested():
            rows = connection.execute(TYPES, {"names": sorted(names)}).all()
    except (psycopg2.Error, sqlalchemy.exc.DBAPIError) as error:  # before Postgres 16
        cause = getattr(error, "orig", error)
        record.refuse(f"one of its types is none ({str(cause).splitlines()[0]})")
    return {row.name: row for row in rows}
