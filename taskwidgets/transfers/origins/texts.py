"""Python's values as COPY takes them, in the one way of writing that spools have.

NULL is ``\\N``, unquoted; all that is text is quoted, so that no text can be taken for it. What
goes in comes out: each kind of value has the Postgres type that holds all of it.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from taskwidgets.transfers.origins.pandas_values import is_absent, is_timestamp
from taskwidgets.transfers.origins.types.json_encode import JsonEncoder
from taskwidgets.transfers.origins.types.scalars import (
    exact_integer,
    exact_text,
    interval_text,
    is_exact_interval,
    kind_of_datetime64,
)

__all__ = ["NULL", "WRITERS", "is_missing", "kind_of", "quoted", "type_of_kinds"]

NULL = "\\N"

_BIGINT = 2**63
_FLOAT_EXACT = 2**53  # up to here a float holds every whole number
_FARTHEST = datetime.timedelta(hours=16)  # from UTC, is what Postgres reads less than


def quoted(text: str) -> str:
    """A text in quotes; those within are doubled."""
    return '"' + text.replace('"', '""') + '"'


def _json(value: Any) -> str:
    return quoted(JsonEncoder().encode(value))


def _text(value: Any) -> str:
    if isinstance(value, list | dict | tuple | np.ndarray):
        return _json(value)
    return quoted(exact_text(value))


def _date(value: Any) -> str:
    return exact_text(value) if isinstance(value, np.datetime64) else str(value.isoformat())


def _timestamp(value: Any) -> str:
    if isinstance(value, np.datetime64):
        return exact_text(value)
    if is_timestamp(value) and not 1 <= value.year <= 9999:
        text = exact_text(value.asm8)  # in UTC
        return text if value.tzinfo is None else _in_utc(text)
    offset = value.utcoffset()
    if offset is not None and (abs(offset) >= _FARTHEST or offset.microseconds):
        local = np.datetime64(value.replace(tzinfo=None))
        return _in_utc(exact_text(local - np.timedelta64(offset)))
    return str(value.isoformat(sep=" "))


def _in_utc(text: str) -> str:
    return f"{text[:-3]}Z BC" if text.endswith(" BC") else f"{text}Z"


def _number(value: Any) -> str:
    """A whole number, a decimal or a float as numeric has it: each of its digits."""
    if isinstance(value, np.longdouble):
        return str(value)
    if isinstance(value, float | np.floating):
        return repr(float(value))
    return str(value) if isinstance(value, Decimal) else exact_integer(value)


# By kind of value: how one is written.
WRITERS: dict[str, Callable[[Any], str]] = {
    "boolean": lambda value: "true" if value else "false",
    "integer": lambda value: str(int(value)),
    "float": lambda value: repr(float(value)),
    "single": lambda value: str(np.float32(value)),
    "numeric": _number,
    "text": _text,
    "bytes": lambda value: "\\x" + bytes(value).hex(),
    "date": _date,
    "time": lambda value: value.isoformat(),
    "timestamp": _timestamp,
    "timestamptz": _timestamp,
    "interval": interval_text,
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
    if isinstance(value, int | np.integer) and not isinstance(value, np.timedelta64):
        number = int(value)
        if abs(number) <= _FLOAT_EXACT:
            return "integer"
        return "large" if -_BIGINT <= number < _BIGINT else "larger"
    if isinstance(value, float | np.floating):
        return _kind_of_float(value)
    if isinstance(value, Decimal):
        return "numeric"
    if isinstance(value, datetime.timedelta | np.timedelta64):
        return "interval" if is_exact_interval(value) else "other"
    if isinstance(value, np.datetime64):
        return kind_of_datetime64(value)
    if isinstance(value, datetime.datetime):
        timestamp: Any = value
        if is_timestamp(timestamp) and kind_of_datetime64(timestamp.asm8) == "other":
            return "other"
        return "timestamp" if value.tzinfo is None else "timestamptz"
    if isinstance(value, datetime.time) and value.tzinfo is not None:
        offset = value.utcoffset()
        is_plain = offset is not None and abs(offset) < _FARTHEST and not offset.microseconds
        return "timetz" if is_plain else "other"
    for known, kind in _KINDS:
        if isinstance(value, known):
            return kind
    return "other"


def _kind_of_float(value: Any) -> str:
    if isinstance(value, np.float32 | np.float16):
        return "single"
    if isinstance(value, np.longdouble) and np.isfinite(value) and float(value) != value:
        return "numeric"
    return "float"


_KINDS: tuple[tuple[Any, str], ...] = (
    (datetime.date, "date"),
    (datetime.time, "time"),
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
    if kinds and kinds <= {"integer", "single", "float"}:
        return "double precision", "float"
    if kinds and kinds <= whole | {"single", "float", "numeric"}:
        return "numeric", "numeric"
    return "text", "text"


_TYPES = {
    "boolean": ("boolean", "boolean"),
    "integer": ("bigint", "integer"),
    "large": ("bigint", "integer"),
    "larger": ("numeric", "numeric"),
    "single": ("real", "single"),
    "float": ("double precision", "float"),
    "numeric": ("numeric", "numeric"),
    "bytes": ("bytea", "bytes"),
    "date": ("date", "date"),
    "time": ("time", "time"),
    "timetz": ("timetz", "time"),
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
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    return isinstance(value, Decimal) and value.is_nan()
