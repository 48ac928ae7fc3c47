"""Dates, timestamps, times of day and intervals, given as integers, as Postgres reads them.

numpy's and Arrow's values are integers with a unit, and reach farther than Python's: what Postgres
holds of them is written without a detour over Python's own types.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "PER_SECOND",
    "date_misfits",
    "date_text",
    "date_texts",
    "fits_date",
    "fits_interval",
    "fits_timestamp",
    "interval_misfits",
    "interval_text",
    "interval_texts",
    "span_text",
    "span_texts",
    "time_misfits",
    "time_texts",
    "timestamp_misfits",
    "timestamp_text",
    "timestamp_texts",
]

Integers = Any  # an int64 array

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

_DAY = 86_400  # seconds
# What Postgres holds (https://www.postgresql.org/docs/current/datatype-datetime.html), in days
# since 1970: from 4714-11-24 BC; dates to 5874897-12-31, timestamps to the end of 294276.
_FIRST_DAY = -2_440_588
_LAST_DATE = 2_145_042_905
_LAST_TIMESTAMP_DAY = 106_762_939
# The years 1 to 9999, which numpy writes as Postgres does.
_YEAR_1, _YEAR_10000 = -719_162, 2_932_897
_INT64 = np.iinfo(np.int64)
_MOST_DAYS = 2**31 - 1  # of an interval


def date_misfits(days: Integers) -> Any:
    """Which of these days since 1970 are not dates that Postgres holds, as booleans."""
    return (days < _FIRST_DAY) | (days > _LAST_DATE)


def date_texts(days: Integers) -> list[str]:
    """Days since 1970, as in ``2024-02-29`` and ``0044-03-15 BC``."""
    if _all_between(days, _YEAR_1, _YEAR_10000 - 1):
        return list(np.datetime_as_string(days.view("datetime64[D]")).tolist())
    return [date + era for date, era in map(_civil, days.tolist())]


def timestamp_misfits(values: Integers, unit: str) -> Any:
    """Which of these times since 1970 Postgres cannot hold exactly, as booleans."""
    day = _DAY * PER_SECOND[unit]
    first = _FIRST_DAY * day
    wrong = np.zeros(len(values), bool)
    if first >= _INT64.min:
        wrong |= values < first
    last = (_LAST_TIMESTAMP_DAY + 1) * day - 1
    if last <= _INT64.max:
        wrong |= values > last
    if unit == "ns":
        wrong |= values % 1000 != 0
    return wrong


def timestamp_texts(
    values: Integers, unit: str, *, between: str = "T", zone: str = "", trim: bool = False
) -> list[str]:
    """Times since 1970, as in ``2024-02-29T12:34:56``, with each digit of their unit.

    ``trim`` leaves out a fraction of a second that is zero.
    """
    day = _DAY * PER_SECOND[unit]
    digits = _digits(unit)
    zero = "." + "0" * digits

    def written(text: str) -> str:
        if trim and digits:
            text = text.removesuffix(zero)
        return text + zone

    low, high = max(_YEAR_1 * day, _INT64.min + 1), min(_YEAR_10000 * day - 1, _INT64.max)
    if _all_between(values, low, high):
        texts = np.datetime_as_string(values.view(f"datetime64[{unit}]")).tolist()
        if between != "T":
            texts = [text.replace("T", between, 1) for text in texts]
        return list(map(written, texts)) if zone or trim else list(texts)
    found = []
    for value in values.tolist():
        text, era = _timestamp(value, unit, between)
        found.append(written(text) + era)
    return found


def timestamp_text(value: int, unit: str) -> str:
    """One time since 1970, which may be beyond 64 bits."""
    return "".join(_timestamp(value, unit, " "))


def fits_timestamp(value: int, unit: str) -> bool:
    """Whether Postgres holds this time since 1970 exactly; it may be beyond 64 bits."""
    if unit == "ns" and value % 1000:
        return False
    return _FIRST_DAY <= value // (_DAY * PER_SECOND[unit]) <= _LAST_TIMESTAMP_DAY


def fits_date(days: int) -> bool:
    """Whether this day since 1970, which may be beyond 64 bits, is one that Postgres holds."""
    return _FIRST_DAY <= days <= _LAST_DATE


def date_text(days: int) -> str:
    """One day since 1970, which may be beyond 64 bits."""
    return "".join(_civil(days))


def fits_interval(value: int, unit: str) -> bool:
    """Whether Postgres holds this length of time exactly; it may be beyond 64 bits."""
    if unit == "ns" and value % 1000:
        return False
    return abs(value) <= _MOST_DAYS * _DAY * PER_SECOND[unit]


def time_misfits(values: Integers, unit: str) -> Any:
    """Which of these times of day Postgres cannot hold exactly, as booleans."""
    wrong = (values < 0) | (values > _DAY * PER_SECOND[unit])
    if unit == "ns":
        wrong |= values % 1000 != 0
    return wrong


def time_texts(values: Integers, unit: str) -> list[str]:
    """Times since midnight, as in ``12:34:56.789``; ``-1 seconds`` where it is none."""
    limit = _DAY * PER_SECOND[unit]
    return [
        _clock(value, unit) if 0 <= value <= limit else span_text(value, unit)
        for value in values.tolist()
    ]


def interval_misfits(values: Integers, unit: str) -> Any:
    """Which of these lengths of time Postgres cannot hold exactly, as booleans."""
    if unit == "ns":
        return values % 1000 != 0
    limit = min(_MOST_DAYS * _DAY * PER_SECOND[unit], _INT64.max)
    return (values > limit) | (values < -limit)


def interval_texts(values: Integers, unit: str) -> list[str]:
    """Lengths of time that Postgres holds, in microseconds, which is what it counts in."""
    if unit == "ns":
        return [f"{value} microseconds" for value in (values // 1000).tolist()]
    factor = 10**6 // PER_SECOND[unit]
    limit = _INT64.max // factor
    if _all_between(values, -limit, limit):
        return [f"{value} microseconds" for value in (values * factor).tolist()]
    return [interval_text(value * factor) for value in values.tolist()]


def interval_text(microseconds: int) -> str:
    """A length of time as Postgres reads it: a 64-bit number of microseconds, and days beside."""
    if abs(microseconds) <= _INT64.max:
        return f"{microseconds} microseconds"
    days, rest = divmod(abs(microseconds), _DAY * 10**6)
    sign = "-" if microseconds < 0 else ""
    return f"{sign}{days} days {sign}{rest} microseconds"


def span_texts(values: Integers, unit: str) -> list[str]:
    """Lengths of time of any size, in seconds, with each of their digits."""
    return [span_text(value, unit) for value in values.tolist()]


def span_text(value: int, unit: str) -> str:
    """One length of time, as in ``-1.5 seconds``."""
    seconds, fraction = divmod(abs(value), PER_SECOND[unit])
    digits = _digits(unit)
    text = f"{seconds}.{fraction:0{digits}}".rstrip("0") if fraction else str(seconds)
    return f"{'-' if value < 0 else ''}{text} seconds"


# ---------------------------------------------------------------------- inside


def _all_between(values: Integers, low: int, high: int) -> bool:
    return not len(values) or bool(values.min() >= low and values.max() <= high)


def _digits(unit: str) -> int:
    return len(str(PER_SECOND[unit])) - 1


def _civil(days: int) -> tuple[str, str]:
    """(year, month and day, the era) of a day since 1970 in the Gregorian calendar.

    By way of a day of the same place in a cycle of 400 years, which have 146,097 days.
    """
    cycles, rest = divmod(days, 146_097)
    text = str(np.datetime64(rest, "D"))  # in 1970 to 2369
    year = int(text[:4]) + 400 * cycles
    if year > 0:
        return f"{year:04}{text[4:]}", ""
    return f"{1 - year:04}{text[4:]}", " BC"


def _timestamp(value: int, unit: str, between: str) -> tuple[str, str]:
    days, rest = divmod(value, _DAY * PER_SECOND[unit])
    date, era = _civil(days)
    return f"{date}{between}{_clock(rest, unit)}", era


def _clock(value: int, unit: str) -> str:
    seconds, fraction = divmod(value, PER_SECOND[unit])
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    digits = _digits(unit)
    return f"{text}.{fraction:0{digits}}" if digits else text
