"""What is in Arrow's arrays, as integers, places and strings."""

from __future__ import annotations

from typing import Any

import numpy as np

from taskwidgets.transfers.origins.types import temporal

__all__ = [
    "days_of",
    "dictionary_places",
    "integers",
    "run_places",
    "timestamp_strings",
    "uuid_text",
]

Array = Any

# From year 1 to 9999, in days since 1970: what Arrow writes as Postgres reads it.
_PLAIN_DAYS = (-719_162, 2_932_896)


def integers(array: Array) -> Any:
    """The integers that dates, times and durations are, in 64 bits; 0 for what is missing."""
    kind = "int32" if array.type.bit_width == 32 else "int64"
    found = array.cast(kind)
    if found.null_count:
        found = found.fill_null(0)
    return found.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)


def days_of(array: Array) -> list[str]:
    """An array of date32 as texts."""
    days = integers(array)
    if not len(days) or (days.min() >= _PLAIN_DAYS[0] and days.max() <= _PLAIN_DAYS[1]):
        return list(array.cast("string").to_pylist())
    return temporal.date_texts(days)


def timestamp_strings(arrow: Any, array: Array, unit: str, zone: str) -> list[str]:
    """An array of timestamps as texts, in microseconds if its unit is finer."""
    values = integers(array)
    day = 86_400 * temporal.PER_SECOND[unit]
    low, high = _PLAIN_DAYS[0] * day, (_PLAIN_DAYS[1] + 1) * day - 1
    if not len(values) or (values.min() >= low and values.max() <= high):
        found = arrow.array(values // 1000 if unit == "ns" else values)
        strings = found.cast(arrow.timestamp("us" if unit == "ns" else unit)).cast("string")
        return [text + zone for text in strings.to_pylist()] if zone else list(strings.to_pylist())
    return temporal.timestamp_texts(values, unit, between=" ", zone=zone)


def dictionary_places(array: Array) -> tuple[Array, Any]:
    """(the values of a dictionary, each row's place among them; -1 for none)."""
    places = array.indices
    if places.null_count:
        places = places.cast("int64").fill_null(-1)
    return array.dictionary, places.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)


def run_places(array: Array) -> tuple[Array, Any]:
    """(the values of runs, each row's place among them)."""
    ends = array.run_ends.to_numpy(zero_copy_only=False)
    rows = np.arange(array.offset, array.offset + len(array))
    return array.values, np.searchsorted(ends, rows, side="right")


def uuid_text(value: bytes) -> str:
    """Sixteen bytes as a UUID is written."""
    digits = value.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
