"""A pandas data frame as a source: its columns' types from their dtypes, its rows as text.

The index is not loaded: what is to be loaded of it, ``reset_index()`` makes a column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from taskwidgets.errors import SourceError
from taskwidgets.runtime.run import Run
from taskwidgets.tabular.header import MAX_COLUMNS, MAX_NAME_BYTES
from taskwidgets.tabular.limits import Limits
from taskwidgets.transfers.origins.origin import FRAME, Given, Origin
from taskwidgets.transfers.origins.spool import Contents, Spool, TableWriter, check_wish, new_spool
from taskwidgets.transfers.origins.types.column_errors import (
    misfit_note,
    nonfinite_note,
    unreadable_column,
    write_column,
)
from taskwidgets.transfers.origins.types.series import (
    SeriesType,
    identity_texts,
    missing_values,
    series_type,
)

__all__ = ["FrameColumn", "frame_columns", "given_frame", "spool_frame"]

NAME = "DataFrame"
CHUNK_FIELDS = 100_000  # written at once: 50 ms of work, after which a wish is heard


@dataclass(frozen=True)
class FrameColumn:
    """A column of the frame: its name in the table, and how it is loaded."""

    name: str
    series: SeriesType
    source: str

    @property
    def type(self) -> str:
        """Its Postgres type."""
        return self.series.type

    def texts(self, chunk: pd.Series[Any], before: int) -> list[str]:
        """Some of its values as COPY takes them; ``before`` is how many come before them.

        Raises SourceError, with column and row, for a value that cannot be written.
        """
        return write_column(
            self.series.texts,
            lambda start, end: chunk.iloc[start:end],
            len(chunk),
            (self.source, self.name, before, None),
        )


def given_frame(frame: pd.DataFrame) -> Given:
    """The frame as a call's source; SourceError where its columns make no table.

    The frame is kept as it is now, whatever becomes of it before it is written: with copy-on-write
    that costs nothing.
    """
    columns = _names(frame)
    kept = frame.copy(deep=not _copies_on_write())
    return Given(
        identity=f"{NAME} {_content_hash(frame)}",
        origin=Origin(
            kind=FRAME,
            name=_described(frame),
            spool=new_spool(),
            columns=columns,
            facts={"name": NAME},
        ),
        short=NAME,
        material=kept,
    )


def spool_frame(run: Run, spool: Spool, frame: pd.DataFrame, limits: Limits) -> Contents:
    """Write the frame as the spool's table; Stopped after a wish, and then it begins anew."""
    total = len(frame)
    run.meter.set(done=0, rows=0, total=total, unit="rows")
    columns = list(frame_columns(frame, lambda: check_wish(run)))
    writer = TableWriter(run, spool, [column.name for column in columns], _described(frame), limits)
    try:
        step = max(1, CHUNK_FIELDS // len(columns))
        for start in range(0, total, step):
            check_wish(run)
            chunk = frame.iloc[start : start + step]
            writer.write(
                [column.texts(chunk.iloc[:, place], start) for place, column in enumerate(columns)]
            )
            run.meter.add(len(chunk))
        contents = Contents(
            {column.name: column.type for column in columns},
            writer.rows,
            tuple(_notes(frame, columns)),
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
    source = _described(frame)
    for place, name in enumerate(_names(frame)):
        breathe()
        try:
            series = series_type(frame.iloc[:, place], breathe)
        except ValueError as error:
            raise unreadable_column(source, name, error, None) from None
        yield FrameColumn(name, series, source)


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


def _described(frame: pd.DataFrame) -> str:
    rows, columns = frame.shape
    return (
        f"{NAME} ({rows:,} {'row' if rows == 1 else 'rows'}, "
        f"{columns:,} {'column' if columns == 1 else 'columns'})"
    )


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
        try:
            _hash_values(digest, column)
        except ValueError as error:
            raise unreadable_column(_described(frame), name, error, None) from None
    return digest.hexdigest()


def _hash_values(digest: Any, column: pd.Series[Any]) -> None:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categories = pd.Series(column.cat.categories)
        digest.update(repr((str(categories.dtype), len(categories))).encode(errors="replace"))
        _hash_values(digest, categories)
        digest.update(column.cat.codes.to_numpy(dtype="int64").tobytes())
        return
    texts = isinstance(dtype, pd.StringDtype)
    try:
        if isinstance(dtype, pd.ArrowDtype) and dtype.kind not in "biuf":
            raise TypeError("pandas hashes Python's values, which cannot be all of Arrow's")
        # Each text once: a tenth of the time. Values of several kinds would be mixed up there.
        hashed = pd.util.hash_pandas_object(column, index=False, categorize=texts)
        digest.update(hashed.to_numpy().tobytes())
    except (TypeError, ValueError, ArithmeticError, NotImplementedError):
        # Of lists and their like, pandas knows no hash.
        for text in identity_texts(column):
            digest.update(f"{text}\0".encode(errors="replace"))
    # Values of several kinds are hashed as text, where None is the word.
    digest.update(np.packbits(missing_values(column)).tobytes())


def _copies_on_write() -> bool:
    return int(pd.__version__.partition(".")[0]) >= 3


def _notes(frame: pd.DataFrame, columns: Sequence[FrameColumn]) -> Iterator[str]:
    index = frame.index
    if not isinstance(index, pd.RangeIndex) or index.name is not None:
        yield "the DataFrame's index was not loaded; reset_index() makes a column of it"
    for column in columns:
        if column.series.misfit is not None:
            yield misfit_note(column.name, *column.series.misfit)
    yield from nonfinite_note([one.name for one in columns if one.series.has_nonfinite])
