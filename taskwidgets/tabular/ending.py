"""Where the data of a source end, when lines stand behind them that are no part of the table."""

from __future__ import annotations

from taskwidgets.tabular.boundaries import BLOCK_BYTES
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.stream import Stream

__all__ = ["find_data_stop"]


def find_data_stop(
    stream: Stream, description: Description, last_line: int | None = None
) -> int | None:
    """The position behind the last record; None where it is the end, and that is not known yet.

    ``description.footer_rows`` physical lines at the end are left out, and what stands behind
    ``last_line`` (counted from 1), where another table begins. A packed source is read through
    once for that.
    """
    mark = b"\r" if description.line_terminator == "\r" else b"\n"
    stops = []
    if description.footer_rows:
        stops.append(_before_last(stream, mark, description.footer_rows))
    if last_line is not None:
        stops.append(_behind(stream, mark, last_line))
    return min(stops, default=stream.size)


def _before_last(stream: Stream, mark: bytes, lines: int) -> int:
    """Where the last so many lines begin; a last one without a line ending is one, too."""
    size = stream.size
    if size is None:
        size = 0
        while block := stream.read_at(size, BLOCK_BYTES):
            size += len(block)
    position, tail = size, b""
    while position > 0:
        step = min(BLOCK_BYTES, position)
        position -= step
        tail = stream.read_at(position, step) + tail
        found = len(tail) - 1 if tail.endswith(mark) else len(tail)
        left = lines
        while left and found >= 0:
            found = tail.rfind(mark, 0, found)
            left -= 1
        if found >= 0:
            return position + found + 1
    return 0


def _behind(stream: Stream, mark: bytes, lines: int) -> int:
    """Where the first so many lines end."""
    position, left = 0, lines
    while left > 0 and (block := stream.read_at(position, BLOCK_BYTES)):
        here = block.count(mark)
        if here < left:
            position, left = position + len(block), left - here
            continue
        at = -1
        for _ in range(left):
            at = block.find(mark, at + 1)
        return position + at + 1
    return position
