"""Where the table is in a file: preamble, header rows, records, footer, further tables.

Columns whose cells are alike (all days, all numbers, all codes of one shape) decide: a header has
words where they have values, and the first record has not. Where no column is so, the first row
is the header, as it nearly always is. A row that is damaged decides nothing: what begins, ends or
names a table has to hold for the rows around it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from taskwidgets.tabular.detection.cells import is_typed, kind_of
from taskwidgets.tabular.detection.columns import (
    AHEAD,
    BODY,
    column_names,
    matches,
    typed_columns,
    usual_width,
)
from taskwidgets.tabular.detection.delimiters import split_by_other
from taskwidgets.tabular.detection.ending import (
    Table,
    footer_start,
    further_tables,
    table_end,
    table_without_header,
)
from taskwidgets.tabular.detection.heading import header_rows, joined_names, table_width
from taskwidgets.tabular.detection.records import Record

__all__ = ["Layout", "find_layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands where, in physical lines and records.

    ``first`` and ``last`` are indices into the records that the layout was found in: the first
    record behind the header, and the one behind the last. ``after_lines``: lines behind the last
    record. The shares say how sure the header and the beginning are.
    """

    skip_rows: int
    header_rows: int
    after_lines: int
    names: tuple[str, ...]
    first: int
    last: int
    tables: tuple[Table, ...]
    header_sure: float
    header_why: str
    preamble: tuple[str, ...] = ()
    header: tuple[str, ...] = ()  # the names as they stand in the file; "" where none does


def find_layout(
    records: Sequence[Record],
    delimiter: str,
    quotechar: str,
    *,
    width: int,
    header: bool | int | None = None,
    skip_rows: int | None = None,
    ended: bool = True,
) -> Layout:
    """The layout of a file with these records, its first ones; ``ended``: they are all of them.

    ``width`` is the usual number of fields. ``header`` and ``skip_rows`` are as the user gave
    them, None for to be found out.
    """
    lines = records[-1].line + records[-1].lines if records else 0
    if skip_rows is None:
        start = _start(records, width)
        skipped = 0
        if start < len(records):
            start, rescued = _damaged_header(records, start, delimiter, quotechar)
            skipped = records[start].line
        else:
            rescued = None
    else:
        skipped, rescued = skip_rows, None
        start = next(
            (n for n, one in enumerate(records) if one.line >= skip_rows and not one.blank),
            len(records),
        )
    if start >= len(records):
        return Layout(skipped, 0, 0, (), len(records), len(records), (), 0.5, "nothing is there")
    end = table_end(records, start)
    body = [one for one in records[start:end] if not one.blank]
    typed = typed_columns(body[1 : BODY + 1] or body)
    rows, sure, why = header_rows(body, typed, header, rescued)
    usual = table_width(body[rows:], len(rescued or body[0].fields) if rows else 0)
    usual = usual or len(body[0].fields)
    names = joined_names(
        [rescued] if rescued and rows else [r.fields for r in body[:rows]], body[rows:], usual
    )
    first = start
    for _ in range(rows):
        first = _next_filled(records, first, end) + 1
    width = len(names)
    last, tables = further_tables(records, first, end, width, typed, names, ended)
    if ended:
        last = footer_start(records, first, last, width, tables, delimiter, quotechar, typed)
    if not tables and last <= end < len(records):
        tables = table_without_header(records, end)
    stop_line = records[last - 1].line + records[last - 1].lines if last > 0 else 0
    after = lines - stop_line if ended else 0
    preamble = tuple(delimiter.join(one.fields) for one in records[:start])
    return Layout(
        skipped, rows, after, column_names(names, width), first, last, tables, sure, why, preamble,
        tuple(names),
    )  # fmt: skip


def _start(records: Sequence[Record], width: int) -> int:
    """The index of the record that begins the table: its header, or its first record."""
    filled = [n for n, one in enumerate(records) if not one.blank]
    if not filled:
        return len(records)
    for place, index in enumerate(filled):
        ahead = [records[n] for n in filled[place : place + AHEAD]]
        if _begins(records[index], ahead, width):
            start = index
            break
    else:
        return filled[0]
    # A short run before a blank line, of two columns or fewer, in front of a much larger table,
    # is a preamble too: "Created by;Somebody".
    stop = table_end(records, start)
    count = sum(1 for one in records[start:stop] if not one.blank)
    narrow = len(records[start].fields) <= 2 < width
    if narrow and count <= 20 and stop < len(records):
        later = _start(records[stop:], width)
        rest = sum(1 for one in records[stop + later :] if not one.blank)
        if rest >= 3 * count:
            return stop + later
    return start


def _begins(record: Record, ahead: Sequence[Record], width: int) -> bool:
    usual = usual_width(ahead)
    fields = len(record.fields)
    if usual < 2:  # one column only, here or in the whole file
        return width < 2 or usual == width or len(ahead) < 3
    if len(ahead) == 1:
        return fields >= 2 or width < 2
    if abs(fields - usual) > max(1, usual * 0.34):
        return False
    if fields == 1 and usual > 1:
        return False
    # As many cells as the rows below, or nearly: a title in the first of many cells is none.
    typical = sorted(one.filled for one in ahead)[len(ahead) // 2]
    if _names_groups(record, ahead[1], usual):
        return True
    # A header may lack the first name: that of a column of numbers or labels.
    unnamed = fields == usual and not record.fields[0].strip() and record.filled == fields - 1
    return record.filled * 2 > typical or record.filled >= max(2, fields - 1) or unnamed


def _names_groups(record: Record, below: Record, usual: int) -> bool:
    """Whether it is a header's upper row, with names that each span several columns."""
    cells = [bool(cell.strip()) for cell in record.fields]
    spread = any(filled and not left for left, filled in pairwise(cells))
    return (
        len(cells) == len(below.fields) == usual
        and record.filled >= 2
        and spread
        and below.filled >= 0.8 * usual
        and not any(is_typed(kind_of(cell)) for cell in (*record.fields, *below.fields))
    )


def _damaged_header(
    records: Sequence[Record], start: int, delimiter: str, quotechar: str
) -> tuple[int, list[str] | None]:
    """A header right before the table that is written with another delimiter, if there is one."""
    before = start - 1
    if before < 0 or records[before].blank or len(records[before].fields) > 2:
        return start, None
    ahead = [one for one in records[start : start + AHEAD] if not one.blank]
    usual = usual_width(ahead)
    typed = typed_columns(ahead)
    if usual < 3 or not matches(records[start], typed):  # the next row is a header itself
        return start, None
    line = delimiter.join(records[before].fields)
    for _, fields in split_by_other(line, delimiter, quotechar):
        if len(fields) == usual and not any(is_typed(kind_of(one)) for one in fields):
            return before, [field.strip(quotechar or None) for field in fields]
    return start, None


def _next_filled(records: Sequence[Record], index: int, end: int) -> int:
    while index < end and records[index].blank:
        index += 1
    return index
