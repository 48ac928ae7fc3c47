"""Segments whose records are not all in order: cut into pieces, each clean or not.

The promises are those of `segments`: every byte of what is to be loaded is handed out once, cut
where records end, and counted. What is added: a stray quote or a ragged row is a piece of its
own, and what stands before and behind it goes the fast way. A record's beginning is a place to
resume at: what is found from there on depends on nothing before it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from zlib_ng import zlib_ng

from taskwidgets.errors import SourceChanged, SourceError
from taskwidgets.tabular.boundaries import BLOCK_BYTES
from taskwidgets.tabular.extent import NeedsMore, damaged_stop
from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.limits import MAX_RECORD_BYTES, Limits
from taskwidgets.tabular.ranges import merge
from taskwidgets.tabular.segments import Segment
from taskwidgets.tabular.stream import PlainStream, Stream
from taskwidgets.tabular.triage import Block

__all__ = ["Cutter", "Piece", "PiecedSegment", "count_newlines"]

# bytes that are looked at at once: with their masks they fit a core's own cache. Measured in CPU
# time on flight records: 128 KiB 0.79, 256 KiB 0.90, 1 MiB 0.82, 2 MiB 0.66 GB/s.
_TRIAGE_BYTES = 1 << 18
_FIRST_LOOK = 1 << 12  # bytes from a damaged record on; more only where they do not tell
# bytes; behind a damaged record's line, so many are looked at to find its end (`extent`)
_BEHIND_BYTES = 1 << 17
_KEPT_LINES = 64  # workers are fewer, and each holds one segment
_KEPT_BYTES = 1 << 22  # a record longer than this is looked through before it is kept in memory


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole records of a segment: ``data[start:stop]``; ``clean`` is what COPY takes as it is.

    A piece that is not clean is one record, or what its damage leaves of it.
    """

    start: int
    stop: int
    records: int
    clean: bool


@dataclass(frozen=True, slots=True)
class PiecedSegment(Segment):
    """A segment and its pieces, in order and without gaps.

    ``records`` counts a damaged piece as one. ``first_line`` is the physical line, counted from 1,
    of the segment's first byte in the stream; 0, as counting may take time, where COPY takes all
    of the segment as it stands.
    """

    pieces: tuple[Piece, ...] = ()
    first_line: int = 0

    @property
    def clean(self) -> bool:
        """Whether COPY takes all of it as it stands."""
        return all(piece.clean for piece in self.pieces)


class Cutter:
    """Cuts what is still to be loaded of a stream into segments; safe to share between threads.

    ``data_start`` and ``data_stop`` are the positions of the first record and behind the last one
    (None: the stream's end); ``gaps`` what is missing of that, as for `SegmentReader`; None is all
    of it. ``first_line`` is the line of ``data_start``. ``limits``: how long a record may be; None:
    the default.
    """

    def __init__(
        self,
        stream: Stream,
        grammar: Grammar,
        data_start: int,
        data_stop: int | None,
        gaps: Sequence[tuple[int, int | None]] | None = None,
        *,
        first_line: int = 1,
        limits: Limits | None = None,
    ) -> None:
        self._stream = stream
        self._limits = Limits() if limits is None else limits
        self._grammar = grammar
        self._data_stop = stream.size if data_stop is None else data_stop
        missing = [(data_start, self._data_stop)] if gaps is None else sorted(gaps, key=_first)
        for start, stop in missing:
            beyond = stop is not None and self._data_stop is not None and stop > self._data_stop
            if start < data_start or beyond:
                raise ValueError(
                    f"the gap ({start}, {stop}) is not within ({data_start}, {self._data_stop})"
                )
        merge((start, start + 1 if stop is None else stop) for start, stop in missing)
        self._gaps = [gap for gap in reversed(missing) if gap[1] is None or gap[0] < gap[1]]
        self._lock = threading.Lock()
        self._known_line = self._first = (data_start, first_line)
        self._lines: dict[int, int] = {}  # of the segments handed out last, the line each begins on

    @property
    def is_in_file(self) -> bool:
        """Whether positions are those of the file's own bytes, which are handed out as they are."""
        return isinstance(self._stream, PlainStream)

    @property
    def left(self) -> int | None:
        """Bytes that are still to be handed out; None while the end of the data is not known."""
        with self._lock:
            known = [(start, stop) for start, stop in self._gaps if stop is not None]
            return sum(stop - start for start, stop in known) if known == self._gaps else None

    def next(self, target_bytes: int, buffer: bytearray | None = None) -> PiecedSegment | None:
        """The next whole records, about ``target_bytes`` of them; None when nothing is left.

        As `SegmentReader.next`, but a record that cannot be read is a piece that is not clean,
        and no error. Raises SourceError where the stream cannot be read, or a record is longer than
        the limits allow, and SourceChanged where a gap does not end with a record.
        """
        if target_bytes < 1:
            raise ValueError(f"target_bytes must be at least 1, not {target_bytes}")
        with self._lock:
            while self._gaps:
                start, end = self._gaps[-1]
                data, pieces = self._cut(start, end, target_bytes, buffer)
                stop = start + len(data)
                if end is not None and stop < end:
                    self._gaps[-1] = (stop, end)
                elif end is not None or not data:
                    self._gaps.pop()
                else:
                    self._gaps[-1] = (stop, None)
                if data:
                    unfinished = self._is_end(stop) and data[-1] != 0x0A
                    lines = count_newlines(data) + unfinished
                    first_line = self._line(start, stop, lines, pieces)
                    break
            else:
                return None
        records = sum(piece.records for piece in pieces)
        crc32 = zlib_ng.crc32(data)
        return PiecedSegment(start, stop, records, data, crc32, lines, tuple(pieces), first_line)

    def line_of(self, start: int) -> int:
        """The physical line, counted from 1, of the record that begins at this position."""
        with self._lock:
            if start in self._lines:
                return self._lines[start]
            return self._counted(*self._first, start)

    def _line(self, start: int, stop: int, lines: int, pieces: list[Piece]) -> int:
        position, line = self._known_line
        needed = not self._grammar.direct or not all(piece.clean for piece in pieces)
        if position == start:
            self._known_line = (stop, line + lines)
            self._lines[start] = line
            if len(self._lines) > _KEPT_LINES:
                del self._lines[next(iter(self._lines))]
            return line if needed else 0
        if not needed:
            return 0
        line = self._counted(position, line, start)
        self._known_line = (stop, line + lines)
        return line

    def _counted(self, position: int, line: int, start: int) -> int:
        """The line of ``start``, counted from a position whose line is known."""
        while position < start:
            block = self._stream.read_at(position, min(BLOCK_BYTES, start - position))
            if not block:
                break
            line += block.count(b"\n")
            position += len(block)
        return line

    def _is_end(self, position: int) -> bool:
        """Whether the data end here, as far as is known."""
        return position == (self._stream.size if self._data_stop is None else self._data_stop)

    def _cut(
        self, start: int, end: int | None, target_bytes: int, buffer: bytearray | None
    ) -> tuple[bytes | memoryview, list[Piece]]:
        wanted = target_bytes if end is None else min(target_bytes, end - start)
        limit = self._data_stop
        damaged = False
        while True:
            if limit is not None:
                wanted = min(wanted, limit - start)
            own = buffer is None or len(buffer) < wanted
            room = bytearray(wanted) if buffer is None or own else buffer
            view = memoryview(room)[:wanted]
            length = self._stream.read_into(start, view)
            view = view[:length]
            at_end = self._is_end(start + length)
            if length < wanted and not at_end:
                raise self._shorter(start + length)
            pieces = list(self._pieces(view, at_end=at_end, damaged=damaged)) if length else []
            if pieces and wanted > target_bytes:
                pieces = [self._first_piece(view, pieces[0], target_bytes)]
            if pieces:
                stop = pieces[-1].stop
                if end is not None and start + stop > end:
                    raise self._changed(end)
                self._check_rows(view, pieces, start)
                kept = view[:stop]
                return (bytes(kept) if own else kept), pieces
            if not length:
                return b"", []
            if at_end:  # an open quote: nothing else is incomplete there
                damaged = True
                continue
            if wanted >= min(_KEPT_BYTES, self._limits.row) and not damaged:
                found = self._look_through(start)
                damaged = found is None
                if damaged:
                    self._check_line(start)
                if found is not None:
                    wanted = max(wanted, found - start)
                    continue
            if wanted > self._limits.row + _BEHIND_BYTES:
                raise self._too_long(start)
            wanted = max(2 * wanted, 1 << 10)

    def _pieces(self, view: memoryview, *, at_end: bool, damaged: bool) -> Iterator[Piece]:
        """The pieces of whole records from the view's beginning on.

        ``damaged``: the first record is known to be.
        """
        at, size = 0, _TRIAGE_BYTES
        while at < len(view):
            stop = min(at + size, len(view))
            ends_here = at_end and stop == len(view)
            following = view[stop] if stop < len(view) else (None if ends_here else -1)
            block = Block(bytes(view[at:stop]), self._grammar, following)
            done = at
            for piece in self._walk(view, block, at, at_end=at_end, damaged=damaged):
                done = piece.stop
                damaged = False
                yield piece
                if done > stop:
                    break
            if done == at:
                if stop == len(view):
                    return
                size *= 2
            else:
                at, size = done, _TRIAGE_BYTES

    def _first_piece(self, view: memoryview, piece: Piece, target_bytes: int) -> Piece:
        """Of a longer view than was asked for: just the record that made it so long, if it is."""
        if not piece.clean or piece.records == 1:
            return piece
        following = view[piece.stop] if piece.stop < len(view) else None
        block = Block(bytes(view[: piece.stop]), self._grammar, following)
        ends = block.reading(False).ends
        records = max(int(np.searchsorted(ends, target_bytes, side="right")), 1)
        return Piece(0, int(ends[records - 1]), records, clean=True)

    def _walk(
        self, view: memoryview, block: Block, offset: int, *, at_end: bool, damaged: bool
    ) -> Iterator[Piece]:
        turned = False
        reading = block.reading(turned)
        ends, bad = reading.ends, reading.bad
        at, index = 0, 0  # in the block: where the next record begins, and its number
        while True:
            if damaged:
                wrong, damaged = index, False
                forced = True
            else:
                place = bisect_left(bad, index)
                wrong = bad[place] if place < len(bad) else len(ends)
                forced = place < len(bad)
            if wrong > index:
                stop = int(ends[wrong - 1])
                yield Piece(offset + at, offset + stop, wrong - index, clean=True)
                at, index = stop, wrong
            if not forced:
                return
            legal = None
            if wrong < len(ends) and reading.is_legal(at, int(ends[wrong])):
                legal = int(ends[wrong]) - at
            stop_or_none = self._damaged_stop(view, offset + at, legal, at_end=at_end)
            if stop_or_none is None:
                return
            yield Piece(offset + at, stop_or_none, 1, clean=False)
            at = stop_or_none - offset
            if at >= block.length:
                return
            if block.is_turned(at) != turned:
                turned = not turned
                reading = block.reading(turned)
                ends, bad = reading.ends, reading.bad
            index = reading.index(at)

    def _damaged_stop(
        self, view: memoryview, start: int, legal: int | None, *, at_end: bool
    ) -> int | None:
        look = max(_FIRST_LOOK, 0 if legal is None else legal)
        while True:
            window = bytes(view[start : start + look])
            whole = start + look >= len(view)
            try:
                return start + damaged_stop(
                    window, 0, self._grammar, legal, at_end=at_end and whole
                )
            except NeedsMore:
                if whole:
                    return None
                look *= 8

    def _look_through(self, start: int) -> int | None:
        """The end of the record at ``start`` by its quotes; None where they lead nowhere.

        SourceError where it is longer than the limits allow.
        """
        position, size = start, BLOCK_BYTES
        inside = False
        while True:
            if self._data_stop is not None:
                size = min(size, self._data_stop - position)
            chunk = self._stream.read_at(position, size)
            at_end = self._is_end(position + len(chunk))
            if not chunk:
                return None
            if inside and self._grammar.quote.encode() not in chunk:
                if at_end or position - start > MAX_RECORD_BYTES:
                    return None
                position += len(chunk)
                continue
            reading = Block(
                chunk, self._grammar, None if at_end else -1, begins_record=position == start
            ).reading(inside)
            end = int(reading.ends[0]) if len(reading.ends) else len(chunk)
            if not reading.is_legal(0, end):
                return None
            if len(reading.ends):
                if position + end - start > self._limits.row:
                    raise self._too_long(start)
                return position + end
            if at_end:
                return None
            inside = reading.inside_at_end
            if position + len(chunk) - start > (MAX_RECORD_BYTES if inside else self._limits.row):
                raise self._too_long(start)
            position += len(chunk)

    def _shorter(self, position: int) -> SourceChanged:
        path = self._stream.path
        return SourceChanged(
            f"{path} has become shorter while it was read: it ends at byte {position:,} instead "
            f"of {self._data_stop or 0:,}",
            path=path,
        )

    def _check_line(self, start: int) -> None:
        """SourceError where the line that begins here is too long for a row, by itself."""
        position = start
        while position - start <= self._limits.row:
            chunk = self._stream.read_at(position, BLOCK_BYTES)
            if not chunk or self._grammar.end_byte in chunk:
                return
            position += len(chunk)
        raise self._too_long(start)

    def _check_rows(self, view: memoryview, pieces: Sequence[Piece], start: int) -> None:
        """SourceError where a record of the segment that begins at ``start`` is too long."""
        for piece in pieces:
            if piece.stop - piece.start <= self._limits.row:
                continue
            if not piece.clean or piece.records == 1:
                raise self._too_long(start + piece.start)
            following = view[piece.stop] if piece.stop < len(view) else None
            block = Block(bytes(view[piece.start : piece.stop]), self._grammar, following)
            ends = np.asarray(block.reading(False).ends)
            lengths = np.diff(ends, prepend=0)
            if int(lengths.max()) > self._limits.row:
                place = int(lengths.argmax())
                raise self._too_long(start + piece.start + int(ends[place] - lengths[place]))

    def _too_long(self, start: int) -> SourceError:
        line = self._counted(*self._first, start)
        return self._limits.long_row(self._stream.path, f"line {line:,}", line=line)

    def _changed(self, end: int) -> SourceChanged:
        path = self._stream.path
        return SourceChanged(
            f"{path} is not the file any more that the job began with: no record ends at "
            f"byte {end:,}, where one did",
            path=path,
        )


def _first(gap: tuple[int, int | None]) -> int:
    return gap[0]


def count_newlines(data: bytes | memoryview) -> int:
    """How many "\\n" there are, counted without holding the interpreter's lock for long."""
    view = memoryview(data)
    return sum(
        int(np.count_nonzero(np.frombuffer(view[at : at + BLOCK_BYTES], dtype=np.uint8) == 0x0A))
        for at in range(0, len(view), BLOCK_BYTES)
    )
