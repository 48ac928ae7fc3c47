"""Values written otherwise than Postgres reads them: decimal commas, dates, words for true.

Only for columns that are to be numbers, dates or booleans; a text column is loaded as it is
written. A value that is not of the form is left for Postgres to judge, except where Postgres would
read it, but as something else: 1.234 among numbers with a decimal comma, 02/03/2024 among days
that come first. These raise ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from taskwidgets.tabular.description import Description

__all__ = ["conversions"]

_NUMERIC = ("smallint", "integer", "bigint", "numeric", "decimal", "real", "double", "float")


def conversions(
    description: Description, types: Mapping[str, str]
) -> dict[int, Callable[[str], str]]:
    """What to do with the values of each column that needs it, by the column's index.

    ``types`` are the table's Postgres types in the columns' order.
    """
    dates, booleans = description.date_formats or {}, description.booleans or {}
    numbers = description.decimal != "." or description.thousands
    found: dict[int, Callable[[str], str]] = {}
    for index, (column, kind) in enumerate(types.items()):
        kind = kind.lower()
        if kind.startswith(_NUMERIC) and numbers:
            found[index] = _number(description.decimal, description.thousands)
        elif kind.startswith(("date", "time")) and column in dates:
            found[index] = _moment(dates[column], whole_days=kind == "date")
        elif kind.startswith("bool") and column in booleans:
            found[index] = _boolean(*booleans[column])
    return found


def _number(decimal: str, thousands: str) -> Callable[[str], str]:
    grouped = f"[0-9]{{1,3}}(?:{re.escape(thousands)}[0-9]{{3}})+|" if thousands else ""
    shape = re.compile(
        rf"\s*([+-]?(?:{grouped}[0-9]*)(?:{re.escape(decimal)}[0-9]*)?(?:[eE][+-]?[0-9]+)?)\s*"
    )

    def convert(value: str) -> str:
        match = shape.fullmatch(value)
        if match is None or not any(letter.isdigit() for letter in value):
            if decimal != "." and "." in value:
                raise ValueError(f"{value!r} is no number with {decimal!r} as its decimal mark")
            return value
        plain = match.group(1)
        if thousands:
            plain = plain.replace(thousands, "")
        return plain.replace(decimal, ".")

    return convert


def _moment(form: str, *, whole_days: bool) -> Callable[[str], str]:
    def convert(value: str) -> str:
        try:
            moment = datetime.strptime(value.strip(), form)
        except ValueError:
            try:
                datetime.fromisoformat(value.strip())
            except ValueError:
                raise ValueError(f"{value!r} is not written as {form}") from None
            return value
        return moment.date().isoformat() if whole_days else moment.isoformat(sep=" ")

    return convert


def _boolean(true: str, false: str) -> Callable[[str], str]:
    words = {true: "true", false: "false"}

    def convert(value: str) -> str:
        return words.get(value.strip(), value)

    return convert
