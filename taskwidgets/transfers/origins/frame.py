"""A pandas data frame as a source: its columns' types from their dtypes, its rows as text.

The index is not loaded: what is to be loaded of it, ``reset_index()`` makes a column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from taskwidgets.errors import SourceError
from taskwidgets.runtime.run import Run
from taskwidgets.tabular.header import MAX_COLUMNS, MAX_NAME_BYTES
from taskwidgets.transfers.origins.origin import FRAME, Given, Origin
from taskwidgets.transfers.origins.spool import Contents, Spool, TableWriter, check_wish, new_spool
from taskwidgets.transfers.origins.texts import (
    NULL,
    WRITERS,
    is_missing,
    kind_of,
    quoted,
    type_of_kinds,
)

__all__ = ["FrameColumn", "frame_columns", "given_frame", "spool_frame"]

NAME = "DataFrame"
CHUNK_FIELDS = 100_000  # written at once: 50 ms of work, after which a wish is heard

Texts = Callable[["pd.Series[Any]"], list[str]]


@dataclass(frozen=True)
class FrameColumn:
    """A column of the frame: its name in the table, its Postgres type, and how it is written."""

    name: str
    type: str
    texts: Texts


def given_frame(frame: pd.DataFrame) -> Given:
    """The frame as a call's source; SourceError where its columns make no table.

    The frame is kept as it is now, whatever becomes of it before it is written: with copy-on-write
    that costs nothing.
    """
    columns = _names(frame)
    rows = len(frame)
    kept = frame.copy(deep=not _copies_on_write())
    return Given(
        identity=f"{NAME} {_content_hash(frame)}",
        origin=Origin(
            kind=FRAME,
            name=f"{NAME} ({rows:,} {'row' if rows == 1 else 'rows'}, "
            f"{len(columns):,} {'column' if len(columns) == 1 else 'columns'})",
            spool=new_spool(),
            columns=columns,
            facts={"name": NAME},
        ),
        short=NAME,
        material=kept,
    )


def spool_frame(run: Run, spool: Spool, frame: pd.DataFrame) -> Contents:
    """Write the frame as the spool's table; Stopped after a wish, and then it begins anew."""
    total = len(frame)
    run.meter.set(done=0, rows=0, total=total, unit="rows")
    columns = list(frame_columns(frame, lambda: check_wish(run)))
    writer = TableWriter(run, spool, [column.name for column in columns])
    try:
        step = max(1, CHUNK_FIELDS // len(columns))
        for start in range(0, total, step):
            check_wish(run)
            chunk = frame.iloc[start : start + step]
            writer.write(
                [column.texts(chunk.iloc[:, place]) for place, column in enumerate(columns)]
            )
            run.meter.add(len(chunk))
        contents = Contents(
            {column.name: column.type for column in columns}, writer.rows, tuple(_notes(frame))
        )
        writer.finish()
    finally:
        writer.close()
    return contents


def frame_columns(
    frame: pd.DataFrame, breathe: Callable[[], None] = lambda: None
) -> Iterator[FrameColumn]:
    """Each column's type, from its dtype; where that says nothing, from all of its values.

    ``breathe`` is called now and then.
    """
    for place, name in enumerate(_names(frame)):
        breathe()
        kind, texts = _decided(frame.iloc[:, place], breathe)
        yield FrameColumn(name, kind, texts)


# ---------------------------------------------------------------------- names and identity


def _names(frame: pd.DataFrame) -> tuple[str, ...]:
    """The columns' labels as names of a table's columns."""
    names = [_name(label) for label in frame.columns]
    if not names:
        raise SourceError("the DataFrame has no columns, so there is nothing to load")
    if len(names) > MAX_COLUMNS:
        raise SourceError(
            f"the DataFrame has {len(names):,} columns; a Postgres table has at most "
            f"{MAX_COLUMNS:,}"
        )
    for number, name in enumerate(names, start=1):
        problem = None
        if not name.strip():
            problem = f"column {number} of the DataFrame has no name"
        elif "\0" in name:
            problem = f"the name of column {number}, {name!r}, holds a NUL character"
        elif (size := len(name.encode("utf-8", errors="replace"))) > MAX_NAME_BYTES:
            problem = (
                f"the name of column {number}, {name!r}, is {size} bytes long; Postgres would cut "
                f"it after {MAX_NAME_BYTES} without a word"
            )
        elif names.count(name) > 1:
            problem = f"the DataFrame has {names.count(name)} columns named {name!r}"
        if problem:
            raise SourceError(f"{problem}; rename it first", column=name or None)
    return tuple(names)


def _name(label: object) -> str:
    """``2013`` -> "2013"; ``("Sales", 2024)`` -> "Sales 2024", as of several header rows."""
    if isinstance(label, tuple):
        return " ".join(part for part in map(_name, label) if part)
    if label is None or (isinstance(label, float) and label != label):
        return ""
    return str(label)


def _content_hash(frame: pd.DataFrame) -> str:
    """SHA-256 of all that is loaded of the frame: labels, dtypes, values and which are missing."""
    digest = hashlib.sha256()
    for place, name in enumerate(_names(frame)):
        column = frame.iloc[:, place]
        digest.update(repr((name, str(column.dtype), len(column))).encode(errors="replace"))
        if isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype(column.cat.categories.dtype)
        try:
            # Each text once: a tenth of the time. Values of several kinds would be mixed up there.
            texts = isinstance(column.dtype, pd.StringDtype)
            hashed = pd.util.hash_pandas_object(column, index=False, categorize=texts)
            digest.update(hashed.to_numpy().tobytes())
        except (TypeError, ValueError):  # lists and their like, of which pandas knows no hash
            for value in column.tolist():
                digest.update(f"{value!r}\0".encode(errors="replace"))
        # Values of several kinds are hashed as text, where None is the word.
        digest.update(np.packbits(column.isna().to_numpy(dtype=bool)).tobytes())
    return digest.hexdigest()


def _copies_on_write() -> bool:
    return int(pd.__version__.partition(".")[0]) >= 3


def _notes(frame: pd.DataFrame) -> Iterator[str]:
    index = frame.index
    if not isinstance(index, pd.RangeIndex) or index.name is not None:
        yield "the DataFrame's index was not loaded; reset_index() makes a column of it"


# ---------------------------------------------------------------------- types and texts


def _decided(column: pd.Series[Any], breathe: Callable[[], None]) -> tuple[str, Texts]:
    """(Postgres type, how the values are written)."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _of_categories(column, breathe)
    if isinstance(dtype, np.dtype) or hasattr(dtype, "numpy_dtype"):
        known = _of_numbers(dtype)
        if known is not None:
            return known
    if isinstance(dtype, pd.StringDtype):
        return "text", _plainly("text")
    if isinstance(dtype, np.dtype | pd.DatetimeTZDtype) and dtype.kind == "M":
        return _of_moments(column)
    kinds: set[str] = set()
    for start in range(0, len(column), CHUNK_FIELDS // 4):
        breathe()
        values = column.iloc[start : start + CHUNK_FIELDS // 4].tolist()
        kinds |= {kind_of(value) for value in values if not is_missing(value)}
    kind, writer = type_of_kinds(kinds)
    return kind, _plainly(writer)


_INTEGERS = {
    "int8": "smallint", "int16": "smallint", "int32": "integer", "int64": "bigint",
    "uint8": "smallint", "uint16": "integer", "uint32": "bigint", "uint64": "numeric",
}  # fmt: skip


def _of_numbers(dtype: Any) -> tuple[str, Texts] | None:
    """For numpy's numbers and pandas' own that may be missing; None for all else."""
    name = str(dtype).lower()
    if name in ("bool", "boolean"):
        return "boolean", _plainly("boolean")
    if name in _INTEGERS:
        return _INTEGERS[name], _plainly("integer")
    if name in ("float16", "float32"):
        return "real", _plainly("float")
    if name == "float64":
        return "double precision", _plainly("float")
    return None


def _of_moments(column: pd.Series[Any]) -> tuple[str, Texts]:
    aware = isinstance(column.dtype, pd.DatetimeTZDtype)
    moments: Any = column.dt.tz_convert("UTC").dt.tz_localize(None) if aware else column
    finer = moments.to_numpy() != moments.to_numpy().astype("datetime64[us]")
    if (finer & ~moments.isna().to_numpy()).any():
        return "text", _plainly("text")  # Postgres keeps microseconds

    def texts(chunk: pd.Series[Any]) -> list[str]:
        naive: Any = chunk.dt.tz_convert("UTC").dt.tz_localize(None) if aware else chunk
        values = naive.to_numpy().astype("datetime64[us]")
        written = np.datetime_as_string(values).tolist()
        end = "Z" if aware else ""
        return [
            NULL if missing else text + end
            for text, missing in zip(written, np.isnat(values).tolist(), strict=True)
        ]

    return ("timestamptz" if aware else "timestamp"), texts


def _of_categories(column: pd.Series[Any], breathe: Callable[[], None]) -> tuple[str, Texts]:
    """The categories are written once; each row only says which it has."""
    categories = pd.Series(column.cat.categories)
    kind, texts = _decided(categories, breathe)
    written = [*texts(categories), NULL]  # the code -1 is for nothing
    return kind, lambda chunk: [written[code] for code in chunk.cat.codes.tolist()]


def _plainly(writer: str) -> Texts:
    """One value after the other, by one of the writers."""
    write = WRITERS[writer]

    def texts(chunk: pd.Series[Any]) -> list[str]:
        values, missing = chunk.tolist(), chunk.isna().to_numpy(dtype=bool)
        if not missing.any():
            if writer == "text" and all(type(value) is str for value in values):
                return list(map(quoted, values))
            return list(map(write, values))
        return [
            NULL if absent else write(value)
            for value, absent in zip(values, missing.tolist(), strict=True)
        ]

    return texts
