"""From an error back to the place: line, record and byte.

COPY says "line 4711" and means a line of the segment that it was given, counted in a way of its
own. The functions here find the record it means, and the bytes that it would not take.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskwidgets.tabular.boundaries import BLOCK_BYTES, record_ends, records
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.fields import split_fields, without_ending

__all__ = [
    "Place",
    "first_invalid",
    "first_nul",
    "first_ragged",
    "line_at",
    "record_at_line",
    "records_at_lines",
    "split_fields",
]


@dataclass(frozen=True, slots=True)
class Place:
    """A record in a segment, and a byte in it.

    ``offset`` is the byte meant, and ``start`` and ``stop`` are the record's, all in bytes from
    the segment's beginning; ``line`` is the physical line of the segment, counted from 1, on which
    the record begins; ``record`` its bytes without the line ending.
    """

    offset: int
    line: int
    start: int
    stop: int
    record: bytes


def line_at(path: str | Path, offset: int) -> int:
    """The physical line, counted from 1, of the byte at ``offset`` in a file.

    Reads the file up to there, at about 2 GB/s. The file's line of a `Place` is
    ``line_at(path, segment.start) + place.line - 1``.
    """
    line, left = 1, offset
    with Path(path).open("rb", buffering=0) as file:
        while left > 0 and (block := file.read(min(BLOCK_BYTES, left))):
            line += block.count(b"\n")
            left -= len(block)
    return line


def record_at_line(data: bytes, dialect: Dialect, line: int) -> tuple[int, int, int]:
    """(start, stop, first physical line) of the record that COPY calls "line N" of ``data``.

    A number past the end gives the last record; ValueError without a record.
    """
    (found,) = records_at_lines(data, dialect, [line])
    return found


def records_at_lines(
    data: bytes, dialect: Dialect, lines: Sequence[int]
) -> list[tuple[int, int, int]]:
    """As `record_at_line`, for ascending numbers, in one pass.

    COPY counts each record, and the newlines inside quotes as it meets them, so it names a
    record's last line. But what it takes for a newline there is "\\n" only once it has seen a
    record end in "\\n"; in the first record, and where records end in "\\r\\n", it is "\\r"
    (CopyReadLineText in src/backend/commands/copyfromparse.c; so in Postgres 18.4, tried). This
    counts likewise.
    """
    if not data:
        raise ValueError("there is no record in empty data")
    if dialect.quote_byte not in data and b"\r" not in data:  # then a record is a line
        return _physical_lines(data, dialect, lines)
    found: list[tuple[int, int, int]] = []
    counted, first_line, eol = 0, 1, b"\r"
    start = stop = 0
    for start, stop in records(data, dialect.quote_byte):
        body = without_ending(data[start:stop])
        counted += 1 + body.count(eol)
        while len(found) < len(lines) and counted >= lines[len(found)]:
            found.append((start, stop, first_line))
        if len(found) == len(lines):
            return found
        if start == 0 and stop - len(body) == 1:
            eol = b"\n"
        last_line, first_line = first_line, first_line + data.count(b"\n", start, stop)
    return found + [(start, stop, last_line)] * (len(lines) - len(found))


def _physical_lines(
    data: bytes, dialect: Dialect, lines: Sequence[int]
) -> list[tuple[int, int, int]]:
    ends: list[int] = []
    for offset in range(0, len(data), BLOCK_BYTES):
        block = data[offset : offset + BLOCK_BYTES]
        ends += (record_ends(block, dialect.quote_byte) + offset).tolist()
    if not ends or ends[-1] < len(data):
        ends.append(len(data))
    numbers = [min(max(line, 1), len(ends)) for line in lines]
    return [(ends[number - 2] if number > 1 else 0, ends[number - 1], number) for number in numbers]


def first_ragged(data: bytes, dialect: Dialect, columns: int) -> Place | None:
    """The first record that has not ``columns`` fields, blank lines among them; None: all have."""
    quote, delimiter = dialect.quotechar.encode(), dialect.delimiter.encode()
    for place in _places(data, dialect):
        if quote in place.record:
            found = len(split_fields(place.record, dialect))
        else:
            found = place.record.count(delimiter) + 1
        if found != columns:
            return place
    return None


def first_invalid(data: bytes, dialect: Dialect) -> Place | None:
    """The record with the first byte that is wrong in the encoding; ``offset`` is that byte."""
    decoder = codecs.getincrementaldecoder(dialect.codec)()
    for offset in range(0, max(len(data), 1), BLOCK_BYTES):
        block = data[offset : offset + BLOCK_BYTES]
        pending = len(decoder.getstate()[0])  # bytes of a character that the last block cut
        try:
            decoder.decode(block, final=offset + BLOCK_BYTES >= len(data))
        except UnicodeDecodeError as error:
            return _place_of(data, dialect, offset - pending + error.start)
    return None


def first_nul(data: bytes, dialect: Dialect) -> Place | None:
    """The record with the first NUL byte, which no text in Postgres can hold."""
    offset = data.find(b"\0")
    return None if offset < 0 else _place_of(data, dialect, offset)


def _place_of(data: bytes, dialect: Dialect, offset: int) -> Place:
    for place in _places(data, dialect):
        if place.start <= offset < place.stop:
            return Place(offset, place.line, place.start, place.stop, place.record)
    raise ValueError(f"byte {offset} is not in the data")


def _places(data: bytes, dialect: Dialect) -> Iterator[Place]:
    line = 1
    for start, stop in records(data, dialect.quote_byte):
        yield Place(start, line, start, stop, without_ending(data[start:stop]))
        line += data.count(b"\n", start, stop)
