"""An upload of several files into one table: one job, one crew, one ledger.

Each file is cut and loaded as it would be alone, by a task of its own, so that encodings,
dialects and the columns' order may differ. In the ledger, each has a range of positions to itself
(`upload_plan.PART_BYTES`).
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict, deque
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import text
from zlib_ng import zlib_ng

from taskwidgets.errors import SourceError
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.words import counted
from taskwidgets.store import checkpoints
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular import ranges
from taskwidgets.tabular.boundaries import scan
from taskwidgets.tabular.pieces import Cutter
from taskwidgets.tabular.segments import Segment, SegmentReader
from taskwidgets.tabular.stream import Stream, open_stream
from taskwidgets.transfers.common import Common, Hand
from taskwidgets.transfers.digest import FileDigest, JoinedFiles
from taskwidgets.transfers.lenient_batches import LenientSegments
from taskwidgets.transfers.loading import StrictLoader
from taskwidgets.transfers.mending import check_parts
from taskwidgets.transfers.origins.files import matching, paths_of
from taskwidgets.transfers.part_list import PartList
from taskwidgets.transfers.segment_batches import WAITS, Segments, StrictSegments
from taskwidgets.transfers.upload import Gap, Upload
from taskwidgets.transfers.upload_plan import PART_BYTES, UploadPlan
from taskwidgets.transfers.widening import Misfits

__all__ = ["ManyUpload"]

SAY_INTERVAL = 0.25  # seconds between two words on which file it is; small files take less
SMALL_BYTES = 1 << 16  # of data, that a file has at most which is loaded together with others
MOST_SMALL = 1000  # files that are loaded at once
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
        left = _left(plan.parts, missing)
        missing.clear()  # of very many files, it takes much memory
        common, workers = self._common(run, plan, workers)
        with _Parts(run, self._store, plan, self._staging, left, self._digest, common) as parts:
            self._crew(run, parts, workers).work()
            ends = parts.ends
        if ends:
            self._refresh(run)
            plan = self._plan
            changed = {
                number: replace(plan.parts[number], data_stop=stop) for number, stop in ends.items()
            }
            self._plan = plan.with_parts(plan.parts.replaced(changed))
            self._keep(run, self._plan)

    def _missing(self, run: Run, *, final: bool = True) -> list[Gap]:
        ledger = self._refresh(run, final=final)
        plan = self._plan
        missing: list[Gap] = []
        at = 0  # in the ledger, which is in the order of the source
        for number in range(len(plan.parts)):
            base = number * PART_BYTES
            data_start, data_stop = plan.parts.bounds(number)
            start = base + data_start
            loaded = []
            while at < len(ledger) and ledger[at].start < base + PART_BYTES:
                loaded.append((ledger[at].start, ledger[at].stop))
                at += 1
            if data_stop is not None:
                missing += ranges.gaps(loaded, start, base + data_stop)
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
            number = entry.start // PART_BYTES
            if number >= MOST_NOTES:
                break  # the ledger is in the order of the source
            rows[number] += entry.rows
            rejected[number] += entry.rejected
        notes = [
            f"{plan.parts.name(number)}: {counted(rows[number], 'row')}"
            + (f", {rejected[number]:,} rejected" if rejected[number] else "")
            for number in range(min(len(plan.parts), MOST_NOTES))
        ]
        if len(plan.parts) > MOST_NOTES:
            notes.append(f"and {len(plan.parts) - MOST_NOTES:,} files more")
        assert plan.origin is not None
        pattern = plan.origin["facts"].get("pattern")
        known = set(paths_of(plan.origin["facts"]))
        late = [path for path in matching(pattern) if path not in known] if pattern else []
        if late:
            named = ", ".join(Path(path).name for path in late[:5]) + (" ..." if late[5:] else "")
            notes.append(
                f"not loaded, as there when the job had begun already: {named}; again=True loads "
                "all that match now"
            )
        return replace(plan, notes=(*plan.notes, *notes))


# A file that is to be loaded: its number where all of it is missing, else what is, too.
_Left = int | tuple[int, list[Gap]]


def _left(parts: PartList, missing: list[Gap]) -> deque[_Left]:
    """The files that are to be loaded, in their order, and the positions in each."""
    found: deque[_Left] = deque()
    for number, gaps in itertools.groupby(missing, lambda gap: gap[0] // PART_BYTES):
        base = number * PART_BYTES
        own = [(start - base, None if stop is None else stop - base) for start, stop in gaps]
        found.append(number if own == [parts.bounds(number)] else (number, own))
    return found


def sizes(plan: UploadPlan) -> list[tuple[Path | str, int]]:
    """The files of a plan, and how many bytes each has."""
    return list(zip(plan.parts.paths, plan.parts.sizes, strict=True))


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


@dataclass
class _SmallFiles:
    """Whole small files, written alike, that are loaded by one COPY with one transaction.

    ``singly``: COPY refused a record, or a file cannot be taken so, and each is loaded by itself.
    """

    numbers: list[int]
    bytes: int
    rows: int = 0
    singly: bool = False


class _Parts:
    """A crew's task: the files' own tasks, one after the other."""

    def __init__(
        self,
        run: Run,
        store: PostgresJobStore,
        plan: UploadPlan,
        staging: Any,
        left: deque[int | tuple[int, list[Gap]]],
        digest: FileDigest,
        common: Common,
    ) -> None:
        self._run = run
        self._store = store
        self._plan = plan
        self._staging = staging
        self._digest = digest
        self._left = left
        self._before = [0]
        for size in plan.parts.sizes:
            self._before.append(self._before[-1] + size)
        self._lock = threading.Lock()
        self._current: _Part | None = None
        self._opened: list[_Part] = []
        self._common = common
        self._said_at = 0.0
        self._loaders: dict[int, tuple[UploadPlan, StrictLoader]] = {}  # by `PartList.like`
        self.ends: dict[int, int] = {}  # of files of which only reading told it

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *_: object) -> None:
        for part in self._opened:
            part.open.close()
        self._run.say("")

    def take(self) -> _Batch | _SmallFiles | None:
        while True:
            with self._lock:
                if self._current is None:
                    if not self._left:
                        return None
                    small = self._small_files()
                    if small is not None:
                        return small
                    self._current = self._begin(*self._popped())
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

    def carry(self, tool: Hand, batch: _Batch | _SmallFiles) -> None:
        if isinstance(batch, _Batch):
            batch.part.task.carry(tool, batch.batch)
            return
        is_again = batch.singly
        if not batch.singly and not self._carry_together(tool, batch):
            batch.singly = True
        if batch.singly:
            self._carry_singly(tool, batch, is_again=is_again)

    def is_done(self, tool: Hand, batch: _Batch | _SmallFiles) -> bool:
        if isinstance(batch, _Batch):
            return batch.part.task.is_done(tool, batch.batch)
        if batch.singly:
            return False  # of each it is asked when it is its turn
        first = batch.numbers[0]
        start = first * PART_BYTES + self._plan.parts.bounds(first)[0]
        with tool.here() as connection, connection.begin():
            self._store.lock(connection, self._run.claim)
            return checkpoints.is_committed(connection, self._run.job_id, start)

    def count(self, batch: _Batch | _SmallFiles) -> None:
        if isinstance(batch, _SmallFiles):
            if not batch.singly:
                self._run.meter.add(batch.bytes, batch.rows, 0)
                self._run.checkpointed()
                self._run.control.pay(batch.bytes)
            return
        self._let_go(batch.part)
        batch.part.task.count(batch.batch)

    # ------------------------------------------------------------------ small files

    def _small_files(self) -> _SmallFiles | None:
        """The next files, as far as they are small and written alike; None for fewer than two."""
        if self._common.lanes is not None or self._plan.source_column is not None:
            return None
        parts = self._common.plan.parts
        most = self._common.pace.batch_bytes()
        numbers: list[int] = []
        total = 0
        for number in self._left:
            if not isinstance(number, int):
                break
            start, stop = parts.bounds(number)
            if (
                stop is None
                or stop - start > SMALL_BYTES
                or parts.has_description(number)
                or (numbers and parts.like(number) != parts.like(numbers[0]))
                or (numbers and total + stop - start > most)
                or len(numbers) == MOST_SMALL
            ):
                break
            numbers.append(number)
            total += stop - start
        if len(numbers) < 2:
            return None
        for _ in numbers:
            self._left.popleft()
        self._say(numbers[0], parts.name(numbers[0]))
        return _SmallFiles(numbers, total)

    def _popped(self) -> tuple[int, list[Gap]]:
        """The next file, and what is missing of it."""
        found = self._left.popleft()
        return found if not isinstance(found, int) else (found, [self._plan.parts.bounds(found)])

    def _carry_together(self, tool: Hand, batch: _SmallFiles) -> bool:
        """Load the files as one segment; False where each has to be loaded by itself."""
        common = self._common
        with common.gate.shared():
            if common.is_unsure:
                return False
            loader = self._loader(batch.numbers[0])
            read = self._read_together(batch)
            if read is None:
                return False
            segment, made = read
            began = time.monotonic()
            try:
                with tool.here() as connection, connection.begin():
                    # As for other segments: see `Segments._carry_here`.
                    connection.execute(text("SET LOCAL synchronous_commit = off"))
                    reach("before the rows")
                    load_began = time.monotonic()
                    loader.load(connection, segment)
                    load_took = time.monotonic() - load_began
                    if not checkpoints.record_many(connection, self._run.claim, made):
                        raise self._store.fenced(self._run.claim)
                    reach("after the rows")
            except (Misfits, SourceError):  # which file it is, and what to do, is told by itself
                return False
        reach("after the checkpoint")
        batch.rows = segment.records
        seconds = time.monotonic() - began
        common.pace.took(len(segment.data), seconds, WAITS * (seconds - load_took))
        return True

    def _read_together(self, batch: _SmallFiles) -> tuple[Segment, list[Checkpoint]] | None:
        """The files' data as one segment, and the checkpoint of each; None where that cannot be."""
        parts = self._plan.parts
        dialect = self._plan.parts[batch.numbers[0]].dialect
        pieces: list[bytes] = []
        made: list[Checkpoint] = []
        lines = 0
        for number in batch.numbers:
            start, stop = parts.bounds(number)
            assert stop is not None
            try:
                with open(parts.paths[number], "rb", buffering=0) as file:  # noqa: PTH123 - a text
                    data = file.read(stop + 1)
            except OSError:
                return None
            body = data[start:]
            found = scan(body, dialect.quote_byte)
            if len(data) != stop or found.inside or len(body) > self._plan.limits.row:
                return None
            self._digest.take(self._before[number], data)
            self._digest.allow(self._before[number] + len(data))
            if not body:
                continue
            is_ended = body.endswith(b"\n")
            records = found.records + (not is_ended)
            made.append(
                Checkpoint(
                    number * PART_BYTES + start,
                    number * PART_BYTES + stop,
                    records,
                    zlib_ng.crc32(body),
                )
            )
            lines += found.lines + (not is_ended)
            pieces.append(body)
            if not is_ended:
                pieces.append(b"\r\n" if b"\r\n" in body else b"\n")
        joined = b"".join(pieces)
        records = sum(one.rows for one in made)
        return Segment(0, len(joined), records, joined, zlib_ng.crc32(joined), lines), made

    def _loader(self, number: int) -> StrictLoader:
        """What loads files like this one, by the plan as it is."""
        plan = self._common.plan
        like = plan.parts.like(number)
        known = self._loaders.get(like)
        if known is None or known[0] is not plan:
            known = (plan, StrictLoader(plan.of_part(number), self._staging))
            self._loaders[like] = known
        return known[1]

    def _carry_singly(self, tool: Hand, batch: _SmallFiles, *, is_again: bool) -> None:
        """Load each of the files as it would be loaded alone."""
        for number in batch.numbers:
            with self._lock:
                part = self._begin(number, [self._plan.parts.bounds(number)])
            try:
                while (segment := part.task.take()) is not None:
                    if is_again and part.task.is_done(tool, segment):
                        continue
                    part.task.carry(tool, segment)
                    part.task.count(segment)
            finally:
                with self._lock:
                    self._opened.remove(part)
                self._common.leave(part.task)
                part.open.close()

    # ------------------------------------------------------------------ inside

    def _begin(self, number: int, gaps: list[Gap]) -> _Part:
        plan = self._common.plan.of_part(number)
        self._say(number, plan.source_name)
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
        if self._plan.parts.bounds(part.number)[1] is not None:
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

    def _say(self, number: int, name: str) -> None:
        now = time.monotonic()
        if now - self._said_at >= SAY_INTERVAL:
            self._said_at = now
            self._run.say(f"file {number + 1:,} of {len(self._plan.parts):,}: {name}")
