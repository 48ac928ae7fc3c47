"""How one segment gets into the staging table, in a transaction that is open.

Whoever has the segment and a connection can do it: a thread of the kernel, or a worker elsewhere.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import psycopg2
from sqlalchemy import Connection

from taskwidgets.errors import SourceError
from taskwidgets.store import rejects
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.driver import users_path
from taskwidgets.store.rejects import Reject
from taskwidgets.tabular.boundaries import records
from taskwidgets.tabular.cleaning import Cleaned, Origin, clean, piece_rows, repaired
from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.lines import line_at
from taskwidgets.tabular.misfits import Misfit, find_misfits
from taskwidgets.tabular.pieces import PiecedSegment
from taskwidgets.tabular.repair import Fault
from taskwidgets.tabular.screening import Screen
from taskwidgets.tabular.segments import Segment
from taskwidgets.transfers.binary_copy import BinaryCopy
from taskwidgets.transfers.copy_in import CopyIn
from taskwidgets.transfers.faults import (
    NOT_OF_THE_TYPE,
    ROW_TOO_BIG,
    changing_error,
    source_error,
    stopping_error,
    uncounted,
    widest_row_error,
)
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.sorting import Sorted, Sorter, changed_records
from taskwidgets.transfers.upload_plan import UploadPlan
from taskwidgets.transfers.widening import Misfits, widenable

__all__ = ["LenientLoader", "Loader", "StrictLoader"]

SegmentT_contra = TypeVar("SegmentT_contra", bound=Segment, contravariant=True)

# As far into a file all is looked for that Postgres would read otherwise than it is written. That
# costs a tenth of COPY's own time, so that further on it is codes only: leading zeros and plus
# signs. What COPY refuses is told everywhere.
WELL_READ_BYTES = 32 << 20


class Loader(Protocol[SegmentT_contra]):
    """Loads segments by one plan."""

    def load(self, connection: Connection, batch: SegmentT_contra) -> Checkpoint:
        """Load the segment in the transaction that is open; what its checkpoint is to say.

        Raises Misfits where that needs wider types.
        """


class StrictLoader:
    """Segments go into COPY as they stand; the first record that it refuses is an error.

    Those of plain values only go in as binary rows: they hold no misfit, or would not be plain.
    """

    def __init__(self, plan: UploadPlan, staging: TableName) -> None:
        self._plan = plan
        self._rows = BinaryCopy(staging, plan)
        self._copy = CopyIn(staging, plan)
        self._widenable = widenable(plan)
        self._screen = Screen(plan.dialect, len(plan.columns), self._widenable)
        self._changes = plan.change_finder

    def load(self, connection: Connection, batch: Segment) -> Checkpoint:
        self._check_changes(batch, if_plain=True)
        if self._rows.run(connection, batch.data, batch.records):
            return Checkpoint(batch.start, batch.stop, batch.records, batch.crc32)
        self._check_changes(batch, if_plain=False)
        if self._screen.suspects(batch.data, codes_only=batch.start >= WELL_READ_BYTES):
            self._raise_misfits(batch)
        arrived = self._copy_in(connection, batch)
        if arrived != batch.records:
            raise uncounted(self._plan.path, batch, arrived)
        return Checkpoint(batch.start, batch.stop, arrived, batch.crc32)

    def _check_changes(self, batch: Segment, *, if_plain: bool) -> None:
        """SourceError where a column's type would change a value."""
        changed = self._changes.find(batch.data, if_plain=if_plain)
        if changed:
            raise changing_error(self._plan, batch, changed[0])

    def _copy_in(self, connection: Connection, batch: Segment) -> int:
        cursor = connection.connection.cursor()
        try:
            with users_path(connection):  # what a domain checks is users' code
                return self._copy.run(cursor, batch.data)
        except psycopg2.Error as error:
            plan = self._plan
            if error.pgcode == ROW_TOO_BIG:
                too_wide = self._widest_row(connection, batch)
                if too_wide is not None:
                    raise too_wide from None
            fault = source_error(error, plan.path, plan.dialect, plan.columns, batch)
            if fault is None:
                raise
            if fault.sqlstate in NOT_OF_THE_TYPE and (
                fault.column is None or plan.columns.index(fault.column) in self._widenable
            ):
                self._raise_misfits(batch)
            raise fault from None
        finally:
            cursor.close()

    def _widest_row(self, connection: Connection, batch: Segment) -> SourceError | None:
        """Look for the row that fits into no page; the transaction has failed and is given up."""
        driver: Any = connection.connection.driver_connection
        driver.rollback()

        def copy(data: bytes) -> psycopg2.Error | None:
            cursor = driver.cursor()
            try:
                self._copy.run(cursor, data)
            except psycopg2.Error as error:
                return error
            finally:
                cursor.close()
                driver.rollback()
            return None

        return widest_row_error(self._plan, batch, copy)

    def _raise_misfits(self, batch: Segment) -> None:
        """Misfits, if there are any."""
        found = find_misfits(batch.data, self._plan.dialect, self._widenable)
        if not found:
            return
        first = line_at(self._plan.path, batch.start)
        data = memoryview(batch.data)

        def line(misfit: Misfit) -> int:
            return first + bytes(data[: misfit.start]).count(b"\n")

        raise Misfits(
            {index: misfit.values for index, misfit in found.items()},
            {index: (line(misfit), misfit.first) for index, misfit in found.items()},
        )


class LenientLoader:
    """What is good of a segment is loaded, the rest is kept: read = loaded + rejected.

    ``line_of`` tells the physical line at a position of the source, where the segment does not.
    """

    def __init__(
        self, plan: UploadPlan, staging: TableName, job_id: int, line_of: Callable[[int], int]
    ) -> None:
        self._plan = plan
        self._job_id = job_id
        self._line_of = line_of
        self._widenable = widenable(plan)
        self._screen = Screen(plan.dialect, len(plan.columns), self._widenable)
        self._grammar = plan.grammar
        self._conversions = plan.conversions
        self._rows = BinaryCopy(staging, plan)
        self._changes = plan.change_finder
        self._sorter = Sorter(CopyIn(staging, plan), plan.dialect, plan.columns, plan.types)

    def load(self, connection: Connection, batch: PiecedSegment) -> Checkpoint:
        cleaned = clean(batch, self._grammar, self._plan.columns, self._conversions)
        if self._unconverted(cleaned):
            self._raise_misfits(batch, cleaned)
        are_plain = not self._changes.find(cleaned.data, if_plain=True) and self._rows.run(
            connection, cleaned.data, cleaned.rows
        )
        if not are_plain and self._screen.suspects(cleaned.data):
            self._raise_misfits(batch, cleaned)
        sorted_in = Sorted(cleaned.rows) if are_plain else self._sort_in(connection, batch, cleaned)
        found = self._rejects(batch, cleaned, sorted_in)
        if found and self._plan.on_error == "stop":
            raise stopping_error(self._plan.path, found[0])
        rejects.record(connection, self._job_id, found)
        return Checkpoint(batch.start, batch.stop, sorted_in.rows, batch.crc32, rejected=len(found))

    # ------------------------------------------------------------------ one segment

    def _sort_in(self, connection: Connection, batch: PiecedSegment, cleaned: Cleaned) -> Sorted:
        """Have Postgres sort the records into those that it takes and those that it refuses.

        Records of which it would change a value are refused before.
        """
        plan = self._plan
        refused = changed_records(plan, cleaned.data, self._changes)
        sorted_in = self._sorter.load(connection, cleaned.data, refused)
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
        return sorted_in

    def _rejects(self, batch: PiecedSegment, cleaned: Cleaned, sorted_in: Sorted) -> list[Reject]:
        """The rejects of cleaning and of Postgres together."""
        plan = self._plan
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
        return sorted(found, key=lambda one: one.byte_offset)

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
        return batch.first_line or self._line_of(batch.start)


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
