"""The snapshot that an export of a table reads in: taken, kept over a pause, made up for when lost.

Made up for: a new one is proven to show the same of what is written, see ``snapshot.py``. For that
the table's rows are counted aside while the first one lives.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import sqlalchemy.exc
from psycopg2 import sql

from taskwidgets.errors import DatabaseError, TaskwidgetsError
from taskwidgets.runtime.control import Stopped, Wish
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.threads import start_thread
from taskwidgets.store.budget import Lease
from taskwidgets.store.database import Database
from taskwidgets.store.driver import begin_with
from taskwidgets.store.translate import is_away, translated
from taskwidgets.transfers import tables
from taskwidgets.transfers.crew import Session
from taskwidgets.transfers.download_plan import described
from taskwidgets.transfers.kept_plan import KeptPlan
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.proof import Proof
from taskwidgets.transfers.range_copies import IN_ORDER
from taskwidgets.transfers.reader import opening
from taskwidgets.transfers.snapshot import (
    LOCK_NOT_AVAILABLE,
    Snapshot,
    Witness,
    Written,
    compare,
    verify,
)
from taskwidgets.transfers.sources import output_columns

__all__ = ["KeptSnapshot"]

# What joining a snapshot that is gone gives: invalid_parameter_value ("invalid snapshot
# identifier"), object_not_in_prerequisite_state ("the source process is not running anymore"), and
# since Postgres 17 undefined_object ("snapshot does not exist"). Then the proof decides.
SNAPSHOT_LOST = frozenset({"22023", "55000", "42704"})
SMALL_BLOCKS = 8192  # 64 MB, counted in some 50 ms
COUNT_DELAY = 5.0  # seconds

# How long one attempt waits for a lock that others hold: between two, a wish is heard.
LOCK_PATIENCE = "100ms"
# How long a reader waits behind others who wait for a lock that our own snapshot keeps from them.
QUEUE_PATIENCE = "2s"


class KeptSnapshot:
    """That of one export in this process; ``is_there`` while it has one."""

    def __init__(self, database: Database, plan: KeptPlan) -> None:
        self._database = database
        self._plan = plan
        self._snapshot: Snapshot | None = None
        self._counting: Session | None = None  # what counts the table's rows just now
        self._proof: Proof | None = None  # that the snapshot is as good as the one of before
        self._is_to_prove = False

    @property
    def is_there(self) -> bool:
        """Whether this process has one open, by all that it knows."""
        return self._snapshot is not None

    def open(self, run: Run, written: Written | None) -> tuple[list[str], int]:
        """The statements that open a reader's transaction, and how many blocks there are.

        The snapshot is taken, if there is none; should something be ``written`` already under
        another one, the proof begins.
        """
        if self._snapshot is not None and not self._snapshot.alive():
            self.let_go()
        if self._snapshot is None:
            self._take(run, written)
        assert self._snapshot is not None
        if self._is_to_prove and self._proof is None:
            assert written is not None
            self._begin_proof(run, self._snapshot, written)
        seen = self._plan.now.seen
        assert seen is not None
        # Whoever alters the table waits for the snapshot; only behind such a one may we wait.
        patience = f"SET LOCAL lock_timeout = '{QUEUE_PATIENCE}'"
        settings = [*self._plan.settings(), *IN_ORDER, patience]
        prologue, checks = self._database.prologue, self._prove(seen)
        return opening(self._snapshot.begin, prologue, settings, *checks), seen.blocks

    def recovers(self, run: Run, fault: DatabaseError) -> bool:
        """Whether the export can go on after this fault, with another snapshot; it is let go."""
        self.end_proof()
        is_wished = run.control.wish is not Wish.NONE
        if fault.sqlstate == LOCK_NOT_AVAILABLE and not is_wished:
            self.let_go()  # it is the others' turn, who wait for us while we wait for them
            return True
        lost = fault.sqlstate in SNAPSHOT_LOST or is_away(fault)
        if self._database.is_conflict(fault) and not is_wished:
            # Of the conflict's kinds, some end the snapshot's session, others one statement.
            if self._snapshot is not None and not self._snapshot.alive():
                self.let_go()
            return True
        if self._snapshot is None or not lost or is_wished or self._snapshot.alive():
            return False
        self.let_go()  # once more, if the table can be proven unchanged
        return True

    def keep_alive(self) -> None:
        """Give a sign of life; nothing while it is in use for the proof."""
        snapshot, proof = self._snapshot, self._proof
        if snapshot is not None and (proof is None or not proof.is_running):
            snapshot.alive()

    def rest(self, lease: Lease) -> None:
        """Keep it, and a connection of the lease for it, until others need that."""
        if self._snapshot is None:
            lease.end()
        else:
            lease.rest(1, self._snapshot.close)

    def let_go(self) -> None:
        """End it, and the proof."""
        self.end_proof()
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.close()

    # ------------------------------------------------------------------ taking one

    def _take(self, run: Run, written: Written | None) -> None:
        plan = self._plan.now
        table, oid = plan.table, plan.oid
        assert table is not None
        assert oid is not None
        snapshot, now = self._snapshot_of(run, table, oid)
        try:
            if written is not None:
                then = plan.seen
                assert then is not None
                compare(table, then, now)
                self._is_to_prove = True
            else:
                self._is_to_prove = False
                # The table may have got a column since the call, or since an attempt that failed.
                select = plan.select_from(table, None)
                with translated(self._database.url):
                    columns = output_columns(snapshot.connection, select)
                self._plan.settle(run, witness=now.to_json(), **described(columns, plan.options))
        except BaseException:
            snapshot.close()
            raise
        self._snapshot = snapshot

    def _snapshot_of(self, run: Run, table: TableName, oid: int) -> tuple[Snapshot, Witness]:
        """A snapshot that has the table locked; waits for others to unlock it, and for wishes."""
        while True:
            snapshot = Snapshot(self._database)
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

    def _prove(self, seen: Witness) -> list[str]:
        """Statements by which a reader locks the table and makes sure that it still is that one.

        The snapshot's own lock keeps it so; but a snapshot may be ended by the server between the
        reader's joining it and its first range.
        """
        plan = self._plan.now
        assert plan.table is not None
        lock = sql.SQL("SELECT FROM {} LIMIT 0").format(plan.table.identifier)
        return [
            *self._plan.spoken(lock),
            f"DO $$BEGIN IF pg_relation_filenode({plan.oid}) IS DISTINCT FROM {seen.filenode}"
            " THEN RAISE 'the table was rewritten' USING ERRCODE = '55000'; END IF; END$$",
        ]

    # ------------------------------------------------------------------ proving it

    def _begin_proof(self, run: Run, snapshot: Snapshot, written: Written) -> None:
        table, then = self._plan.now.table, self._plan.now.seen
        assert table is not None
        assert then is not None
        self._proof = Proof(run, snapshot, lambda: verify(snapshot, table, then, written))

    def check_proof(self) -> None:
        """Raise what speaks against the snapshot, if that is known by now."""
        proof = self._proof
        if proof is not None:
            proof.check()

    def await_proof(self) -> None:
        """Nothing may be published before it is proven, where there is something to prove."""
        if self._proof is not None:
            self._proof.wait()
            self._proof, self._is_to_prove = None, False

    def end_proof(self) -> None:
        """Break it off, if it still runs: then it is to be begun again, should one go on."""
        proof, self._proof = self._proof, None
        if proof is not None:
            proof.end()

    # ------------------------------------------------------------------ counting aside

    @contextmanager
    def counted_aside(self, run: Run, *, may_count: bool) -> Iterator[None]:
        """Have the table's rows counted meanwhile, if they are not yet, and may be."""
        over = threading.Event()
        seen = self._plan.now.seen
        if self._snapshot is not None and seen is not None and seen.rows is None and may_count:
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
        table, seen = self._plan.now.table, self._plan.now.seen
        assert table is not None
        assert seen is not None
        if seen.blocks > SMALL_BLOCKS and over.wait(COUNT_DELAY):
            return
        try:
            session = self._counting = Session(self._database)
            try:
                connection = session.connection
                connection.execution_options(isolation_level="REPEATABLE READ")
                begin_with(connection, ["SET TRANSACTION READ ONLY", snapshot.join])
                if over.is_set():
                    return
                rows = tables.count_rows(connection, table)
            finally:
                self._counting = None
                session.close()
            # Of another snapshot, taken since before anything was written, it says nothing; its
            # witness must not be replaced by this one's, which may know of fewer blocks.
            self._plan.settle(
                run,
                lambda: self._snapshot is snapshot and self._plan.now.seen == seen,
                witness={**seen.to_json(), "rows": rows},
            )
        except (Stopped, TaskwidgetsError, psycopg2.Error, sqlalchemy.exc.SQLAlchemyError):
            return  # the snapshot is lost, or the job is over: the proof does without
