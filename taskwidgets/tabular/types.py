"""The Postgres types that hold a sample's values without changing them.

The rule: what goes in must come out. A type is inferred only where Postgres reads every value of
the sample without loss, so that an export gives back the same numbers, days and moments. Their
spelling may change (``TRUE`` to ``t``, ``1.50`` to ``1.5``), never their value. In doubt: text.

- ``00123``, ``+5``, ``-0`` and `` 7`` are text: codes, or spellings that a number would lose.
- Whole numbers beyond bigint are numeric, which keeps every digit; text would not add up.
- Decimals are double precision, as in pandas, while each is the same number after a round trip
  through a float (always so up to 15 significant digits); otherwise numeric.
- ``1e-05``, ``1.5e+20``, ``1.0E5`` are what programs print for floats. ``1E5`` and ``12E3``, with
  neither a sign nor a point, are what codes look like (spreadsheets are infamous for it): text.
- NaN and Infinity are double precision beside at least one number, and text alone.
- Only true and false, in any case, are boolean. 0 and 1 are integers, yes and no are words.
- Days are ISO and exist. Moments have at most 6 digits of a second, all that Postgres keeps.
- Days mixed with moments are text: midnight would be invented. So are moments with and without
  a time zone: the zone of the session that loads them would be invented.

Values that were not sampled may need more: `fits` says whether one is of the type's own spelling,
and `widening` which type comes next.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal

from taskwidgets.errors import OptionError
from taskwidgets.tabular.sample import Sample

__all__ = ["TEXT", "check_types", "fits", "infer_types", "kind_of"]

TEXT = "text"

_INTEGER = 2**31  # the first whole number that Postgres' integer cannot hold
_BIGINT = 2**63
_WHOLE = {"integer": _INTEGER, "bigint": _BIGINT}
_SIGNED_EXPONENT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?[eE][+-][0-9]{1,3}")
_NUMBERS = (*_WHOLE, "numeric", "double precision")
_FLOAT_EXACT = 2**53  # up to here a float holds every whole number
_SAFE_DIGITS = 15  # DBL_DIG: so many significant digits always survive a float
_NUMERIC_DIGITS = 1000  # more digits than that are no number that anyone computes with

_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6}0*)?)?"
_ZONE = r"(?:Z|[+-](?:0[0-9]|1[0-5])(?::?[0-5][0-9])?)"

# One pass over each value; the groups' names are its kinds.
_KINDS = re.compile(
    r"(?P<integer>0|-?[1-9][0-9]*)"
    r"|(?P<decimal>-?(?:0|[1-9][0-9]*)?\.[0-9]+)"
    r"|(?P<exponent>-?[0-9](?:\.[0-9]+[eE][+-]?|[eE][+-])[0-9]{1,3})"
    r"|(?P<special>[Nn]a[Nn]|-?(?:[Ii]nf|[Ii]nfinity))"
    r"|(?P<boolean>[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])"
    rf"|(?P<date>{_DAY})"
    rf"|(?P<timestamp>{_DAY}[ T]{_CLOCK})"
    rf"|(?P<timestamptz>{_DAY}[ T]{_CLOCK}{_ZONE})"
)


def infer_types(sample: Sample, columns: Sequence[str]) -> dict[str, str]:
    """A Postgres type for each column: integer, bigint, numeric, double precision, boolean, date,
    timestamp, timestamptz or text.

    A column with nothing but NULL is text. ``timestamp`` is without time zone. In a sample that
    is not the whole file, integer needs headroom: from 2^30 on a column is bigint, as it costs 4
    bytes a row, and widening later costs writing the table anew.
    """
    headroom = 1 if sample.whole else 2
    values = zip(*sample.rows, strict=True) if sample.rows else ((),) * len(columns)
    return {
        column: _infer({value for value in set(found) if value is not None}, headroom)
        for column, found in zip(columns, values, strict=True)
    }


def kind_of(value: str) -> str | None:
    """What a value looks like: integer, decimal, exponent, special (NaN, infinity), boolean, date,
    timestamp or timestamptz; None where only text keeps it."""
    match = _KINDS.fullmatch(value)
    return None if match is None else match.lastgroup


def fits(value: str, kind: str) -> bool:
    """Whether a column of an inferred type keeps the value, by the rules of inference.

    Postgres reads more than that, but as something else: ``007`` and ``0x1F`` as integers, the
    moment ``2024-01-05 10:00`` as a day, ``1e5`` as 100000. A day among moments is its midnight,
    and among numbers with a point ``-007``, ``5.`` and ``12e-05``, which are no codes, are the
    numbers that they look like.
    """
    if kind in _NUMBERS and kind not in _WHOLE:
        if value.startswith("-0"):
            value = value[1:].lstrip("0") or "0"
        value = value.removesuffix(".")
    found = kind_of(value)
    if kind in _WHOLE:
        bound = _WHOLE[kind]
        return found == "integer" and len(value) <= 20 and -bound <= int(value) < bound
    if kind == "numeric":
        return len(value) <= _NUMERIC_DIGITS and (
            found in ("integer", "decimal", "special") or bool(_SIGNED_EXPONENT.fullmatch(value))
        )
    if kind == "double precision":
        if found == "integer":
            return len(value) <= 20 and abs(int(value)) <= _FLOAT_EXACT
        if _SIGNED_EXPONENT.fullmatch(value):
            return _survives_float(value)
        return found == "special" or (found in ("decimal", "exponent") and _survives_float(value))
    if kind == "timestamp":
        return found in ("date", "timestamp") and _all_days_exist([value])
    if kind in ("date", "timestamptz"):
        return found == kind and _all_days_exist([value])
    return kind == TEXT or found == kind


def check_types(types: Mapping[str, str] | str | None, columns: Sequence[str]) -> dict[str, str]:
    """The types that the user gave, as a dict by column; those left out are to be inferred.

    ``types`` is a dict, or "text" for every column as it is written. Raises OptionError for
    columns that the file does not have, and for types that are no text. Whether Postgres knows
    a type is for Postgres to say.
    """
    if types is None:
        return {}
    if isinstance(types, str):
        if types != TEXT:
            raise OptionError(
                f'types={types!r} makes no sense: give a dict of columns and types, or "text" '
                "for all columns"
            )
        return dict.fromkeys(columns, TEXT)
    if not isinstance(types, Mapping):
        raise OptionError(f'types must be a dict or "text", not {types!r}')
    for column, kind in types.items():
        if column not in columns:
            near = difflib.get_close_matches(str(column), columns, n=3)
            hint = (
                f"did you mean {' or '.join(map(repr, near))}?"
                if near
                else (
                    "it has "
                    + ", ".join(map(repr, columns[:10]))
                    + (" ..." if columns[10:] else "")
                )
            )
            raise OptionError(
                f"types names a column {column!r} that the file does not have; {hint}"
            )
        if not isinstance(kind, str) or not kind.strip():
            raise OptionError(f"types[{column!r}] must be the name of a type, not {kind!r}")
    return dict(types)


def _infer(values: Iterable[str], headroom: int) -> str:
    kinds: dict[str, list[str]] = {}
    for value in values:
        match = _KINDS.fullmatch(value)
        if match is None:
            return TEXT
        kinds.setdefault(match.lastgroup or "", []).append(value)
    if not kinds:
        return TEXT
    if len(kinds) == 1:
        (kind,) = kinds
        if kind == "boolean":
            return "boolean"
        if kind in ("date", "timestamp", "timestamptz"):
            return kind if _all_days_exist(kinds[kind]) else TEXT
    if kinds.keys() <= {"integer", "decimal", "exponent", "special"}:
        return _number(kinds, headroom)
    return TEXT


def _number(kinds: Mapping[str, list[str]], headroom: int) -> str:
    integers = kinds.get("integer", [])
    if any(len(value) > _NUMERIC_DIGITS for value in integers):
        return TEXT
    largest = max((abs(int(value)) for value in integers), default=0)
    if kinds.keys() == {"integer"}:
        if largest < _INTEGER // headroom:
            return "integer"
        return "bigint" if largest < _BIGINT else "numeric"
    fractions = [*kinds.get("decimal", []), *kinds.get("exponent", [])]
    if not integers and not fractions:
        return TEXT
    if largest <= _FLOAT_EXACT and all(map(_survives_float, fractions)):
        return "double precision"
    # numeric keeps the digits as they are written, but not how an exponent was written
    return "numeric" if kinds.keys() <= {"integer", "decimal"} else TEXT


def _survives_float(value: str) -> bool:
    """Whether the shortest text that Postgres prints for the float is the same number."""
    if len(value) <= _SAFE_DIGITS:  # a short exponent may still be beyond a float: below
        if "e" not in value and "E" not in value:
            return True
    elif len(value) > _NUMERIC_DIGITS:
        return False
    return Decimal(repr(float(value))) == Decimal(value)


def _all_days_exist(values: Iterable[str]) -> bool:
    try:
        for day in {value[:10] for value in values}:
            date.fromisoformat(day)
    except ValueError:
        return False
    return True
