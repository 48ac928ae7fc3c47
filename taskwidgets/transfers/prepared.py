"""An upload whose source is made ready in the job itself: spooled, and only then looked at.

The call returns at once, with a plan that says where the rows come from and where they go. What is
decided from the source, and the staging table, come when it is whole: both in one transaction,
under the claim. From then on the job is an upload like any other.
"""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from taskwidgets.cluster import Cluster
from taskwidgets.errors import OptionError, PlanRefused, SourceError
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.states import State
from taskwidgets.runtime.store import JobRecord, JobSpec
from taskwidgets.store import listing
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular.identifiers import by_column, snake_names
from taskwidgets.tabular.source import Fingerprint
from taskwidgets.tabular.types import check_types
from taskwidgets.transfers import tables
from taskwidgets.transfers.faults import MEND
from taskwidgets.transfers.many import ManyUpload
from taskwidgets.transfers.many_plan import plan_files
from taskwidgets.transfers.names import TableName, staging_name
from taskwidgets.transfers.origins import materials
from taskwidgets.transfers.origins.files import paths_of
from taskwidgets.transfers.origins.origin import FILES, FRAME, Given, Origin
from taskwidgets.transfers.origins.remote import REMOTE, Address, Remote
from taskwidgets.transfers.origins.spool import Contents, Spool, check_wish
from taskwidgets.transfers.origins.tabular_files import (
    EXCEL,
    PARQUET,
    check_sheet,
    is_same_file,
    refuse_change,
    spool_file,
    table_kind,
)
from taskwidgets.transfers.planning import settled_plan
from taskwidgets.transfers.reading import find_reading, spool_reading
from taskwidgets.transfers.recorded_plan import RecordedPlan
from taskwidgets.transfers.recorded_upload import check_origin, checked_upload
from taskwidgets.transfers.replay import replay
from taskwidgets.transfers.upload import Upload, undo
from taskwidgets.transfers.upload_options import KIND, UploadOptions
from taskwidgets.transfers.upload_plan import UploadPlan

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PreparedUpload", "is_prepared", "prepared_spec"]

MEND_FRAME = (
    "Mend it and run the cell again: that is a new job, so terminate this one; or load it with "
    'on_error="reject"'
)
SAY_INTERVAL = 0.25  # seconds between two words on which file is looked at
LEFT_BEHIND = 200  # finished jobs that are looked at for a spool that a crash has left


def prepared_spec(
    connection: Connection,
    options: UploadOptions,
    target: TableName,
    given: Given,
    *,
    again: bool = False,
) -> JobSpec:
    """The job, as far as it can be told before its source is there; nothing is created.

    ``again``: rows that an earlier job has appended are appended once more.

    Raises TargetError, RightsMissing or OptionError: what stands in the way of any source.
    """
    origin = given.origin
    assert origin is not None
    if origin.kind not in (FILES, REMOTE):
        refuse_overrides(options, origin)
    columns = origin.columns
    if columns is not None and options.names == "snake":
        columns = snake_names(columns)
    if columns is not None:
        assert origin.columns is not None
        wanted = options.types
        if isinstance(wanted, Mapping):
            wanted = by_column(wanted, origin.columns, columns, "types")
        tables.resolve_types(connection, check_types(wanted, columns))
    if columns is not None and options.source_column is not None:
        columns = (*columns, options.source_column)
    if columns is not None or options.if_exists != "append":
        tables.check_target(connection, target, columns or (), options.if_exists)
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
            "source_key": _source_key(options, origin),
            "loads_again": again,
        },
    )


def _source_key(options: UploadOptions, origin: Origin) -> str | None:
    """What identifies the source, whatever it holds; a DataFrame has no name."""
    if origin.kind == FRAME:
        return None
    if origin.kind == REMOTE:
        return options.source_hash
    if origin.kind == FILES:
        return str(options.to_json()["source"])
    return f"{options.source}#{options.sheet}" if options.sheet is not None else options.source


def refuse_overrides(options: UploadOptions, origin: Origin) -> None:
    """OptionError for what only delimited text can be told."""
    told = (
        set(options.overrides)
        - {"names"}
        - ({"header"} if origin.kind in (EXCEL, REMOTE, FILES) else set())
    )
    if told:
        raise OptionError(
            f"{', '.join(sorted(told))}: only delimited text is written in one way or another, "
            f"and {origin.name} is none"
        )


def is_prepared(record: JobRecord) -> bool:
    """Whether the job's source is made ready in the job itself."""
    return record.spec.plan.get("origin") is not None


class PreparedUpload:
    """The work of such a job: make the source ready, settle the plan, load."""

    def __init__(
        self,
        store: PostgresJobStore,
        record: JobRecord,
        workers: int,
        cluster: Cluster | None = None,
    ) -> None:
        self.cluster = cluster
        self._store = store
        self._id = record.id
        self._key = record.spec.key
        self._name = record.spec.name
        self._origin = Origin.from_json(record.spec.plan["origin"])
        self._spool = Spool(self._origin.spool)
        self._workers = workers

    def check(self) -> None:
        """SourceError where this process does not have what the source is made of."""
        what = self._missing()
        if what and not self._store.record(self._id).undoing:
            raise SourceError(
                f"job {self._id} ({self._name}) loads {what}; run the call again, with the same "
                "source"
            )

    def run(self, run: Run) -> Receipt:
        """Make ready what is not, then load; the spool goes when all is in."""
        try:
            plan = self._planned(run)
            self._keep(run, plan)
            kind = ManyUpload if plan.parts else Upload
            work = kind(self._store, plan, run.job_id, self._workers, self.cluster)
            receipt = work.run(run)
        except SourceError as fault:
            raise self._told(fault) from None
        self._leave()
        return receipt

    def replay(self, job_id: int, mended: pd.DataFrame) -> Receipt:
        """Load mended rejects into the finished table."""
        return replay(self._store, job_id, mended)

    def clean_up(self, run: Run) -> None:
        """Drop what is in the database, then what is on the disk."""
        undo(self._store, run)
        try:
            self._check_record(self._record())
        except PlanRefused as refused:  # the folder that it names is none that may be removed
            self._store.note(run.job_id, "files left", str(refused))
            materials.forget(self._key)
            return
        self._leave()

    # ------------------------------------------------------------------ inside

    def _leave(self) -> None:
        """What was made for the job only is not needed any more."""
        if self._origin.spool:
            self._spool.remove()
        materials.forget(self._key)

    def _missing(self) -> str:
        """What only the call has, and is still needed; "" when nothing is."""
        if materials.find(self._key) is not None:
            return ""
        if self._origin.kind == FRAME and self._spool.contents is None:
            return "a DataFrame that is not written down yet, and that this process does not have"
        secret = self._origin.kind == REMOTE and self._origin.facts["secret"]
        if secret and not self._spool.download.exists():
            return "a URL that is not fetched yet, with secrets that are kept nowhere"
        return ""

    def _planned(self, run: Run) -> UploadPlan:
        """The plan, once the source is ready for it."""
        record = self._record()
        options = self._check_record(record)
        kind = self._origin.kind
        if kind == FILES:
            return self._plan_of_files(run, record, options)
        if kind == FRAME:
            from taskwidgets.transfers.origins.frame import spool_frame  # with all of pandas

            contents = self._table(run, lambda _: True, lambda: spool_frame(
                run, self._spool, self._material(), options.limits))  # fmt: skip
            return self._settled(run, options, contents)
        path = Path(self._origin.facts["path"]) if kind != REMOTE else self._fetched(run)
        name = str(self._origin.facts["name"])
        table = table_kind(path, name) if kind == REMOTE else kind
        check_sheet(options.sheet, table, self._origin.name)
        if table is None:
            return self._settled(run, options, None)
        contents = self._table(
            run,
            lambda found: self._is_of(run, path, found),
            lambda: spool_file(
                run, self._spool, path, table, options.sheet, options.header, options.limits
            ),
        )
        return self._settled(run, options, contents)

    def _check_record(self, record: JobRecord) -> UploadOptions:
        """The options, once it is sure that the record follows from them; before any file is read.

        What this object was made of is checked as well: it may be of another time.
        """
        found: list[UploadOptions] = []

        def act() -> None:
            with self._store.in_transaction() as connection:
                found[:] = [check_origin(connection, record.spec, self._id)]

        self._store.database.patiently(act, lambda _: None)
        now = Origin.from_json(record.spec.plan["origin"])
        if (now.kind, now.spool) != (self._origin.kind, self._origin.spool):
            RecordedPlan(self._id).refuse("its source is not the one of before")
        self._origin = now
        return found[-1]

    def _plan_of_files(self, run: Run, record: JobRecord, options: UploadOptions) -> UploadPlan:
        if "fingerprint" in record.spec.plan:
            with self._store.in_transaction() as connection:
                plan = checked_upload(connection, record.spec, run.job_id)
            parts = {}
            for number, old in plan.parts.made_of.items():
                path = Path(old["path"])
                kind = table_kind(path) or PARQUET
                _, contents = self._spooled_part(run, options, number, path, kind)
                made_of = {**contents.facts, "path": str(path)}
                parts[number] = replace(plan.parts[number], made_of=made_of)
            return plan.with_parts(plan.parts.replaced(parts)) if parts else plan

        said_at = 0.0

        def breathe(words: str) -> None:
            nonlocal said_at
            check_wish(run)
            now = time.monotonic()
            if now - said_at >= SAY_INTERVAL:  # a small file takes less than what says its name
                said_at = now
                run.say(words)

        def spooled(number: int, path: Path, kind: str) -> tuple[Path, Contents]:
            return self._spooled_part(run, options, number, path, kind)

        reach("before the files")
        make = plan_files(options, self._origin, breathe, spooled)
        run.say("")
        return self._settle(run, make)

    def _spooled_part(
        self, run: Run, options: UploadOptions, number: int, path: Path, kind: str
    ) -> tuple[Path, Contents]:
        """Where the table of one of several files is, written unless it is there."""
        spool = Spool(self._origin.spool, number)
        contents = spool.contents
        if contents is None or not self._is_of(run, path, contents):
            refuse_overrides(options, replace(self._origin, name=str(path)))
            contents = spool_file(
                run, spool, path, kind, options.sheet, options.header, options.limits
            )
            spool.write_contents(contents)
        return spool.table, contents

    def _fetched(self, run: Run) -> Path:
        """The remote file in the spool; fetched anew where a failed job's source was mended."""
        path = self._spool.download
        remote = self._remote()
        if path.exists():
            if run.claim.rested_in is not State.FAILED or self._missing_secrets():
                return path
            try:
                now = remote.look_while(run)
            except SourceError:
                return path
            if now == json.loads(_path_of_tags(self._spool).read_text()):
                return path
            path.unlink()
            self._spool.forget_table()
        self._remove_left_behind()
        return remote.fetch(run, self._spool)

    def _remote(self) -> Remote:
        address = materials.find(self._key) or Address(self._origin.facts["url"], {})
        return Remote(address)

    def _missing_secrets(self) -> bool:
        return bool(self._origin.facts["secret"]) and materials.find(self._key) is None

    def _is_of(self, run: Run, path: Path, contents: Contents) -> bool:
        """Whether the table is of the file as it is; SourceChanged where it had to be."""
        if self._origin.kind == REMOTE or is_same_file(path, contents.facts):
            return True
        if run.claim.rested_in is not State.FAILED:  # else it is meant to be mended
            refuse_change(path, contents.facts)
        return False

    def _table(
        self, run: Run, is_good: Callable[[Contents], bool], write: Callable[[], Contents]
    ) -> Contents:
        """The table in the spool, written unless it is there."""
        contents = self._spool.contents
        if contents is not None and is_good(contents):
            return contents
        self._remove_left_behind()
        run.say(f"writing {self._origin.name} down, to load it from there")
        reach("before the spool")
        contents = write()
        self._spool.write_contents(contents)
        run.say("")
        reach("after the spool")
        return contents

    def _material(self) -> Any:
        material = materials.find(self._key)
        if material is None:
            self.check()
        return material

    def _settled(self, run: Run, options: UploadOptions, contents: Contents | None) -> UploadPlan:
        """The plan, decided now unless that was done before; without contents, of the download."""
        path = self._spool.download if contents is None else self._spool.table
        facts = dict(self._origin.facts)
        if self._origin.kind == REMOTE:
            facts["tags"] = json.loads(_path_of_tags(self._spool).read_text())
        keeps_rejects = options.on_error == "reject"
        notes: tuple[str, ...] = ()
        if contents is None:
            reading = find_reading(
                path,
                options.overrides,
                keeps_rejects=keeps_rejects,
                needs_types=options.types != "text",
                limits=options.limits,
            )
        else:
            refuse_overrides(options, self._origin)
            reading = spool_reading(
                path, contents.types, options.names, keeps_rejects=keeps_rejects
            )
            notes = contents.notes
            facts.update(contents.facts)
        origin = replace(self._origin, facts=facts)
        fingerprint = Fingerprint.of(path)

        def make(connection: Connection, target: TableName) -> UploadPlan:
            plan = settled_plan(connection, options, target, path, fingerprint, reading)
            return replace(plan, source_name=str(facts["name"]), notes=(*plan.notes, *notes))

        return self._settle(run, make).with_origin(origin.to_json())

    def _settle(self, run: Run, make: Callable[[Connection, TableName], UploadPlan]) -> UploadPlan:
        """Plan and staging table, in one transaction, once."""
        found: list[UploadPlan] = []

        def act() -> None:
            with self._store.in_transaction() as connection:
                self._store.lock(connection, run.claim)
                spec = self._store.spec(connection, run.claim)
                stored = spec.plan
                if "fingerprint" in stored:  # before, by whatever process
                    found[:] = [checked_upload(connection, spec, run.job_id)]
                    return
                check_origin(connection, spec, run.job_id)
                plan = make(connection, TableName(*stored["target"]))
                plan = replace(
                    plan.with_origin(self._origin.to_json()),
                    source_key=stored.get("source_key"),
                    loads_again=stored.get("loads_again", False),
                )
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

    def _keep(self, run: Run, plan: UploadPlan) -> None:
        """What was found out of the source belongs to the plan, which every resume reads anew."""

        def act() -> None:
            with self._store.in_transaction() as connection:
                if self._store.plan(connection, run.claim) != plan.to_json():
                    self._store.change_plan(connection, run.claim, plan.to_json())

        self._store.database.patiently(act, run.say)

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
        table, download = str(self._spool.table), str(self._spool.download)
        words, line = str(fault), fault.line
        name, path = self._origin.name, self._origin.facts.get("path")
        numbered = re.search(re.escape(f"{self._origin.spool}/") + r"(\d+)-table\.csv", words)
        if numbered is not None:  # one of several files
            table = numbered[0]
            name = path = paths_of(self._origin.facts)[int(numbered[1])]
        if table not in words and download not in words:
            return fault
        if line is not None and table in words:
            words = words.replace(
                f"{table}, line {line:,}", f"{table}, row {_row_at(table, line):,}"
            )
            line = None
        words = words.replace(table, name).replace(download, name)
        if self._origin.kind == FRAME:
            words = words.replace(MEND, MEND_FRAME)
        return type(fault)(
            words, path=path, line=line, column=fault.column,
            row=fault.row, sqlstate=fault.sqlstate,
        )  # fmt: skip


def _path_of_tags(spool: Spool) -> Path:
    """Where it is kept what the server has said of the file that was fetched."""
    return spool.download.with_name("download.json")


def _row_at(table: str, line: int) -> int:
    """Which row of a spooled table, from 1 without the header, begins at a physical line."""
    with open(table, encoding="utf-8", newline="") as file:  # noqa: PTH123 - a text of our own
        reader = csv.reader(file)
        return next((row for row, _ in enumerate(reader) if reader.line_num >= line), 0)
