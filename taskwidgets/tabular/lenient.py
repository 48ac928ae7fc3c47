"""The head of a file as a person reads it: what stands above the header is left out, and names
that no table could have are replaced; and its records, for a look at them.

`header` is the strict reader of the same: it refuses what is mended here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from taskwidgets.errors import SourceError
from taskwidgets.tabular.cleaning import piece_rows, repaired
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.header import MAX_COLUMNS, MAX_HEADER_BYTES, MAX_NAME_BYTES
from taskwidgets.tabular.pieces import Cutter
from taskwidgets.tabular.repair import Fault, exact_in_any_way, split_any, split_legal
from taskwidgets.tabular.stream import Stream

__all__ = ["LenientLayout", "Record", "read_lenient_layout", "read_records", "valid_names"]

_HEADER_LINES = 64  # physical lines that the quotes of one header record may hold
_SAMPLE_BYTES = 1 << 18  # of data, to see how wide its rows are
_NEARLY_ALL = 0.95  # of the rows have to be wider than the header for the data to win
_PREVIEW_BYTES = 1 << 16


@dataclass(frozen=True)
class LenientLayout:
    """What stands at a stream's beginning, made fit for a table.

    ``columns`` are the names; ``data_start`` is the position of the first data record and
    ``first_line`` the physical line it is on, counted from 1. ``renamed`` has, for the receipt,
    (what the file says, what the column is called) for each name that was changed; ``header`` are
    all names as the file has them.
    """

    columns: tuple[str, ...]
    data_start: int
    first_line: int
    renamed: tuple[tuple[str, str], ...] = ()
    header: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it was read: each field's text, and whether it was quoted.

    ``line`` counts physical lines from 1; ``offset`` is the record's position in the stream.
    ``problem`` says why it could not be loaded, None where it can.
    """

    line: int
    offset: int
    fields: tuple[tuple[str, bool], ...]
    problem: str | None = None


def read_lenient_layout(stream: Stream, description: Description) -> LenientLayout:
    """The columns' names and where the data begin, by ``skip_rows`` and ``header_rows``.

    Where ``description.columns`` has names, they are taken as they are. Reads 1 MiB and a sample
    of the data. Raises SourceError for a stream in which no column can be found.
    """
    grammar = Grammar.of(description, 1, stream.codec)
    head = stream.read_at(stream.text_start, MAX_HEADER_BYTES + _SAMPLE_BYTES)
    at, line, begun = 0, 1, 0
    for _ in range(description.skip_rows):
        at, line = _line_stop(head, at, grammar), line + 1
    rows: list[list[str]] = []
    while len(rows) < description.header_rows and at < len(head):
        at_row = at
        stop, row = _header_record(head, at, grammar)
        line += head.count(b"\n", at, stop)
        at = stop
        if len(row) > 1 or row[0].strip():
            rows.append(row)
            begun = at_row
    widths = _widths(head, at, grammar)
    width = max(widths, key=lambda each: (widths[each], each), default=0)
    if len(rows) == 1 and width > 1 and len(rows[0]) != width:
        # Perhaps the header alone has another delimiter, or another line ending.
        other, length = _other_header(head[begun:at], replace(grammar, columns=width))
        if other is not None:
            rows = [other]
            line -= head.count(b"\n", begun + length, at)
            at = begun + length
    if description.columns:
        names: list[str] = list(description.columns)
    else:
        names = _joined(rows)
        if not names:
            names = [""] * width
        elif rows:
            names = _as_wide_as(names, widths, head, at, grammar)
    if not names:
        what = "header" if description.header_rows else "record"
        raise SourceError(f"{stream.path} is empty: not even a {what}", path=stream.path)
    if len(names) > MAX_COLUMNS:
        raise SourceError(
            f"{stream.path} has {len(names):,} columns; a Postgres table has at most "
            f"{MAX_COLUMNS:,}",
            path=stream.path,
            line=line,
        )
    columns = valid_names(names)
    renamed = tuple(pair for pair in zip(names, columns, strict=True) if pair[0] != pair[1])
    return LenientLayout(
        columns, stream.text_start + at, line, renamed if rows else (), tuple(names)
    )


def valid_names(names: list[str]) -> tuple[str, ...]:
    """Names that a table can have: none empty, none twice, none longer than Postgres takes.

    An empty one becomes column_N, N its place counted from 1; a second ``a`` becomes ``a_2``.
    """
    wanted = []
    for number, name in enumerate(names, start=1):
        plain = _cut(name.replace("\0", "").strip(), MAX_NAME_BYTES)
        wanted.append(plain or f"column_{number}")
    taken = set(wanted)
    seen: set[str] = set()
    found = []
    for name in wanted:
        unique, number = name, 1
        while unique in seen or (number > 1 and unique in taken):
            number += 1
            ending = f"_{number}"
            unique = _cut(name, MAX_NAME_BYTES - len(ending)) + ending
        seen.add(unique)
        found.append(unique)
    return tuple(found)


def read_records(
    stream: Stream,
    description: Description,
    limit: int | None = None,
    *,
    layout: LenientLayout | None = None,
    data_stop: int | None = None,
) -> Iterator[Record]:
    """The first ``limit`` data records; blank lines are left out.

    Of a record that cannot be loaded the fields are those that its delimiters make.
    """
    layout = layout or read_lenient_layout(stream, description)
    columns = len(layout.columns)
    grammar = Grammar.of(description, columns, stream.codec)
    cutter = Cutter(stream, grammar, layout.data_start, data_stop, first_line=layout.first_line)
    line, count = layout.first_line, 0
    while (segment := cutter.next(_PREVIEW_BYTES)) is not None:
        for piece in segment.pieces:
            raw = bytes(segment.data[piece.start : piece.stop])
            for offset, stop, row, problem in _piece(raw, grammar, clean=piece.clean):
                if limit is not None and count >= limit:
                    return
                position = segment.start + piece.start + offset
                yield Record(line, position, tuple(row), problem)
                count += 1
                line += raw.count(b"\n", offset, stop)
            if not piece.clean and not _holds_rows(raw, grammar):
                line += raw.count(b"\n")


def _holds_rows(raw: bytes, grammar: Grammar) -> bool:
    return bool(repaired(raw, grammar)[0])


def _piece(
    raw: bytes, grammar: Grammar, *, clean: bool
) -> Iterator[tuple[int, int, list[tuple[str, bool]], str | None]]:
    if clean:
        for start, stop, fields in piece_rows(raw, grammar):
            yield start, stop, fields, None
        return
    found, body = repaired(raw, grammar)
    if isinstance(found, Fault):
        text = body.decode(grammar.codec, errors="replace")
        yield 0, len(raw), split_any(text, grammar), found.reason
        return
    for number, row in enumerate(found, start=1):
        yield 0, len(raw) if number == len(found) else 0, row, None


def _line_stop(head: bytes, at: int, grammar: Grammar) -> int:
    found = head.find(grammar.end_byte, at)
    return len(head) if found < 0 else found + 1


def _header_record(head: bytes, at: int, grammar: Grammar) -> tuple[int, list[str]]:
    """The end of the record at ``at``, and its fields; of one line, if its quotes are wrong."""
    first = stop = _line_stop(head, at, grammar)
    for _ in range(_HEADER_LINES):
        text = _text(head[at:stop], grammar)
        row = split_legal(
            text, grammar.delimiter, grammar.quote, grammar.escape, skip=grammar.skip_initial_space
        )
        if row is not None:
            return stop, [name for name, _ in row]
        if stop >= len(head):
            break
        stop = _line_stop(head, stop, grammar)
    return first, [name for name, _ in split_any(_text(head[at:first], grammar), grammar)]


def _other_header(raw: bytes, grammar: Grammar) -> tuple[list[str] | None, int]:
    """The names of a header that is written otherwise than the data, and its length in bytes."""
    stray = b"\n" if grammar.newline == "\r" else b"\r"
    body = raw.rstrip(b"\r\n")
    found = body.find(stray)
    if found >= 0:
        row = exact_in_any_way(_text(body[:found], grammar), grammar)
        if row is not None:
            return [name for name, _ in row], found + 1
    row = exact_in_any_way(_text(raw, grammar), grammar)
    return (None if row is None else [name for name, _ in row]), len(raw)


def _text(raw: bytes, grammar: Grammar) -> str:
    return raw.rstrip(b"\r\n").decode(grammar.codec, errors="replace")


def _joined(rows: list[list[str]]) -> list[str]:
    """Several rows as one name for each column, a blank between the parts."""
    if not rows:
        return []
    width = max(map(len, rows))
    parts = [
        [row[index].strip() if index < len(row) else "" for row in rows] for index in range(width)
    ]
    if len(rows) == 1:
        return rows[0]
    return [" ".join(part for part in column if part) for column in parts]


def _widths(head: bytes, at: int, grammar: Grammar) -> Counter[int]:
    """How many of the first rows have how many fields."""
    widths: Counter[int] = Counter()
    stop_at = min(len(head), at + _SAMPLE_BYTES)
    for row in _sample(head, at, stop_at, grammar):
        widths[len(row)] += 1
    return widths


def _sample(head: bytes, at: int, stop_at: int, grammar: Grammar) -> Iterator[list[str]]:
    while at < stop_at:
        stop, row = _header_record(head, at, grammar)
        if stop > stop_at and stop_at < len(head):
            return
        if head[at:stop].strip():
            yield row
        at = stop


def _as_wide_as(
    names: list[str], widths: Counter[int], head: bytes, at: int, grammar: Grammar
) -> list[str]:
    """The header's names, for as many columns as nearly all rows have.

    One name too few in front of rows that are all wider by one is R's way of writing row names
    (``write.table``; its manual: "if there is one fewer header than columns, the first column is
    taken as row names"). A delimiter behind each row's last value is no column. And names that
    are empty at the header's end are none where no row reaches so far.
    """
    total = sum(widths.values())
    wider = {width: count for width, count in widths.items() if width > len(names)}
    if total and sum(wider.values()) >= _NEARLY_ALL * total:
        width = max(wider, key=lambda each: wider[each])
        stop_at = min(len(head), at + _SAMPLE_BYTES)
        rows = [row for row in _sample(head, at, stop_at, grammar) if len(row) == width]
        if any(value.strip() for row in rows for value in row[len(names) :]):
            if width == len(names) + 1:
                return ["", *names]
            return names + [""] * (width - len(names))
        return names
    reach = max(widths, default=len(names))
    while len(names) > max(reach, 1) and not names[-1].strip():
        names = names[:-1]
    return names


def _cut(name: str, most_bytes: int) -> str:
    encoded = name.encode("utf-8", errors="replace")
    return encoded[:most_bytes].decode("utf-8", errors="ignore").rstrip()
