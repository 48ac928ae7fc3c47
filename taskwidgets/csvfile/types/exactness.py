"""Values that a column's type accepts and changes.

Postgres rounds ``1.999`` for ``numeric(10,2)``, cuts the time of a moment for ``date``, and ignores
the zone for ``timestamp`` without a word
(https://www.postgresql.org/docs/current/datatype-datetime.html, datatype-numeric.html). Floating
point types are not checked: they hold the nearest value, as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from taskwidgets.tabular.boundaries import records
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.fields import split_fields

__all__ = ["Change", "ChangeFinder", "changes_value"]

_TYPE = re.compile(
    r'(?P<name>"char"|[a-z ]*[a-z])\s*'
    r"(?:\(\s*(?P<first>-?\d+)\s*(?:,\s*(?P<second>-?\d+)\s*)?\))?"
    r"\s*(?P<zone>with(?:out)? time zone)?"
)
_SYNONYMS = {
    "decimal": "numeric", "int": "integer", "int2": "integer", "int4": "integer",
    "int8": "integer", "smallint": "integer", "bigint": "integer",
    "timestamp without time zone": "timestamp", "time without time zone": "time",
    "timestamp with time zone": "timestamptz", "time with time zone": "timetz",
}  # fmt: skip
_CLOCK = r"(?P<clock>[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]*)?)?)"
_COMPACT = r"(?P<compact>[0-9]{4}(?:[0-9]{2}(?:[.,][0-9]*)?)?)"
# Behind a time of day: an offset, or a name such as UTC or Europe/Berlin; AM, PM and BC are none,
# and a year may come first (the form of ctime()).
_MOMENT = re.compile(
    rf"(?:(?:^|[T ]){_CLOCK}|(?<=[0-9])T{_COMPACT})(?:\s*[AaPp][Mm]\b)?(?:\s+[0-9]{{4}}\b)?\s*"
    r"(?P<zone>[zZ]\b|[+-][0-9]|(?!(?:[AaPp][Mm]|AD|BC)\b)[A-Za-z][A-Za-z_/]*)?"
)
_FRACTION = re.compile(r":\d\d[.,](\d+)")
_SECOND_DIGITS = 6  # what Postgres keeps of a second
LONGEST_NAME = 63  # bytes of the type "name"


@dataclass(frozen=True)
class Change:
    """A record of which a value would be changed: ``start`` and ``stop`` are its bytes."""

    start: int
    stop: int
    index: int  # of the column
    value: str
    type: str


@dataclass(frozen=True)
class _Check:
    """``suspects``: without any of them in its bytes, a segment has no value that is changed.

    Each begins with a literal byte, which `re` looks for at the speed of memory.
    ``is_safe_if_plain``: whether plain values (`binary_copy`) need no check.
    """

    suspects: tuple[bytes, ...]
    changes: Callable[[str], bool]
    is_safe_if_plain: bool = False


def changes_value(value: str, type_name: str) -> bool:
    """Whether Postgres would store another value than is written, without an error.

    Parameters
    ----------
    value : str
        As it stands in the file, without quotes; not NULL.
    type_name : str
        The column's type as ``format_type`` writes it, or as a user does: ``numeric(10,2)``.

    Returns
    -------
    bool
        False, too, where the type does not accept the value at all: that is an error of its own.
    """
    check = _check_of(type_name)
    return check is not None and check.changes(value)


class ChangeFinder:
    """Finds the values of whole records that columns would change.

    ``types``: by the column's index, the type that reads its values, then those to which they are
    cast.
    """

    def __init__(self, dialect: Dialect, types: Mapping[int, Sequence[str]]) -> None:
        self._dialect = dialect
        self._checks = [
            (index, name, check)
            for index, names in types.items()
            for position, name in enumerate(names)
            if (check := _check_of(name, is_cast=position > 0)) is not None
        ]
        self._suspects = _compiled(check for _, _, check in self._checks)
        self._suspects_among_plain = _compiled(
            check for _, _, check in self._checks if not check.is_safe_if_plain
        )

    def find(self, data: bytes | memoryview, *, if_plain: bool = False) -> list[Change]:
        """The first such value of each record, in the order of the data.

        ``if_plain``: only those that there may be where all values are plain.
        """
        suspects = self._suspects_among_plain if if_plain else self._suspects
        if not any(pattern.search(data) for pattern in suspects):
            return []
        found: list[Change] = []
        null, written = self._dialect.null_value, bytes(data)
        for start, stop in records(written, self._dialect.quote_byte):
            if not any(pattern.search(written, start, stop) for pattern in suspects):
                continue
            fields = split_fields(written[start:stop], self._dialect)
            for index, name, check in self._checks:
                if index >= len(fields):
                    continue
                value, quoted = fields[index]
                if (quoted or value != null) and check.changes(value):
                    found.append(Change(start, stop, index, value, name))
                    break
        return found


def _compiled(checks: Iterable[_Check]) -> list[re.Pattern[bytes]]:
    return [re.compile(one) for one in sorted({one for check in checks for one in check.suspects})]


def _check_of(type_name: str, *, is_cast: bool = True) -> _Check | None:
    """What to look for in the values of a type; None where it changes nothing.

    A type that reads text raises an error for some values that a cast changes.
    """
    match = _TYPE.fullmatch(type_name.strip().lower().removeprefix("pg_catalog."))
    if match is None:
        return None
    name = f"{match['name']} {match['zone'] or ''}".strip()
    name = _SYNONYMS.get(name, name)
    first = None if match["first"] is None else int(match["first"])
    exponents = (rb"e(?<=[0-9.]e)", rb"E(?<=[0-9.]E)")
    if name == "numeric" and first is not None:
        scale = int(match["second"] or 0)
        suspects = (rb"\.[0-9]{%d}" % (scale + 1), *exponents) if scale >= 0 else (rb"0*[1-9]",)
        return _Check(suspects, lambda value: _is_rounded(value, scale))
    if name == "integer" and is_cast:
        return _Check((rb"\.", *exponents), lambda value: _is_rounded(value, 0))
    if name == "date":
        return _Check((rb":(?<=[0-9]:)[0-9]", rb"T[0-9]"), _has_time_or_zone, not is_cast)
    digits = _SECOND_DIGITS if first is None else min(first, _SECOND_DIGITS)
    are_all = digits == _SECOND_DIGITS
    long_fraction = rb":[0-9]{2}[.,][0-9]{%d}" % (digits + 1)
    if name in ("timestamp", "time"):
        zone = rb":[0-9]{2}(?:[.,][0-9]+)?(?:\s+[0-9]{4})?\s*[+A-Za-z-]"
        return _Check(
            (zone, rb"T[0-9]{4}", long_fraction),
            lambda value: _has_zone(value) or _is_second_cut(value, digits),
            are_all and not is_cast,
        )
    if name in ("timestamptz", "timetz"):
        return _Check(
            (long_fraction,), lambda value: _is_second_cut(value, digits), are_all and not is_cast
        )
    if name == '"char"':
        return _Check((b"",), lambda value: len(value.encode()) > 1)
    if name == "name":
        return _Check((b"",), lambda value: len(value.encode()) > LONGEST_NAME)
    return None


def _is_rounded(value: str, scale: int) -> bool:
    """Whether a number has digits other than 0 behind so many decimal places."""
    try:
        number = Decimal(value.strip().replace("_", ""))
    except InvalidOperation:
        return False
    if not number.is_finite() or not number:
        return False
    exponent = number.normalize().as_tuple().exponent
    return isinstance(exponent, int) and exponent < -scale


def _has_zone(value: str) -> bool:
    found = _MOMENT.search(value)
    return found is not None and found["zone"] is not None


def _has_time_or_zone(value: str) -> bool:
    found = _MOMENT.search(value)
    if found is None:
        return False
    time = found["clock"] or found["compact"]
    return found["zone"] is not None or re.search("[1-9]", time) is not None


def _is_second_cut(value: str, digits: int) -> bool:
    found = _FRACTION.search(value)
    return found is not None and found[1][digits:].strip("0") != ""
