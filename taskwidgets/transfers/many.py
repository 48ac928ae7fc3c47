"""An upload of several files into one table: one job, one crew, one ledger.

Each file is cut and loaded as it would be alone, by a task of its own, so that encodings,
dialects and the columns' order may differ. In the ledger, each has a range of positions to itself
(`upload_plan.PART_BYTES`).
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taskwidgets.errors import SourceError
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.words import counted
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular import ranges
from taskwidgets.tabular.pieces import Cutter
from taskwidgets.tabular.segments import SegmentReader
from taskwidgets.tabular.stream import Stream, open_stream
from taskwidgets.transfers.common import Common, Hand
from taskwidgets.transfers.digest import FileDigest, JoinedFiles
from taskwidgets.transfers.lenient_batches import LenientSegments
from taskwidgets.transfers.mending import check_parts
from taskwidgets.transfers.origins.files import matching
from taskwidgets.transfers.segment_batches import Segments, StrictSegments
from taskwidgets.transfers.upload import Gap, Upload
from taskwidgets.transfers.upload_plan import PART_BYTES, UploadPlan

__all__ = ["ManyUpload"]

SAY_INTERVAL = 0.25  # seconds between two words on which file it is; small files take less
MOST_NOTES = 100  # files whose rows the receipt tells


class ManyUpload(Upload):
    """The work of an upload of several files."""

    def _make_digest(self) -> FileDigest:
        return FileDigest(JoinedFiles(sizes(self._plan)))

    def _settle_source(self, run: Run) -> UploadPlan:
        settled = check_parts(self._store, run, self._plan)
        if settled is not self._plan:
            self._plan, self._digest = settled, None
        return settled

    def _load_missing(self, run: Run, plan: UploadPlan, missing: list[Gap], workers: int) -> None:
        assert self._digest is not None
        by_part: dict[int, list[Gap]] = defaultdict(list)
        for start, stop in missing:
            number = start // PART_BYTES
            base = number * PART_BYTES
            by_part[number].append((start - base, None if stop is None else stop - base))
        common, workers = self._common(run, plan, workers)
        with _Parts(run, self._store, plan, self._staging, by_part, self._digest, common) as parts:
            self._crew(run, parts, workers).work()
            ends = parts.ends
        if ends:
            self._refresh(run)
            plan = self._plan
            self._plan = plan.with_parts(
                [
                    replace(part, data_stop=ends[number]) if number in ends else part
                    for number, part in enumerate(plan.parts)
                ]
            )
            self._keep(run, self._plan)

    def _missing(self, run: Run, *, final: bool = True) -> list[Gap]:
        ledger = self._refresh(run, final=final)
        plan = self._plan
        by_part: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for entry in ledger:
            by_part[entry.start // PART_BYTES].append((entry.start, entry.stop))
        missing: list[Gap] = []
        for number, part in enumerate(plan.parts):
            base = number * PART_BYTES
            start = base + part.data_start
            loaded = by_part[number]
            if part.data_stop is not None:
                missing += ranges.gaps(loaded, start, base + part.data_stop)
                continue
            last = max((stop for _, stop in loaded), default=start)
            missing += [*ranges.gaps(loaded, start, last), (last, None)]
        run.meter.set(
            done=sum(entry.stop - entry.start for entry in ledger),
            rows=sum(entry.rows for entry in ledger),
            total=plan.data_stop,
            rejected=sum(entry.rejected for entry in ledger),
        )
        return missing

    def _told(self, run: Run) -> UploadPlan:
        """With how many rows came from each file, and which files came too late."""
        ledger = self._refresh(run)
        plan = self._plan
        rows: dict[int, int] = defaultdict(int)
        rejected: dict[int, int] = defaultdict(int)
        for entry in ledger:
            rows[entry.start // PART_BYTES] += entry.rows
            rejected[entry.start // PART_BYTES] += entry.rejected
        notes = [
            f"{part.name}: {counted(rows[number], 'row')}"
            + (f", {rejected[number]:,} rejected" if rejected[number] else "")
            for number, part in enumerate(plan.parts[:MOST_NOTES])
        ]
        if plan.parts[MOST_NOTES:]:
            notes.append(f"and {len(plan.parts) - MOST_NOTES:,} files more")
        assert plan.origin is not None
        pattern = plan.origin["facts"].get("pattern")
        known = set(plan.origin["facts"]["paths"])
        late = [path for path in matching(pattern) if str(path) not in known] if pattern else []
        if late:
            named = ", ".join(path.name for path in late[:5]) + (" ..." if late[5:] else "")
            notes.append(
                f"not loaded, as there when the job had begun already: {named}; again=True loads "
                "all that match now"
            )
        return replace(plan, notes=(*plan.notes, *notes))


def sizes(plan: UploadPlan) -> list[tuple[Path, int]]:
    """The files of a plan, and how many bytes each has."""
    return [(part.path, part.fingerprint.size) for part in plan.parts]


@dataclass
class _Follower:
    """The digest, as the task of one file knows it: positions from that file's first byte."""

    digest: FileDigest
    before: int  # bytes of the files before

    def allow(self, position: int) -> None:
        self.digest.allow(self.before + position)

    def take(self, position: int, data: bytes | memoryview) -> None:
        self.digest.take(self.before + position, data)


class _Part:
    """One file that is being loaded: its task, and what is open for it."""

    def __init__(self, number: int, task: Segments[Any], stream: Stream | None) -> None:
        self.number = number
        self.task = task
        self.stream = stream
        self.open = ExitStack()
        self.held = 0  # by workers: batches, and looks for the next one
        self.is_read = False


@dataclass(frozen=True)
class _Batch:
    part: _Part
    batch: Any


class _Parts:
    """A crew's task: the files' own tasks, one after the other."""

    def __init__(
        self,
        run: Run,
        store: PostgresJobStore,
        plan: UploadPlan,
        staging: Any,
        missing: dict[int, list[Gap]],
        digest: FileDigest,
        common: Common,
    ) -> None:
        self._run = run
        self._store = store
        self._plan = plan
        self._staging = staging
        self._digest = digest
        self._left = deque(sorted(missing.items()))
        self._before = [0]
        for part in plan.parts:
            self._before.append(self._before[-1] + part.fingerprint.size)
        self._lock = threading.Lock()
        self._current: _Part | None = None
        self._opened: list[_Part] = []
        self._common = common
        self._said_at = 0.0
        self.ends: dict[int, int] = {}  # of files of which only reading told it

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *_: object) -> None:
        for part in self._opened:
            part.open.close()
        self._run.say("")

    def take(self) -> _Batch | None:
        while True:
            with self._lock:
                if self._current is None:
                    if not self._left:
                        return None
                    self._current = self._begin(*self._left.popleft())
                part = self._current
                part.held += 1
            batch = part.task.take()
            if batch is not None:
                return _Batch(part, batch)
            with self._lock:
                if self._current is part:
                    self._current = None
                if not part.is_read:
                    part.is_read = True
                    self._note_end(part)
            self._let_go(part)

    def tool(self) -> Hand:
        return self._common.tool(self._store.database)

    def carry(self, tool: Hand, batch: _Batch) -> None:
        batch.part.task.carry(tool, batch.batch)

    def is_done(self, tool: Hand, batch: _Batch) -> bool:
        return batch.part.task.is_done(tool, batch.batch)

    def count(self, batch: _Batch) -> None:
        self._let_go(batch.part)
        batch.part.task.count(batch.batch)

    # ------------------------------------------------------------------ inside

    def _begin(self, number: int, gaps: list[Gap]) -> _Part:
        plan = self._common.plan.of_part(number)
        self._say(number, plan)
        self._digest.allow(self._before[number])
        follower = _Follower(self._digest, self._before[number])
        made: Segments[Any]
        stream = None
        with ExitStack() as opened:
            if plan.description is None:
                assert plan.data_stop is not None
                bounded = [
                    (start, plan.data_stop if stop is None else stop) for start, stop in gaps
                ]
                reader = opened.enter_context(
                    SegmentReader(
                        plan.path, plan.dialect, plan.data_start, plan.size, bounded, plan.limits
                    )
                )
                made = StrictSegments(
                    self._run, self._store, plan, self._staging, reader, follower,
                    self._common, number,
                )  # fmt: skip
            else:
                stream = opened.enter_context(open_stream(plan.path, plan.description, plan.limits))
                cutter = Cutter(
                    stream,
                    plan.grammar,
                    plan.data_start,
                    plan.data_stop,
                    gaps,
                    first_line=plan.first_line,
                    limits=plan.limits,
                )
                if stream.size is None:  # unpacked: no position tells how much of it is read
                    follower.allow(plan.size)
                made = LenientSegments(
                    self._run, self._store, plan, self._staging, cutter, follower,
                    self._common, number,
                )  # fmt: skip
            part = _Part(number, made, stream)
            part.open = opened.pop_all()
        self._opened.append(part)
        return part

    def _note_end(self, part: _Part) -> None:
        """What reading to the end has told; the position must leave room for the next file."""
        if self._plan.parts[part.number].data_stop is not None:
            return
        assert part.stream is not None
        assert part.stream.size is not None  # it has been read to its end
        if part.stream.size >= PART_BYTES:
            raise SourceError(f"{part.stream.path} is too long to be one of several files")
        self.ends[part.number] = part.stream.size

    def _let_go(self, part: _Part) -> None:
        with self._lock:
            part.held -= 1
            if not part.held and self._current is not part and part in self._opened:
                self._opened.remove(part)
                self._common.leave(part.task)
                part.open.close()

    def _say(self, number: int, plan: UploadPlan) -> None:
        now = time.monotonic()
        if now - self._said_at >= SAY_INTERVAL:
            self._said_at = now
            self._run.say(f"file {number + 1:,} of {len(self._plan.parts):,}: {plan.source_name}")
