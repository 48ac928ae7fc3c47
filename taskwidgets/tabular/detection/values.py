"""How values are written: NULL markers, decimal commas, thousands, dates, booleans.

A column is only converted where every value of the sample can be, and only in one way. Days that
could be read in two ways (03/04/2024) are settled by a day beyond 12 somewhere in the column, or
stay text: a swapped day and month is a wrong value that nobody sees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

__all__ = ["Values", "convert", "find_values"]

# Texts that stand for nothing wherever they stand. "none" and "-" may be words, so they count
# only in columns whose other cells are numbers, days or truth values.
NULL_MARKERS = (
    *("NA", "N/A", "n/a", "NULL", "null", "\\N", "#N/A", "<NA>"),
    *("NaN", "nan", "None", "-", ".", "?"),
)  # fmt: skip

_GROUPED = {
    ",": re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?"),
    ".": re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]{3})+(?:,[0-9]+)?"),
    " ": re.compile(r"[+-]?[0-9]{1,3}(?: [0-9]{3})+(?:[.,][0-9]+)?"),
    "\u00a0": re.compile("[+-]?[0-9]{1,3}(?:\u00a0[0-9]{3})+(?:[.,][0-9]+)?"),
    "\u202f": re.compile("[+-]?[0-9]{1,3}(?:\u202f[0-9]{3})+(?:[.,][0-9]+)?"),
    "'": re.compile(r"[+-]?[0-9]{1,3}(?:'[0-9]{3})+(?:\.[0-9]+)?"),
}
_PLAIN_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_POINT = re.compile(r"-?(?:0|[1-9][0-9]*)?\.[0-9]+")
_COMMA = re.compile(r"-?(?:0|[1-9][0-9]*)?,[0-9]+")

# Formats that Postgres does not read as they stand, or reads by its setting DateStyle. The first
# that reads all values of a column is taken, if no other of its group does so too. None has a
# year of two digits: only who wrote 25/11/63 knows the century.
_DATE_GROUPS = (
    ("%d.%m.%Y",),
    ("%d/%m/%Y", "%m/%d/%Y"),
    ("%d-%m-%Y", "%m-%d-%Y"),
    ("%Y/%m/%d",),
    ("%Y.%m.%d",),
    ("%d %b %Y",), ("%d-%b-%Y",), ("%d %B %Y",), ("%b %d, %Y",), ("%B %d, %Y",),
)  # fmt: skip
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_DATE_LIKE = re.compile(r"[0-9A-Za-z][0-9A-Za-z./, :-]{5,30}")
_BOOLEANS = (  # words; letters alone are codes, of which two may do for long
    ("yes", "no"), ("ja", "nein"), ("oui", "non"), ("si", "no"),
    ("sí", "no"), ("wahr", "falsch"), ("vrai", "faux"), ("on", "off"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Values:
    """How a table's values are written; as in `Description`."""

    null_values: tuple[str, ...] = ("",)
    decimal: str = "."
    thousands: str = ""
    date_formats: Mapping[str, str] | None = None
    booleans: Mapping[str, tuple[str, str]] | None = None

    @property
    def as_written(self) -> bool:
        """Whether there is nothing to convert."""
        return not (self.date_formats or self.booleans or self.thousands) and self.decimal == "."


def find_values(
    columns: Sequence[str],
    rows: Sequence[Sequence[tuple[str, bool]]],
    *,
    null_values: Sequence[str] | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
) -> Values:
    """How the sample's values are written; what is given is kept.

    ``rows`` have (text, was it quoted) for each column.
    """
    cells = [{row[place] for row in rows if place < len(row)} for place in range(len(columns))]
    nulls = tuple(null_values) if null_values is not None else _null_markers(cells)
    values = [
        {text.strip() for text, quoted in column if quoted or text not in nulls} - {""}
        for column in cells
    ]
    point, groups = _number_signs(values, decimal, thousands)
    dates = {
        column: found
        for column, column_values in zip(columns, values, strict=True)
        if (found := _date_format(column_values))
    }
    truths = {
        column: pair
        for column, column_values in zip(columns, values, strict=True)
        if (pair := _boolean(column_values))
    }
    return Values(nulls, point, groups, dates or None, truths or None)


def convert(text: str, column: str, values: Values) -> str:
    """A text as Postgres and `infer_types` want it, by the rules of ``values``; else unchanged."""
    format_ = (values.date_formats or {}).get(column)
    if format_:
        try:
            moment = datetime.strptime(text.strip(), format_)
        except ValueError:
            return text
        whole = "%H" in format_ or "%I" in format_
        return moment.isoformat(sep=" ") if whole else moment.date().isoformat()
    words = (values.booleans or {}).get(column)
    if words and text.strip().lower() in words:
        return "true" if text.strip().lower() == words[0] else "false"
    return _plain_number(text, values.decimal, values.thousands)


def _plain_number(text: str, decimal: str, thousands: str) -> str:
    if decimal == "." and not thousands:
        return text
    stripped = text.strip()
    if thousands and thousands in stripped and _GROUPED[thousands].fullmatch(stripped):
        stripped = stripped.replace(thousands, "")
        return stripped.replace(decimal, ".") if decimal != "." else stripped
    if decimal != "." and _COMMA.fullmatch(stripped):
        return stripped.replace(decimal, ".")
    return text


def _null_markers(cells: Sequence[set[tuple[str, bool]]]) -> tuple[str, ...]:
    found = [""]
    for marker in NULL_MARKERS:
        for column in cells:
            if (marker, False) not in column:
                continue
            others = [
                text.strip() for text, _ in column if text.strip() and text not in NULL_MARKERS
            ]
            typed = sum(_is_value(text) for text in others)
            sure = marker in ("NULL", "\\N", "#N/A", "<NA>")
            if (sure and others) or (others and typed == len(others)):
                found.append(marker)
                break
    return tuple(found)


def _is_value(text: str) -> bool:
    return bool(
        _PLAIN_INTEGER.fullmatch(text)
        or _POINT.fullmatch(text)
        or _COMMA.fullmatch(text)
        or re.fullmatch(r"[-+0-9.,:/eE ]*[0-9][-+0-9.,:/eETZ ]*|(?i:true|false)", text)
    )


def _number_signs(
    values: Sequence[set[str]], decimal: str | None, thousands: str | None
) -> tuple[str, str]:
    """The decimal sign and the one between thousands, of all columns together."""
    point = comma = 0
    groups = dict.fromkeys(_GROUPED, 0)
    for column in values:
        if not column:
            continue
        plain = [v for v in column if not _PLAIN_INTEGER.fullmatch(v)]
        if not plain:
            continue
        if all(_POINT.fullmatch(v) for v in plain):
            point += 1
        elif all(_COMMA.fullmatch(v) for v in plain):
            # "1,234" alone could be one thousand; a column of such is left as it is
            comma += any(len(v.split(",")[1]) != 3 or v.startswith(("0,", "-0,")) for v in plain)
        for sign, pattern in _GROUPED.items():
            grouped = [v for v in plain if sign in v and pattern.fullmatch(v)]
            if not grouped:
                continue
            rest = [v for v in plain if v not in grouped]
            other = _POINT if sign != "." else _COMMA
            if all(other.fullmatch(v) or _COMMA.fullmatch(v) for v in rest):
                # decisive only with a second group or a decimal sign: "1.234" is a number too
                decisive = sign not in ",." or any(
                    v.count(sign) > 1 or ("," if sign == "." else ".") in v for v in grouped
                )
                groups[sign] += decisive
                if decisive and any("," in v for v in grouped if sign != ","):
                    comma += 1
                elif decisive and any("." in v for v in grouped if sign != "."):
                    point += 1
    sign = decimal if decimal is not None else ("," if comma and not point else ".")
    if thousands is None:
        best = max(groups, key=lambda one: groups[one])
        thousands = best if groups[best] and best != sign else ""
    return sign, thousands


def _date_format(values: set[str]) -> str | None:
    """The one format that reads all values, where it is not ISO already; None without one."""
    if not values or not all(_DATE_LIKE.fullmatch(value) for value in values):
        return None
    if all(value.isdigit() for value in values):
        return None
    for group in _DATE_GROUPS:
        for clock in _CLOCKS:
            fitting = [format_ + clock for format_ in group if _reads(values, format_ + clock)]
            if len(fitting) == 1:
                return fitting[0]
            if len(fitting) > 1:
                return None
    return None


def _reads(values: set[str], format_: str) -> bool:
    for value in values:
        try:
            datetime.strptime(value, format_)
        except ValueError:
            return False
    return True


def _boolean(values: set[str]) -> tuple[str, str] | None:
    lowered = {value.lower() for value in values}
    if len(lowered) != 2:
        return None
    return next((pair for pair in _BOOLEANS if lowered == set(pair)), None)
