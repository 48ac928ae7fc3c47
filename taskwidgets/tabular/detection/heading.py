"""The rows that hold the columns' names: how many there are, and what they say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, takewhile

from taskwidgets.tabular.detection.cells import is_typed, kind_of
from taskwidgets.tabular.detection.columns import BODY, fits, usual_width
from taskwidgets.tabular.detection.records import Record

__all__ = ["header_rows", "joined_names", "table_width"]

_MOST_HEADER_ROWS = 4
_YEARS = range(1800, 2101)


def header_rows(
    body: Sequence[Record],
    typed: dict[int, str],
    given: bool | int | None,
    rescued: Sequence[str] | None,
) -> tuple[int, float, str]:
    """How many rows are the header, how sure that is, and why."""
    if given is not None:
        return int(given), 1.0, "as given"
    if rescued:
        return 1, 0.7, "the line before the first record has its names, in another delimiter"
    first = body[0]
    values = [cell for cell in first.fields if is_typed(kind_of(cell))]
    if len(body) == 1:
        if len(values) * 2 >= max(1, len(first.fields)):
            return 0, 0.6, "the only row holds values"
        return 1, 0.7, "the only row holds words"
    repeated = _repeated(body)
    if repeated > 1:
        return repeated, 0.7, f"the first {repeated} rows are the same"
    if not typed:
        return 1, 0.6, "no column tells values from names; the first row usually is the header"
    if _numbered(first.fields):
        return 1, 0.7, "the first row counts the columns"
    if _year_names(first, body[1:], typed):
        return 1, 0.8, "the first row has years for names"
    known = {
        place: kind
        for place, kind in typed.items()
        if place < len(first.fields) and first.fields[place].strip()
    }
    alike = [place for place, kind in known.items() if fits(first.fields[place], kind)]
    if (known and len(alike) == len(known)) or len(alike) >= max(2, 0.6 * len(known)):
        return 0, min(0.95, 0.6 + 0.1 * len(alike)), (
            f"the first row has values of the same kind as the rows below in {len(alike)} of "
            f"{len(known)} columns"
        )  # fmt: skip
    rows = 1
    while rows < min(_MOST_HEADER_ROWS, len(body) - 1) and _names_too(body, rows, typed):
        rows += 1
    sure = 0.95 if len(known) > 1 else 0.8
    if rows > 1:
        return rows, 0.8, f"{rows} rows have names where the rows below have values"
    return 1, sure, "the first row has names where the rows below have values"


def _names_too(body: Sequence[Record], index: int, typed: dict[int, str]) -> bool:
    """Whether the row at ``index``, behind header rows, belongs to them."""
    record, width = body[index], len(body[0].fields)
    if len(record.fields) != width or record.filled * 2 < width:
        return False
    if _year_names(record, body[index + 1 :], typed):
        above = body[index - 1].fields
        return len(set(above)) < len(above) or "" in above
    if any(is_typed(kind_of(cell)) for cell in record.fields):
        return False
    cells = [record.fields[place] for place in typed if place < len(record.fields)]
    filled = [cell for cell in cells if cell.strip()]
    if len(filled) * 2 < len(cells) or len(filled) < 2:
        return False
    fitting = [place for place, kind in typed.items() if place < width
               and record.fields[place].strip() and fits(record.fields[place], kind)]  # fmt: skip
    longest = max(len(cell) for cell in record.fields)
    return not fitting and longest <= 80  # characters; a sentence is no name


def _repeated(body: Sequence[Record]) -> int:
    """How many of the first rows are the same names over and over."""
    first = body[0].fields
    if any(is_typed(kind_of(cell)) for cell in first) or len(set(first)) < len(first):
        return 1
    rows = len(list(takewhile(lambda one: one.fields == first, body)))
    return rows if rows <= _MOST_HEADER_ROWS and len(first) > 1 else 1


def _numbered(fields: Sequence[str]) -> bool:
    """0, 1, 2 ... or 1, 2, 3 ...: what programs write that have no names."""
    if len(fields) < 3:
        return False
    texts = [field.strip() for field in fields]
    return any(texts == [str(n + base) for n in range(len(texts))] for base in (0, 1))


def _year_names(row: Record, below: Sequence[Record], typed: dict[int, str]) -> bool:
    """Whether the row's numbers are all years, and those of the columns below are not."""
    places = [
        place
        for place, kind in typed.items()
        if kind in ("integer", "number") and place < len(row.fields)
    ]
    years = [place for place in places if _is_year(row.fields[place])]
    if len(years) < 2 or len(years) * 2 < len(places):
        return False
    cells = [one.fields[place] for one in below[:50] for place in years if place < len(one.fields)]
    below_years = sum(_is_year(cell) for cell in cells)
    numbers = [cell for cell in row.fields if is_typed(kind_of(cell))]
    return len(numbers) == len(years) and below_years * 2 < len(cells)


def _is_year(cell: str) -> bool:
    cell = cell.strip()
    return len(cell) == 4 and cell.isascii() and cell.isdigit() and int(cell) in _YEARS


def joined_names(rows: Sequence[Sequence[str]], body: Sequence[Record], usual: int) -> list[str]:
    """The columns' names, of one or several header rows; their number is the table's width."""
    if not rows:
        return [""] * usual
    if len(rows) == 1:
        names = list(rows[0])
    else:
        width = max(map(len, rows))
        filled = [[*row, *[""] * (width - len(row))] for row in rows]
        for row, below in pairwise(filled):
            # a name that spans columns stands in the first of them
            for place in range(1, width):
                if not row[place].strip() and below[place].strip():
                    row[place] = row[place - 1]
        names = [
            " ".join(part for row in filled if (part := row[place].strip()))
            for place in range(width)
        ]
    missing = usual - len(names)
    if missing > 0:
        # One name too few: the first column has none, as R and pandas write row names.
        names = ["", *names] if missing == 1 else [*names, *[""] * missing]
    while len(names) > max(usual, 1) and body and not names[-1].strip():
        names.pop()  # delimiters at the header's end that no row goes on with
    return names


def table_width(body: Sequence[Record], header: int) -> int:
    """The number of columns that the records ask for; ``header`` is how many have names, or 0.

    Rows that are too long widen nothing, be they many: in a file of blanks every sentence is one.
    But where nearly all rows have either the header's width or one other, greater one, and every
    fourth the latter, with something in it, the header is too short.
    """
    rows = body[:BODY]
    usual = usual_width(rows)
    if not header or not rows:
        return usual or header
    longer = Counter(
        len(one.fields)
        for one in rows
        if len(one.fields) > header and any(cell.strip() for cell in one.fields[header:])
    )
    if longer:
        width, count = longer.most_common(1)[0]
        regular = sum(len(one.fields) in (header, width) for one in rows)
        if count * 4 >= len(rows) and regular >= 0.9 * len(rows):
            return width
    return min(usual, header)
