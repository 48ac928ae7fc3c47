"""Nested Arrow values as JSON, each scalar as Postgres' own ``to_jsonb`` writes it.

Column by column of what is nested: Python's lists and dictionaries would lose fields of one name,
nanoseconds and years beyond 9999.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np

from taskwidgets.transfers.origins.types import temporal
from taskwidgets.transfers.origins.types.arrow_values import (
    dictionary_places,
    integers,
    run_places,
    uuid_text,
)
from taskwidgets.transfers.origins.types.json_encode import json_object, json_string

__all__ = ["ArrowJsonEncoder"]

Array = Any

_WHOLE = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
)
_NONFINITE = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}


class ArrowJsonEncoder:
    """Writes arrays as JSON, and knows whether a NaN or an infinity was among the values."""

    def __init__(self) -> None:
        self.has_nonfinite = False

    def encode(self, array: Array) -> list[str]:
        """Each value as JSON; what is missing is null."""
        written = self._values(array)
        if not array.null_count:
            return written
        missing = array.is_null().to_pylist()
        return ["null" if one else text for one, text in zip(missing, written, strict=True)]

    def _values(self, array: Array) -> list[str]:
        name = str(array.type)
        if name.startswith("extension"):
            return self._extension(array)
        if name.startswith("dictionary"):
            return self._spread(*dictionary_places(array))
        if name.startswith("run_end_encoded"):
            return self._spread(*run_places(array))
        if name.startswith("struct"):
            return self._structs(array)
        if name.startswith("map"):
            return self._maps(array)
        if "list" in name.partition("<")[0]:
            return self._lists(array)
        if name == "null":
            return ["null"] * len(array)
        if name in ("halffloat", "float", "double"):
            return self._floats(array.cast("float") if name == "halffloat" else array)
        if name in _WHOLE:
            return list(array.cast("string").fill_null("").to_pylist())
        if name.startswith("decimal"):
            return list(map(str, array.to_pylist()))
        return [json_string(text) for text in _texts(array, name)]

    def _spread(self, values: Array, places: Any) -> list[str]:
        written = [*self.encode(values), "null"]
        return [written[place] for place in places.tolist()]

    def _floats(self, array: Array) -> list[str]:
        found = array.cast("string").fill_null("").to_pylist()
        if not any(text in _NONFINITE for text in found):
            return list(found)
        self.has_nonfinite = True
        return [_NONFINITE.get(text, text) for text in found]

    def _structs(self, array: Array) -> list[str]:
        names = [array.type.field(number).name for number in range(array.type.num_fields)]
        fields = [self.encode(one) for one in array.flatten()]
        if not fields:
            return ["{}"] * len(array)
        return [json_object(zip(names, row, strict=True)) for row in zip(*fields, strict=True)]

    def _lists(self, array: Array) -> list[str]:
        values = self.encode(array.flatten())  # without those of lists that are missing
        found, start = [], 0
        for length in array.value_lengths().fill_null(0).to_pylist():
            found.append(f"[{', '.join(values[start : start + length])}]")
            start += length
        return found

    def _maps(self, array: Array) -> list[str]:
        """As pairs: keys may be of any type, and equal."""
        offsets = array.offsets.to_numpy()
        first, last = int(offsets[0]), int(offsets[-1])
        keys = self.encode(array.keys[first:last])
        values = self.encode(array.items[first:last])
        pairs = [f"[{key}, {value}]" for key, value in zip(keys, values, strict=True)]
        places = (offsets - first).tolist()
        return [f"[{', '.join(pairs[start:end])}]" for start, end in itertools.pairwise(places)]

    def _extension(self, array: Array) -> list[str]:
        name = array.type.extension_name
        if name == "arrow.json":
            return [text and _checked(text) for text in array.storage.fill_null("").to_pylist()]
        if name == "arrow.uuid":
            return [
                "null" if value is None else json_string(uuid_text(value))
                for value in array.storage.to_pylist()
            ]
        if name == "arrow.bool8":
            return self.encode(array.storage.cast("bool"))
        return self.encode(array.storage)


def _texts(array: Array, name: str) -> list[str]:
    if name in ("string", "large_string", "string_view"):
        return [value or "" for value in array.to_pylist()]
    if name.startswith(("binary", "large_binary", "fixed_size_binary")):
        return ["" if value is None else "\\x" + value.hex() for value in array.to_pylist()]
    if name == "month_day_nano_interval":
        return [
            "" if one is None else
            f"{one[0]} months {one[1]} days {temporal.span_text(one[2], 'ns')}"
            for one in array.to_pylist()
        ]  # fmt: skip
    values = integers(array)
    if name == "date32[day]":
        return temporal.date_texts(values)
    if name == "date64[ms]":
        days, rest = np.divmod(values, 86_400_000)
        if not rest.any():
            return temporal.date_texts(days)
        return temporal.timestamp_texts(values, "ms", trim=True)
    if name.startswith("timestamp"):
        zone = "" if array.type.tz is None else "Z"
        return temporal.timestamp_texts(values, array.type.unit, zone=zone, trim=True)
    if name.startswith("time"):
        return temporal.time_texts(values, array.type.unit)
    if name.startswith("duration"):
        return temporal.span_texts(values, array.type.unit)
    raise ValueError(f"JSON has no value for Arrow's {name}; cast the column to another type")


def _checked(text: str) -> str:
    json.loads(text)  # what is no JSON by itself could change what is around it
    return text
