"""Python's values as COPY takes them, in the one way of writing that spools have.

NULL is ``\\N``, unquoted; all that is text is quoted, so that no text can be taken for it. What
goes in comes out: each kind of value has the Postgres type that holds all of it.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from taskwidgets.transfers.origins.pandas_values import has_nanoseconds, is_absent

__all__ = ["NULL", "WRITERS", "is_missing", "kind_of", "quoted", "type_of_kinds"]

NULL = "\\N"

_BIGINT = 2**63
_FLOAT_EXACT = 2**53  # up to here a float holds every whole number


def quoted(text: str) -> str:
    """A text in quotes; those within are doubled."""
    return '"' + text.replace('"', '""') + '"'


def _json(value: Any) -> str:
    return quoted(json.dumps(value, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    """What json does not know, inside of a list or a dictionary."""
    if isinstance(value, np.ndarray | set | frozenset | tuple):
        return list(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes):
        return value.hex()
    if is_absent(value):
        return None
    return str(value)


def _text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return quoted("true" if value else "false")
    if isinstance(value, list | dict | tuple | np.ndarray):
        return _json(value)
    return quoted(value if isinstance(value, str) else str(value))


def _interval(value: Any) -> str:
    """In microseconds, which is what Postgres counts in."""
    return f"{value // datetime.timedelta(microseconds=1)} microseconds"


def _number(value: Any) -> str:
    """A whole number, a decimal or a float as numeric has it: each of its digits."""
    return repr(float(value)) if isinstance(value, float | np.floating) else str(value)


# By kind of value: how one is written.
WRITERS: dict[str, Callable[[Any], str]] = {
    "boolean": lambda value: "true" if value else "false",
    "integer": lambda value: str(int(value)),
    "float": lambda value: repr(float(value)),
    "numeric": _number,
    "text": _text,
    "bytes": lambda value: "\\x" + bytes(value).hex(),
    "date": lambda value: value.isoformat(),
    "time": lambda value: value.isoformat(),
    "timestamp": lambda value: str(value.isoformat(sep=" ")),
    "timestamptz": lambda value: str(value.isoformat(sep=" ")),
    "interval": _interval,
    "uuid": str,
    "json": _json,
}


def kind_of(value: Any) -> str:
    """Which of the kinds a value is, that is not missing.

    Whole numbers are "integer" while a float holds them, "large" in a bigint, else "larger".
    """
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, int | np.integer):
        number = int(value)
        if abs(number) <= _FLOAT_EXACT:
            return "integer"
        return "large" if -_BIGINT <= number < _BIGINT else "larger"
    if isinstance(value, float | np.floating):
        return "float"
    if isinstance(value, Decimal):
        return "numeric"
    if isinstance(value, datetime.datetime):
        if has_nanoseconds(value):
            return "other"  # Postgres keeps microseconds
        return "timestamp" if value.tzinfo is None else "timestamptz"
    if isinstance(value, datetime.time) and value.tzinfo is not None:
        return "other"
    if isinstance(value, datetime.timedelta) and has_nanoseconds(value):
        return "other"
    for known, kind in _KINDS:
        if isinstance(value, known):
            return kind
    return "other"


_KINDS: tuple[tuple[Any, str], ...] = (
    (datetime.date, "date"),
    (datetime.time, "time"),
    (datetime.timedelta, "interval"),
    (bytes | bytearray | memoryview, "bytes"),
    (UUID, "uuid"),
    (dict | list | tuple | np.ndarray, "json"),
)


def type_of_kinds(kinds: set[str]) -> tuple[str, str]:
    """(Postgres type, the writer's name) that hold values of all these kinds as they are."""
    if len(kinds) == 1:
        (kind,) = kinds
        if kind in _TYPES:
            return _TYPES[kind]
    whole = {"integer", "large", "larger"}
    if kinds and kinds <= whole:
        return ("numeric", "numeric") if "larger" in kinds else ("bigint", "integer")
    if kinds and kinds <= {"integer", "float"}:
        return "double precision", "float"
    if kinds and kinds <= whole | {"float", "numeric"}:
        return "numeric", "numeric"
    return "text", "text"


_TYPES = {
    "boolean": ("boolean", "boolean"),
    "integer": ("bigint", "integer"),
    "large": ("bigint", "integer"),
    "larger": ("numeric", "numeric"),
    "float": ("double precision", "float"),
    "numeric": ("numeric", "numeric"),
    "bytes": ("bytea", "bytes"),
    "date": ("date", "date"),
    "time": ("time", "time"),
    "timestamp": ("timestamp", "timestamp"),
    "timestamptz": ("timestamptz", "timestamptz"),
    "interval": ("interval", "interval"),
    "uuid": ("uuid", "uuid"),
    "json": ("jsonb", "json"),
}


def is_missing(value: Any) -> bool:
    """Whether a value stands for nothing: None, NaN, NaT, NA."""
    if value is None or is_absent(value):
        return True
    if isinstance(value, float | np.floating):
        return math.isnan(value)
    return isinstance(value, Decimal) and value.is_nan()
