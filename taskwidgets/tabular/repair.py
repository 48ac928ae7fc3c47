"""One record that is not in order: its fields, as a careful person would read them.

A record is tried in several ways, the plainest first, and the first way in which it has exactly
the table's number of fields is taken: as it is written, with the escapes of another program, with
stray quotes taken for text, with another delimiter, with another quote. Failing that, a short
record is filled up, an overlong one loses fields that are empty; all else is for a person to
decide, and becomes a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from taskwidgets.tabular.grammar import Grammar

__all__ = [
    "Fault",
    "Field",
    "Row",
    "exact_fields",
    "exact_in_any_way",
    "exact_otherwise",
    "rows_of",
    "split_any",
    "split_legal",
]

Field = tuple[str, bool]  # the text, and whether it was quoted
Row = list[Field]

_OTHER_DELIMITERS = (";", "\t", "|", ",", ":", " ")
# They stand in times and texts, too: only for three fields and more, and where the delimiter itself
# does not make half of them.
_RARE_DELIMITERS = (":", " ")
_MOST_CLOSINGS = 32  # quotes that one field is tried to end at
_MOST_STEPS = 2000  # fields looked at for one record: 2 ms


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record cannot be loaded; ``field`` is the index of the one at fault, if it is one."""

    reason: str
    field: int | None = None


def rows_of(text: str, grammar: Grammar) -> list[Row] | Fault:
    """The rows that a record holds: one, none for a blank line, or several where a carriage
    return alone has ended one.

    ``text`` is the record without its line ending.
    """
    columns = grammar.columns
    if grammar.blank_runs:
        text = _squeezed(text, grammar.quote)
    if "\0" in text:
        index = text[: text.index("\0")].count(grammar.delimiter) if grammar.delimiter else 0
        return Fault("a NUL character, which no text in Postgres can hold", min(index, columns - 1))
    stray = "\n" if grammar.newline == "\r" else "\r"
    if stray in text and not _is_enclosed(text, grammar, stray):
        parts = _outside_lines(text, grammar, stray)
        found = [exact_in_any_way(part, grammar) for part in parts if part.strip()]
        if len(found) >= 1 and all(row is not None for row in found):
            return [row for row in found if row is not None]
    if columns > 1 and not text.strip(" \t\r\n") and grammar.delimiter not in text:
        return []
    row = exact_in_any_way(text, grammar)
    if row is not None:
        return [row]
    return _fitted(text, grammar)


def exact_fields(text: str, grammar: Grammar) -> Row | None:
    """The fields, where the record has as many as the table has columns; None in doubt."""
    row = split_legal(
        text, grammar.delimiter, grammar.quote, grammar.escape, skip=grammar.skip_initial_space
    )
    if row is not None and len(row) == grammar.columns:
        return _despaced(text, row, grammar)
    quote = grammar.quote
    if not quote or quote not in text:
        return None
    if not grammar.escape and "\\" + quote in text:
        escaped = split_legal(text, grammar.delimiter, quote, "\\", skip=grammar.skip_initial_space)
        if escaped is not None and len(escaped) == grammar.columns:
            return _despaced(text, escaped, grammar)
    if row is not None:  # its quotes are in order, so they say what the fields are
        return None
    return _split_lenient(text, grammar, grammar.columns)


def split_legal(
    text: str, delimiter: str, quote: str, escape: str = "", *, skip: bool = False
) -> Row | None:
    """The fields of a record in which every quote is where one may be; None for any other.

    Blanks around a quoted field are no part of it; ``skip``: nor are those before any field.
    """
    if skip and delimiter == " ":
        text = _squeezed(text, quote)
    if not delimiter:
        pieces = [text]
    elif not quote or quote not in text:
        pieces = text.split(delimiter)
    else:
        return _split_quoted(text, delimiter, quote, escape, skip=skip)
    if quote and quote in text:
        return _split_quoted(text, delimiter, quote, escape, skip=skip)
    return [(piece.lstrip(" ") if skip else piece, False) for piece in pieces]


def _squeezed(text: str, quote: str) -> str:
    """With one blank for each run of them, outside of quotes, and none at the ends."""
    text = text.strip(" ")
    if not quote or quote not in text:
        return re.sub(" +", " ", text)
    mark = re.escape(quote)
    return re.sub(f"({mark}[^{mark}]*{mark})|  +", lambda found: found[1] or " ", text)


@lru_cache(maxsize=64)
def _patterns(delimiter: str, quote: str, escape: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A quoted field with the blanks around it; and an unquoted one."""
    mark, fence = re.escape(quote), re.escape(delimiter)
    end = f"(?={fence}|\\Z)" if delimiter else "\\Z"
    if escape:
        inner = f"[^{mark}{re.escape(escape)}]++|{re.escape(escape)}[\\s\\S]|{mark}{mark}"
    else:
        inner = f"[^{mark}]++|{mark}{mark}"
    blanks = "" if delimiter.startswith(" ") else " *"
    quoted = re.compile(f"{blanks}{mark}((?:{inner})*+){mark}{blanks}{end}")
    if len(delimiter) > 1:
        unquoted = re.compile(f"(?:(?!{fence})[^{mark}])*+{end}")
    else:
        unquoted = re.compile(f"[^{mark}{fence}]*+{end}")
    return quoted, unquoted


def _split_quoted(text: str, delimiter: str, quote: str, escape: str, *, skip: bool) -> Row | None:
    quoted, unquoted = _patterns(delimiter, quote, escape)
    row: Row = []
    at = 0
    while True:
        match = quoted.match(text, at)
        if match is not None:
            row.append((_unescaped(match.group(1), quote, escape), True))
        else:
            match = unquoted.match(text, at)
            if match is None:
                return None
            piece = match.group()
            row.append((piece.lstrip(" ") if skip else piece, False))
        at = match.end()
        if at >= len(text):
            return row
        at += len(delimiter)


def _unescaped(content: str, quote: str, escape: str) -> str:
    if escape and escape in content:
        marks = re.escape(quote) + re.escape(escape)
        return re.sub(
            f"{re.escape(escape)}([{marks}])|{re.escape(quote)}({re.escape(quote)})",
            lambda match: match.group(1) or match.group(2),
            content,
        )
    return content.replace(quote + quote, quote) if quote in content else content


def _split_lenient(text: str, grammar: Grammar, columns: int) -> Row | None:
    """Exactly ``columns`` fields, with as much of the quotes taken for text as that needs.

    A field may end at several of its quotes; tried from the left, each until the rest fits.
    """
    delimiter, quote = grammar.delimiter, grammar.quote
    pieces = text.split(delimiter) if delimiter else [text]
    if text.count(quote) == 1 or not any(piece.lstrip(" ").startswith(quote) for piece in pieces):
        # No quote can open and close a field: each piece between delimiters is one.
        if len(pieces) != columns:
            return None
        skip = grammar.skip_initial_space
        return [(piece.lstrip(" ") if skip else piece, False) for piece in pieces]
    row: Row = []
    waiting = [_endings(text, 0, grammar)]
    failed: set[tuple[int, int]] = set()  # place, and number of fields before it
    begun = [0]
    for _ in range(_MOST_STEPS):
        if not waiting:
            return None
        step = next(waiting[-1], None)
        if step is None:
            failed.add((begun.pop(), len(waiting)))
            waiting.pop()
            if row:
                row.pop()
            continue
        field, at = step
        if at is None:
            if len(row) + 1 == columns:
                return [*row, field]
            continue
        if len(row) + 1 >= columns or (at, len(waiting) + 1) in failed:
            continue
        row.append(field)
        waiting.append(_endings(text, at, grammar))
        begun.append(at)
    return None


def _endings(text: str, start: int, grammar: Grammar) -> Iterator[tuple[Field, int | None]]:
    """The ways to read the field that begins at ``start``, each with where the next one begins."""
    delimiter, quote, escape = grammar.delimiter, grammar.quote, grammar.escape
    width = len(delimiter)
    opening = start
    while opening < len(text) and text[opening] == " " and not delimiter.startswith(" "):
        opening += 1
    if text.startswith(quote, opening):
        doubled: list[int] = []
        at = opening + 1
        for _ in range(_MOST_CLOSINGS):
            place = text.find(quote, at)
            if place < 0:
                break
            if escape and escape != quote and text[place - 1] == escape and place > opening + 1:
                at = place + 1
            elif text.startswith(quote, place + 1):
                doubled.append(place + 1)
                at = place + 2
            else:
                at = place + 1
                after = _behind(text, at, delimiter)
                if after is not None:
                    content = _unescaped(text[opening + 1 : place], quote, escape)
                    yield (content, True), (after + width if after < len(text) else None)
        for place in doubled:
            after = _behind(text, place + 1, delimiter)
            if after is not None:
                content = _unescaped(text[opening + 1 : place], quote, escape)
                yield (content, True), (after + width if after < len(text) else None)
    stop = text.find(delimiter, start) if delimiter else -1
    raw = text[start:] if stop < 0 else text[start:stop]
    quotes = raw.count(quote)
    if raw.lstrip(" ").startswith(quote) and quotes % 2 == 0:
        field = (raw.lstrip(" ").replace(quote, ""), True)  # "abc"def, as COPY reads it
    else:
        field = (raw.lstrip(" ") if grammar.skip_initial_space else raw, False)
    yield field, None if stop < 0 else stop + width


def _behind(text: str, at: int, delimiter: str) -> int | None:
    """Where the delimiter or the end is, when only blanks stand before it."""
    if delimiter.startswith(" "):
        return at if at == len(text) or text.startswith(delimiter, at) else None
    while at < len(text) and text[at] == " ":
        at += 1
    return at if at == len(text) or (delimiter and text.startswith(delimiter, at)) else None


def _despaced(text: str, row: Row, grammar: Grammar) -> Row:
    """The row without the blank behind each delimiter, where every one of them has one."""
    delimiter = grammar.delimiter
    if grammar.skip_initial_space or len(row) < 3 or not delimiter or delimiter + " " not in text:
        return row
    later = row[1:]
    if all(quoted or value.startswith(" ") for value, quoted in later) and (
        grammar.spaced_rows
        or re.search(re.escape(delimiter) + " +" + re.escape(grammar.quote), text)
    ):
        return [(row[0][0].strip(" ") if not row[0][1] else row[0][0], row[0][1])] + [
            (value if quoted else value.strip(" "), quoted) for value, quoted in later
        ]
    return row


def exact_in_any_way(text: str, grammar: Grammar) -> Row | None:
    """As `exact_fields`, then with other delimiters and another quote."""
    row = exact_fields(text, grammar)
    return row if row is not None else exact_otherwise(text, grammar)


def exact_otherwise(text: str, grammar: Grammar) -> Row | None:
    """The fields, where another delimiter or another quote makes the right number of them."""
    if grammar.columns < 2:
        return None
    quote = grammar.quote or '"'
    for delimiter in _OTHER_DELIMITERS:
        if delimiter in (grammar.delimiter, quote) or delimiter not in text:
            continue
        if delimiter in _RARE_DELIMITERS and (
            grammar.columns < 3 or 2 * len(text.split(grammar.delimiter or None)) > grammar.columns
        ):
            continue
        row = split_legal(text, delimiter, quote, grammar.escape, skip=delimiter != " ")
        if row is not None and len(row) == grammar.columns:
            return row
    for other in ("'", '"'):
        if other != grammar.quote and other in text:
            row = split_legal(text, grammar.delimiter, other, skip=grammar.skip_initial_space)
            if row is not None and len(row) == grammar.columns and any(field[1] for field in row):
                return row
    return None


def _fitted(text: str, grammar: Grammar) -> list[Row] | Fault:
    """A short row filled, an overlong one cut where nothing is lost; or why not."""
    columns = grammar.columns
    row = split_legal(
        text, grammar.delimiter, grammar.quote, grammar.escape, skip=grammar.skip_initial_space
    )
    if row is None:
        if text.count(grammar.quote) % 2:
            return Fault("a quote that is not closed, and not the right number of fields")
        row = split_any(text, grammar)
    if len(row) < columns:
        return [row + [(grammar.null_values[0], False)] * (columns - len(row))]
    surplus = row[columns:]
    if all(not value.strip(" ") and not quoted for value, quoted in surplus):
        return [row[:columns]]
    return Fault(f"{len(row):,} fields instead of {columns:,}", None)


def split_any(text: str, grammar: Grammar) -> Row:
    """The fields of any record, however many; stray quotes are text where they must be."""
    row: Row = []
    if not grammar.quote:
        return split_legal(text, grammar.delimiter, "") or []
    at: int | None = 0
    while at is not None:
        field, at = next(_endings(text, at, grammar))
        row.append(field)
    return row


def _is_enclosed(text: str, grammar: Grammar, stray: str) -> bool:
    """Whether the record is in order, and each ``stray`` in it within quotes."""
    row = split_legal(
        text, grammar.delimiter, grammar.quote, grammar.escape, skip=grammar.skip_initial_space
    )
    return (
        row is not None
        and len(row) == grammar.columns
        and all(quoted or stray not in value for value, quoted in row)
    )


def _outside_lines(text: str, grammar: Grammar, stray: str) -> list[str]:
    """The parts of a record between stray line endings that no quote encloses."""
    parts = text.split(stray)
    quote = grammar.quote
    if not quote or quote not in text:
        return parts
    joined: list[str] = []
    for part in parts:
        if joined and joined[-1].count(quote) % 2:
            joined[-1] += stray + part
        else:
            joined.append(part)
    return joined
