"""A Parquet file's table: types from its schema, rows in batches, in bounded memory."""

from __future__ import annotations

import marshal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskwidgets.errors import SourceError
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.words import counted
from taskwidgets.sources.parquet_pages import Chunk, chunks
from taskwidgets.tabular.decoding import decoded, decoding
from taskwidgets.tabular.limits import Limits
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
BATCH_BYTES = 8 << 20  # as Arrow has them; five times as many while they become texts
# bytes of a page of each column that is read at the same time: writers keep pages to 1 MiB, or to
# the rows of a row group
PAGES_BYTES = 64 << 20
RUN_BYTES = 24 << 20  # of the pages of all columns that are read at the same time
READ_BYTES = 1 << 20  # from the file at once
VALUE_BYTES = 64  # that a value inside a list takes while it becomes JSON
# Of a row, such values may take so many times the bytes that it may have as text.
MOST_EXPANSION = 10


def spool_parquet(run: Run, spool: Spool, path: Path, limits: Limits) -> Contents:
    """Write the file as the spool's table."""
    with _opened(path, limits) as table:
        run.meter.set(done=0, rows=0, total=table.rows, unit="rows")
        table.decide(lambda: check_wish(run))
        writer = TableWriter(run, spool, table.names, path, limits, path.stat().st_size)
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


def parquet_head(
    path: Path, rows: int, limits: Limits
) -> tuple[dict[str, str], list[list[str]], int]:
    """(types by column, the first rows as texts of COPY, how many rows there are)."""
    with _opened(path, limits) as table:
        table.decide(lambda: None)
        found: list[list[str]] = []
        for texts in table.batches(rows) if rows else ():
            found += map(list, zip(*texts, strict=True))
            if len(found) >= rows:
                break
        return table.types, found[:rows], table.rows


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

    def __init__(self, arrow: Any, path: Path, file: Any, nanoseconds: Any, limits: Limits) -> None:
        """``nanoseconds`` is the file again, which reads INT96 as such."""
        self._arrow, self._path, self._limits = arrow, path, limits
        self._chunks: tuple[int, list[Chunk]] = (-1, [])
        self._longest: dict[tuple[int, int], int] = {}
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
        for group in range(self._file.metadata.num_row_groups):
            runs = self._runs(group)
            most = self._rows_at_once(group, range(len(self._columns)), rows)
            parts = [self._texts(group, run, most, finer, before) for run in runs]
            for texts in parts[0] if len(parts) == 1 else _side_by_side(parts):
                yield texts
                before += len(texts[0])

    # ------------------------------------------------------------------ inside

    def _texts(
        self,
        group: int,
        places: Sequence[int],
        rows: int,
        finer: Mapping[int, RowReader],
        before: int,
    ) -> Iterator[list[list[str]]]:
        """Some columns of a row group, so many rows at once, as texts of COPY."""
        for batch in self._batches(self._file, group, rows, places):
            texts = []
            for place, array in zip(places, batch, strict=True):
                if place in finer:
                    both = self._arrow.concat_arrays(finer[place].read(len(array)))
                    texts.append(int96_texts(array, both))
                else:
                    texts.append(self._written(self._columns[place], array, before))
            yield texts
            before += len(texts[0])

    def _runs(self, group: int) -> list[list[int]]:
        """Columns that can be read at the same time, as their pages fit into the memory."""
        runs: list[list[int]] = []
        room = 0
        for place, column in enumerate(self._columns):
            size = sum(
                chunk.largest + chunk.dictionary for chunk in self._chunks_of(group, [place])
            )
            if size > PAGES_BYTES:
                raise SourceError(
                    f'{self._path}, row group {group + 1:,}, column "{column.name}": a page '
                    f"unpacks to {size:,} bytes; at most {PAGES_BYTES:,} are read at once. Write "
                    "the file with smaller pages or row groups, or leave the column out",
                    path=self._path,
                    column=column.name,
                )
            if size > room:
                runs.append([])
                room = RUN_BYTES
            runs[-1].append(place)
            room -= size
        return runs

    def _chunks_of(self, group: int, places: Sequence[int]) -> list[Chunk]:
        if self._chunks[0] != group:
            with decoding(self._path, WHAT), self._path.open("rb") as file:
                self._chunks = (group, chunks(file, self._file.metadata, group))
        leaves = {leaf for place in places for leaf in self._columns[place].schema.leaves}
        return [chunk for chunk in self._chunks[1] if chunk.leaf in leaves]

    def _rows_at_once(self, group: int, places: Sequence[int], most: int) -> int:
        """How many rows of a row group to read at once, by how long one may be."""
        rows = max(self._file.metadata.row_group(group).num_rows, 1)
        row_bytes = 0.0
        for place in places:
            column = self._columns[place]
            is_nested = self._arrow.types.is_nested(column.schema.field.type)
            for chunk in self._chunks_of(group, [place]):
                value_bytes = max(chunk.densest, self._longest_value(group, chunk))
                if is_nested:
                    value_bytes += VALUE_BYTES
                    values = chunk.values / rows
                    if values * VALUE_BYTES > MOST_EXPANSION * self._limits.row:
                        raise SourceError(
                            f'{self._path}, row group {group + 1:,}, column "{column.name}": '
                            f"{counted(chunk.values, 'value')} in {counted(rows, 'row')} are too "
                            f"many for rows of at most {self._limits.row:,} bytes (max_row)",
                            path=self._path,
                            column=column.name,
                        )
                    value_bytes *= values
                row_bytes += value_bytes
        return max(1, min(most, int(BATCH_BYTES // max(row_bytes, 1.0))))

    def _longest_value(self, group: int, chunk: Chunk) -> int:
        """Bytes of the longest value that stands once in the file, and for many rows."""
        found = self._longest.get((group, chunk.leaf))
        if found is not None:
            return found
        leaf = self._file.schema.column(chunk.leaf)
        if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY":
            return int(leaf.length)
        if leaf.physical_type != "BYTE_ARRAY":
            return 12
        encodings = self._file.metadata.row_group(group).column(chunk.leaf).encodings
        # There, a value is the beginning of the one before, and the rest.
        longest = chunk.largest if "DELTA_BYTE_ARRAY" in encodings else 0
        if chunk.dictionary:
            longest = max(longest, min(chunk.dictionary, self._longest_entry(group, leaf.path)))
        self._longest[group, chunk.leaf] = longest
        return longest

    def _longest_entry(self, group: int, path: str) -> int:
        """Bytes of the longest value of a dictionary."""
        compute = extra("pyarrow.compute", f"{self._path} is a Parquet file")
        parquet = extra("pyarrow.parquet", f"{self._path} is a Parquet file")
        with (
            decoding(self._path, WHAT),
            parquet.ParquetFile(
                self._path, pre_buffer=False, buffer_size=READ_BYTES, read_dictionary=[path]
            ) as file,
        ):
            batch = next(file.iter_batches(1, [group], [path], use_threads=False), None)
            if batch is None:
                return 0
            longest = 0
            arrays = list(batch.columns)
            while arrays:
                array = arrays.pop()
                if self._arrow.types.is_dictionary(array.type):
                    lengths = compute.binary_length(array.dictionary)
                    longest = max(longest, compute.max(lengths).as_py() or 0)
                elif self._arrow.types.is_struct(array.type):
                    arrays += array.flatten()
                elif self._arrow.types.is_map(array.type):
                    arrays += [array.keys, array.items]
                elif self._arrow.types.is_nested(array.type):
                    arrays.append(array.values)
            return int(longest)

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
        places = [column.place]
        for group in range(self._file.metadata.num_row_groups):
            self._runs(group)  # SourceError where a page is too large
            most = self._rows_at_once(group, places, rows)
            for (array,) in self._batches(file, group, most, places):
                yield array

    def _batches(
        self, file: Any, group: int, rows: int, places: Sequence[int]
    ) -> Iterator[list[Any]]:
        """Some columns of a row group, so many rows at once."""
        names = self._file.schema_arrow.names
        # In the file's order: pyarrow gives the columns in the order of the question.
        wanted = list(dict.fromkeys(names[place] for place in sorted(places)))
        # To ask for "a" gives "a.b", too, and each of several columns named "a".
        known = set(wanted)
        given = [
            number
            for number, name in enumerate(names)
            if name in known or any(name[:at] in known for at in _dots(name))
        ]
        batches = file.iter_batches(
            batch_size=rows, row_groups=[group], columns=wanted, use_threads=False
        )
        for batch in decoded(batches, self._path, WHAT):
            yield [batch.column(given.index(place)) for place in places]


def _copied(array: Any, row: int) -> Any:
    """One row, without the others' nested values: a slice of a map still has them."""
    return array.take([row])


def _dots(name: str) -> list[int]:
    """Where a name has dots."""
    return [at for at, sign in enumerate(name) if sign == "."]


def _side_by_side(parts: Sequence[Iterator[list[list[str]]]]) -> Iterator[list[list[str]]]:
    """The columns of all parts, which are read one after the other: texts wait on the disk."""
    with ExitStack() as stack:
        files = []
        for part in parts:
            file = stack.enter_context(tempfile.TemporaryFile())
            for texts in part:
                marshal.dump(texts, file)
            marshal.dump(None, file)
            file.seek(0)
            files.append(file)
        while (first := marshal.load(files[0])) is not None:
            yield first + [texts for file in files[1:] for texts in marshal.load(file)]


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[_Table]:
    arrow = extra("pyarrow", f"{path} is a Parquet file")
    parquet = extra("pyarrow.parquet", f"{path} is a Parquet file")
    with ExitStack() as stack:
        with decoding(path, WHAT):
            # Nanoseconds, which are the default, reach from 1677 to 2262 only.
            file, again = (
                stack.enter_context(
                    parquet.ParquetFile(
                        path,
                        pre_buffer=False,
                        buffer_size=READ_BYTES,  # else each column of a row group is read at once
                        coerce_int96_timestamp_unit=unit,
                    )
                )
                for unit in ("us", "ns")
            )
            table = _Table(arrow, path, file, again, limits)
        yield table
