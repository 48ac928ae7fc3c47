"""Records from the whole of a file, not just its head.

A block in the middle of a file begins somewhere in a record, perhaps within quotes; which, only
the bytes before it would tell. So a block is read both ways, and the way is kept in which all
records have the header's number of fields and every quote stands at a field's edge. Where both
ways do, or none, the block is left out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from taskwidgets.errors import SourceError
from taskwidgets.tabular.boundaries import records, scan
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.fields import split_text, without_ending
from taskwidgets.tabular.header import Layout

__all__ = ["SAMPLE_BYTES", "Row", "Sample", "sample_records", "whole_sample"]

Row = list[str | None]

# 1 MiB of flight records is 10,000 rows; reading, splitting and typing them takes under 300 ms.
SAMPLE_BYTES = 1 << 20
_HEAD_SHARE = 4  # a quarter of the budget is the file's head, as people sort and edit there
_SPREAD_BLOCKS = 24  # the rest: so many blocks, of 32 KiB with the default budget


@dataclass(frozen=True)
class Sample:
    """Rows as COPY would see them: None is NULL, "" is an empty string in quotes.

    ``rows`` all have the header's number of fields. ``ragged`` counts the records at the
    file's head that have not, ``dropped`` the blocks that could not be read for
    certain. ``whole``: every record of the file is in it.
    """

    rows: list[Row] = field(default_factory=list)
    whole: bool = False
    ragged: int = 0
    dropped: int = 0
    bytes_read: int = 0


def sample_records(
    path: str | Path, dialect: Dialect, layout: Layout, budget_bytes: int = SAMPLE_BYTES
) -> Sample:
    """Rows from the file's head and from blocks spread evenly behind it; a small file whole.

    Reads about ``budget_bytes``. Bytes that are wrong in the encoding become U+FFFD: COPY will
    refuse them with their line, and that is early enough. SourceError when it cannot be read.
    """
    columns = len(layout.columns)
    rows: list[Row] = []
    ragged = dropped = read = 0
    try:
        with Path(path).open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            pieces = _pieces(layout.data_start, size, budget_bytes)
            for start, stop in pieces:
                block = os.pread(file.fileno(), stop - start, start)
                read += len(block)
                ended = stop == size
                if start > layout.data_start:
                    certain = _either_way(block, dialect, columns, ended=ended)
                    dropped += certain is None
                    rows += certain or []
                else:
                    body = _records(block, dialect, inside=False, begun=True, ended=ended)
                    head = _rows(body, dialect)
                    rows += (row for row in head if len(row) == columns)
                    ragged = len(head) - len(rows)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SourceError(f"{path} cannot be read: {reason}", path=path) from None
    return Sample(rows, len(pieces) == 1 and not ragged, ragged, dropped, read)


def whole_sample(data: bytes, dialect: Dialect, columns: int) -> Sample:
    """As `sample_records`, of a file whose data are all there."""
    body = _records(data, dialect, inside=False, begun=True, ended=True)
    found = _rows(body, dialect)
    rows = [row for row in found if len(row) == columns]
    return Sample(rows, len(rows) == len(found), len(found) - len(rows), 0, len(data))


def _pieces(start: int, size: int, budget: int) -> list[tuple[int, int]]:
    """The byte ranges to read: one, or the head and blocks spread up to the file's last byte."""
    if size - start <= budget:
        return [(start, max(size, start))]
    head = start + max(budget // _HEAD_SHARE, 1)
    length = max((budget - budget // _HEAD_SHARE) // _SPREAD_BLOCKS, 1)
    room = size - length - head
    if room < 0:
        return [(start, size)]
    stride = room / (_SPREAD_BLOCKS - 1)
    offsets = [head + round(stride * index) for index in range(_SPREAD_BLOCKS)]
    return [(start, head), *((offset, offset + length) for offset in offsets)]


def _records(block: bytes, dialect: Dialect, *, inside: bool, begun: bool, ended: bool) -> bytes:
    """The part of the block that is whole records.

    ``inside``: a quote is open at its beginning; ``begun``: it begins where a record begins;
    ``ended``: it ends with the file, so that its last record needs no newline.
    """
    found = scan(block, dialect.quote_byte, inside)
    start = 0 if begun else found.first
    stop = len(block) if ended and not found.inside else found.last
    return block[start:stop] if begun or found.first else b""


def _either_way(block: bytes, dialect: Dialect, columns: int, *, ended: bool) -> list[Row] | None:
    """The rows of a block from the file's middle; None when it is not certain what they are."""
    certain: list[list[Row]] = []
    for inside in (False, True):
        body = _records(block, dialect, inside=inside, begun=False, ended=ended)
        if body and _well_quoted(body, dialect):
            rows = _rows(body, dialect)
            if all(len(row) == columns for row in rows):
                certain.append(rows)
    return certain[0] if len(certain) == 1 else None


def _well_quoted(body: bytes, dialect: Dialect) -> bool:
    """Whether every quote opens at a field's beginning, closes at its end, or is doubled.

    Read the wrong way round, text stands before opening quotes and behind closing ones.
    """
    if dialect.quote_byte not in body:
        return True
    # A newline on either side stands for the record that is before, and the one that is after.
    padded = np.frombuffer(b"\n" + body + b"\n", dtype=np.uint8)
    quotes = np.flatnonzero(padded == dialect.quote_byte)
    before = padded[quotes[0::2] - 1]
    after = padded[quotes[1::2] + 1]
    borders = [ord(dialect.delimiter), 0x0A, dialect.quote_byte]
    return bool(np.isin(before, borders).all() and np.isin(after, [*borders, 0x0D]).all())


def _rows(body: bytes, dialect: Dialect) -> list[Row]:
    """Whole records as rows, whatever their number of fields."""
    if not body:
        return []
    codec, delimiter, quotechar = dialect.codec, dialect.delimiter, dialect.quotechar
    null = dialect.null_value
    if dialect.quote_byte not in body:
        text = body.decode(codec, errors="replace").replace("\r\n", "\n").removesuffix("\n")
        if not null:
            return [[value or None for value in line.split(delimiter)] for line in text.split("\n")]
        return [
            [None if value == null else value for value in line.split(delimiter)]
            for line in text.split("\n")
        ]
    return [
        [
            None if value == null and not quoted else value
            for value, quoted in split_text(text, delimiter, quotechar)
        ]
        for text in (
            without_ending(body[start:stop]).decode(codec, errors="replace")
            for start, stop in records(body, dialect.quote_byte)
        )
    ]
