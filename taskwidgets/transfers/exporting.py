"""What exports have in common: one snapshot of a table, or a query's rows in a table of our own.

``Download`` makes one file of it, ``FolderDownload`` a folder of many.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from taskwidgets.errors import DatabaseError, OptionError, PlanRefused, TargetError
from taskwidgets.runtime.control import Stopped
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.states import State
from taskwidgets.store import checkpoints
from taskwidgets.store.budget import Lease
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.database import Database
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.transfers import tables
from taskwidgets.transfers.crew import Crew, lease_connections
from taskwidgets.transfers.download_plan import DownloadPlan
from taskwidgets.transfers.kept_plan import KeptPlan
from taskwidgets.transfers.kept_snapshot import KeptSnapshot
from taskwidgets.transfers.materialize import Materialize, staging_columns
from taskwidgets.transfers.names import TableName, staging_name
from taskwidgets.transfers.range_copies import IN_ORDER, RangeCopies
from taskwidgets.transfers.reader import CopierReader, CopyOut, Reader, opening
from taskwidgets.transfers.readers import open_reader
from taskwidgets.transfers.recorded_download import checked_download, checked_values
from taskwidgets.transfers.snapshot import Written
from taskwidgets.transfers.staging import check_staging

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Exporting"]

FAILED_HOLD = 60.0  # seconds for which a failed export keeps its snapshot, for a resume
MOST_CONFLICTS = 5  # with a standby's recovery, one after the other, with nothing written between
ASIDE = 2  # connections besides the readers': the snapshot's, and that which counts the rows


class Exporting(ABC):
    """The work of one export; made anew from its plan in whatever process takes it up."""

    def __init__(
        self, store: PostgresJobStore, plan: DownloadPlan, job_id: int, workers: int
    ) -> None:
        self._store = store
        self._kept = KeptPlan(store, plan)
        self._snapshot = KeptSnapshot(store.source, self._kept)
        self._staging = staging_name(job_id)
        self._workers = workers
        self._granted = workers  # readers that the budget of connections has room for
        self._at_once, self._may_count = workers, True
        self._lease: Lease | None = None  # that of the snapshot while the job is paused
        self._release_lock = threading.Lock()
        self._release_timer: threading.Timer | None = None

    @property
    def _plan(self) -> DownloadPlan:
        """What is settled by now."""
        return self._kept.now

    @property
    def _read_from(self) -> Database:
        """Where the rows are: in the source, or in a staging table, which is where the job is."""
        return self._store.database if self._plan.table is None else self._store.source

    def check(self) -> None:
        """Raise what keeps this process from running the job."""
        wanted, here = self._plan.options.database, self._store.source_location
        if wanted == here or self._plan.published is not None:
            return
        if wanted is None:
            raise OptionError(
                "this job reads from the database that it is kept in, and this workspace is on "
                f"{here}; connect to the former alone, without metadata="
            )
        raise OptionError(
            f"this job reads from {wanted}, and this workspace is on "
            f"{here or 'the database that it is kept in, alone'}; connect to that one, with this "
            "one for the jobs: tw.connect(url, metadata=other_url)"
        )

    # ------------------------------------------------------------------ what is made of it

    @abstractmethod
    def clean_up(self, run: Run) -> None:
        """Remove all that was made; what is older stays as it is."""

    @abstractmethod
    def _written(self, ledger: list[Checkpoint]) -> Written | None:
        """What the ledger says of the table; None when nothing is written yet."""

    @abstractmethod
    def _write(self, run: Run, ledger: list[Checkpoint], begin: list[str], blocks: int) -> None:
        """Write what the ledger lacks; then what is to be published goes into the plan.

        ``begin`` opens a reader's transaction; the table has so many ``blocks``.
        """

    @abstractmethod
    def _check_whole(self, run: Run) -> None:
        """Before something is published that an earlier attempt finished: it still is that."""

    @abstractmethod
    def _publish(self, run: Run) -> Receipt:
        """Publish it; done again after a crash, it finds what is done already."""

    # ------------------------------------------------------------------ one attempt

    def run(self, run: Run) -> Receipt:
        """Write what the ledger does not have yet, then publish."""
        with self._release_lock:
            self._release_timer = None
        lease = lease_connections(
            self._store.source, run, ASIDE + 1, ASIDE + self._most(run)
        )  # the snapshot's own among them, so that what rests may be had by others meanwhile
        if self._lease is not None:
            self._lease.wake()
            self._lease.end()
        self._lease = lease
        try:
            self._granted = lease.size - ASIDE
            self._kept.now = self._kept.patiently(run, lambda: self._checked(run))
            return self._write_and_publish(run)
        except Stopped:
            raise
        except BaseException:
            if self._plan.published is None:
                self._release_later()
            else:  # all is written: a resume only publishes it
                self._snapshot.let_go()
            raise
        finally:
            self._snapshot.rest(lease)

    def _checked(self, run: Run) -> DownloadPlan:
        """The plan, after a look that it follows from the call, and whose the staging table is."""
        with self._store.in_transaction() as connection:
            spec = self._store.spec(connection, run.claim)
            check_staging(connection, self._staging, run.job_id)
        with self._store.source.begin() as connection:
            return checked_download(
                connection, replace(spec, plan=self._plan.to_json()), run.job_id
            )

    def _follows_from_call(self, run: Run) -> bool:
        """Whether the plan does; if not, the files that it names are none that may be removed."""

        refusals: list[str] = []

        def act() -> None:
            with self._store.in_transaction() as connection:
                spec = self._store.spec(connection, run.claim)
                try:
                    checked_values(replace(spec, plan=self._plan.to_json()), run.job_id)
                except PlanRefused as refused:
                    words = str(refused)
                    self._store.note_within(connection, run.job_id, "files left", words)
                    refusals.append(words)

        self._store.database.patiently(act, run.say)
        return not refusals

    def _release_later(self) -> None:
        """Of a failed job, end the snapshot in a while: it locks the table and holds back VACUUM.

        A paused job keeps its own: there, somebody has said that it goes on.
        """

        def release() -> None:
            with self._release_lock:
                if self._release_timer is timer:  # else it was resumed
                    self.rest()

        timer = threading.Timer(FAILED_HOLD, release)
        timer.daemon = True
        with self._release_lock:
            self._release_timer = timer
        timer.start()

    def _most(self, run: Run) -> int:
        """How many readers there may be at once."""
        return self._workers

    def _write_and_publish(self, run: Run) -> Receipt:
        if self._plan.published is None:
            if self._plan.table is None and self._plan.materialized is None:
                self._materialize(run)
            self._export(run)
        else:
            self._check_whole(run)
        receipt = self._publish(run)
        self._snapshot.let_go()
        return receipt

    def replay(self, job_id: int, mended: pd.DataFrame) -> Receipt:
        """An export rejects nothing."""
        raise OptionError(f"job {job_id} is an export; only an upload has rejects")

    # ------------------------------------------------------------------ steps

    def _materialize(self, run: Run) -> None:
        """Put the rows of a query or a view into a staging table of our own."""
        database, source = self._store.database, self._store.source
        # The reader's, the writer's, and one for all the rest, such as our own heartbeat.
        if source is database:
            self._kept.patiently(run, lambda: database.transactions_at_once(3, 3))
        else:
            self._kept.patiently(run, lambda: source.transactions_at_once(1, 1))
            self._kept.patiently(run, lambda: database.transactions_at_once(2, 2))
        settings = self._kept.settings()
        task = Materialize(
            self._store,
            run,
            self._plan,
            self._staging,
            lambda begin: self._patient_reader(opening(begin, source.prologue, settings)),
        )
        Crew(source, run, task, 1).work()
        assert task.settled is not None
        self._kept.now = task.settled

    def _export(self, run: Run) -> None:
        before, fruitless = None, 0  # what was written at the last conflict with recovery
        while True:
            self._kept.patiently(run, self._spread)
            ledger = self._kept.patiently(run, lambda: self._ledger(run))
            written = self._written(ledger)
            begin, blocks = self._kept.patiently(run, lambda: self._open(run, written))  # noqa: B023 - called at once
            try:
                self._write(run, ledger, begin, blocks)
                return
            except DatabaseError as fault:
                if not self._snapshot.recovers(run, fault):
                    raise
                if self._read_from.is_conflict(fault):
                    fruitless = fruitless + 1 if written == before else 1
                    before = written
                    if fruitless == MOST_CONFLICTS:
                        raise self._read_from.conflict_error(fault) from None

    def _ledger(self, run: Run) -> list[Checkpoint]:
        with self._store.in_transaction() as connection:
            # Whoever opens the file takes it from a process that lost the job; so first make sure
            # that it is not this one that has lost it.
            self._store.lock(connection, run.claim)
            return checkpoints.committed(connection, run.job_id)

    def _spread(self) -> None:
        """Decide how many workers there are, and whether the table's rows are counted aside.

        Each keeps a transaction open for as long as the export takes, and so does the snapshot; one
        more is left for all the rest, such as the checkpoints and the heartbeat.
        """
        others = 1 if self._plan.table is None or self._snapshot.is_there else 2
        wanted = self._granted + others + (self._plan.table is not None)
        spare = self._read_from.transactions_at_once(others + 1, wanted) - others
        self._at_once, self._may_count = min(self._granted, spare), spare > self._granted

    def _open(self, run: Run, written: Written | None) -> tuple[list[str], int]:
        """The statements that open a reader's transaction, and how many blocks there are."""
        if self._plan.table is not None:
            return self._snapshot.open(run, written)
        assert self._plan.materialized is not None
        # Another server may not have the source's locales and time zones. The staging table has
        # texts, made by the source, and numbers, whose texts depend on this one setting.
        is_one = self._store.source is self._store.database
        settings = self._kept.settings() if is_one else self._kept.settings("extra_float_digits")
        begin = opening(["BEGIN READ ONLY"], self._store.database.prologue, [*settings, *IN_ORDER])
        return begin, self._plan.materialized["blocks"]

    def _copies(self) -> RangeCopies:
        """What makes the COPY of a range of blocks."""
        plan = self._plan
        if plan.table is not None:
            relation, columns = plan.table, plan.columns
        else:
            relation, columns = self._staging, staging_columns(len(plan.columns))
        functions, has_aside = self._looks(relation)
        binary, kinds = plan.binary_from(relation, columns, functions)
        select, binary_select, options, text_options = self._kept.spoken(
            plan.select_from(relation, columns), binary, plan.copy_options(), plan.text_options()
        )
        return RangeCopies(
            select,
            options,
            plan.csv_form(select, text_options),
            plan.csv_form(binary_select, "FORMAT binary", kinds),
            are_long=has_aside,
        )

    def _looks(self, relation: TableName) -> tuple[dict[str, tuple[str, str]], bool]:
        """How the server sends and writes each column; whether there are values beside the rows."""
        found: list[tuple[dict[str, tuple[str, str]], bool]] = []

        def act() -> None:
            with self._read_from.begin() as connection:
                functions = tables.value_functions(connection, relation)
                found.append((functions, tables.has_aside(connection, relation)))

        self._read_from.patiently(act, lambda _: None)
        return found[-1]

    def _header(self, begin: list[str]) -> bytes:
        """The line of the columns' names, by COPY's own hand; nothing where there is to be none."""
        plan = self._plan
        if not plan.options.header:
            return b""
        query, options = self._kept.spoken(plan.header_select(), plan.copy_options(header=True))
        reader = self._reader(begin)
        try:
            return b"".join(map(bytes, reader.read(CopyOut(query, options))))
        finally:
            reader.close()

    def _reader(self, begin: list[str]) -> Reader:
        """For statements that give rows all the time."""
        database = self._read_from
        return open_reader(database.url, database.connect_arguments, begin)

    def _patient_reader(self, begin: list[str]) -> Reader:
        """For a statement that may compute for an hour, and ends with this process all the same."""
        database = self._store.source
        return CopierReader(database.url, database.connect_arguments, begin)

    def _forget(self, run: Run) -> None:
        """Drop the staging table, and forget what is written; the claim is checked."""
        self.rest()

        def act() -> None:
            with self._store.in_transaction() as connection:
                self._store.lock(connection, run.claim)
                tables.drop(connection, self._staging)
                checkpoints.forget(connection, run.job_id)
                reach("while terminating")

        self._store.database.patiently(act, run.say)

    @staticmethod
    def _check_counts(told: dict[str, Any]) -> None:
        if told["rows"] != told["rows_read"]:
            raise TargetError(
                f"{told['rows_read']:,} rows stand in the table, but {told['rows']:,} came out; "
                "nothing was published"
            )

    def _complete(
        self, run: Run, published: dict[str, Any], cause: str, settle: Callable[[], None]
    ) -> Receipt:
        """Record the end; ``settle`` gives up, in that transaction, what could undo it."""
        plan = self._plan
        progress = run.meter.snapshot()
        receipt = Receipt(
            rows_read=published["rows_read"],
            rows_loaded=published["rows"],
            rows_rejected=0,
            bytes=published["size"],
            seconds=round(progress.elapsed, 3),
            sha256=published["sha256"],
            source=plan.options.source,
            target=plan.options.path,
        )

        def act() -> None:
            with self._store.in_transaction() as connection:
                tables.drop(connection, self._staging)
                settled = plan.with_(published=published).to_json()
                self._store.change_plan(connection, run.claim, settled)
                self._store.move_within(
                    connection, run.claim, State.COMPLETED, cause,
                    progress=progress, receipt=receipt,
                )  # fmt: skip
                reach("at the final switch")
                settle()

        self._store.database.patiently(act, run.say)
        reach("after the final switch")
        return receipt

    def rest(self) -> None:
        """Let go of what a paused job keeps in this process; it goes on in another as well."""
        self._snapshot.let_go()
        if self._lease is not None:
            self._lease.end()
