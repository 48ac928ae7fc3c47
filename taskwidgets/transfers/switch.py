"""The end of an upload as a crew's task of one batch: the staging table becomes the target."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import psycopg2
from sqlalchemy import Connection

from taskwidgets.errors import TargetError, TargetExists
from taskwidgets.publish import replacement
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.states import State
from taskwidgets.runtime.words import counted
from taskwidgets.store import checkpoints, loaded_contents
from taskwidgets.store.driver import commit_in_users_path
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.transfers import tables
from taskwidgets.transfers.crew import Session
from taskwidgets.transfers.loaded_check import check_within, contents
from taskwidgets.transfers.upload_plan import UploadPlan

__all__ = ["Incomplete", "Switch"]


class Incomplete(Exception):
    """A server that crashed has lost what it committed last: rows, and the ledger with them."""


class Switch:
    """Makes the staging table the target, and completes the job; ``receipt`` is what it did."""

    def __init__(
        self, run: Run, store: PostgresJobStore, plan: UploadPlan, staging: Any, sha256: str
    ) -> None:
        self._run = run
        self._store = store
        self._plan = plan
        self._staging = staging
        self._left = ["switch"]
        self.done = False  # whether it is committed
        progress = run.meter.snapshot()
        end = plan.size if plan.data_stop is None else plan.data_stop
        self._loaded = (end - plan.data_start, progress.rows)
        made_of = {} if plan.origin is None else plan.origin["facts"]
        self.receipt = Receipt(
            rows_read=progress.rows + progress.rejected,
            rows_loaded=progress.rows,
            rows_rejected=progress.rejected,
            bytes=made_of.get("bytes", plan.size),
            seconds=round(progress.elapsed, 3),
            sha256=made_of.get("sha256", sha256),
            source=plan.source,
            target=str(plan.target),
            notes=plan.notes,
        )

    def take(self) -> str | None:
        return self._left.pop() if self._left else None

    def tool(self) -> Session:
        return Session(self._store.database)

    def carry(self, tool: Session, batch: str) -> None:
        connection = tool.connection
        plan, receipt = self._plan, self.receipt
        with connection.begin():
            if checkpoints.totals(connection, self._run.job_id) != self._loaded:
                raise Incomplete
            reach("before the final switch")
            if plan.source_column is not None:
                tables.drop_default(connection, self._staging, plan.source_column)
            ledger = checkpoints.committed(connection, self._run.job_id)
            table = None
            if plan.if_exists == "append":
                loaded_contents.lock(connection, str(plan.target))
                table = tables.find_table(connection, plan.target)
                check_within(connection, plan, ledger)
                # Made empty and filled like any other: the rows then bear this transaction's
                # number, by which a later call knows that they are in (tables.untouched).
                if table is None:
                    tables.create_like(connection, plan.target, self._staging)
                arrived = tables.append(connection, self._staging, plan.target, plan.staged_columns)
                if arrived != receipt.rows_loaded:
                    self._check_staging(connection)
                    raise TargetError(
                        f'of {receipt.rows_loaded:,} rows, {arrived:,} arrived in "{plan.target}": '
                        "a trigger or a rule of the table holds rows back. Nothing was appended"
                    )
                tables.drop(connection, self._staging)
            else:
                self._check_staging(connection)
                self._rename(connection)
            landing = tables.landing(connection, plan.target)
            loaded_contents.record(
                connection,
                self._run.job_id,
                contents(plan, ledger),
                table_oid=landing.oid,
                table_name=str(plan.target),
                xid=landing.xid,
                made_table=plan.if_exists != "append",
            )
            landed = asdict(landing)
            claim = self._run.claim
            self._store.change_plan(connection, claim, {**plan.to_json(), "landed": landed})
            self._store.move_within(
                connection, claim, State.COMPLETED, "all rows are in",
                progress=self._run.meter.snapshot(), receipt=receipt,
            )  # fmt: skip
            if plan.if_exists == "append":
                commit_in_users_path(connection)
            reach("at the final switch")
        reach("after the final switch")
        self.done = True

    def _check_staging(self, connection: Connection) -> None:
        """Compare the staging table itself with the ledger; from here on, nobody changes it.

        The ledger says what was loaded, not what others did to the rows after that.
        """
        tables.lock_out_others(connection, self._staging)
        staged, loaded = tables.count_rows(connection, self._staging), self.receipt.rows_loaded
        if staged != loaded:
            raise TargetError(
                f'the staging table "{self._staging}" has {counted(staged, "row")}, but by its '
                f"checkpoints this job loaded {loaded:,}: another session changed one or the "
                f'other. Nothing was put into "{self._plan.target}". Start over with again=True, '
                "or terminate the job"
            )

    def _rename(self, connection: Connection) -> None:
        plan = self._plan
        replaces = plan.if_exists == "replace"
        old = tables.find_table(connection, plan.target) if replaces else None
        if old is not None:
            tables.check_replace(connection, plan.target, old)  # things may have changed since
            passed_on = replacement.inherited(connection, old.oid)
        else:
            passed_on = replacement.default_grants(connection, str(plan.target.schema))
        try:
            tables.put_in_place(connection, self._staging, plan.target, replace=replaces)
        except psycopg2.errors.DuplicateTable:
            raise TargetExists(
                f'"{plan.target}" has come into being meanwhile; drop or rename it and resume the '
                "job, or terminate it"
            ) from None
        passed_on.apply(connection, plan.target.identifier, frozenset(plan.staged_columns))

    def is_done(self, tool: Session, batch: str) -> bool:
        with tool.connection.begin():
            self._store.lock(tool.connection, self._run.claim)
        self.done = self._store.record(self._run.job_id).state is State.COMPLETED
        return self.done

    def count(self, batch: str) -> None:
        """Nothing is left to count: the receipt has it."""
