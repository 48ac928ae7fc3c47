"""The segments of an upload as a crew's task: COPY and checkpoint in one transaction each."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from sqlalchemy import Connection, text

from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.run import Run
from taskwidgets.store import checkpoints
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular.segments import Segment
from taskwidgets.transfers import tables
from taskwidgets.transfers.common import Common, Hand
from taskwidgets.transfers.lanes import Lane
from taskwidgets.transfers.loading import Loader, StrictLoader
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.recorded_upload import checked_upload
from taskwidgets.transfers.remote import Errand
from taskwidgets.transfers.upload_plan import UploadPlan
from taskwidgets.transfers.widening import BegunAnew, Misfits, Widening, decide

__all__ = ["Follower", "Segments", "StrictSegments"]

# Of the ways to the server and back that a segment takes, four are outside of its load (BEGIN, SET,
# the checkpoint, COMMIT) and two in it (the beginning and the end of COPY).
WAITS = 6 / 4

SegmentT = TypeVar("SegmentT", bound=Segment)
SegmentT_co = TypeVar("SegmentT_co", bound=Segment, covariant=True)


class Reader(Protocol[SegmentT_co]):
    """What cuts the source."""

    @property
    def left(self) -> int | None:
        """Bytes that are still to be handed out; None where nobody knows."""

    def next(self, target_bytes: int, buffer: bytearray | None = None) -> SegmentT_co | None:
        """The next whole records, about so many bytes of them; None when nothing is left."""


class Follower(Protocol):
    """What reads the file beside the workers."""

    def allow(self, position: int) -> None:
        """The workers have come this far."""

    def take(self, position: int, data: bytes | memoryview) -> None:
        """A worker holds the bytes from this position on."""


class Segments(Generic[SegmentT]):
    """A crew's task: one batch is one segment. How its records are loaded, the kinds say.

    A segment that a column of an inferred type does not take is loaded by a transaction that
    widens the column too; no other batch is open meanwhile. What the plan then is, the store has.
    Where the load has to begin anew, ``carry`` raises BegunAnew, for every batch from then on.
    """

    def __init__(
        self,
        run: Run,
        store: PostgresJobStore,
        plan: UploadPlan,
        staging: TableName,
        reader: Reader[SegmentT],
        digest: Follower,
        common: Common | None = None,
        part: int | None = None,
    ) -> None:
        self._run = run
        self._store = store
        self._plan = plan
        self._staging = staging
        self._reader = reader
        self._digest = digest
        self._part = part
        self._common = Common(run, plan) if common is None else common
        self._loaded: dict[int, Checkpoint] = {}  # by segment, until it is counted
        self._common.join(self)

    def follow(self, plan: UploadPlan) -> None:
        """Load by this plan of the whole job from now on; called while no batch is open."""
        self.use(plan if self._part is None else plan.of_part(self._part))

    def use(self, plan: UploadPlan) -> None:
        """Load by this plan of one file."""
        self._plan = plan
        self._loader = self.loader(plan)

    def loader(self, plan: UploadPlan) -> Loader[SegmentT]:
        """What loads segments by this plan."""
        raise NotImplementedError

    def is_in_file(self, batch: SegmentT) -> bool:
        """Whether its bytes are those of the file at its positions, or only what became of them."""
        return True

    def take(self) -> SegmentT | None:
        size = self._common.pace.batch_bytes(self._reader.left)
        segment = self._reader.next(size, self._buffer())
        if segment is not None:
            self._follow(segment)
        return segment

    def _follow(self, segment: SegmentT) -> None:
        """Have the digest go on."""
        # Positions in an unpacked source say nothing of the file's own bytes.
        self._digest.allow(min(segment.stop, self._plan.size))

    def _buffer(self) -> bytearray:
        """The calling worker's own: it holds one segment at a time, and a retry has the same."""
        buffers = self._common.buffers
        if not hasattr(buffers, "buffer"):
            buffers.buffer = bytearray(self._common.pace.largest)
        buffer: bytearray = buffers.buffer
        return buffer

    def tool(self) -> Hand:
        return self._common.tool(self._store.database)

    def carry(self, tool: Hand, batch: SegmentT) -> None:
        common = self._common
        while True:
            found: Misfits | None = None
            with common.gate.shared():
                plan = common.plan
                if not common.is_unsure:
                    try:
                        self._carry(tool, batch)
                    except Misfits as misfits:
                        found = misfits
                    else:
                        return
            with common.gate.alone(), tool.here() as connection:
                if common.is_unsure:
                    self._look_again(connection)
                elif found is not None and common.plan is plan:  # else it is wider already
                    self._widen(connection, batch, found)
                    return

    def _carry(self, tool: Hand, batch: SegmentT) -> None:
        if isinstance(tool, Lane) and self._send(tool, batch):
            return
        with tool.here() as connection:
            self._carry_here(connection, batch)

    def _send(self, lane: Lane, batch: SegmentT) -> bool:
        """Have a worker of the cluster load it; False where that is to be done here.

        What is wrong with a segment is found out here, as it is without a cluster: no error has to
        find its way back from there.
        """
        errand = Errand(
            access=lane.access,
            name=lane.name,
            claim=self._run.claim,
            plan=self._plan,
            staging=self._staging,
            segment=batch,
            merges=self._common.merger.is_due(),
        )
        outcome = lane.send(errand, in_file=self.is_in_file(batch))
        if outcome.kind == "fenced":
            raise self._store.fenced(self._run.claim)
        if outcome.kind == "refused":
            return False
        if outcome.checkpoint is not None:
            self._loaded[batch.start] = outcome.checkpoint
        self._common.pace.took(len(batch.data), outcome.seconds, WAITS * outcome.waiting)
        return True

    def _carry_here(self, connection: Connection, batch: SegmentT) -> None:
        began = time.monotonic()
        with connection.begin():
            # A checkpoint need not be on the disk before the next segment begins. What must be
            # durable, a pause, a failure and the final switch, is a commit of its own that waits
            # for the disk, and with it for all that was written before it. On two cores this is a
            # fifth of the time. (LOCAL: behind a pooler, the session is soon somebody else's.)
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            reach("before the rows")
            if self._is_done_elsewhere(connection, batch):
                return
            load_began = time.monotonic()
            checkpoint = self._load_named(connection, batch)
            load_took = time.monotonic() - load_began
            self._record(connection, checkpoint)
            self._common.merger.merge_if_due(connection)
            reach("after the rows")
        self._loaded[batch.start] = checkpoint
        reach("after the checkpoint")
        seconds = time.monotonic() - began
        self._common.pace.took(len(batch.data), seconds, WAITS * (seconds - load_took))

    def _load_named(self, connection: Connection, batch: SegmentT) -> Checkpoint:
        if self._plan.source_column is not None:
            tables.name_source(connection, self._plan.source_name)
        return self._loader.load(connection, batch)

    def _record(self, connection: Connection, checkpoint: Checkpoint) -> None:
        base = self._plan.base
        placed = replace(checkpoint, start=base + checkpoint.start, stop=base + checkpoint.stop)
        if not checkpoints.record(connection, self._run.claim, placed):
            raise self._store.fenced(self._run.claim)

    def _is_done_elsewhere(self, connection: Connection, batch: SegmentT) -> bool:
        """Whether a worker of a cluster that was given up as lost has loaded the segment.

        Until the transaction ends, none does.
        """
        if self._common.lanes is None:
            return False
        job_id, start = self._run.job_id, self._plan.base + batch.start
        checkpoints.wait_for_others(connection, job_id, start)
        return checkpoints.is_committed(connection, job_id, start)

    def _widen(self, connection: Connection, batch: SegmentT, found: Misfits) -> None:
        """Load the segment and widen what does not take it; or begin anew."""
        while True:
            try:
                widening = decide(self._common.plan, self._plan, found)
                return self._load_widened(connection, batch, widening)
            except Misfits as more:  # with other types, other values may come to the fore
                found = found.and_more(more)

    def _load_widened(self, connection: Connection, batch: SegmentT, widening: Widening) -> None:
        self._run.say(next(iter(widening.changed.values())))
        self._common.is_unsure = True
        try:
            # This COMMIT waits for the disk, unlike those of other segments: what this process
            # knows of the plan must not be ahead of the server's, should that crash.
            with connection.begin():
                is_done = self._is_done_elsewhere(connection, batch)
                widening.apply(connection, self._staging)
                checkpoint = None
                if widening.exact and not is_done:
                    self.follow(widening.new)
                    checkpoint = self._load_named(connection, batch)
                widening.record(connection, self._store, self._run)
                if checkpoint is not None:
                    self._record(connection, checkpoint)
                reach("while widening")
        except BaseException:
            self.follow(self._common.plan)
            raise
        reach("after widening")
        if not widening.exact:
            raise BegunAnew
        self._common.adopt(widening.new)
        if checkpoint is not None:
            self._loaded[batch.start] = checkpoint
        self._run.say("")

    def _look_again(self, connection: Connection) -> None:
        with connection.begin():
            self._store.lock(connection, self._run.claim)
            spec = self._store.spec(connection, self._run.claim)
            stored = checked_upload(connection, spec, self._run.job_id)
        if stored.beginnings != self._common.plan.beginnings:
            raise BegunAnew
        self._common.adopt(stored)

    def is_done(self, tool: Hand, batch: SegmentT) -> bool:
        with tool.here() as connection, connection.begin():
            self._store.lock(connection, self._run.claim)
            return checkpoints.is_committed(
                connection, self._run.job_id, self._plan.base + batch.start
            )

    def count(self, batch: SegmentT) -> None:
        loaded = self._loaded.pop(batch.start, None)
        rows, rejected = (loaded.rows, loaded.rejected) if loaded else (batch.records, 0)
        self._run.meter.add(len(batch.data), rows, rejected)
        self._run.checkpointed()
        self._run.control.pay(len(batch.data))


class StrictSegments(Segments[Segment]):
    """Segments go into COPY as they stand; the first record that it refuses stops the job."""

    def loader(self, plan: UploadPlan) -> StrictLoader:
        return StrictLoader(plan, self._staging)

    def _follow(self, segment: Segment) -> None:
        self._digest.take(segment.start, segment.data)
        self._digest.allow(segment.stop)
