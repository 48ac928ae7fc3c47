"""Segments of a source in which records may be damaged: what is good is loaded, the rest is kept.

Cleaning comes first (`taskwidgets.tabular.cleaning`), then Postgres judges the values. Rows,
rejects and checkpoint commit in one transaction, so that read = loaded + rejected at any moment.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right

from sqlalchemy import Connection

from taskwidgets.errors import SourceError
from taskwidgets.runtime.progress import Progress
from taskwidgets.runtime.run import Run
from taskwidgets.store import rejects
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.rejects import Reject
from taskwidgets.tabular.boundaries import records
from taskwidgets.tabular.cleaning import Cleaned, Origin, clean, piece_rows, repaired
from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.misfits import find_misfits
from taskwidgets.tabular.pieces import Cutter, PiecedSegment
from taskwidgets.tabular.repair import Fault
from taskwidgets.transfers.common import Common
from taskwidgets.transfers.copy_in import CopyIn
from taskwidgets.transfers.faults import stopping_error
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.segment_batches import Follower, Segments
from taskwidgets.transfers.sorting import Sorter
from taskwidgets.transfers.upload_plan import UploadPlan
from taskwidgets.transfers.widening import Misfits

__all__ = ["LenientSegments", "check_share"]

ENOUGH_ROWS = 1000  # of which a share is told; before that, one bad row in three says nothing


class LenientSegments(Segments[PiecedSegment]):
    """A crew's task: one batch is one segment, its good rows and its rejects."""

    def __init__(
        self,
        run: Run,
        store: PostgresJobStore,
        plan: UploadPlan,
        staging: TableName,
        cutter: Cutter,
        digest: Follower,
        common: Common | None = None,
        part: int | None = None,
    ) -> None:
        self._cutter = cutter
        self._counted: dict[int, tuple[int, int]] = {}  # by segment: rows, rejects
        self._counted_lock = threading.Lock()
        super().__init__(run, store, plan, staging, cutter, digest, common, part)

    def use(self, plan: UploadPlan) -> None:
        """Load by this plan from now on."""
        super().use(plan)
        self._grammar = plan.grammar
        self._conversions = plan.conversions
        self._sorter = Sorter(
            CopyIn(self._staging, plan),
            plan.dialect,
            plan.columns,
            plan.types,
        )

    def load(self, connection: Connection, batch: PiecedSegment) -> Checkpoint:
        cleaned = clean(batch, self._grammar, self._plan.columns, self._conversions)
        if self._unconverted(cleaned) or self._screen.suspects(cleaned.data):
            self._raise_misfits(batch, cleaned)
        rows, found = self._sort_in(connection, batch, cleaned)
        if found and self._plan.on_error == "stop":
            raise stopping_error(self._plan.path, found[0])
        rejects.record(connection, self._run.job_id, found)
        with self._counted_lock:
            self._counted[batch.start] = (rows, len(found))
        return Checkpoint(batch.start, batch.stop, rows, batch.crc32, rejected=len(found))

    def count(self, batch: PiecedSegment) -> None:
        with self._counted_lock:
            rows, rejected = self._counted.pop(batch.start, (batch.records, 0))
        self._run.meter.add(len(batch.data), rows, rejected)
        self._run.checkpointed()
        self._run.control.pay(len(batch.data))
        check_share(self._plan, self._run.meter.snapshot())

    # ------------------------------------------------------------------ one segment

    def _sort_in(
        self, connection: Connection, batch: PiecedSegment, cleaned: Cleaned
    ) -> tuple[int, list[Reject]]:
        """Rows that were loaded, and the rejects of cleaning and of Postgres together."""
        plan = self._plan
        sorted_in = self._sorter.load(connection, cleaned.data)
        names = {plan.columns[index] for index in self._widenable}
        if any(bad.column in names for bad in sorted_in.bad):
            self._raise_misfits(batch, cleaned)
        if sorted_in.rows + len(sorted_in.bad) != cleaned.rows:
            raise SourceError(
                f"{plan.path}: of {cleaned.rows:,} rows in bytes {batch.start:,} to "
                f"{batch.stop:,}, Postgres took {sorted_in.rows:,} and refused "
                f"{len(sorted_in.bad):,}",
                path=plan.path,
            )
        found = [
            Reject(
                one.line,
                plan.base + one.offset,
                one.raw.decode(self._grammar.codec, errors="backslashreplace"),
                one.reason,
                one.column,
            )
            for one in cleaned.rejects
        ]
        if sorted_in.bad:
            places = _Places(batch, cleaned, self._first_line(batch), self._grammar)
            for bad in sorted_in.bad:
                start, stop, line = places.place(bad.start, bad.stop)
                raw = bytes(memoryview(batch.data)[start:stop]).rstrip(b"\r\n")
                found.append(
                    Reject(
                        line,
                        plan.base + batch.start + start,
                        raw.decode(self._grammar.codec, errors="backslashreplace"),
                        bad.reason,
                        bad.column,
                        bad.sqlstate,
                    )
                )
        return sorted_in.rows, sorted(found, key=lambda one: one.byte_offset)

    def _unconverted(self, cleaned: Cleaned) -> dict[int, list[tuple[int, str]]]:
        """(line, value) of what is not written as its column's values are, by column."""
        found: dict[int, list[tuple[int, str]]] = {}
        for reject in cleaned.rejects:
            if reject.column is None:
                continue
            index = self._plan.columns.index(reject.column)
            if index not in self._widenable or index not in self._conversions:
                continue
            rows, _ = repaired(reject.raw, self._grammar)
            for row in [] if isinstance(rows, Fault) else rows:
                value, _ = row[index]
                try:
                    self._conversions[index](value)
                except ValueError:
                    found.setdefault(index, []).append((reject.line, value))
        return found

    def _raise_misfits(self, batch: PiecedSegment, cleaned: Cleaned) -> None:
        """Misfits, if there are any."""
        values: dict[int, set[str]] = {}
        lines: dict[int, tuple[int, str]] = {}
        found = find_misfits(cleaned.data, self._plan.dialect, self._widenable)
        places = _Places(batch, cleaned, self._first_line(batch), self._grammar)
        for index, misfit in sorted(found.items(), key=lambda item: item[1].start):
            _, _, line = places.place(misfit.start, misfit.stop)
            values[index] = misfit.values
            lines[index] = (line, misfit.first)
        for index, others in self._unconverted(cleaned).items():
            values.setdefault(index, set()).update(value for _, value in others)
            lines[index] = min([*others, *([lines[index]] if index in lines else [])])
        if values:
            raise Misfits(values, lines)

    def _first_line(self, batch: PiecedSegment) -> int:
        return batch.first_line or self._cutter.line_of(batch.start)


def check_share(plan: UploadPlan, progress: Progress, *, finished: bool = False) -> None:
    """SourceError when more rows were rejected than the caller takes for bearable.

    ``finished``: all of the source is read; before that, a share of few rows says nothing.
    """
    most = plan.max_rejects
    if most is None:
        return
    read = progress.rows + progress.rejected
    if isinstance(most, float):
        too_many = progress.rejected > most * read and (finished or read >= ENOUGH_ROWS)
        bound = f"{most:.3g} of all rows"
    else:
        too_many = progress.rejected > most
        bound = f"{most:,} rows"
    if too_many:
        raise SourceError(
            f"{plan.source}: {progress.rejected:,} of {read:,} rows were rejected, more than "
            f"max_rejects={most!r} ({bound}). job.rejects() shows them; the load is probably "
            "simply wrong: look at delimiter, encoding and types",
            path=plan.path if plan.origin is None else None,
        )


class _Places:
    """From records of the cleaned data back to the source; to be asked in ascending order."""

    def __init__(
        self, batch: PiecedSegment, cleaned: Cleaned, first_line: int, grammar: Grammar
    ) -> None:
        self._data = memoryview(batch.data)
        self._cleaned = memoryview(cleaned.data)
        self._origins = cleaned.origins or (Origin(0, 0, len(batch.data), "same"),)
        self._grammar = grammar
        self._counted_to, self._line = 0, first_line
        self._numbered: tuple[int, list[int], list[tuple[int, int]]] | None = None

    def place(self, at: int, to: int) -> tuple[int, int, int]:
        """(start, stop) in the segment's data, and the physical line in the source."""
        index = bisect_right(self._origins, at, key=lambda origin: origin.at) - 1
        origin = self._origins[index]
        start, stop = origin.start, origin.stop
        if origin.how == "same":
            start += at - origin.at
            stop = start + to - at
        elif origin.how == "records":
            start, stop = self._of_same_number(index, at)
        self._line += bytes(self._data[self._counted_to : start]).count(b"\n")
        self._counted_to = start
        return start, stop, self._line

    def _of_same_number(self, index: int, at: int) -> tuple[int, int]:
        origin = self._origins[index]
        if self._numbered is None or self._numbered[0] != index:
            end = self._origins[index + 1].at if index + 1 < len(self._origins) else None
            written = bytes(self._cleaned[origin.at : end])
            raw = bytes(self._data[origin.start : origin.stop])
            self._numbered = (
                index,
                [start for start, _ in records(written, self._grammar.output.quote_byte)],
                [(start, stop) for start, stop, _ in piece_rows(raw, self._grammar)],
            )
        _, starts, places = self._numbered
        start, stop = places[bisect_left(starts, at - origin.at)]
        return origin.start + start, origin.start + stop
