"""What exports have in common: one snapshot of a table, or a query's rows in a table of our own.

``Download`` makes one file of it, ``FolderDownload`` a folder of many.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pandas as pd
import psycopg2
import sqlalchemy.exc
from psycopg2 import sql

from taskwidgets.errors import DatabaseError, OptionError, TargetError, TaskwidgetsError
from taskwidgets.runtime.control import Stopped, Wish
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.states import State
from taskwidgets.runtime.threads import start_thread
from taskwidgets.store import checkpoints
from taskwidgets.store.budget import Lease
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.translate import is_away
from taskwidgets.transfers import tables
from taskwidgets.transfers.crew import Crew, Session, lease_connections
from taskwidgets.transfers.download_plan import DownloadPlan, described
from taskwidgets.transfers.materialize import Materialize, staging_columns
from taskwidgets.transfers.names import TableName, staging_name
from taskwidgets.transfers.proof import Proof
from taskwidgets.transfers.range_copies import RangeCopies
from taskwidgets.transfers.reader import CopierReader, CopyOut, Reader, opening
from taskwidgets.transfers.readers import open_reader
from taskwidgets.transfers.snapshot import (
    LOCK_NOT_AVAILABLE,
    Snapshot,
    Witness,
    Written,
    compare,
    verify,
)
from taskwidgets.transfers.sources import output_columns

__all__ = ["Exporting"]

# What joining a snapshot that is gone gives: invalid_parameter_value ("invalid snapshot
# identifier"), object_not_in_prerequisite_state ("the source process is not running anymore"), and
# since Postgres 17 undefined_object ("snapshot does not exist"). Then the proof decides.
SNAPSHOT_LOST = frozenset({"22023", "55000", "42704"})
SMALL_BLOCKS = 8192  # 64 MB, counted in some 50 ms
COUNT_DELAY = 5.0  # seconds
ASIDE = 2  # connections besides the readers': the snapshot's, and that which counts the rows

# How long one attempt waits for a lock that others hold: between two, a wish is heard.
LOCK_PATIENCE = "100ms"
# How long a reader waits behind others who wait for a lock that our own snapshot keeps from them.
QUEUE_PATIENCE = "2s"

ResultT = TypeVar("ResultT")


class Exporting(ABC):
    """The work of one export; made anew from its plan in whatever process takes it up."""

    def __init__(
        self, store: PostgresJobStore, plan: DownloadPlan, job_id: int, workers: int
    ) -> None:
        self._store = store
        self._plan = plan
        self._staging = staging_name(job_id)
        self._workers = workers
        self._granted = workers  # readers that the budget of connections has room for
        self._at_once, self._may_count = workers, True
        self._snapshot: Snapshot | None = None
        self._lease: Lease | None = None  # that of the snapshot while the job is paused
        self._lock = threading.Lock()
        self._counting: Session | None = None  # what counts the table's rows just now
        self._proof: Proof | None = None  # that the snapshot is as good as the one of before
        self._is_to_prove = False

    # ------------------------------------------------------------------ what is made of it

    @abstractmethod
    def check(self) -> None:
        """Raise what keeps this process from running the job."""

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
        lease = lease_connections(
            self._store.database, run, ASIDE + 1, ASIDE + self._most(run)
        )  # the snapshot's own among them, so that what rests may be had by others meanwhile
        if self._lease is not None:
            self._lease.wake()
            self._lease.end()
        self._lease = lease
        try:
            self._granted = lease.size - ASIDE
            return self._write_and_publish(run)
        finally:
            snapshot = self._snapshot
            if snapshot is None:
                lease.end()
            else:
                lease.rest(1, snapshot.close)

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
        self._let_go()
        return receipt

    def replay(self, job_id: int, mended: pd.DataFrame) -> Receipt:
        """An export rejects nothing."""
        raise OptionError(f"job {job_id} is an export; only an upload has rejects")

    # ------------------------------------------------------------------ steps

    def _materialize(self, run: Run) -> None:
        """Put the rows of a query or a view into a staging table of our own."""
        database = self._store.database
        # The reader's, the writer's, and one for all the rest, such as our own heartbeat.
        self._patiently(run, lambda: database.transactions_at_once(3, 3))
        settings = self._settings()
        task = Materialize(
            self._store,
            run,
            self._plan,
            self._staging,
            lambda begin: self._patient_reader(opening(begin, database.marks, settings)),
        )
        Crew(self._store.database, run, task, 1).work()
        assert task.settled is not None
        self._plan = task.settled

    def _export(self, run: Run) -> None:
        while True:
            self._patiently(run, self._spread)
            ledger = self._patiently(run, lambda: self._ledger(run))
            written = self._written(ledger)
            begin, blocks = self._patiently(run, lambda: self._open(run, written))  # noqa: B023 - called at once
            try:
                self._write(run, ledger, begin, blocks)
                return
            except DatabaseError as fault:
                self._end_proof()
                if fault.sqlstate == LOCK_NOT_AVAILABLE and run.control.wish is Wish.NONE:
                    self._let_go()  # it is the others' turn, who wait for us while we wait for them
                    continue
                lost = fault.sqlstate in SNAPSHOT_LOST or is_away(fault)
                if self._snapshot is None or not lost or run.control.wish is not Wish.NONE:
                    raise
                if self._snapshot.alive():
                    raise
                self._let_go()  # once more, if the table can be proven unchanged

    def _patiently(self, run: Run, action: Callable[[], ResultT]) -> ResultT:
        """Do it as soon as the database answers, unless a wish comes in meanwhile."""
        result: list[ResultT] = []
        try:
            self._store.database.patiently(
                lambda: result.append(action()),
                run.say,
                given_up=lambda: run.control.wish is not Wish.NONE,
            )
        except DatabaseError as fault:
            if is_away(fault) and run.control.wish is not Wish.NONE:
                raise Stopped(run.control.wish) from None
            raise
        return result[-1]

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
        others = 1 if self._plan.table is None or self._snapshot is not None else 2
        wanted = self._granted + others + (self._plan.table is not None)
        spare = self._store.database.transactions_at_once(others + 1, wanted) - others
        self._at_once, self._may_count = min(self._granted, spare), spare > self._granted

    def _open(self, run: Run, written: Written | None) -> tuple[list[str], int]:
        """The statements that open a reader's transaction, and how many blocks there are."""
        marks, settings = self._store.database.marks, self._settings()
        if self._plan.table is None:
            assert self._plan.materialized is not None
            begin = opening(["BEGIN READ ONLY"], marks, settings)
            return begin, self._plan.materialized["blocks"]
        if self._snapshot is not None and not self._snapshot.alive():
            self._let_go()
        if self._snapshot is None:
            self._take_snapshot(run, written)
        assert self._snapshot is not None
        if self._is_to_prove and self._proof is None:
            assert written is not None
            self._begin_proof(run, self._snapshot, written)
        seen = self._plan.seen
        assert seen is not None
        # Whoever alters the table waits for the snapshot; only behind such a one may we wait.
        settings.append(f"SET LOCAL lock_timeout = '{QUEUE_PATIENCE}'")
        return [*opening(self._snapshot.begin, marks, settings), *self._prove(seen)], seen.blocks

    def _prove(self, seen: Witness) -> list[str]:
        """Statements by which a reader locks the table and makes sure that it still is that one.

        The snapshot's own lock keeps it so; but a snapshot may be ended by the server between the
        reader's joining it and its first range.
        """
        assert self._plan.table is not None
        lock = sql.SQL("SELECT FROM {} LIMIT 0").format(self._plan.table.identifier)
        return [
            *self._spoken(lock),
            f"DO $$BEGIN IF pg_relation_filenode({self._plan.oid}) IS DISTINCT FROM {seen.filenode}"
            " THEN RAISE 'the table was rewritten' USING ERRCODE = '55000'; END IF; END$$",
        ]

    def _settings(self) -> list[str]:
        """Statements for a reader's transaction: what values' texts depend on, as it began."""
        set_one = sql.SQL("SET LOCAL {} = {}")
        return self._spoken(
            *(
                set_one.format(sql.Identifier(name), sql.Literal(value))
                for name, value in self._plan.settings.items()
            )
        )

    def _take_snapshot(self, run: Run, written: Written | None) -> None:
        table, oid = self._plan.table, self._plan.oid
        assert table is not None
        assert oid is not None
        snapshot, now = self._snapshot_of(run, table, oid)
        try:
            if written is not None:
                then = self._plan.seen
                assert then is not None
                compare(table, then, now)
                self._is_to_prove = True
            else:
                self._is_to_prove = False
                # The table may have got a column since the call, or since an attempt that failed.
                select = self._plan.select_from(table, None)
                columns = output_columns(snapshot.connection, select)
                self._settle(run, witness=now.to_json(), **described(columns, self._plan.options))
        except BaseException:
            snapshot.close()
            raise
        self._snapshot = snapshot

    def _begin_proof(self, run: Run, snapshot: Snapshot, written: Written) -> None:
        table, then = self._plan.table, self._plan.seen
        assert table is not None
        assert then is not None
        self._proof = Proof(run, snapshot, lambda: verify(snapshot, table, then, written))

    def _end_proof(self) -> None:
        """Break it off, if it still runs: then it is to be begun again, should one go on."""
        proof, self._proof = self._proof, None
        if proof is not None:
            proof.end()

    def _snapshot_of(self, run: Run, table: TableName, oid: int) -> tuple[Snapshot, Witness]:
        """A snapshot that has the table locked; waits for others to unlock it, and for wishes."""
        while True:
            snapshot = Snapshot(self._store.database)
            try:
                witness = snapshot.witness(table, oid, LOCK_PATIENCE)
            except BaseException as fault:
                snapshot.close()
                if not isinstance(fault, DatabaseError) or fault.sqlstate != LOCK_NOT_AVAILABLE:
                    raise
                if run.control.wish is not Wish.NONE:
                    raise Stopped(run.control.wish) from None
                run.say("waiting for others, who have the table locked")
            else:
                run.say("")
                return snapshot, witness

    def _settle(self, run: Run, still: Callable[[], bool] = lambda: True, **changes: Any) -> None:
        """Keep something in the plan for good, if ``still`` it is right to."""
        with self._lock:
            if not still():
                return
            settled = self._plan.with_(**changes)

            def act() -> None:
                with self._store.in_transaction() as connection:
                    self._store.change_plan(connection, run.claim, settled.to_json())

            self._patiently(run, act)
            self._plan = settled

    @contextmanager
    def _counted_aside(self, run: Run) -> Iterator[None]:
        """Have the table's rows counted meanwhile, if they are not yet, and may be."""
        over = threading.Event()
        uncounted = self._plan.seen is not None and self._plan.seen.rows is None
        if self._snapshot is not None and uncounted and self._may_count:
            start_thread(self._count, run, self._snapshot, over, name=f"job {run.job_id} count")
        try:
            yield
        finally:
            over.set()
            counting = self._counting
            if counting is not None:
                counting.cancel()  # nothing goes into work that was stopped

    def _count(self, run: Run, snapshot: Snapshot, over: threading.Event) -> None:
        """Count the table's rows in the snapshot, aside, for the proof should it be lost.

        A count costs a twentieth of an export. Where that is more than a moment, it waits until
        the export has shown that it takes long enough to be worth the proof.
        """
        table, seen = self._plan.table, self._plan.seen
        assert table is not None
        assert seen is not None
        if seen.blocks > SMALL_BLOCKS and over.wait(COUNT_DELAY):
            return
        try:
            session = self._counting = Session(self._store.database)
            try:
                for statement in [*snapshot.begin, *self._store.database.marks]:
                    tables.execute(session.connection, statement)
                if over.is_set():
                    return
                rows = tables.count_rows(session.connection, table)
            finally:
                self._counting = None
                session.close()
            # Of another snapshot, taken since before anything was written, it says nothing; its
            # witness must not be replaced by this one's, which may know of fewer blocks.
            self._settle(
                run,
                lambda: self._snapshot is snapshot and self._plan.seen == seen,
                witness={**seen.to_json(), "rows": rows},
            )
        except (Stopped, TaskwidgetsError, psycopg2.Error, sqlalchemy.exc.SQLAlchemyError):
            return  # the snapshot is lost, or the job is over: the proof does without

    def _copies(self) -> RangeCopies:
        """What makes the COPY of a range of blocks."""
        plan = self._plan
        if plan.table is not None:
            relation, columns = plan.table, plan.columns
        else:
            relation, columns = self._staging, staging_columns(len(plan.columns))
        functions, has_aside = self._looks(relation)
        binary, kinds = plan.binary_from(relation, columns, functions)
        select, binary_select, options, text_options = self._spoken(
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
            with self._store.in_transaction() as connection:
                functions = tables.value_functions(connection, relation)
                found.append((functions, tables.has_aside(connection, relation)))

        self._store.database.patiently(act, lambda _: None)
        return found[-1]

    def _header(self, begin: list[str]) -> bytes:
        """The line of the columns' names, by COPY's own hand; nothing where there is to be none."""
        plan = self._plan
        if not plan.options.header:
            return b""
        query, options = self._spoken(plan.header_select(), plan.copy_options(header=True))
        reader = self._reader(begin)
        try:
            return b"".join(map(bytes, reader.read(CopyOut(query, options))))
        finally:
            reader.close()

    def _spoken(self, *statements: sql.Composable) -> list[str]:
        """Composed statements as texts, quoted as the server wants it."""
        words: list[str] = []

        def act() -> None:
            with self._store.in_transaction() as connection:
                words[:] = [tables.spoken(connection, statement) for statement in statements]

        self._store.database.patiently(act, lambda _: None)
        return words

    def _reader(self, begin: list[str]) -> Reader:
        """For statements that give rows all the time."""
        database = self._store.database
        return open_reader(database.url, database.connect_arguments, begin)

    def _patient_reader(self, begin: list[str]) -> Reader:
        """For a statement that may compute for an hour, and ends with this process all the same."""
        database = self._store.database
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

    def _await_proof(self) -> None:
        """Nothing may be published before it is proven, where there is something to prove."""
        if self._proof is not None:
            self._proof.wait()
            self._proof, self._is_to_prove = None, False

    def _keep_alive(self) -> None:
        snapshot, proof = self._snapshot, self._proof
        if snapshot is not None and (proof is None or not proof.is_running):
            snapshot.alive()

    def _check_proof(self) -> None:
        proof = self._proof
        if proof is not None:
            proof.check()

    def rest(self) -> None:
        """Let go of what a paused job keeps in this process; it goes on in another as well."""
        self._let_go()
        if self._lease is not None:
            self._lease.end()

    def _let_go(self) -> None:
        self._end_proof()
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.close()
