r"""Text cut into records and fields, leniently, in any dialect that is tried.

Here every dialect is to be tried on text that may be damaged, so nothing is ever refused, and a
quote that is not closed costs its own line only:

- a quoted field ends at a quote that a delimiter or a line's end follows;
- one that never ends so ends at the line's first such quote, doubled or not (the writer forgot to
  double it), and without one the quote is a letter;
- a quoted field over several lines is taken for one only where the record then has the width that
  the table has, if that is known.

Lines end in "\n" here; the caller has replaced other line endings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Record", "split_records"]

_MOST_LINES = 200  # in one field; a longer one is far more often a quote that was not closed


@dataclass(slots=True)
class Record:
    """One record: its fields, which of them were quoted, and the lines it stands on.

    ``line`` is the index of its first line, counted from 0, and ``lines`` how many it has.
    ``flaws`` counts quotes that stand where none should.
    """

    fields: list[str]
    quoted: list[bool]
    line: int
    lines: int
    flaws: int

    @property
    def blank(self) -> bool:
        """Whether its line is empty, or nothing but blanks."""
        return len(self.fields) == 1 and not self.quoted[0] and not self.fields[0].strip()

    @property
    def filled(self) -> int:
        """How many fields hold something."""
        return sum(1 for field in self.fields if field.strip())


@dataclass(frozen=True, slots=True)
class _Patterns:
    whole: re.Pattern[str]  # a quoted field as it should be
    forgiving: re.Pattern[str]  # one on its line, with quotes inside that were not doubled


def split_records(
    text: str,
    delimiter: str,
    quotechar: str,
    escapechar: str = "",
    *,
    skip_space: bool = False,
    width: int | None = None,
    most: int | None = None,
) -> list[Record]:
    """All records of a text, or the first ``most`` of them.

    ``delimiter`` "" gives records of one field; ``quotechar`` "" means that nothing is quoted.
    ``skip_space``: blanks before a field are no part of it.
    """
    if escapechar == quotechar:
        escapechar = ""  # quotes are doubled: as an escape, each would swallow the one that closes
    found: list[Record] = []
    position = line = 0
    end = len(text)
    patterns = _patterns(delimiter, quotechar, escapechar)
    while position < end and (most is None or len(found) < most):
        stop = text.find("\n", position)
        stop = end if stop < 0 else stop
        if not quotechar or text.find(quotechar, position, stop) < 0:
            fields = _split_plain(text[position:stop], delimiter, skip_space)
            record = Record(fields, [False] * len(fields), line, 1, 0)
        else:
            record, stop = _split_quoted(
                text, position, stop, delimiter, quotechar, escapechar, skip_space, patterns
            )
            record.line = line
            if record.lines > 1 and width is not None and len(record.fields) != width:
                single_stop = text.find("\n", position)
                single, _ = _split_quoted(
                    text[position:single_stop],
                    0,
                    single_stop - position,
                    delimiter,
                    quotechar,
                    escapechar,
                    skip_space,
                    patterns,
                )
                if abs(len(single.fields) - width) <= abs(len(record.fields) - width):
                    single.line = line
                    record, stop = single, single_stop
        found.append(record)
        line += record.lines
        position = stop + 1
    return found


def _split_plain(line: str, delimiter: str, skip_space: bool) -> list[str]:
    if not delimiter:
        return [line]
    if delimiter == " " and skip_space:  # a run of blanks is one delimiter
        return re.split(" +", line.strip(" "))
    fields = line.split(delimiter)
    return [field.lstrip(" ") for field in fields] if skip_space else fields


def _split_quoted(
    text: str,
    position: int,
    stop: int,
    delimiter: str,
    quotechar: str,
    escapechar: str,
    skip_space: bool,
    patterns: _Patterns,
) -> tuple[Record, int]:
    """The record at ``position``, whose line ends at ``stop``; and where it ends."""
    fields: list[str] = []
    quoted: list[bool] = []
    flaws, lines = 0, 1
    closes = True  # a quote that a delimiter follows may still come on this line
    while True:
        start = position
        while start < stop and text[start] == " " and delimiter != " ":
            start += 1
        if skip_space and delimiter == " ":
            while start < stop and text[start] == " ":
                start += 1
        if text.startswith(quotechar, start):
            match = patterns.whole.match(text, start)
            if match is not None and match[1].count("\n") > _MOST_LINES:
                match = None
            if match is None:
                match = patterns.forgiving.match(text, start, stop) if closes else None
                closes = match is not None
                flaws += 1
                value = match[1] if match else ""
            else:
                value = _unquote(match[1], quotechar, escapechar)
            if match is not None:
                fields.append(value)
                quoted.append(True)
                position = match.end()
                if position > stop:
                    lines += match[0].count("\n")
                    stop = text.find("\n", position)
                    stop = len(text) if stop < 0 else stop
                    closes = True
                if position >= stop:
                    break
                position += len(delimiter)
                continue
        if skip_space:
            position = start
        cut = -1
        if delimiter:
            cut = text.find(delimiter, position, stop)
        value = text[position : stop if cut < 0 else cut]
        flaws += quotechar in value
        fields.append(value)
        quoted.append(False)
        if cut < 0:
            break
        position = cut + len(delimiter)
    return Record(fields, quoted, 0, lines, flaws), stop


def _unquote(inner: str, quotechar: str, escapechar: str) -> str:
    if escapechar:
        escape, quote = re.escape(escapechar), re.escape(quotechar)
        return re.sub(f"{escape}([{escape}{quote}])|{quote}({quote})", r"\1\2", inner)
    return inner.replace(quotechar * 2, quotechar)


@lru_cache(maxsize=256)
def _patterns(delimiter: str, quotechar: str, escapechar: str) -> _Patterns:
    if not quotechar:
        nothing = re.compile(r"(?!)")
        return _Patterns(nothing, nothing)
    quote, escape = re.escape(quotechar), re.escape(escapechar)
    blanks = "" if delimiter == " " else " *"
    border = rf"(?={re.escape(delimiter)}|\n|\Z)" if delimiter else r"(?=\n|\Z)"
    if escapechar:
        inner = rf"(?:[^{quote}{escape}]|{escape}.|{quote}{quote})*+"
    else:
        inner = rf"(?:[^{quote}]|{quote}{quote})*+"
    return _Patterns(
        re.compile(rf"{quote}({inner}){quote}{blanks}{border}", re.DOTALL),
        re.compile(rf"{quote}([^\n]*?){quote}{blanks}{border}"),
    )
