"""Rejects that somebody has mended: loaded into the finished table, each exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from taskwidgets.errors import IllegalTransition, JobOfOtherRole, OptionError, TargetError
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.states import State
from taskwidgets.store import rejects
from taskwidgets.store.driver import commit_in_users_path
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.rejects import Reject
from taskwidgets.store.translate import translated
from taskwidgets.tabular.cleaning import clean_text
from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.repair import Fault
from taskwidgets.transfers import tables
from taskwidgets.transfers.copy_in import CopyIn
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.origins.pandas_values import is_frame
from taskwidgets.transfers.recorded_upload import checked_upload
from taskwidgets.transfers.sorting import Sorted, Sorter, changed_records
from taskwidgets.transfers.upload_plan import UploadPlan

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["replay"]

# The mended rows come in here first, so that what does not fit leaves no trace in the target.
# Its name is like that of any staging table, as messages are read by it (transfers.faults).
MENDED = TableName("pg_temp", "taskwidgets_staging_0")


def replay(store: PostgresJobStore, job_id: int, mended: pd.DataFrame) -> Receipt:
    """Load the changed ones, and keep the others; see ``Job.replay``.

    In one transaction: rows, rejects and receipt. The rejects' rows are locked, so that of two
    calls with the same frame the second finds nothing to do.
    """
    wanted = _checked(mended)
    record = store.record(job_id)
    if record.state is not State.COMPLETED or record.receipt is None:
        raise IllegalTransition(
            f"job {job_id} is {record.state}; mended rejects are loaded when it is completed",
            job_id=job_id,
        )
    if not record.is_of_this_role:
        raise JobOfOtherRole(
            f"job {job_id} was made by the role {record.role}; only that role loads its rejects",
            job_id=job_id,
        )
    with store.in_transaction() as connection, translated(store.database.url):
        plan = checked_upload(connection, record.spec, job_id)
        stored = rejects.unloaded(connection, job_id, list(wanted))
        changed = {
            number: wanted[number] for number, (raw, _) in stored.items() if wanted[number] != raw
        }
        if not changed:
            return record.receipt
        refused, arrived = {}, 0
        for file in sorted({stored[number][1] for number in changed}):
            own = {number: raw for number, raw in changed.items() if stored[number][1] == file}
            part = plan.of_part(file) if plan.parts else plan
            written = _written(own, part)
            sorted_in = _load(connection, part, written.data)
            arrived += sorted_in.rows
            refused.update(written.faults)
            for bad in sorted_in.bad:
                number = written.places[bad.start]
                refused[number] = Reject(0, 0, own[number], bad.reason, bad.column, bad.sqlstate)
        for number, found in refused.items():
            rejects.mend(connection, number, found)
        loaded = [number for number in changed if number not in refused]
        assert len(loaded) == arrived
        rejects.mark_replayed(connection, loaded)
        landed = asdict(tables.landing(connection, plan.target))
        receipt = replace(
            record.receipt,
            rows_loaded=record.receipt.rows_loaded + len(loaded),
            rows_rejected=record.receipt.rows_rejected - len(loaded),
        )
        progress = replace(
            record.progress, rows=receipt.rows_loaded, rejected=receipt.rows_rejected
        )
        decided = {**plan.to_json(), "landed": landed}
        store.count_again(connection, job_id, progress, receipt, decided)
        commit_in_users_path(connection)
    store.note(
        job_id, "replay", f"{len(loaded):,} mended rows loaded, {len(refused):,} still refused"
    )
    return receipt


def _checked(mended: pd.DataFrame) -> Mapping[int, str]:
    """number -> raw; OptionError for a frame that is not one of ``rejects()``."""
    if not is_frame(mended) or not {"id", "raw"} <= set(mended.columns):
        raise OptionError("replay() takes the data frame of job.rejects(), its column raw mended")
    if mended["id"].duplicated().any():
        raise OptionError("replay(): a reject stands in the frame twice; each id may be there once")
    found: dict[int, str] = {}
    for number, raw in zip(mended["id"], mended["raw"], strict=True):
        if not isinstance(raw, str):
            raise OptionError(f"replay(): the raw text of reject {number} is {raw!r}, and no text")
        found[int(number)] = raw.rstrip("\r\n")
    return found


@dataclass
class _Written:
    """The mended records as COPY takes them.

    ``places``: which reject begins at which byte; ``faults``: those that are no record.
    """

    data: bytes
    places: dict[int, int]
    faults: dict[int, Reject]


def _written(changed: Mapping[int, str], plan: UploadPlan) -> _Written:
    grammar = _grammar(plan)
    out, places, faults = bytearray(), {}, {}
    for number, raw in changed.items():
        found = clean_text(raw, grammar, plan.conversions)
        if isinstance(found, Fault):
            column = None if found.field is None else plan.columns[found.field]
            faults[number] = Reject(0, 0, raw, found.reason, column)
            continue
        record, rows = found
        if rows != 1:
            faults[number] = Reject(0, 0, raw, f"this is {rows} records, and should be one")
            continue
        places[len(out)] = number
        out += record
    return _Written(bytes(out), places, faults)


def _grammar(plan: UploadPlan) -> Grammar:
    """How the file is written, but in UTF-8: a mended text may have any character."""
    return replace(plan.grammar, codec="utf-8")


def _load(connection: Connection, plan: UploadPlan, data: bytes) -> Sorted:
    """The mended records through a temporary table into the target."""
    # Earlier releases kept the types as the search path of the time had them.
    types = tables.resolve_types(connection, plan.types)
    utf8 = replace(plan, dialect=_grammar(plan).output)
    tables.drop(connection, MENDED)
    tables.create_staging(connection, MENDED, plan.staged_columns, types, plan.source_column)
    tables.name_source(connection, plan.source_name)
    sorter = Sorter(
        CopyIn(MENDED, utf8),
        utf8.dialect,
        plan.columns,
        types,
    )
    sorted_in = sorter.load(connection, data, changed_records(utf8, data))
    if tables.find_table(connection, plan.target) is None:
        raise TargetError(f'the table "{plan.target}" is not there any more; nothing was loaded')
    arrived = tables.append(connection, MENDED, plan.target, plan.staged_columns)
    if arrived != sorted_in.rows:
        raise TargetError(
            f'of {sorted_in.rows:,} mended rows, {arrived:,} arrived in "{plan.target}": a trigger '
            "or a rule of the table holds rows back. Nothing was loaded"
        )
    tables.drop(connection, MENDED)
    return sorted_in
