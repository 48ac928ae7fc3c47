"""Where a damaged record ends, so that it costs no other row.

The answer depends on nothing but the bytes from the record's beginning on, however they came to
be in memory: whoever begins to read at a record's beginning finds the same records.
"""

from __future__ import annotations

from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.repair import exact_in_any_way, exact_otherwise, split_legal

__all__ = ["LOOKAHEAD_BYTES", "NeedsMore", "damaged_stop"]

LOOKAHEAD_BYTES = 1 << 16  # behind the first line; a line that is longer decides nothing
_LOOKAHEAD_LINES = 16


class NeedsMore(Exception):
    """The bytes at hand do not show where the record ends."""


def damaged_stop(
    data: bytes, start: int, grammar: Grammar, legal_stop: int | None, *, at_end: bool
) -> int:
    """The end of the damaged record at ``start``.

    ``legal_stop`` is its end by its quotes, where each of them is at its place; else None.
    ``at_end``: the file ends with ``data``. Raises NeedsMore where it takes more bytes.
    """
    first = _line_stop(data, start, grammar, at_end=at_end)
    if legal_stop is not None:
        if legal_stop <= first:
            if "'" in grammar.quote or grammar.columns == 1 or b"'" not in data[start:first]:
                return first
            return _by_lines(data, start, first, grammar, at_end=at_end)  # quoted otherwise
        fields = _legal(_text(data, start, legal_stop, grammar), grammar)
        if fields == grammar.columns:
            return legal_stop
        well = _well_behind(data, first, grammar, at_end=at_end)
        return first if well and grammar.columns > 1 else legal_stop
    return _by_lines(data, start, first, grammar, at_end=at_end)


def _by_lines(data: bytes, start: int, first: int, grammar: Grammar, *, at_end: bool) -> int:
    """The end by what the lines hold: as few as make a whole record, one if none do.

    Where the first line is in order by its quotes, only another quote or delimiter can open what
    the next one closes. A line that looks like a row is never taken in, nor is a line break
    outside quotes.
    """
    if grammar.columns > 1 and _well_behind(data, first, grammar, at_end=at_end):
        return first
    line = _text(data, start, first, grammar)
    if exact_in_any_way(line, grammar) is not None:
        return first
    fields_in = exact_in_any_way if _legal(line, grammar) is None else exact_otherwise
    stop = first
    for _ in range(_LOOKAHEAD_LINES - 1):
        if stop >= len(data) and at_end:
            break
        found = _next_line(data, first, stop, grammar, at_end=at_end)
        if found is None:
            break
        width = _legal(_text(data, stop, found, grammar), grammar)
        if width is not None and width > max(grammar.columns // 2, 1):
            break
        stop = found
        row = fields_in(_text(data, start, stop, grammar), grammar)
        if row is not None and all(
            quoted or ("\n" not in value and "\r" not in value) for value, quoted in row
        ):
            return stop
    return first


def _well_behind(data: bytes, first: int, grammar: Grammar, *, at_end: bool) -> bool:
    """Whether what follows the first line is a record in order, blank lines left out."""
    begun = stop = first
    for _ in range(_LOOKAHEAD_LINES):
        if begun >= len(data) and at_end:
            return True
        found = _next_line(data, first, stop, grammar, at_end=at_end)
        if found is None:
            return False
        stop = found
        text = _text(data, begun, stop, grammar)
        if not text.strip():
            begun = stop
            continue
        fields = _legal(text, grammar)
        if fields is not None:
            return fields == grammar.columns
    return False


def _next_line(data: bytes, first: int, stop: int, grammar: Grammar, *, at_end: bool) -> int | None:
    """The end of the line at ``stop``; None where it is too far from ``first``."""
    furthest = first + LOOKAHEAD_BYTES
    found = data.find(grammar.end_byte, stop, furthest)
    if found >= 0:
        return found + 1
    if len(data) >= furthest:
        return None
    if at_end:
        return len(data) if stop < len(data) else None
    raise NeedsMore


def _line_stop(data: bytes, start: int, grammar: Grammar, *, at_end: bool) -> int:
    found = data.find(grammar.end_byte, start)
    if found >= 0:
        return found + 1
    if at_end:
        return len(data)
    raise NeedsMore


def _text(data: bytes, start: int, stop: int, grammar: Grammar) -> str:
    text = bytes(data[start:stop]).decode(grammar.codec, errors="replace")
    if grammar.newline == "\r":
        return text.removesuffix("\r")
    return text.removesuffix("\n").removesuffix("\r")


def _legal(text: str, grammar: Grammar) -> int | None:
    row = split_legal(
        text, grammar.delimiter, grammar.quote, grammar.escape, skip=grammar.skip_initial_space
    )
    return None if row is None else len(row)
