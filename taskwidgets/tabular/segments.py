"""Pieces of a file, cut at record boundaries, handed to several workers.

The bytes are never parsed, only cut: what a worker gets is what COPY gets. `boundaries` says
what a record's end is, and why Postgres agrees.

What holds the interpreter's lock (and with it a notebook's event loop) is short: scanning goes by
blocks of 1 MiB, and reading, numpy and the checksum let go of the lock. The longest single hold
that was measured is giving a segment's memory back: 0.6 ms for 8 MiB, 2.9 ms for 32 MiB.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from zlib_ng import zlib_ng

from taskwidgets.errors import SourceChanged, SourceError
from taskwidgets.tabular.boundaries import BLOCK_BYTES, record_ends, scan
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.limits import Limits
from taskwidgets.tabular.lines import line_at
from taskwidgets.tabular.ranges import Range, merge
from taskwidgets.tabular.stream import PlainStream

__all__ = ["Segment", "SegmentReader"]


@dataclass(frozen=True, slots=True)
class Segment:
    """Whole records: the file's bytes ``[start, stop)``.

    ``records`` is how many COPY should find in them (a blank line is one too), ``lines`` how many
    physical lines they are, ``crc32`` the checksum of ``data``. A last record without a newline
    counts in both.
    """

    start: int
    stop: int
    records: int
    data: bytes | memoryview
    crc32: int
    lines: int


class SegmentReader:
    """Cuts what is still to be loaded of a file into segments; safe to share between threads.

    ``size`` is the file's length in bytes when the job began (what was appended later is not
    read), ``gaps`` the byte ranges that are still missing. Each gap begins at a record boundary,
    and ends at one or at ``size``. Every byte of the gaps is handed out exactly once, in order.
    One segment is in memory per caller. ``limits``: how long a record may be; None: the default.
    """

    def __init__(
        self,
        path: str | Path,
        dialect: Dialect,
        data_start: int,
        size: int,
        gaps: Sequence[Range],
        limits: Limits | None = None,
    ) -> None:
        self._path = Path(path)
        self._limits = Limits() if limits is None else limits
        self._quotechar = dialect.quotechar
        self._quote = dialect.quote_byte
        self._size = size
        merge(gaps)  # gaps that overlap would be rows loaded twice: ValueError
        for start, stop in gaps:
            if start < data_start or stop > size:
                raise ValueError(f"the gap ({start}, {stop}) is not within ({data_start}, {size})")
        self._gaps = sorted((start, stop) for start, stop in gaps if start < stop)
        self._gaps.reverse()  # the next one is the last, to be popped
        self._lock = threading.Lock()
        self._stream = PlainStream(self._path, dialect.codec)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, once a call of `next` in another thread is done; idempotent."""
        with self._lock:
            self._stream.close()

    @property
    def left(self) -> int:
        """Bytes that are still to be handed out."""
        with self._lock:
            return sum(stop - start for start, stop in self._gaps)

    def next(self, target_bytes: int, buffer: bytearray | None = None) -> Segment | None:
        """The next whole records, about ``target_bytes`` of them; None when nothing is left.

        With a ``buffer`` of the caller's, the segment's data is a view of it where it fits, good
        until the buffer is used again: memory that was touched before costs a third of the time.

        A segment is at most ``target_bytes`` long, unless its only record is longer. Raises
        SourceError (path, line) at a record whose quote is never closed, or that is longer than the
        limits allow, again at every later call: the segments before it are handed out first, those
        behind it never. Raises
        SourceChanged when the file is shorter, or cut otherwise, than it was.
        """
        if target_bytes < 1:
            raise ValueError(f"target_bytes must be at least 1, not {target_bytes}")
        with self._lock:
            if self._stream.closed:
                raise ValueError("the reader is closed")
            if not self._gaps:
                return None
            start, end = self._gaps[-1]
            data, records, lines = self._cut(start, end, target_bytes, buffer)
            stop = start + len(data)
            if stop < end:
                self._gaps[-1] = (stop, end)
            else:
                self._gaps.pop()
        # Outside the lock: at 4 GB/s the checksum is the slowest step, and each worker's own.
        return Segment(start, stop, records, data, zlib_ng.crc32(data), lines)

    def _cut(
        self, start: int, end: int, target_bytes: int, buffer: bytearray | None
    ) -> tuple[bytes | memoryview, int, int]:
        """Data, records and lines of the segment that begins at ``start``."""
        wanted = min(start + target_bytes, end)
        length = wanted - start
        own = buffer is None or len(buffer) < length
        data = bytearray(length) if buffer is None or own else buffer
        self._read_into(memoryview(data)[:length], start)
        cut, inside = 0, False  # cut: where the last whole record ends in data
        records_seen = lines_seen = records = lines = 0
        for at in range(0, length, BLOCK_BYTES):
            found = scan(data, self._quote, inside, at, min(at + BLOCK_BYTES, length))
            if found.last:
                cut = found.last
                records = records_seen + found.records
                lines = lines_seen + found.lines_to_last
            inside = found.inside
            records_seen += found.records
            lines_seen += found.lines
        if wanted == end and not inside and cut < length:
            self._check_unfinished(end)
            cut, records, lines = length, records + 1, lines_seen + 1
        if cut:
            if cut > self._limits.row:
                self._check_rows(data, cut, start)
            view = memoryview(data)[:cut]
            return (bytes(view) if own else view), records, lines
        stop, more_lines = self._end_of_record(start, wanted, end, inside)
        del data
        return self._read(start, stop - start), 1, lines_seen + more_lines

    def _end_of_record(self, start: int, at: int, end: int, inside: bool) -> tuple[int, int]:
        """Where the record from ``start`` ends, and its lines from ``at`` on.

        Looks without keeping anything: a quote that never closes must not fill the memory.
        """
        lines = 0
        while at < end:
            block = self._read(at, min(BLOCK_BYTES, end - at))
            found = scan(block, self._quote, inside)
            if at + (found.first or len(block)) - start > self._limits.row:
                raise self._too_long(start)
            if found.first:
                return at + found.first, lines + block.count(b"\n", 0, found.first)
            at += len(block)
            inside = found.inside
            lines += found.lines
        if inside:
            if end < self._size:
                raise self._changed(end)
            raise self._never_ends(start, "does not end before the file does")
        self._check_unfinished(end)
        return end, lines + 1

    def _check_rows(self, data: bytearray, length: int, start: int) -> None:
        """SourceError where one of the segment's records is too long."""
        begins, inside = 0, False
        for at in range(0, length, BLOCK_BYTES):
            block = bytes(memoryview(data)[at : min(at + BLOCK_BYTES, length)])
            ends = record_ends(block, self._quote, inside) + at
            inside ^= bool(block.count(self._quote) & 1)
            if at + len(block) == length and not (len(ends) and ends[-1] == length):
                ends = np.append(ends, length)
            lengths = np.diff(ends, prepend=begins)
            if len(ends):
                if int(lengths.max()) > self._limits.row:
                    place = int(lengths.argmax())
                    raise self._too_long(start + int(ends[place] - lengths[place]))
                begins = int(ends[-1])

    def _check_unfinished(self, end: int) -> None:
        """Only the file's very last record may lack a newline."""
        if end < self._size:
            raise self._changed(end)

    def _read(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        self._read_into(memoryview(data), offset)
        return bytes(data)

    def _read_into(self, view: memoryview, offset: int) -> None:
        read = self._stream.read_into(offset, view)
        if read < len(view):
            raise SourceChanged(
                f"{self._path} has become shorter while it was read: it ends at byte "
                f"{offset + read:,} instead of {self._size:,}",
                path=self._path,
            )

    def _too_long(self, start: int) -> SourceError:
        line = line_at(self._path, start)
        return self._limits.long_row(
            self._path,
            f"line {line:,}",
            line=line,
            cause=f" Often a quote ({self._quotechar}) in it is not closed.",
        )

    def _never_ends(self, start: int, how: str) -> SourceError:
        line = line_at(self._path, start)
        return SourceError(
            f"{self._path}, line {line}: the record that begins here {how}; probably a quote "
            f"({self._quotechar}) in it is not closed",
            path=self._path,
            line=line,
        )

    def _changed(self, end: int) -> SourceChanged:
        return SourceChanged(
            f"{self._path} is not the file any more that the job began with: no record ends at "
            f"byte {end:,}, where one did",
            path=self._path,
        )
