"""Single values of Python, numpy and pandas: what Postgres holds exactly, and their text."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np

from taskwidgets.transfers.origins.pandas_values import is_timedelta, is_timestamp
from taskwidgets.transfers.origins.types import temporal

__all__ = [
    "exact_integer",
    "exact_text",
    "interval_text",
    "is_exact_interval",
    "kind_of_datetime64",
    "time_type",
]

# numpy's units as a number of seconds, or as a fraction of one.
_SECONDS = {"W": 604_800, "D": 86_400, "h": 3600, "m": 60, "s": 1}
_FRACTIONS = {"ms": 3, "us": 6, "ns": 9, "ps": 12, "fs": 15, "as": 18}  # decimal digits
_MOST_DIGITS = 4300  # that Python writes of an integer (sys.set_int_max_str_digits)
_MOST_MONTHS = 2**31 - 1  # of an interval


def exact_integer(value: Any) -> str:
    """A whole number with all its digits, of which Python refuses to write more than 4300."""
    number = int(value)
    if number.bit_length() < 3 * _MOST_DIGITS:
        return str(number)
    return f"{Decimal(number):f}"


def exact_text(value: Any) -> str:
    """A scalar as text, with all of its digits."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, np.datetime64):
        return _datetime64_text(value)
    if isinstance(value, datetime.timedelta | np.timedelta64):
        return _span_text(value)
    if isinstance(value, int | np.integer):
        return exact_integer(value)
    if isinstance(value, np.float16):
        return str(np.float32(value))
    if isinstance(value, np.floating):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\x" + bytes(value).hex()
    return str(value)


def kind_of_datetime64(value: np.datetime64) -> str:
    """ "date" for whole days, "timestamp"; "other" where Postgres does not hold it exactly."""
    unit, _ = np.datetime_data(value.dtype)
    found = _number(value)
    if found is None:
        return "other"
    if unit in ("W", "D"):
        return "date" if temporal.fits_date(found[0] // _SECONDS["D"]) else "other"
    return "timestamp" if temporal.fits_timestamp(*found) else "other"


def time_type(value: Any) -> str | None:
    """The Postgres type of a date, timestamp or length of time, whether it holds it or not.

    None for other values, and for those that are no single point in time: a year, a month.
    """
    if isinstance(value, datetime.timedelta | np.timedelta64):
        is_unitless = (
            isinstance(value, np.timedelta64) and np.datetime_data(value.dtype)[0] == "generic"
        )
        return None if is_unitless else "interval"
    if isinstance(value, np.datetime64):
        unit, _ = np.datetime_data(value.dtype)
        if unit in ("Y", "M", "generic"):
            return None
        return "date" if unit in ("W", "D") else "timestamp"
    if isinstance(value, datetime.datetime):
        return "timestamp" if value.tzinfo is None else "timestamptz"
    return None


def is_exact_interval(value: Any) -> bool:
    """Whether Postgres holds exactly this length of time of Python, numpy or pandas."""
    months = _months(value)
    if months is not None:
        return abs(months) <= _MOST_MONTHS
    found = _number(value)
    return found is not None and temporal.fits_interval(*found)


def interval_text(value: Any) -> str:
    """A length of time that Postgres holds exactly, as it reads it."""
    months = _months(value)
    if months is not None:
        return f"{months} months"
    number, unit = _number(value) or (0, "us")
    return temporal.interval_text(number * 10**6 // temporal.PER_SECOND[unit])


# ---------------------------------------------------------------------- inside


def _number(value: Any) -> tuple[int, str] | None:
    """(number, unit: s, us or ns) of a time since 1970, or of a length of time.

    None where numpy's unit says no such number: calendar months, none at all, finer than ns.
    """
    if is_timestamp(value) or is_timedelta(value):
        value = value.asm8  # all of its nanoseconds, and in UTC
    elif isinstance(value, datetime.timedelta):
        return value // datetime.timedelta(microseconds=1), "us"
    unit, step = np.datetime_data(value.dtype)
    number = int(value.astype(np.int64)) * step
    if unit in _SECONDS:
        return number * _SECONDS[unit], "s"
    if unit not in _FRACTIONS:
        return None
    for name in ("us", "ns"):
        scale = 10 ** abs(_FRACTIONS[name] - _FRACTIONS[unit])
        if _FRACTIONS[unit] <= _FRACTIONS[name]:
            return number * scale, name
        if number % scale == 0:
            return number // scale, name
    return None


def _months(value: Any) -> int | None:
    if not isinstance(value, np.timedelta64):
        return None
    unit, step = np.datetime_data(value.dtype)
    factor = {"Y": 12, "M": 1}.get(unit)
    return None if factor is None else int(value.astype(np.int64)) * step * factor


def _datetime64_text(value: np.datetime64) -> str:
    unit, _ = np.datetime_data(value.dtype)
    found = _number(value)
    if found is None:
        return str(value)
    if unit in ("W", "D"):
        return temporal.date_text(found[0] // _SECONDS["D"])
    return temporal.timestamp_text(*found)


def _span_text(value: Any) -> str:
    if type(value) is datetime.timedelta:
        return str(value)
    months = _months(value)
    if months is not None:
        return f"{months} months"
    found = _number(value)
    if found is None:
        return _finest_text(value)
    return temporal.span_text(*found)


def _finest_text(value: Any) -> str:
    """A length of time without a unit, or finer than a nanosecond."""
    unit, step = np.datetime_data(value.dtype)
    number = int(value.astype(np.int64)) * step
    if unit not in _FRACTIONS:
        return str(number)
    return f"{Decimal(number).scaleb(-_FRACTIONS[unit]):f} seconds"
