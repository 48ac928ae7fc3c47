"""CSV file to table: segments go straight into COPY, each together with its checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskwidgets.cluster import Cluster
from taskwidgets.errors import DatabaseError, SourceError, TargetError
from taskwidgets.runtime.control import Stopped
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.store import JobSpec
from taskwidgets.store import checkpoints, rejects
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular import ranges
from taskwidgets.tabular.pieces import Cutter
from taskwidgets.tabular.segments import SegmentReader
from taskwidgets.tabular.stream import open_stream
from taskwidgets.transfers import tables
from taskwidgets.transfers.common import Common
from taskwidgets.transfers.crew import Crew, Session, lease_connections
from taskwidgets.transfers.digest import FileDigest
from taskwidgets.transfers.lanes import Lanes, most_lanes, threads_of
from taskwidgets.transfers.lenient_batches import LenientSegments, check_share
from taskwidgets.transfers.loaded_check import check_before
from taskwidgets.transfers.mending import check_source, check_unchanged
from taskwidgets.transfers.names import staging_name
from taskwidgets.transfers.origins.spool import check_wish
from taskwidgets.transfers.recorded_upload import checked_upload, secure_staging
from taskwidgets.transfers.replay import replay
from taskwidgets.transfers.segment_batches import StrictSegments
from taskwidgets.transfers.switch import Incomplete, Switch
from taskwidgets.transfers.upload_plan import UploadPlan
from taskwidgets.transfers.widening import BegunAnew

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Upload", "undo"]

# undefined_table; internal_error ("could not open relation with OID"), where it was open already.
STAGING_LOST = frozenset({"42P01", "XX000"})

Gap = tuple[int, int | None]  # bytes; None: to the end, wherever that is


class Upload:
    """The work of one upload job; made anew from its plan in whatever process takes it up."""

    def __init__(
        self,
        store: PostgresJobStore,
        plan: UploadPlan,
        job_id: int,
        workers: int,
        cluster: Cluster | None = None,
    ) -> None:
        self.cluster = cluster
        self._store = store
        self._plan = plan
        self._staging = staging_name(job_id)
        self._workers = workers
        self._digest: FileDigest | None = None
        self._checked: JobSpec | None = None  # of which the plan is

    def check(self) -> None:
        """Any process can: the plan is all that it takes."""

    def run(self, run: Run) -> Receipt:
        """Load what the ledger does not have yet, then switch."""
        most = self._workers
        if self.cluster is not None:  # one for what is done here
            most = threads_of(self.cluster, self._store.database, run) + 1
        lease = lease_connections(self._store.database, run, 1, most)
        try:
            return self._load_and_switch(run, lease.size)
        except DatabaseError as fault:
            if fault.sqlstate in STAGING_LOST and "relation" in str(fault):
                self._check_staging(run)
            raise
        finally:
            lease.end()
            if self.cluster is not None:
                self.cluster.close()

    def _check_staging(self, run: Run) -> None:
        """TargetError where the staging table is not there any more."""
        with self._store.in_transaction() as connection:
            self._store.lock(connection, run.claim)  # an error where the job is gone as well
            found = tables.find_table(connection, self._staging)
        if found is None:
            raise TargetError(
                f"the table {self._staging}, in which the rows of job {run.job_id} are kept until "
                "they are published, is not there any more: another session dropped it. The target "
                f"is as it was. Run the call again with again=True, and terminate job {run.job_id}"
            )

    def _common(self, run: Run, plan: UploadPlan, workers: int) -> tuple[Common, int]:
        """What the tasks of a load share, and how many workers its crew has."""
        if self.cluster is None:
            return Common(run, plan), workers
        database = self._store.database
        size = most_lanes(threads_of(self.cluster, database, run), workers)
        return Common(run, plan, Lanes(self.cluster, database, run, size, workers)), size

    def _load_and_switch(self, run: Run, workers: int) -> Receipt:
        is_new = not self._refresh(run)
        self._secure_staging(run)
        self._settle_source(run)
        if is_new:
            check_before(self._store, self._plan, lambda: check_wish(run))
        while True:
            sha256 = self._load(run, workers)
            check_unchanged(self._store, run, self._plan, sha256)
            switch = Switch(run, self._store, self._told(run), self._staging, sha256)
            try:
                self._crew(run, switch, 1).work()
            except Incomplete:
                continue
            except Stopped:
                if not switch.done:  # else the wish came after the commit: too late
                    raise
            return switch.receipt

    def _load(self, run: Run, most: int) -> str:
        """Have all segments in the staging table; the file's SHA-256."""
        if self._digest is None:
            self._digest = self._make_digest()
        self._digest.start()
        try:
            workers = self._spread(run, most)
            # The ledger alone says what is loaded: segments commit without waiting for the disk,
            # and a server that crashes may lose the last of them, rows and checkpoint together.
            while missing := self._missing(run):
                try:
                    self._load_missing(run, self._plan, missing, workers)
                except BegunAnew:
                    continue
                except (Stopped, SourceError):
                    self._missing(run, final=False)  # what is shown is what the ledger has
                    raise
            # Here, as a resumed job may have nothing left to read.
            check_share(self._plan, run.meter.snapshot(), finished=True)
            sha256 = self._digest.result(self._plan.size, run.control)
        finally:
            self._digest.stop()
        if sha256 is None:
            raise Stopped(run.control.wish)
        return sha256

    def _make_digest(self) -> FileDigest:
        return FileDigest(self._plan.path)

    def _spread(self, run: Run, most: int) -> int:
        """How many workers there are: one session is left for all the rest, as the heartbeat."""
        spare: list[int] = []
        database = self._store.database
        database.patiently(
            lambda: spare.append(database.transactions_at_once(2, most + 1)), run.say
        )
        return spare[-1] - 1

    def _load_missing(self, run: Run, plan: UploadPlan, missing: list[Gap], workers: int) -> None:
        """Load these ranges; the plan then knows where the data end."""
        assert self._digest is not None
        common, workers = self._common(run, plan, workers)
        if plan.description is None:
            bounded = [(start, plan.size if stop is None else stop) for start, stop in missing]
            with SegmentReader(
                plan.path, plan.dialect, plan.data_start, plan.size, bounded, plan.limits
            ) as reader:
                strict = StrictSegments(
                    run, self._store, plan, self._staging, reader, self._digest, common
                )
                self._crew(run, strict, workers).work()
            return
        with open_stream(plan.path, plan.description, plan.limits) as stream:
            cutter = Cutter(
                stream,
                plan.grammar,
                plan.data_start,
                plan.data_stop,
                missing,
                first_line=plan.first_line,
                limits=plan.limits,
            )
            if stream.size is None:  # unpacked: no position tells how much of the file is read
                self._digest.allow(plan.size)
            lenient = LenientSegments(
                run, self._store, plan, self._staging, cutter, self._digest, common
            )
            self._crew(run, lenient, workers).work()
            if plan.data_stop is None:
                assert stream.size is not None  # it has been read to its end
                self._refresh(run)
                self._plan = self._plan.with_end(stream.size)
                self._keep(run, self._plan)

    def _keep(self, run: Run, plan: UploadPlan) -> None:
        def act() -> None:
            with self._store.in_transaction() as connection:
                self._store.change_plan(connection, run.claim, plan.to_json())

        self._store.database.patiently(act, run.say)

    def _refresh(self, run: Run, *, final: bool = True) -> list[Checkpoint]:
        """Take up the plan as the store has it: columns may be wider by now. The ledger, too.

        ``final``: wait for a COMMIT that may be under way, of which the reply was lost.
        """
        ledger: list[Checkpoint] = []

        def look() -> None:
            with self._store.in_transaction() as connection:
                if final:
                    self._store.lock(connection, run.claim)
                spec = self._store.spec(connection, run.claim)
                if spec != self._checked:
                    self._plan = checked_upload(connection, spec, run.job_id, self._plan)
                    self._checked = spec
                ledger[:] = checkpoints.committed(connection, run.job_id)

        self._store.database.patiently(look, run.say)
        return ledger

    def _secure_staging(self, run: Run) -> None:
        """Make sure that the staging table is this job's own."""

        def act() -> None:
            with self._store.in_transaction() as connection:
                self._store.lock(connection, run.claim)
                secure_staging(connection, self._plan, run.job_id)

        self._store.database.patiently(act, run.say)

    def _missing(self, run: Run, *, final: bool = True) -> list[Gap]:
        """The bytes that the ledger does not have; the meter is set by it.

        Where the end of the data is not known yet, the last range has none either.
        """
        ledger = self._refresh(run, final=final)
        plan = self._plan
        loaded = [(entry.start, entry.stop) for entry in ledger]
        end = plan.data_stop
        run.meter.set(
            done=ranges.covered(loaded),
            rows=sum(entry.rows for entry in ledger),
            total=None if end is None else end - plan.data_start,
            rejected=sum(entry.rejected for entry in ledger),
        )
        if end is not None:
            return [*ranges.gaps(loaded, plan.data_start, end)]
        last = max((stop for _, stop in loaded), default=plan.data_start)
        return [*ranges.gaps(loaded, plan.data_start, last), (last, None)]

    def replay(self, job_id: int, mended: pd.DataFrame) -> Receipt:
        """Load mended rejects into the finished table."""
        return replay(self._store, job_id, mended)

    def clean_up(self, run: Run) -> None:
        """Drop the staging table, and the ledger that speaks of it."""
        undo(self._store, run)

    def _crew(self, run: Run, task: Any, size: int) -> Crew[Any, Session]:
        return Crew(self._store.database, run, task, size)

    def _settle_source(self, run: Run) -> UploadPlan:
        """The plan, for the file as it is now: unchanged, or mended where nothing is loaded yet."""
        settled = check_source(self._store, run, self._plan)
        if settled is not self._plan:
            self._plan, self._digest = settled, None
        return settled

    def _told(self, run: Run) -> UploadPlan:
        """The plan, with all that its receipt is to say."""
        return self._plan


def undo(store: PostgresJobStore, run: Run) -> None:
    """Drop an upload's staging table, the ledger that speaks of it, and its rejects."""

    def act() -> None:
        with store.in_transaction() as connection:
            store.lock(connection, run.claim)
            tables.drop(connection, staging_name(run.job_id))
            checkpoints.forget(connection, run.job_id)
            rejects.forget(connection, run.job_id)
            reach("while terminating")

    store.database.patiently(act, run.say)
