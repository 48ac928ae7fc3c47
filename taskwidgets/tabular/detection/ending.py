"""Where a table ends: at a further table, at a footer, or with the file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from taskwidgets.tabular.detection.cells import EMPTY, TEXT, WORD, is_typed, kind_of
from taskwidgets.tabular.detection.columns import (
    AHEAD,
    BODY,
    column_names,
    fits,
    matches,
    typed_columns,
    usual_width,
)
from taskwidgets.tabular.detection.delimiters import split_by_other
from taskwidgets.tabular.detection.records import Record
from taskwidgets.tabular.header import MAX_NAME_BYTES

__all__ = [
    "Table",
    "footer_start",
    "further_tables",
    "table_end",
    "table_without_header",
]

_LEAST_TABLE = 2  # records of another width in a row that begin a further table
_MOST_FOOTER = 30  # lines


@dataclass(frozen=True, slots=True)
class Table:
    """A table in the file: its lines, counted from 1, and its columns' names."""

    first_line: int
    last_line: int
    columns: tuple[str, ...]


def table_end(records: Sequence[Record], start: int) -> int:
    """Behind the run of records that begins at ``start``: a blank line and another width end it."""
    run = list(takewhile(lambda one: not one.blank, records[start : start + BODY]))
    if len(run) < _LEAST_TABLE + 1:
        run = [one for one in records[start : start + 3 * AHEAD] if not one.blank]
    usual = usual_width(run)
    if usual < 2:
        return len(records)
    for index in range(start + 1, len(records) - 1):
        if records[index].blank and not records[index - 1].blank:
            after = [one for one in records[index : index + AHEAD] if not one.blank]
            if not after:
                continue
            if all(len(one.fields) != usual for one in after[:_LEAST_TABLE]) and (
                usual_width(after) != usual
            ):
                return index
    return len(records)


def further_tables(
    records: Sequence[Record],
    first: int,
    end: int,
    width: int,
    typed: dict[int, str],
    names: Sequence[str],
    ended: bool,
) -> tuple[int, tuple[Table, ...]]:
    """Where the first table ends, and the further ones."""
    last, found = len(records), []
    starts = [index for index in range(first, len(records)) if _begins_another(
        records, index, width, typed, names)]  # fmt: skip
    if starts:
        last = starts[0]
    elif end < len(records):
        last = end
    for place, start in enumerate(starts):
        stop = starts[place + 1] if place + 1 < len(starts) else len(records)
        rows = [one for one in records[start:stop] if not one.blank]
        if not rows:
            continue
        line = rows[-1].line + rows[-1].lines
        found.append(
            Table(rows[0].line + 1, line, column_names(rows[0].fields, len(rows[0].fields)))
        )
    return last, tuple(found)


def table_without_header(records: Sequence[Record], end: int) -> tuple[Table, ...]:
    """What stands behind the first table's ``end``, where it is plainly a table and no notes."""
    rows = [one for one in records[end:] if not one.blank]
    usual = usual_width(rows)
    alike = sum(len(one.fields) == usual for one in rows)
    if usual < 3 or alike < 3 or alike * 4 < len(rows) * 3:
        return ()
    return (Table(rows[0].line + 1, rows[-1].line + rows[-1].lines, column_names([], usual)),)


def _begins_another(
    records: Sequence[Record],
    index: int,
    width: int,
    typed: dict[int, str],
    names: Sequence[str],
) -> bool:
    """Whether a further table's header stands at ``index``, inside or behind the first table."""
    record = records[index]
    fields = record.fields
    for place, kind in typed.items():  # nearly every record is none, and this tells it quickly
        if place < len(fields) and fields[place].strip() and fits(fields[place], kind):
            return False
    if record.blank or record.filled < 2 or len(fields) < 2:
        return False
    same = [field.strip() for field in record.fields] == [name.strip() for name in names]
    if same and record.filled > 1:
        return True
    # Only words, none twice, and rows below that are values of another shape than this table's.
    if any(is_typed(kind_of(cell)) or kind_of(cell) == EMPTY for cell in record.fields):
        return False
    cells = [cell.strip() for cell in record.fields]
    if len(set(cells)) != len(cells) or max(map(len, cells)) > MAX_NAME_BYTES:
        return False
    if not all(re.search(r"[^\W\d_]", cell) for cell in cells):
        return False
    blank_before = index > 0 and records[index - 1].blank
    below = [one for one in records[index + 1 : index + 1 + AHEAD] if not one.blank]
    if len(below) < _LEAST_TABLE:
        return False
    usual = usual_width(below)
    fitting = sum(len(one.fields) == usual for one in below)
    if abs(usual - len(record.fields)) > 1 or fitting * 4 < len(below) * 3:
        return False
    if usual == width:
        # The same width: names must stand where this table has values, and values come again.
        wrong = [place for place, kind in typed.items() if place < len(record.fields)
                 and not fits(record.fields[place], kind)]  # fmt: skip
        return (
            len(typed) >= 2
            and len(wrong) == len(typed)
            and len(cells) == width
            and bool(typed_columns(below))
            and (
                blank_before
                or len(typed) >= 3
                or sum(matches(one, typed) for one in below) * 4 < len(below)
            )
        )
    return bool(typed_columns(below)) and (blank_before or len(below) >= 3)


def footer_start(
    records: Sequence[Record],
    first: int,
    last: int,
    width: int,
    tables: Sequence[Table],
    delimiter: str,
    quotechar: str,
    typed: dict[int, str],
) -> int:
    """Behind the last record: notes and blank lines at the end are none."""
    stop = last
    while stop > first and records[stop - 1].blank:
        stop -= 1
    if width < 2 or tables:
        return stop
    usual = sorted(one.filled for one in records[first:stop])
    typical = usual[len(usual) // 2] if usual else 0
    end = stop
    lowest = max(first, stop - _MOST_FOOTER)
    notes = False
    while end > lowest:
        record = records[end - 1]
        if not record.filled:
            notes |= not record.blank  # a spreadsheet's empty rows
            end -= 1
            continue
        if _is_note(record, width, typed, _blank_above(records, end - 1, first)):
            notes = True
            end -= 1
            continue
        if record.filled > 1 or (typical < 3 and not _blank_above(records, end - 1, first)):
            break
        if typical >= 2 and record.fields[0].strip() and not _is_row(
            record, delimiter, quotechar, width, typed
        ):  # fmt: skip
            notes = True
            end -= 1
            continue
        break
    return end if notes else stop


def _blank_above(records: Sequence[Record], index: int, first: int) -> bool:
    return index > first and records[index - 1].blank


def _is_note(record: Record, width: int, typed: dict[int, str], blank_above: bool) -> bool:
    """Whether a narrow record is a sentence that happens to hold a delimiter."""
    if len(record.fields) * 2 > width or width < 3:
        return False
    places = [place for place in typed if place < len(record.fields)]
    if any(fits(record.fields[place], typed[place]) for place in places):
        return False
    return record.fields[0].startswith("#") or (blank_above and bool(places))


def _is_row(
    record: Record, delimiter: str, quotechar: str, width: int, typed: dict[int, str]
) -> bool:
    """Whether what looks like a note is a record in another delimiter, or one cut short."""
    cell = record.fields[0]
    own = kind_of(cell)
    if 0 in typed and own not in (TEXT, WORD) and fits(cell, typed[0]):
        return True  # the first cell of a record that breaks off
    line = delimiter.join(record.fields)
    for _, fields in split_by_other(line, delimiter, quotechar):
        wanted = {place: kind for place, kind in typed.items() if place < len(fields)}
        hits = sum(
            fits(fields[place], kind) and bool(fields[place].strip())
            for place, kind in wanted.items()
        )
        if len(fields) >= width / 2 and wanted and hits * 2 >= len(wanted):
            return True
    return False
