"""The plan of a download as the database has it, checked before any of it is used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection

from taskwidgets.errors import TaskwidgetsError
from taskwidgets.runtime.store import JobSpec
from taskwidgets.transfers.download_plan import DownloadOptions, DownloadPlan
from taskwidgets.transfers.part_formats import PARQUET_SETTINGS
from taskwidgets.transfers.recorded_plan import RecordedPlan
from taskwidgets.transfers.snapshot import SETTINGS
from taskwidgets.transfers.sources import check_query, find_relation, is_query
from taskwidgets.transfers.tables import braced, spoken

__all__ = ["check_part_name", "checked_download", "checked_values"]

TOKEN = re.compile(r"[0-9a-z]{1,64}")
PART_NAME = re.compile(r"part-\d{5,}(-[0-9a-z]+)*(\.[0-9a-z]+)*(\.[0-9]+)?")


def checked_download(connection: Connection, spec: JobSpec, job_id: int) -> DownloadPlan:
    """The plan of a recorded download, its query made again from the options.

    For the begin of a transaction of its own, which a query makes read-only. PlanRefused where the
    plan does not follow from the options.
    """
    plan = checked_values(spec, job_id)
    record = RecordedPlan(job_id)
    source = plan.options.source
    if is_query(source):
        record.same("table", plan.table, None)
        if plan.materialized is not None or plan.published is not None:
            return plan.with_(select="")  # it is not run any more
        query = check_query(connection, source)
        return plan.with_(select=spoken(connection, sql.SQL(braced(query)).format()))
    if plan.table is None and (plan.materialized is not None or plan.published is not None):
        return plan.with_(select="")
    relation = find_relation(connection, source)
    if plan.table is not None:
        record.same("table", str(plan.table), str(relation.name))
    select = sql.SQL("SELECT * FROM {}").format(relation.name.identifier)
    return plan.with_(select=spoken(connection, select))


def checked_values(spec: JobSpec, job_id: int) -> DownloadPlan:
    """The plan, as far as it can be checked without the database; its query is not."""
    record = RecordedPlan(job_id)
    stored = spec.plan
    try:
        options = DownloadOptions(**spec.options)
        key = options.key()
        _check_numbers(record, stored)
        plan = DownloadPlan.from_json(stored)
    except TaskwidgetsError as error:
        record.refuse(str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        record.refuse(f"its plan cannot be read ({type(error).__name__}: {error})")
    record.same("options", plan.options.to_json(), options.to_json())
    record.same("key", spec.key, key)
    record.same("path", plan.path, Path(options.path))
    allowed = {*SETTINGS, *PARQUET_SETTINGS}
    for name, value in plan.settings.items():
        if name not in allowed:
            record.refuse(f"it sets {name!r}")
        record.instance(name, value, str)
    record.texts("columns", plan.columns)
    record.texts("type_names", plan.type_names)
    for name, kind in (("types", int), ("escaped", bool)):
        for value in getattr(plan, name):
            record.instance(name, value, kind)
    return plan


def _check_numbers(record: RecordedPlan, stored: Any) -> None:
    """Numbers are written into statements as they are."""
    record.whole_numbers("plan", stored, "oid")
    if stored.get("witness") is not None:
        record.instance("witness", stored["witness"], dict)
        record.whole_numbers("witness", stored["witness"], "filenode", "blocks", "oldest", "rows")
    for name in ("materialized", "published"):
        if stored.get(name) is not None:
            record.instance(name, stored[name], dict)
            record.whole_numbers(
                name, stored[name], "rows", "blocks", "size", "rows_read", "mtime_ns"
            )
    folder = stored.get("folder")
    if folder is not None:
        record.instance("folder", folder, dict)
        record.whole_numbers("folder", folder, "parts")
        if not TOKEN.fullmatch(str(folder.get("token", "0"))):
            record.refuse(f"folder.token is {folder['token']!r}")


def check_part_name(job_id: int, name: object) -> str:
    """The name of a part file, out of a checkpoint: no path to somewhere else."""
    if not isinstance(name, str) or not PART_NAME.fullmatch(name):
        RecordedPlan(job_id).refuse(f"a checkpoint names the part file {name!r}")
    return name
