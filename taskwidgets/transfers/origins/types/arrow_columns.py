"""Each Arrow type's Postgres type, and its values as COPY takes them.

Used by Parquet files, and by columns of a frame whose dtype is Arrow's. Values go from Arrow's own
buffers to text: Python's dates, times and timestamps cannot hold all of them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from taskwidgets.transfers.origins.texts import NULL, quoted
from taskwidgets.transfers.origins.types import temporal
from taskwidgets.transfers.origins.types.arrow_json import ArrowJsonEncoder
from taskwidgets.transfers.origins.types.arrow_values import (
    days_of,
    dictionary_places,
    integers,
    run_places,
    timestamp_strings,
    uuid_text,
)

__all__ = ["ArrowColumn", "arrow_column"]

Array = Any
Texts = Callable[[Array], list[str]]
Misfits = Callable[[Array], Any]  # as booleans, one for each value


@dataclass(frozen=True)
class ArrowColumn:
    """A column's Postgres type and how its arrays are written.

    ``misfits`` says which values the type cannot hold exactly; None where it holds all. A column
    with such a value is loaded as text, which ``as_text`` writes.
    """

    type: str
    texts: Texts
    misfits: Misfits | None = None
    as_text: Texts | None = None
    json: ArrowJsonEncoder = field(default_factory=ArrowJsonEncoder)

    def as_text_column(self) -> ArrowColumn:
        """The column as text, with each of its values exact."""
        assert self.as_text is not None
        return replace(self, type="text", texts=self.as_text, misfits=None)


def arrow_column(arrow: Any, kind: Any, extension: tuple[str, bytes] = ("", b"")) -> ArrowColumn:
    """How a column of an Arrow type is loaded.

    Raises ValueError where there is no Postgres type for it. ``extension`` is the name and the
    description of an extension type that is not registered.
    """
    if isinstance(kind, arrow.BaseExtensionType):
        name = getattr(kind, "extension_name", "")
        # Arrow's own types give no description to Python.
        describe = getattr(kind, "__arrow_ext_serialize__", bytes)
        inner = _extension(arrow, kind.storage_type, name, describe())
        return _through(inner, lambda array: array.storage)
    if extension[0]:
        return _extension(arrow, kind, *extension)
    types = arrow.types
    if types.is_dictionary(kind):
        return _encoded(arrow_column(arrow, kind.value_type), dictionary_places)
    if str(kind).startswith("run_end_encoded"):
        return _encoded(arrow_column(arrow, kind.value_type), run_places)
    name = str(kind)
    if name in _NUMBERS:
        return ArrowColumn(_NUMBERS[name], _numbers)
    if name == "halffloat":
        return ArrowColumn("real", lambda array: _numbers(array.cast(arrow.float32())))
    if name in ("string", "large_string", "string_view", "null"):
        return ArrowColumn("text", _strings)
    if name.startswith(("binary", "large_binary", "fixed_size_binary")):
        return ArrowColumn("bytea", _each(lambda value: "\\x" + value.hex()))
    if name.startswith("decimal"):
        plain = 0 <= kind.scale <= kind.precision
        return ArrowColumn(
            f"numeric({kind.precision},{kind.scale})" if plain else "numeric", _each(str)
        )
    if types.is_temporal(kind):
        return _temporal(arrow, kind, name)
    if types.is_nested(kind) and not types.is_union(kind):
        encoder = ArrowJsonEncoder()
        return ArrowColumn("jsonb", _documents(encoder), json=encoder)
    raise ValueError(f"Postgres has no type for Arrow's {kind}; cast the column to another type")


_NUMBERS = {
    "bool": "boolean",
    "int8": "smallint",
    "uint8": "smallint",
    "int16": "smallint",
    "uint16": "integer",
    "int32": "integer",
    "uint32": "bigint",
    "int64": "bigint",
    "uint64": "numeric",
    "float": "real",
    "double": "double precision",
}


# ---------------------------------------------------------------------- plain values


def _numbers(array: Array) -> list[str]:
    """By Arrow itself: the shortest digits that tell a float from all others of its size."""
    strings = array.cast("string")
    return _list((strings.fill_null(NULL) if array.null_count else strings).to_pylist())


def _strings(array: Array) -> list[str]:
    return [NULL if value is None else quoted(value) for value in array.to_pylist()]


def _each(write: Callable[[Any], str]) -> Texts:
    return lambda array: [NULL if value is None else write(value) for value in array.to_pylist()]


def _documents(encoder: ArrowJsonEncoder) -> Texts:
    def texts(array: Array) -> list[str]:
        return _with_nulls(array, list(map(quoted, encoder.encode(array))))

    return texts


def _list(values: Any) -> list[str]:
    return list(values)


def _with_nulls(array: Array, written: list[str]) -> list[str]:
    if not array.null_count:
        return written
    missing = array.is_null().to_pylist()
    return [NULL if one else text for one, text in zip(missing, written, strict=True)]


# ---------------------------------------------------------------------- types around others


def _through(inner: ArrowColumn, storage: Callable[[Array], Array]) -> ArrowColumn:
    """A column whose arrays hold others."""
    misfits, as_text = inner.misfits, inner.as_text
    return replace(
        inner,
        texts=lambda array: inner.texts(storage(array)),
        misfits=misfits and (lambda array: misfits(storage(array))),
        as_text=as_text and (lambda array: as_text(storage(array))),
    )


def _encoded(inner: ArrowColumn, split: Callable[[Array], tuple[Array, Any]]) -> ArrowColumn:
    """A column with each value once, and for each row its place among them; -1 for none."""

    def spread(write: Texts) -> Texts:
        def texts(array: Array) -> list[str]:
            values, places = split(array)
            written = [*write(values), NULL]
            return [written[place] for place in places.tolist()]

        return texts

    def misfits(array: Array) -> Any:
        assert inner.misfits is not None
        values, places = split(array)
        return np.append(inner.misfits(values), False)[places]

    return replace(
        inner,
        texts=spread(inner.texts),
        misfits=inner.misfits and misfits,
        as_text=inner.as_text and spread(inner.as_text),
    )


def _extension(arrow: Any, storage: Any, name: str, description: bytes) -> ArrowColumn:
    inner = arrow_column(arrow, storage)
    if name == "arrow.json":
        # Not jsonb, which leaves out spaces, the order of keys and all but one of equal keys.
        return ArrowColumn("json", _each(lambda value: quoted(_decoded(value))))
    if name == "arrow.uuid":
        return ArrowColumn("uuid", _each(uuid_text))
    if name == "arrow.bool8":
        return ArrowColumn("boolean", _each(lambda value: "true" if value else "false"))
    if name == "parquet.enum":
        return ArrowColumn("text", _each(lambda value: quoted(_decoded(value))))
    if name == "parquet.interval":
        return ArrowColumn("interval", _each(_parquet_interval))
    if name == "pandas.period":
        return ArrowColumn("text", _periods(json.loads(description)["freq"]))
    if name == "pandas.interval":
        return ArrowColumn("text", _intervals(arrow, storage, json.loads(description)["closed"]))
    return inner


def _decoded(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _parquet_interval(value: bytes) -> str:
    """https://github.com/apache/parquet-format/blob/master/LogicalTypes.md#interval"""
    months, days, milliseconds = struct.unpack("<III", value)
    return f"{months} months {days} days {milliseconds} milliseconds"


def _periods(frequency: str) -> Texts:
    def texts(array: Array) -> list[str]:
        import pandas as pd

        index: Any = pd.PeriodIndex
        periods = index.from_ordinals(integers(array), freq=frequency)
        return _with_nulls(array, [quoted(str(period)) for period in periods])

    return texts


def _intervals(arrow: Any, storage: Any, closed: str) -> Texts:
    bounds = arrow_column(arrow, storage.field(0).type)
    bounds = bounds.as_text_column() if bounds.as_text else bounds
    left = "[" if closed in ("left", "both") else "("
    right = "]" if closed in ("right", "both") else ")"

    def texts(array: Array) -> list[str]:
        ends = [[text.strip('"') for text in bounds.texts(end)] for end in array.flatten()]
        return _with_nulls(
            array, [quoted(f"{left}{one}, {two}{right}") for one, two in zip(*ends, strict=True)]
        )

    return texts


# ---------------------------------------------------------------------- dates and times


def _temporal(arrow: Any, kind: Any, name: str) -> ArrowColumn:
    types = arrow.types
    if types.is_date(kind):
        return _date(kind)
    if name == "month_day_nano_interval":
        return ArrowColumn(
            "interval",
            _each(lambda one: f"{one[0]} months {one[1]} days {one[2] // 1000} microseconds"),
            lambda array: np.array(
                [one is not None and one[2] % 1000 != 0 for one in array.to_pylist()], bool
            ),
            _each(
                lambda one: quoted(
                    f"{one[0]} months {one[1]} days {temporal.span_text(one[2], 'ns')}"
                )
            ),
        )
    unit = kind.unit
    if types.is_timestamp(kind):
        aware = kind.tz is not None
        return ArrowColumn(
            "timestamptz" if aware else "timestamp",
            _written(lambda array: timestamp_strings(arrow, array, unit, "Z" if aware else "")),
            _misfits(lambda values: temporal.timestamp_misfits(values, unit)),
            _written(
                lambda array: temporal.timestamp_texts(
                    integers(array), unit, between=" ", zone="Z" if aware else "", trim=True
                ),
                quoted,
            ),
        )
    if types.is_time(kind):
        return ArrowColumn(
            "time",
            _written(
                lambda array: temporal.time_texts(
                    integers(array) // (1000 if unit == "ns" else 1), "us" if unit == "ns" else unit
                )
            ),
            _misfits(lambda values: temporal.time_misfits(values, unit)),
            _written(lambda array: temporal.time_texts(integers(array), unit), quoted),
        )
    return ArrowColumn(
        "interval",
        _written(lambda array: temporal.interval_texts(integers(array), unit)),
        _misfits(lambda values: temporal.interval_misfits(values, unit)),
        _written(lambda array: temporal.span_texts(integers(array), unit), quoted),
    )


def _date(kind: Any) -> ArrowColumn:
    if str(kind) == "date32[day]":
        return ArrowColumn(
            "date",
            _written(days_of),
            _misfits(temporal.date_misfits),
            _written(lambda array: temporal.date_texts(integers(array)), quoted),
        )
    day = 86_400_000  # milliseconds
    return ArrowColumn(
        "date",
        _written(lambda array: temporal.date_texts(integers(array) // day)),
        _misfits(lambda values: temporal.date_misfits(values // day) | (values % day != 0)),
        _written(
            lambda array: temporal.timestamp_texts(integers(array), "ms", between=" ", trim=True),
            quoted,
        ),
    )


def _written(
    write: Callable[[Array], Sequence[str]], quote: Callable[[str], str] | None = None
) -> Texts:
    def texts(array: Array) -> list[str]:
        written = write(array)
        return _with_nulls(array, list(map(quote, written) if quote else written))

    return texts


def _misfits(wrong: Callable[[Any], Any]) -> Misfits:
    """Of the integers that the values are; what is missing is 0 there, which fits."""
    return lambda array: wrong(integers(array))
