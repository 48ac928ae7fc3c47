"""From what COPY says of a segment to line, column and reason in the user's file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from taskwidgets.csvfile.types.exactness import Change
from taskwidgets.errors import SourceError
from taskwidgets.store.rejects import Reject
from taskwidgets.tabular.boundaries import records
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.fields import without_ending
from taskwidgets.tabular.lines import (
    first_invalid,
    first_nul,
    first_ragged,
    line_at,
    record_at_line,
    split_fields,
)
from taskwidgets.tabular.segments import Segment
from taskwidgets.transfers.upload_plan import UploadPlan

__all__ = [
    "NOT_OF_THE_TYPE",
    "ROW_TOO_BIG",
    "VALUE_CHANGED",
    "Fault",
    "changed_value",
    "changing_error",
    "find_fault",
    "halved",
    "is_data_error",
    "source_error",
    "stopping_error",
    "too_wide",
    "uncounted",
    "widest_row_error",
]

INVALID_BYTES = "22021"  # character_not_in_repertoire
ROW_TOO_BIG = "54000"  # program_limit_exceeded: no page holds it
BAD_COPY_FORMAT = "22P04"  # too few or too many fields, quotes, line endings
# invalid_text_representation, numeric_value_out_of_range, invalid_datetime_format,
# datetime_field_overflow, string_data_right_truncation
NOT_OF_THE_TYPE = frozenset({"22P02", "22003", "22007", "22008", "22001"})
VALUE_CHANGED = "22000"  # data_exception: the package's own, as Postgres has no error for it
LONGEST_ROW = 240  # characters of a row in a message; the error object has it whole
MEND = "Mend the file and run the cell again: the job goes on from its checkpoint"


CopyRecords = Callable[[bytes], psycopg2.Error | None]


@dataclass(frozen=True)
class Fault:
    """What Postgres minds of a segment's data.

    ``start`` and ``stop`` are the record's bytes in the data, ``line`` the physical line of the
    data, counted from 1, on which it begins; ``at`` is the one byte at fault, where it is one.
    """

    start: int
    stop: int
    line: int
    column: str | None
    reason: str
    sqlstate: str
    at: int | None = None


def is_data_error(error: psycopg2.Error) -> bool:
    """Whether the source is what Postgres minds.

    The data classes of SQLSTATE: 22 (data exception) for what does not fit its type or cannot be
    read, 23 (constraint violation) for a domain's check
    (https://www.postgresql.org/docs/current/errcodes-appendix.html).
    """
    state = error.pgcode or ""
    return state.startswith(("22", "23")) or state == ROW_TOO_BIG


def find_fault(
    error: psycopg2.Error, data: bytes, dialect: Dialect, columns: tuple[str, ...]
) -> Fault | None:
    """Where in the data COPY met what it says; None when it cannot be told."""
    if not is_data_error(error):
        return None
    state = error.pgcode or ""
    reason = error.diag.message_primary or str(error).strip()
    column: str | None = None
    place = None
    at: int | None = None
    if state == INVALID_BYTES:
        place = first_nul(data, dialect) or first_invalid(data, dialect)
        if place is not None:
            column = _column_at(place.record, place.offset - place.start, dialect, columns)
            at = place.offset
            if data[place.offset] == 0:
                reason = "a NUL byte, which no text in Postgres can hold"
    elif state == BAD_COPY_FORMAT:
        place = first_ragged(data, dialect, len(columns))
        if place is not None:
            found = len(split_fields(place.record, dialect))
            reason = f"{found} {'field' if found == 1 else 'fields'} instead of {len(columns)}"
            if found < len(columns):
                column = columns[found]
                reason += f'; the first one missing is "{column}"'
    if place is not None:
        return Fault(place.start, place.stop, place.line, column, reason, state, at)
    number, column = _context(error, columns)
    if number is None:
        return None
    start, stop, line = record_at_line(data, dialect, number)
    return Fault(start, stop, line, column, reason, state)


def source_error(
    error: psycopg2.Error, path: Path, dialect: Dialect, columns: tuple[str, ...], segment: Segment
) -> SourceError | None:
    """The error as one of the source, or None when the source is not what Postgres minds."""
    data = bytes(segment.data)
    fault = find_fault(error, data, dialect, columns)
    if fault is None:
        return None
    reason = fault.reason
    if fault.at is not None:
        reason += f" (byte {segment.start + fault.at:,} of the file)"
    row = without_ending(data[fault.start : fault.stop]).decode(dialect.codec, errors="replace")
    line = line_at(path, segment.start) + fault.line - 1
    return _error(path, line, fault.column, reason, row, fault.sqlstate)


def stopping_error(path: Path, found: Reject) -> SourceError:
    """The error for a record at which a job stops that keeps no rejects."""
    return _error(path, found.line, found.column, found.message, found.raw, found.sqlstate or "")


def changed_value(change: Change) -> str:
    """The reason for which a record is not loaded whose value a type would change."""
    shown = change.value if len(change.value) <= 80 else f"{change.value[:80]}…"
    return f'the type {change.type} would change the value {shown}; cast="assignment" allows that'


def changing_error(plan: UploadPlan, segment: Segment, change: Change) -> SourceError:
    """The error for a record of a segment that a column's type would change."""
    data = bytes(segment.data)
    row = without_ending(data[change.start : change.stop]).decode(
        plan.dialect.codec, errors="replace"
    )
    line = line_at(plan.path, segment.start) + data.count(b"\n", 0, change.start)
    column = plan.columns[change.index]
    return _error(plan.path, line, column, changed_value(change), row, VALUE_CHANGED)


def too_wide(error: psycopg2.Error) -> str:
    """Why a row is not loaded that no page of the table holds."""
    return (
        f"{error.diag.message_primary}: the row does not fit into a page of a table. Load some of "
        "its columns only, or make one column of several, such as an array or jsonb"
    )


def halved(data: bytes, dialect: Dialect) -> list[tuple[int, int]]:
    """Whole records in two pieces of about the same size; one piece where it is one record."""
    found = [*records(data, dialect.quote_byte)]
    if len(found) < 2:
        return [(0, len(data))]
    middle = found[len(found) // 2][0]
    return [(0, middle), (middle, len(data))]


def widest_row_error(plan: UploadPlan, segment: Segment, copy: CopyRecords) -> SourceError | None:
    """The error for the first record of a segment that is too wide for a page.

    COPY puts many rows into pages at once, and names the row that it read last. So halves are
    tried, until one record is left. ``copy`` loads records, and takes them back.
    """
    data = bytes(segment.data)
    start, stop = 0, len(data)
    error: psycopg2.Error | None = None
    while True:
        pieces = halved(data[start:stop], plan.dialect)
        for at, to in pieces:
            refused = copy(data[start + at : start + to])
            if refused is not None and refused.pgcode == ROW_TOO_BIG:
                error, start, stop = refused, start + at, start + to
                break
        else:
            return None  # only together: it is something else
        if len(pieces) == 1:
            break
    row = without_ending(data[start:stop]).decode(plan.dialect.codec, errors="replace")
    line = line_at(plan.path, segment.start) + data.count(b"\n", 0, start)
    return _error(plan.path, line, None, too_wide(error), row, ROW_TOO_BIG)


def uncounted(path: Path, segment: Segment, arrived: int) -> SourceError:
    """The error for a segment of which not all records arrived, found by counting them twice.

    Before Postgres 18, COPY takes a line of just ``\\.`` for the end of the data, and passes over
    what follows without a word.
    """
    data = bytes(segment.data)
    offset = 0 if data.startswith(b"\\.") else data.find(b"\n\\.") + 1
    line = line_at(path, segment.start + offset)
    return _error(
        path,
        line,
        None,
        f"{segment.records:,} records stand here, but Postgres took {arrived:,}; a line of just "
        "\\. ends the data for it",
        "\\.",
        BAD_COPY_FORMAT,
    )


def _error(
    path: Path, line: int, column: str | None, reason: str, row: str, state: str
) -> SourceError:
    shown = row if len(row) <= LONGEST_ROW else f"{row[:LONGEST_ROW]}…"
    where = f"{path}, line {line:,}" + (f', column "{column}"' if column else "")
    other_type = ""
    if column is not None and state in NOT_OF_THE_TYPE:
        other_type = f"; or terminate it and begin with another type: types={{{column!r}: 'text'}}"
    return SourceError(
        f"{where}: {reason}. The row is: {shown}\n{MEND}{other_type}",
        path=path,
        line=line,
        column=column,
        row=row,
        sqlstate=state,
    )


def _context(error: psycopg2.Error, columns: tuple[str, ...]) -> tuple[int | None, str | None]:
    """Line and column out of ``COPY staging_7, line 3, column dep_time: "abc"``.

    The words around them are in the server's language; the order is not.
    """
    context = error.diag.context or ""
    match = re.search(
        r"taskwidgets_staging_\d+\D*?(\d+)(?:[^\w\"«„]+\w+ (.*))?", context, re.DOTALL
    )
    if match is None:
        return None, None
    rest = match.group(2) or ""
    named = [column for column in columns if rest.startswith((f"{column}:", f"{column} :"))]
    return int(match.group(1)), max(named, key=len, default=None)


def _column_at(
    record: bytes, offset: int, dialect: Dialect, columns: tuple[str, ...]
) -> str | None:
    """The column in which a byte of a record lies: as many as there are fields up to there."""
    index = len(split_fields(record[: offset + 1].replace(b"\0", b" "), dialect)) - 1
    return columns[index] if 0 <= index < len(columns) else None
