"""A Parquet file's table: types from its schema, rows in batches, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskwidgets.errors import SourceError
from taskwidgets.runtime.run import Run
from taskwidgets.tabular.decoding import decoded, decoding
from taskwidgets.transfers.origins.extras import extra
from taskwidgets.transfers.origins.names import table_names
from taskwidgets.transfers.origins.parquet_int96 import RowReader, finer_parts, int96_texts
from taskwidgets.transfers.origins.parquet_schema import (
    SchemaColumn,
    fits_by_statistics,
    schema_columns,
)
from taskwidgets.transfers.origins.spool import Contents, Spool, TableWriter, check_wish
from taskwidgets.transfers.origins.types.arrow_columns import ArrowColumn, arrow_column
from taskwidgets.transfers.origins.types.column_errors import (
    misfit_note,
    nonfinite_note,
    unreadable_column,
    write_column,
)

__all__ = ["parquet_head", "spool_parquet"]

BATCH_FIELDS = 100_000
WHAT = "a Parquet file"


def spool_parquet(run: Run, spool: Spool, path: Path) -> Contents:
    """Write the file as the spool's table."""
    with _opened(path) as table:
        run.meter.set(done=0, rows=0, total=table.rows, unit="rows")
        table.decide(lambda: check_wish(run))
        writer = TableWriter(run, spool, table.names)
        try:
            for texts in table.batches(max(1, BATCH_FIELDS // len(table.names))):
                check_wish(run)
                writer.write(texts)
                run.meter.add(len(texts[0]))
            if writer.rows != table.rows:
                raise SourceError(
                    f"{path} is a Parquet file of {table.rows:,} rows by its own account, and "
                    f"{writer.rows:,} are in it. It is damaged: copy or download it again",
                    path=path,
                )
            contents = Contents(table.types, writer.rows, table.notes, {"empty": table.empty})
            writer.finish()
        finally:
            writer.close()
    return contents


def parquet_head(path: Path, rows: int) -> tuple[dict[str, str], list[list[str]], int]:
    """(types by column, the first rows as texts of COPY, how many rows there are)."""
    with _opened(path) as table:
        table.decide(lambda: None)
        texts = next(table.batches(rows), None) if rows else None
        found = [] if texts is None else [list(row) for row in zip(*texts, strict=True)]
        return table.types, found, table.rows


@dataclass
class _Column:
    """A column: where it is in the file, how it is loaded, and why as text, if it is."""

    name: str
    schema: SchemaColumn
    arrow: ArrowColumn
    note: str | None = None
    has_finer_int96: bool = False


class _Table:
    """The table in a Parquet file that is open."""

    def __init__(self, arrow: Any, path: Path, file: Any, nanoseconds: Any) -> None:
        """``nanoseconds`` is the file again, which reads INT96 as such."""
        self._arrow, self._path = arrow, path
        self._file, self._nanoseconds = file, nanoseconds
        self.names, self._renamed = table_names(file.schema_arrow.names, path)
        self.rows: int = file.metadata.num_rows
        self._columns = [
            _Column(name, column, self._loaded(name, column))
            for name, column in zip(self.names, schema_columns(file), strict=True)
        ]

    def decide(self, breathe: Callable[[], None]) -> None:
        """Look for values that the columns' types cannot hold; such a column becomes text.

        ``breathe`` is called now and then.
        """
        for column in self._columns:
            breathe()
            if column.schema.has_int96 and self._has_finer_int96(column, breathe):
                column.has_finer_int96 = True
                continue
            with decoding(self._path, WHAT):
                fits = fits_by_statistics(self._arrow, column.schema, column.arrow)
            if not fits:
                self._look_for_misfit(column, breathe)

    @property
    def types(self) -> dict[str, str]:
        """Each column's Postgres type."""
        return {column.name: column.arrow.type for column in self._columns}

    @property
    def empty(self) -> list[str]:
        """The columns that can have no value, by their type."""
        is_null = self._arrow.types.is_null
        return [one.name for one in self._columns if is_null(one.schema.field.type)]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the receipt should know, once all is written."""
        texts = [column.note for column in self._columns if column.note]
        nonfinite = [one.name for one in self._columns if one.arrow.json.has_nonfinite]
        return (*self._renamed, *texts, *nonfinite_note(nonfinite))

    def batches(self, rows: int) -> Iterator[list[list[str]]]:
        """The rows, so many at once, as texts of COPY by column."""
        finer = {
            number: RowReader(self._arrays(self._nanoseconds, column.schema, rows))
            for number, column in enumerate(self._columns)
            if column.has_finer_int96
        }
        before = 0
        for batch in self._batches(self._file, rows):
            texts = []
            for number, column in enumerate(self._columns):
                array = batch.column(number)
                if number in finer:
                    both = self._arrow.concat_arrays(finer[number].read(len(array)))
                    texts.append(int96_texts(array, both))
                else:
                    texts.append(self._written(column, array, before))
            yield texts
            before += batch.num_rows

    # ------------------------------------------------------------------ inside

    def _loaded(self, name: str, column: SchemaColumn) -> ArrowColumn:
        try:
            return arrow_column(self._arrow, column.field.type, column.extension)
        except ValueError as error:
            raise unreadable_column(str(self._path), name, error, self._path) from None

    def _written(self, column: _Column, array: Any, before: int) -> list[str]:
        return write_column(
            column.arrow.texts,
            lambda start, end: array[start:end],
            len(array),
            (str(self._path), column.name, before, self._path),
        )

    def _look_for_misfit(self, column: _Column, breathe: Callable[[], None]) -> None:
        if column.arrow.misfits is None:
            return
        before = 0
        for array in self._arrays(self._file, column.schema, BATCH_FIELDS):
            breathe()
            with decoding(self._path, WHAT):
                wrong = column.arrow.misfits(array)
            if wrong.any():
                place = int(wrong.argmax())
                self._make_text(column, array[place : place + 1], before + place + 1)
                return
            before += len(array)

    def _has_finer_int96(self, column: _Column, breathe: Callable[[], None]) -> bool:
        """Whether there are nanoseconds; SourceError where they are inside nested values."""
        before = 0
        reader = RowReader(self._arrays(self._nanoseconds, column.schema, BATCH_FIELDS))
        is_nested = self._arrow.types.is_nested(column.schema.field.type)
        for array in self._arrays(self._file, column.schema, BATCH_FIELDS):
            breathe()
            other = self._arrow.concat_arrays(reader.read(len(array)))
            if any(part.any() for part in finer_parts(array, other)):
                row = next(
                    number
                    for number in range(len(array))
                    for part in finer_parts(_copied(array, number), _copied(other, number))
                    if part.any()
                )
                if is_nested:
                    raise SourceError(
                        f'{self._path}, row {before + row + 1:,}, column "{column.name}": an INT96 '
                        "timestamp inside a nested value is finer than a microsecond, which cannot "
                        "be loaded exactly. Write the file with another type of timestamp",
                        path=self._path,
                        column=column.name,
                    )
                (text,) = int96_texts(array[row : row + 1], other[row : row + 1])
                column.note = misfit_note(column.name, before + row + 1, text, column.arrow.type)
                column.arrow = column.arrow.as_text_column()
                return True
            before += len(array)
        if not is_nested:
            self._look_for_misfit(column, breathe)
        return False

    def _make_text(self, column: _Column, value: Any, row: int) -> None:
        loaded = column.arrow.as_text_column()
        column.note = misfit_note(column.name, row, loaded.texts(value)[0], column.arrow.type)
        column.arrow = loaded

    def _arrays(self, file: Any, column: SchemaColumn, rows: int) -> Iterator[Any]:
        """A column's values, so many at once."""
        names = self._file.schema_arrow.names
        name = names[column.place]
        # To ask for "a" gives "a.b", too, and each of several columns named "a".
        given = [n for n, one in enumerate(names) if one == name or one.startswith(f"{name}.")]
        for batch in self._batches(file, rows, columns=[name]):
            yield batch.column(given.index(column.place))

    def _batches(self, file: Any, rows: int, **options: Any) -> Iterator[Any]:
        batches = file.iter_batches(batch_size=rows, use_threads=False, **options)
        return decoded(batches, self._path, WHAT)


def _copied(array: Any, row: int) -> Any:
    """One row, without the others' nested values: a slice of a map still has them."""
    return array.take([row])


@contextmanager
def _opened(path: Path) -> Iterator[_Table]:
    arrow = extra("pyarrow", f"{path} is a Parquet file")
    parquet = extra("pyarrow.parquet", f"{path} is a Parquet file")
    with ExitStack() as stack:
        with decoding(path, WHAT):
            # Nanoseconds, which are the default, reach from 1677 to 2262 only.
            file, again = (
                stack.enter_context(
                    parquet.ParquetFile(path, pre_buffer=False, coerce_int96_timestamp_unit=unit)
                )
                for unit in ("us", "ns")
            )
            table = _Table(arrow, path, file, again)
        yield table
