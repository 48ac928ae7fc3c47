"""An upload whose source is made ready in the job itself: spooled, and only then looked at.

The call returns at once, with a plan that says where the rows come from and where they go. What is
decided from the source, and the staging table, come when it is whole: both in one transaction,
under the claim. From then on the job is an upload like any other.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pandas as pd
from sqlalchemy import Connection

from taskwidgets.errors import SourceError
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.store import JobRecord, JobSpec
from taskwidgets.store import listing
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular.source import Fingerprint
from taskwidgets.tabular.types import check_types
from taskwidgets.transfers import tables
from taskwidgets.transfers.faults import MEND
from taskwidgets.transfers.many import ManyUpload
from taskwidgets.transfers.many_plan import plan_files
from taskwidgets.transfers.names import TableName, staging_name
from taskwidgets.transfers.origins import materials
from taskwidgets.transfers.origins.frame import spool_frame
from taskwidgets.transfers.origins.origin import FILES, FRAME, Given, Origin
from taskwidgets.transfers.origins.spool import Contents, Spool, check_wish
from taskwidgets.transfers.reading import spool_reading
from taskwidgets.transfers.replay import replay
from taskwidgets.transfers.upload import Upload, undo
from taskwidgets.transfers.upload_plan import KIND, UploadOptions, UploadPlan, settled_plan

__all__ = ["PreparedUpload", "is_prepared", "prepared_spec"]

LEFT_BEHIND = 200  # finished jobs that are looked at for a spool that a crash has left


def prepared_spec(
    connection: Connection, options: UploadOptions, target: TableName, given: Given
) -> JobSpec:
    """The job, as far as it can be told before its source is there; nothing is created.

    Raises TargetError, RightsMissing or OptionError: what stands in the way of any source.
    """
    origin = given.origin
    assert origin is not None
    columns = origin.columns
    if columns is not None and options.source_column is not None:
        columns = (*columns, options.source_column)
    if columns is not None or options.if_exists != "append":
        tables.check_target(connection, target, columns or (), options.if_exists)
    if origin.columns is not None:
        tables.check_types(connection, check_types(options.types, origin.columns))
    return JobSpec(
        key=options.key(target),
        kind=KIND,
        name=f"{given.short} → {target.table}",
        source=origin.name,
        target=str(target),
        options=options.to_json(),
        plan={
            "origin": origin.to_json(),
            "target": [target.schema, target.table],
            "if_exists": options.if_exists,
        },
    )


def is_prepared(record: JobRecord) -> bool:
    """Whether the job's source is made ready in the job itself."""
    return record.spec.plan.get("origin") is not None


class PreparedUpload:
    """The work of such a job: make the source ready, settle the plan, load."""

    def __init__(self, store: PostgresJobStore, record: JobRecord, workers: int) -> None:
        self._store = store
        self._id = record.id
        self._key = record.spec.key
        self._name = record.spec.name
        self._origin = Origin.from_json(record.spec.plan["origin"])
        self._spool = Spool(
            self._origin.spool
        )  # of files there is none: they are loaded as they lie
        self._workers = workers

    def check(self) -> None:
        """SourceError where this process does not have what the source is made of."""
        if self._origin.kind != FRAME or materials.find(self._key) is not None:
            return
        if self._spool.contents is None and not self._store.record(self._id).undoing:
            raise SourceError(
                f"job {self._id} ({self._name}) loads a DataFrame that was not written down yet, "
                "and that this process does not have; run the call again, with the same DataFrame"
            )

    def run(self, run: Run) -> Receipt:
        """Make ready what is not, then load; the spool goes when all is in."""
        try:
            plan = self._planned(run)
            kind = ManyUpload if plan.parts else Upload
            receipt = kind(self._store, plan, run.job_id, self._workers).run(run)
        except SourceError as fault:
            raise self._told(fault) from fault.__cause__
        self._leave()
        return receipt

    def replay(self, job_id: int, mended: pd.DataFrame) -> Receipt:
        """Load mended rejects into the finished table."""
        return replay(self._store, job_id, mended)

    def clean_up(self, run: Run) -> None:
        """Drop what is in the database, then what is on the disk."""
        undo(self._store, run)
        self._leave()

    # ------------------------------------------------------------------ inside

    def _leave(self) -> None:
        """What was made for the job only is not needed any more."""
        if self._origin.spool:
            self._spool.remove()
        materials.forget(self._key)

    def _planned(self, run: Run) -> UploadPlan:
        """The plan, once the source is ready for it."""
        if self._origin.kind != FILES:
            return self._settled(run, self._make_ready(run))
        record = self._record()
        if "fingerprint" in record.spec.plan:
            return UploadPlan.from_json(record.spec.plan)

        def breathe(words: str) -> None:
            check_wish(run)
            run.say(words)

        reach("before the files")
        make = plan_files(UploadOptions.from_json(record.spec.options), self._origin, breathe)
        run.say("")
        return self._settle(run, make)

    def _make_ready(self, run: Run) -> Contents:
        """The table in the spool, written unless it is there."""
        contents = self._spool.contents
        if contents is None:
            self._remove_left_behind()
            run.say(f"writing {self._origin.name} down, to load it from there")
            reach("before the spool")
            contents = spool_frame(run, self._spool, self._material())
            run.say("")
            reach("after the spool")
        return contents

    def _material(self) -> Any:
        material = materials.find(self._key)
        if material is None:
            self.check()
        return material

    def _settled(self, run: Run, contents: Contents) -> UploadPlan:
        """The plan, decided now unless that was done before."""
        options = UploadOptions.from_json(self._record().spec.options)
        path = self._spool.table
        fingerprint = Fingerprint.of(path)
        reading = spool_reading(path, contents.types, keeps_rejects=options.on_error == "reject")

        def make(connection: Connection, target: TableName) -> UploadPlan:
            plan = settled_plan(connection, options, target, path, fingerprint, reading)
            return replace(
                plan,
                origin=self._origin.to_json(),
                source_name=str(self._origin.facts["name"]),
                notes=(*plan.notes, *contents.notes),
            )

        return self._settle(run, make)

    def _settle(self, run: Run, make: Callable[[Connection, TableName], UploadPlan]) -> UploadPlan:
        """Plan and staging table, in one transaction, once."""
        found: list[UploadPlan] = []

        def act() -> None:
            with self._store.in_transaction() as connection:
                self._store.lock(connection, run.claim)
                stored = self._store.record(run.job_id).spec.plan
                if "fingerprint" in stored:  # before, by whatever process
                    found[:] = [UploadPlan.from_json(stored)]
                    return
                plan = make(connection, TableName(*stored["target"]))
                self._store.change_plan(connection, run.claim, plan.to_json())
                tables.create_staging(
                    connection,
                    staging_name(run.job_id),
                    plan.staged_columns,
                    plan.types,
                    plan.source_column,
                )
                found[:] = [plan]
            reach("after the plan")

        self._store.database.patiently(act, run.say)
        return found[0]

    def _record(self) -> JobRecord:
        found: list[JobRecord] = []
        self._store.database.patiently(
            lambda: found.append(self._store.record(self._id)), lambda _: None
        )
        return found[-1]

    def _remove_left_behind(self) -> None:
        """Spools of jobs that were at their end when their process was killed."""
        # Nothing depends on it: whoever comes next tries again.
        with suppress(Exception):
            for folder in listing.spools_left(self._store.database, LEFT_BEHIND):
                Spool(folder).remove()

    def _told(self, fault: SourceError) -> SourceError:
        """The fault, told of the source and not of the spool, which nobody has written."""
        if not self._origin.spool:
            return fault
        table = str(self._spool.table)
        words = str(fault)
        if table not in words:
            return fault
        if fault.line is not None:
            row = _row_at(table, fault.line)
            words = words.replace(f"{table}, line {fault.line:,}", f"{table}, row {row:,}")
        words = words.replace(table, self._origin.name).replace(MEND, self._mend())
        return type(fault)(
            words, path=self._origin.facts.get("path"), column=fault.column, row=fault.row,
            sqlstate=fault.sqlstate,
        )  # fmt: skip

    def _mend(self) -> str:
        return (
            "Mend it and run the cell again: that is a new job, so terminate this one; or load it "
            'with on_error="reject"'
        )


def _row_at(table: str, line: int) -> int:
    """Which row of a spooled table, from 1 without the header, begins at a physical line."""
    with open(table, encoding="utf-8", newline="") as file:  # noqa: PTH123 - a text of our own
        reader = csv.reader(file)
        return next((row for row, _ in enumerate(reader) if reader.line_num >= line), 0)
