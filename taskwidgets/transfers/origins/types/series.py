"""Each pandas dtype's Postgres type, and a series' values as COPY takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from taskwidgets.transfers.origins.extras import extra
from taskwidgets.transfers.origins.texts import (
    NULL,
    WRITERS,
    is_missing,
    kind_of,
    quoted,
    type_of_kinds,
)
from taskwidgets.transfers.origins.types import temporal
from taskwidgets.transfers.origins.types.arrow_columns import ArrowColumn, arrow_column
from taskwidgets.transfers.origins.types.arrow_json import ArrowJsonEncoder
from taskwidgets.transfers.origins.types.json_encode import JsonEncoder
from taskwidgets.transfers.origins.types.scalars import exact_text, time_type

__all__ = ["SeriesType", "identity_texts", "missing_values", "series_type"]

CHUNK_VALUES = 25_000  # looked at between two calls of ``breathe``

_OF_VALUES = (ValueError, TypeError, ArithmeticError)  # may be raised for one
_TIMES = ("date", "timestamp", "timestamptz", "interval")

Texts = Callable[["pd.Series[Any]"], list[str]]


@dataclass(frozen=True)
class SeriesType:
    """The Postgres type of a series, and how its values are written.

    ``misfit`` is (row, counted from 1; value; type) where the series is text, as its own type
    cannot hold that value exactly. ``json`` has written the nested values.
    """

    type: str
    texts: Texts
    misfit: tuple[int, str, str] | None = None
    json: JsonEncoder | ArrowJsonEncoder | None = None

    @property
    def has_nonfinite(self) -> bool:
        """Whether there was a NaN or an infinity in the nested values that were written."""
        return self.json is not None and self.json.has_nonfinite


def series_type(column: pd.Series[Any], breathe: Callable[[], None]) -> SeriesType:
    """By the dtype; where that says nothing, by all of the values.

    Raises ValueError where there is no Postgres type for the dtype. ``breathe`` is called now and
    then.
    """
    dtype: Any = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _of_categories(column, breathe)
    if isinstance(dtype, pd.ArrowDtype):
        return _of_arrow(column, dtype, breathe)
    if isinstance(dtype, pd.SparseDtype):
        return _of_sparse(column, dtype, breathe)
    if isinstance(dtype, np.dtype) or hasattr(dtype, "numpy_dtype"):
        known = _of_numbers(dtype)
        if known is not None:
            return known
    if isinstance(dtype, pd.StringDtype):
        return SeriesType("text", _plainly("text"))
    if isinstance(dtype, np.dtype | pd.DatetimeTZDtype) and dtype.kind == "M":
        return _of_timestamps(column)
    if isinstance(dtype, np.dtype) and dtype.kind == "m":
        return _of_timedeltas(column)
    kinds: set[str] = set()
    for start in range(0, len(column), CHUNK_VALUES):
        breathe()
        values = column.iloc[start : start + CHUNK_VALUES].tolist()
        kinds |= {kind_of(value) for value in values if not is_missing(value)}
    kind, writer = type_of_kinds(kinds)
    if writer != "json":
        return SeriesType(kind, _plainly(writer), misfit=_misfit(column, kinds))
    encoder = JsonEncoder()
    return SeriesType(kind, _each(lambda value: quoted(encoder.encode(value))), json=encoder)


def _misfit(column: pd.Series[Any], kinds: set[str]) -> tuple[int, str, str] | None:
    """The first value for which objects of one kind of date or time are text."""
    if "other" not in kinds or not kinds <= {"other", *_TIMES}:
        return None
    for row, value in enumerate(column, start=1):
        if kind_of(value) == "other" and not is_missing(value):
            kind = time_type(value)
            # Else the column would be text in any case.
            fits = kind is not None and kinds <= {"other", kind}
            return (row, exact_text(value), kind) if fits and kind is not None else None
    return None


def missing_values(column: pd.Series[Any]) -> Any:
    """Which values are missing, as booleans."""
    try:
        return column.isna().to_numpy(dtype=bool)
    except ArithmeticError:  # pandas compares decimals, and a signaling NaN does not allow that
        return np.array([is_missing(value) for value in column.tolist()], bool)


def identity_texts(column: pd.Series[Any]) -> Iterator[str]:
    """A text for each value, by which it is told from others."""
    if isinstance(column.dtype, pd.ArrowDtype):
        arrow, loaded = _arrow(column.dtype)
        array = _array(arrow, column)
        try:
            yield from (loaded.as_text or loaded.texts)(array)
        except _OF_VALUES:  # it cannot be loaded, which is told when it is tried
            yield arrow.record_batch([array], ["a"]).serialize().to_pybytes().hex()
        return
    for value in column.tolist():
        try:
            yield f"{type(value).__name__} {WRITERS['text'](value)}"
        except _OF_VALUES:
            yield repr(value)


# ---------------------------------------------------------------------- numbers and other values


_INTEGERS = {
    "int8": "smallint", "int16": "smallint", "int32": "integer", "int64": "bigint",
    "uint8": "smallint", "uint16": "integer", "uint32": "bigint", "uint64": "numeric",
}  # fmt: skip


def _of_numbers(dtype: Any) -> SeriesType | None:
    """For numpy's numbers and pandas' own that may be missing; None for all else."""
    name = str(dtype).lower()
    if name in ("bool", "boolean"):
        return SeriesType("boolean", _plainly("boolean"))
    if name in _INTEGERS:
        return SeriesType(_INTEGERS[name], _plainly("integer"))
    if name in ("float16", "float32"):
        return SeriesType("real", _singles)
    if name == "float64":
        return SeriesType("double precision", _plainly("float"))
    if dtype.kind == "f":  # longer than Postgres' own
        return SeriesType("numeric", _plainly("numeric"))
    return None


def _singles(chunk: pd.Series[Any]) -> list[str]:
    """With the digits of a float of 32 bits: as one of 64 it would have 10 more."""
    values = chunk.to_numpy(dtype="float32", na_value=np.nan)
    return _with_nulls(values.astype(str).tolist(), missing_values(chunk))


def _plainly(writer: str) -> Texts:
    """One value after the other, by one of the writers."""
    write = WRITERS[writer]
    if writer != "text":
        return _each(write)

    def texts(chunk: pd.Series[Any]) -> list[str]:
        values = chunk.tolist()
        if all(type(value) is str for value in values):
            return list(map(quoted, values))
        return _each(write)(chunk)

    return texts


def _each(write: Callable[[Any], str]) -> Texts:
    def texts(chunk: pd.Series[Any]) -> list[str]:
        values, missing = chunk.tolist(), missing_values(chunk)
        if not missing.any():
            return list(map(write, values))
        return [
            NULL if absent else write(value)
            for value, absent in zip(values, missing.tolist(), strict=True)
        ]

    return texts


def _with_nulls(written: list[str], missing: Any) -> list[str]:
    if not missing.any():
        return written
    return [
        NULL if absent else text for text, absent in zip(written, missing.tolist(), strict=True)
    ]


# ---------------------------------------------------------------------- timestamps and timedeltas


def _of_timestamps(column: pd.Series[Any]) -> SeriesType:
    zone = "Z" if isinstance(column.dtype, pd.DatetimeTZDtype) else ""
    kind = "timestamptz" if zone else "timestamp"

    def plain(values: Any, unit: str) -> list[str]:
        if unit == "ns":
            values, unit = values // 1000, "us"
        return temporal.timestamp_texts(values, unit, zone=zone)

    def exact(values: Any, unit: str) -> list[str]:
        texts = temporal.timestamp_texts(values, unit, between=" ", zone=zone, trim=True)
        return list(map(quoted, texts))

    return _of_integers(column, kind, temporal.timestamp_misfits, plain, exact)


def _of_timedeltas(column: pd.Series[Any]) -> SeriesType:
    def exact(values: Any, unit: str) -> list[str]:
        return list(map(quoted, temporal.span_texts(values, unit)))

    return _of_integers(
        column, "interval", temporal.interval_misfits, temporal.interval_texts, exact
    )


def _of_integers(
    column: pd.Series[Any],
    kind: str,
    misfits: Callable[[Any, str], Any],
    plain: Callable[[Any, str], list[str]],
    exact: Callable[[Any, str], list[str]],
) -> SeriesType:
    """For values that are integers with a unit; as text where the type cannot hold them all."""

    def texts(write: Callable[[Any, str], list[str]]) -> Texts:
        def written(chunk: pd.Series[Any]) -> list[str]:
            values, unit, missing = _integers(chunk)
            return _with_nulls(write(values, unit), missing)

        return written

    values, unit, _ = _integers(column)
    wrong = misfits(values, unit)
    if not wrong.any():
        return SeriesType(kind, texts(plain))
    row = int(wrong.argmax())
    return SeriesType(
        "text", texts(exact), misfit=(row + 1, exact(values[row : row + 1], unit)[0], kind)
    )


def _integers(chunk: pd.Series[Any]) -> tuple[Any, str, Any]:
    """(integers, 0 for what is missing; their unit; what is missing)."""
    if isinstance(chunk.dtype, pd.DatetimeTZDtype):
        chunk = chunk.dt.tz_convert("UTC").dt.tz_localize(None)
    values = chunk.to_numpy()
    missing = np.isnat(values)
    integers = values.astype(np.int64)
    integers[missing] = 0
    return integers, np.datetime_data(values.dtype)[0], missing


# ---------------------------------------------------------------------- dtypes around others


def _of_categories(column: pd.Series[Any], breathe: Callable[[], None]) -> SeriesType:
    """The categories are written once; each row only says which it has."""
    categories = pd.Series(column.cat.categories)
    found = series_type(categories, breathe)
    if found.misfit is not None:  # of a category: told by the first row that has it
        number, value, kind = found.misfit
        rows = np.flatnonzero(column.cat.codes.to_numpy() == number - 1)
        found = replace(found, misfit=(int(rows[0]) + 1 if len(rows) else 0, value, kind))
    written = [*found.texts(categories), NULL]  # the code -1 is for nothing

    def texts(chunk: pd.Series[Any]) -> list[str]:
        return [written[code] for code in chunk.cat.codes.tolist()]

    return replace(found, texts=texts)


def _of_sparse(
    column: pd.Series[Any], dtype: pd.SparseDtype, breathe: Callable[[], None]
) -> SeriesType:
    subtype: Any = dtype.subtype
    by_dtype = isinstance(subtype, np.dtype) and subtype.kind in "biuf"
    dense = _dense(column.iloc[:0] if by_dtype else column)
    found = series_type(dense, breathe)
    return replace(found, texts=lambda chunk: found.texts(_dense(chunk)))


def _dense(column: pd.Series[Any]) -> pd.Series[Any]:
    accessor: Any = column.sparse
    dense: pd.Series[Any] = accessor.to_dense()
    return dense


def _of_arrow(
    column: pd.Series[Any], dtype: pd.ArrowDtype, breathe: Callable[[], None]
) -> SeriesType:
    arrow, loaded = _arrow(dtype)
    misfit, misfits = None, loaded.misfits
    if misfits is not None:
        for start in range(0, len(column), CHUNK_VALUES):
            breathe()
            array = _array(arrow, column.iloc[start : start + CHUNK_VALUES])
            wrong = misfits(array)
            if wrong.any():
                place = int(wrong.argmax())
                kind, loaded = loaded.type, loaded.as_text_column()
                (text,) = loaded.texts(array[place : place + 1])
                misfit = (start + place + 1, text, kind)
                break
    return SeriesType(
        loaded.type,
        lambda chunk: loaded.texts(_array(arrow, chunk)),
        misfit=misfit,
        json=loaded.json,
    )


def _arrow(dtype: pd.ArrowDtype) -> tuple[Any, ArrowColumn]:
    arrow = extra("pyarrow", "a column of the DataFrame is Arrow's")
    return arrow, arrow_column(arrow, dtype.pyarrow_dtype)


def _array(arrow: Any, column: pd.Series[Any]) -> Any:
    found = arrow.array(column.array)
    return found.combine_chunks() if isinstance(found, arrow.ChunkedArray) else found
