"""One record split into its fields, knowing for each whether it was quoted.

Python's csv module does not tell ``""`` (an empty string) from nothing (NULL), as COPY does; and
it reads a quote in the middle of a field as a letter, where COPY toggles. This follows COPY
(CopyReadAttributesCSV in src/backend/commands/copyfromparse.c), but never refuses a record: it
serves sampling and error messages, where a broken record must still be shown.
"""

from __future__ import annotations

from taskwidgets.tabular.dialect import Dialect

__all__ = ["split_fields", "split_text", "without_ending"]


def split_fields(record: bytes, dialect: Dialect) -> list[tuple[str, bool]]:
    """(text, was it quoted) for each field of a record, with or without its line ending.

    Bytes that are wrong in the encoding become U+FFFD. An empty record has one empty field.
    """
    text = without_ending(record).decode(dialect.codec, errors="replace")
    return split_text(text, dialect.delimiter, dialect.quotechar)


def split_text(record: str, delimiter: str, quotechar: str) -> list[tuple[str, bool]]:
    """As `split_fields`, for a record that is decoded and has no line ending."""
    pieces = record.split(delimiter)
    if quotechar not in record:
        return [(piece, False) for piece in pieces]
    found: list[tuple[str, bool]] = []
    begun: list[str] = []  # pieces of a field whose quote is still open
    for piece in pieces:
        quotes = piece.count(quotechar)
        if begun:
            begun.append(piece)
            if quotes & 1:
                found.append((_unquote(delimiter.join(begun), quotechar), True))
                begun = []
        elif quotes & 1:
            begun.append(piece)
        else:
            found.append((_unquote(piece, quotechar), True) if quotes else (piece, False))
    if begun:  # the quote is never closed: everything to the end is one field
        found.append((_unquote(delimiter.join(begun), quotechar), True))
    return found


def without_ending(record: bytes) -> bytes:
    """The record without the "\\n" or "\\r\\n" at its end."""
    return record.removesuffix(b"\n").removesuffix(b"\r")


def _unquote(raw: str, quotechar: str) -> str:
    # Split at quotes, parts alternate: outside, inside, outside ... An empty part outside, between
    # two inside, is a doubled quote, which stands for one.
    parts = raw.split(quotechar)
    if len(parts) == 3:  # the usual field: "text"
        return "".join(parts)
    for index in range(2, len(parts) - 1, 2):
        if not parts[index]:
            parts[index] = quotechar
    return "".join(parts)
