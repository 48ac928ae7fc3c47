"""A sheet of an Excel workbook, read row by row in bounded memory.

Why openpyxl: it tells whole numbers, dates and errors apart. The faster readers keep the whole
sheet in memory, and know one kind of number. `taskwidgets.sources.workbook` bounds its memory.
"""

from __future__ import annotations

import datetime
import itertools
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskwidgets.errors import OptionError, SourceError
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.words import counted
from taskwidgets.sources.workbook import Cell, Sheet, Workbook
from taskwidgets.tabular.decoding import decoded, decoding
from taskwidgets.tabular.limits import Limits
from taskwidgets.transfers.origins.extras import extra
from taskwidgets.transfers.origins.names import table_names
from taskwidgets.transfers.origins.spool import Contents, Spool, TableWriter, check_wish
from taskwidgets.transfers.origins.texts import NULL, WRITERS, kind_of, quoted, type_of_kinds

__all__ = ["excel_head", "spool_excel"]

WHAT = "an Excel workbook"
CHUNK_ROWS = 1000
CHUNK_CHARACTERS = 4 << 20
HEAD_ROWS = 1000  # that tell the types in a preview
LOOKED_AT = 50  # rows, to see how wide the table is and where it begins
NEARLY_AS_WIDE = 0.6  # of that, a header at least

BLANK_ROWS = 1000  # after so many, it is looked whether the job is to stop
LONGEST_CELL = 1 << 20  # bytes of XML; a cell has at most 32,767 characters
_FORMULA = re.compile(rb"<f[\s/>]")
_RESULT = re.compile(rb"<v>[^<]")

Row = list[Any]


def spool_excel(
    run: Run,
    spool: Spool,
    path: Path,
    sheet: str | int | None,
    *,
    header: bool,
    limits: Limits,
) -> Contents:
    """Write the sheet as the spool's table."""
    with _opened(path, limits) as book:
        chosen = _sheet(book, path, sheet)
        total = chosen.stated_rows
        run.meter.set(done=0, rows=0, total=total, unit="rows")
        table = _Table(path, book, chosen, header=header, on_blank_rows=lambda: check_wish(run))
        writer = TableWriter(run, spool, table.names, path, limits, book.size)
        try:
            left = table.rows()
            while rows := _chunk(left):
                check_wish(run)
                writer.write(list(zip(*rows, strict=True)))
                if total is not None and writer.rows > total:  # the workbook has stated too few
                    total = None
                    run.meter.set(done=writer.rows, rows=writer.rows, total=None, unit="rows")
                else:
                    run.meter.add(len(rows))
            others = [one.title for one in book.sheets if one.title != chosen.title]
            notes = (*table.notes(), *_formulas(path, book, chosen), *_others(others))
            contents = Contents(table.types, writer.rows, notes, {"empty": table.empty})
            writer.finish()
        finally:
            writer.close()
    return contents


def _chunk(rows: Iterator[list[str]]) -> list[list[str]]:
    """The next rows: so many, or fewer where they are long."""
    chunk, characters = [], 0
    for row in rows:
        chunk.append(row)
        characters += sum(map(len, row))
        if len(chunk) >= CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            break
    return chunk


def excel_head(
    path: Path,
    sheet: str | int | None,
    rows: int,
    *,
    header: bool,
    full: bool,
    limits: Limits,
) -> tuple[dict[str, str], list[list[str]], int | None]:
    """(types by column, the first rows as texts of COPY, how many rows there are).

    As far as the first rows tell, unless ``full``; their number is None then.
    """
    with _opened(path, limits) as book:
        table = _Table(path, book, _sheet(book, path, sheet), header=header)
        left = table.rows()
        head = list(itertools.islice(left, rows))
        more = sum(1 for _ in (left if full else itertools.islice(left, HEAD_ROWS)))
        whole = full or more < HEAD_ROWS
        return table.types, head, len(head) + more if whole else None


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[Workbook]:
    extra("openpyxl", f"{path} is an Excel workbook")
    # What it does not know of a workbook, such as rules for input, is no part of the table.
    warnings.filterwarnings("ignore", category=UserWarning, module="openpyxl")
    with decoding(path, WHAT):
        book = Workbook(path, limits)
    try:
        yield book
    finally:
        book.close()


def _sheet(book: Workbook, path: Path, sheet: str | int | None) -> Sheet:
    names = [one.title for one in book.sheets]
    if not names:
        raise SourceError(f"{path} has no sheet with cells", path=path)
    if sheet is None:
        return book.sheets[0]
    if isinstance(sheet, int) and 1 <= sheet <= len(names):
        return book.sheets[sheet - 1]
    if sheet in names:
        return book.sheets[names.index(str(sheet))]
    raise OptionError(f"{path} has no sheet {sheet!r}; it has {', '.join(map(repr, names))}")


def _formulas(path: Path, book: Workbook, sheet: Sheet) -> list[str]:
    """A note where formulas have no result in the file, as from programs that do not compute.

    A cell is ``<c ...><f>...</f><v>...</v></c>``, and ``t="str"`` where the result is a text, which
    may be empty (ECMA-376, part 1, 18.3.1.4). openpyxl does not tell such a cell from an empty one.
    """
    missing = 0
    with decoding(path, WHAT), book.open_part(sheet.path) as file:
        rest = b""
        while block := file.read(1 << 20):
            *cells, rest = (rest + block).split(b"</c>")
            missing += sum(
                _FORMULA.search(cell) is not None
                and _RESULT.search(cell) is None
                and b't="str"' not in cell
                for cell in cells
            )
            if len(rest) > LONGEST_CELL:
                return []  # it is not written as this looks for it
    if not missing:
        return []
    has = "has" if missing == 1 else "have"
    return [
        f"{counted(missing, 'formula')} {has} no result in the file and became NULL: open the file "
        "in a spreadsheet program, which computes the results, and save it"
    ]


def _others(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return ["other sheets were left out: " + ", ".join(map(repr, names))]


class _Table:
    """The table in a sheet: where it begins, what its columns are called, its rows as texts."""

    def __init__(
        self,
        path: Path,
        book: Workbook,
        sheet: Sheet,
        *,
        header: bool,
        on_blank_rows: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_blank_rows`` is called now and then while blank rows are passed over."""
        self._errors = self._beyond = self._above = 0
        self._on_blank_rows = on_blank_rows
        self._cells = self._read(path, book.rows(sheet))
        head = list(itertools.islice(self._cells, LOOKED_AT))
        if not head:
            raise SourceError(f"{path}, sheet {sheet.title}: is empty", path=path)
        widest = max(map(_count, head))
        first = next(
            number for number, row in enumerate(head) if _count(row) >= NEARLY_AS_WIDE * widest
        )
        self._above = first
        self._left_columns = self._first_column(head[first:])
        head = [*head[:first], *(row[self._left_columns :] for row in head[first:])]
        width = max(map(len, head[first:]))
        labels = [""] * width
        if header:
            labels = [_label(value) for value in head[first]]
            # Cells beside the header belong to the table where most rows have one.
            extra_cells = [row for row in head[first + 1 :] if len(row) > len(labels)]
            if len(extra_cells) * 2 > len(head) - first - 1:
                labels += [""] * (width - len(labels))
            first += 1
        self.names, self._renamed = table_names(labels, path)
        self._kinds: list[set[str]] = [set() for _ in self.names]
        self._left = itertools.chain(head[first:], map(self._without_left, self._cells))

    @staticmethod
    def _first_column(rows: Sequence[Row]) -> int:
        """How many columns are blank before the table's first one."""
        return min(
            next(place for place, value in enumerate(row) if value is not None) for row in rows
        )

    def _without_left(self, row: Row) -> Row:
        self._beyond += sum(value is not None for value in row[: self._left_columns])
        return row[self._left_columns :]

    @property
    def types(self) -> dict[str, str]:
        """Each column's type, by the rows that were read so far."""
        return {name: _type(kinds) for name, kinds in zip(self.names, self._kinds, strict=True)}

    @property
    def empty(self) -> list[str]:
        """The columns without a value, as far as it is read."""
        return [name for name, kinds in zip(self.names, self._kinds, strict=True) if not kinds]

    def rows(self) -> Iterator[list[str]]:
        """The rows that are left."""
        width = len(self.names)
        for row in self._left:
            self._beyond += sum(value is not None for value in row[width:])
            yield [
                self._text(place, row[place] if place < len(row) else None)
                for place in range(width)
            ]

    def notes(self) -> list[str]:
        """What a reader of the receipt should know."""
        notes = list(self._renamed)
        if self._above:
            was = "was" if self._above == 1 else "were"
            notes.append(f"{counted(self._above, 'row')} above the table {was} left out")
        if self._beyond:
            was = "was" if self._beyond == 1 else "were"
            cells = counted(self._beyond, "cell")
            notes.append(f"{cells} beside the table, without a header, {was} left out")
        if self._errors:
            holds = "holds" if self._errors == 1 else "hold"
            cells = counted(self._errors, "cell")
            notes.append(f"{cells} {holds} the error of a formula and became NULL")
        return notes

    def _read(self, path: Path, rows: Iterator[list[Cell]]) -> Iterator[Row]:
        """The rows that are not blank, as far as they reach."""
        blank = 0
        for cells in decoded(rows, path, WHAT):
            row = [self._value(cell) for cell in cells]
            while row and row[-1] is None:
                row.pop()
            if row:
                yield row
            else:
                blank += 1
                if blank % BLANK_ROWS == 0:
                    self._on_blank_rows()

    def _value(self, cell: Cell) -> Any:
        value, kind = cell
        if isinstance(value, str) and value.startswith("#") and kind == "e":
            self._errors += 1
            return None
        return value

    def _text(self, place: int, value: Any) -> str:
        """In quotes, as the column's type is known only at the end: COPY takes numbers so too."""
        if value is None:
            return NULL
        kind = kind_of(value)
        if kind == "timestamp" and value.time() == datetime.time():
            kind = "midnight"
        self._kinds[place].add(kind)
        if kind == "interval":
            return quoted(WRITERS["interval"](value))
        if kind == "boolean":
            return quoted("true" if value else "false")
        if kind in ("timestamp", "midnight"):
            return quoted(value.isoformat(sep=" "))
        return quoted(repr(value) if kind == "float" else str(value))


def _type(kinds: set[str]) -> str:
    if kinds == {"midnight"}:
        return "date"  # Excel has moments only; a column without a time of day is one of days
    return type_of_kinds({"timestamp" if kind == "midnight" else kind for kind in kinds})[0]


def _count(row: Row) -> int:
    return sum(value is not None for value in row)


def _label(value: Any) -> str:
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return "" if value is None else str(value).strip()
