"""A segment made into what COPY takes: clean pieces as they stand, the others written anew.

Every record that is read is either among the rows or among the rejects; a blank line in a table
of several columns is neither.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.pieces import PiecedSegment, count_newlines
from taskwidgets.tabular.repair import Fault, Row, rows_of, split_legal
from taskwidgets.tabular.triage import Block

__all__ = [
    "Cleaned",
    "Origin",
    "Reject",
    "clean",
    "clean_text",
    "piece_rows",
    "repaired",
    "without_end",
]

_ONE_LINE = re.compile(r"(?!\\\.\Z)[^\r\n]*+")  # and not what ends COPY's data, \. alone


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that is not loaded.

    ``line`` is the physical line, counted from 1, on which it begins and ``offset`` its position
    in the stream; ``raw`` its bytes, without the line ending; ``column`` the name of the column
    at fault, None where it is the record as a whole; ``reason`` says what is wrong in plain words.
    """

    line: int
    offset: int
    raw: bytes
    column: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a stretch of cleaned data, from byte ``at`` on, comes from.

    ``start`` and ``stop`` are bytes of the segment's data. ``how``: "same" bytes, other bytes with
    as many "records" in the same order, or what a single "record" has become.
    """

    at: int
    start: int
    stop: int
    how: Literal["same", "records", "record"]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """``rows`` records that COPY takes with `Grammar.output`'s options, and what is left out.

    ``rows_read`` is ``rows`` and the rejects together; ``origins`` are empty where the data are
    the segment's own.
    """

    data: bytes | memoryview
    rows_read: int
    rows: int
    rejects: tuple[Reject, ...] = ()
    origins: tuple[Origin, ...] = ()


def clean(
    segment: PiecedSegment,
    grammar: Grammar,
    columns: Sequence[str],
    conversions: Mapping[int, Callable[[str], str]] | None = None,
) -> Cleaned:
    """The segment's rows as COPY takes them.

    ``columns`` are the table's names, as many as the grammar has. ``conversions`` say, by a
    column's index, how a value is to be written; they need a grammar with ``converted``.
    """
    if grammar.direct and segment.clean:
        return Cleaned(segment.data, segment.records, segment.records)
    direct = grammar.direct
    view = memoryview(segment.data)
    writer = _Writer(grammar, conversions or {})
    out: list[bytes | memoryview] = []
    rejects: list[Reject] = []
    origins: list[Origin] = []
    rows = size = 0
    counted_to, line = 0, segment.first_line

    def reject(at: int, body: bytes, fault: Fault) -> None:
        nonlocal counted_to, line
        line += count_newlines(view[counted_to:at])
        counted_to = at
        column = None if fault.field is None else columns[fault.field]
        rejects.append(Reject(line, segment.start + at, body, column, fault.reason))

    def write(
        written: bytes | memoryview,
        start: int,
        stop: int,
        how: Literal["same", "records", "record"],
    ) -> None:
        nonlocal size
        origins.append(Origin(size, start, stop, how))
        out.append(written)
        size += len(written)

    for piece in segment.pieces:
        raw = view[piece.start : piece.stop]
        if piece.clean and direct:
            rows += piece.records
            write(raw, piece.start, piece.stop, "same")
        elif piece.clean and (whole := writer.replaced(bytes(raw))) is not None:
            rows += piece.records
            write(whole, piece.start, piece.stop, "records")
        elif piece.clean:
            records = bytes(raw)
            for start, stop, row in piece_rows(records, grammar):
                written = writer.written(row)
                if isinstance(written, Fault):
                    body = without_end(records[start:stop], grammar)
                    reject(piece.start + start, body, written)
                else:
                    rows += 1
                    write(written, piece.start + start, piece.start + stop, "record")
        else:
            found, body = repaired(bytes(raw), grammar)
            if isinstance(found, Fault):
                reject(piece.start, body, found)
                continue
            for row in found:
                written = writer.written(row)
                if isinstance(written, Fault):
                    reject(piece.start, body, written)
                else:
                    rows += 1
                    write(written, piece.start, piece.stop, "record")
    return Cleaned(b"".join(out), rows + len(rejects), rows, tuple(rejects), tuple(origins))


def clean_text(
    text: str,
    grammar: Grammar,
    conversions: Mapping[int, Callable[[str], str]] | None = None,
) -> tuple[bytes, int] | Fault:
    """One record's text as COPY takes it, and how many rows that is; or why it cannot be."""
    found = rows_of(text, grammar)
    if isinstance(found, Fault):
        return found
    writer = _Writer(grammar, conversions or {})
    out = b""
    for row in found:
        written = writer.written(row)
        if isinstance(written, Fault):
            return written
        out += written
    return out, len(found)


def piece_rows(raw: bytes, grammar: Grammar) -> Iterator[tuple[int, int, Row]]:
    """(start, stop, fields) of each record of a clean piece."""
    start = 0
    for end in Block(raw, grammar, None).reading(False).ends.tolist():
        text = without_end(raw[start:end], grammar).decode(grammar.codec, errors="replace")
        row = split_legal(
            text, grammar.delimiter, grammar.quote, grammar.escape, skip=grammar.skip_initial_space
        )
        yield start, end, row or []
        start = end


def repaired(raw: bytes, grammar: Grammar) -> tuple[list[Row] | Fault, bytes]:
    """What a damaged record gives, and its bytes without the line ending."""
    body = without_end(raw, grammar)
    try:
        text = body.decode(grammar.codec)
    except UnicodeDecodeError as error:
        before = body[: error.start].decode(grammar.codec, errors="replace")
        field = before.count(grammar.delimiter) if grammar.delimiter else 0
        name = codecs.lookup(grammar.codec).name
        reason = f"byte 0x{body[error.start]:02x} is not valid {name}"
        return Fault(reason, min(field, grammar.columns - 1)), body
    return rows_of(text, grammar), body


def without_end(raw: bytes, grammar: Grammar) -> bytes:
    """A record without its line ending."""
    if grammar.newline == "\r":
        return raw.removesuffix(b"\r")
    return raw.removesuffix(b"\n").removesuffix(b"\r")


class _Writer:
    """Writes rows in the way that COPY is told of."""

    def __init__(self, grammar: Grammar, conversions: Mapping[int, Callable[[str], str]]) -> None:
        output = grammar.output
        self._grammar = grammar
        self._conversions = conversions
        self._codec = output.codec
        self._delimiter, self._quote = output.delimiter, output.quotechar
        self._null = output.null_value
        self._nulls = frozenset(grammar.null_values)
        self._nulls_as_written = self._nulls == {self._null}
        self._newline = grammar.output_newline
        self._special = (self._delimiter, self._quote, "\r", "\n")

    def written(self, row: Row) -> bytes | Fault:
        """One record, its line ending included; or which of its values cannot be converted."""
        for index, convert in self._conversions.items():
            value, quoted = row[index]
            if quoted or value not in self._nulls:
                try:
                    row[index] = convert(value), quoted
                except ValueError as error:
                    return Fault(str(error), index)
        line = self._delimiter.join([value for value, _ in row])
        if (
            self._quote in line
            or line.count(self._delimiter) >= len(row)
            or not self._nulls_as_written
            or any(quoted and value == self._null for value, quoted in row)
            or not _ONE_LINE.fullmatch(line)
        ):
            fields = [self._field(value, quoted=quoted) for value, quoted in row]
            line = self._delimiter.join(fields)
        return (line + self._newline).encode(self._codec)

    def _field(self, value: str, *, quoted: bool) -> str:
        if not quoted and value in self._nulls:
            return self._null
        for mark in self._special:
            if mark in value:
                break
        else:
            if value != self._null and value != "\\.":
                return value
        quote = self._quote
        return f"{quote}{value.replace(quote, quote + quote)}{quote}"

    def replaced(self, raw: bytes) -> bytes | None:
        """A clean piece with just its marks exchanged; None where that would not do."""
        grammar = self._grammar
        if self._conversions:
            return None
        if (grammar.quote and grammar.quote.encode() in raw) or grammar.null_values != ("",):
            return None
        text = raw.decode(grammar.codec)
        delimiter = grammar.delimiter
        if self._quote in text or (delimiter != "," and "," in text) or not delimiter:
            return None
        newline = grammar.newline
        if newline != "\n":
            text = text.replace(newline, "\n")
        if "\r" in text or grammar.columns == 1:
            return None
        if delimiter != ",":
            text = text.replace(delimiter, ",")
        if grammar.skip_initial_space:
            while ", " in text:
                text = text.replace(", ", ",")
            if "\n " in text or text.startswith(" "):
                return None
        if not text.endswith("\n"):
            text += "\n"
        return text.encode(self._codec)
