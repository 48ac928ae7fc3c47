"""A value that cannot be written, told by its column and row; what is told of a whole column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from taskwidgets.errors import SourceError
from taskwidgets.tabular.decoding import in_one_line

__all__ = ["misfit_note", "nonfinite_note", "unreadable_column", "write_column"]

LONGEST_VALUE = 80  # characters of a value in a message

# What Python, numpy, pandas and Arrow raise for a value; UnicodeDecodeError is a ValueError.
_OF_VALUES = (ValueError, TypeError, ArithmeticError, NotImplementedError, KeyError, IndexError)


def write_column(
    write: Callable[[Any], list[str]],
    part: Callable[[int, int], Any],
    rows: int,
    where: tuple[str, str, int, Path | None],
) -> list[str]:
    """The texts of a chunk's column, of which ``part(start, end)`` gives some rows.

    Raises SourceError with column and row for the first value that cannot be written. ``where`` is
    the source's name, the column's, the number of rows before the chunk, and the source's path.
    """
    try:
        return write(part(0, rows))
    except _OF_VALUES as error:
        found: Exception = error
    low, high = 0, rows  # the first bad row is in between
    while high - low > 1:
        middle = (low + high) // 2
        try:
            write(part(low, middle))
            low = middle
        except _OF_VALUES as error:
            high, found = middle, error
    source, column, before, path = where
    reason = in_one_line(found)
    raise SourceError(
        f'{source}, row {before + low + 1:,}, column "{column}": the value cannot be loaded: '
        f"{reason}. Change it, or leave the column out",
        path=path,
        column=column,
    ) from None


def unreadable_column(source: str, column: str, reason: object, path: Path | None) -> SourceError:
    """What is to be raised for a column that no Postgres type fits."""
    return SourceError(f'{source}, column "{column}": {reason}', path=path, column=column)


def misfit_note(column: str, row: int, value: str, kind: str) -> str:
    """That a column is text, as a value in it is not one of its own type's, exactly."""
    value = value.strip('"')
    if len(value) > LONGEST_VALUE:
        value = value[:LONGEST_VALUE] + "…"
    return (
        f'column "{column}" is text: row {row:,} is {value}, which {kind} cannot hold exactly; '
        f'with types={{"{column}": "{kind}"}}, Postgres rounds it or refuses it'
    )


def nonfinite_note(columns: Sequence[str]) -> list[str]:
    """That NaN and infinity are texts in these columns; empty for no column."""
    if not columns:
        return []
    names = ", ".join(f'"{name}"' for name in columns)
    which = f"column {names}" if len(columns) == 1 else f"columns {names}"
    return [
        f'NaN and infinity inside the nested values of {which} are the texts "NaN", "Infinity" '
        'and "-Infinity", as JSON has no such numbers'
    ]
