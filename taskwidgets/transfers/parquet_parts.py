"""A part as a Parquet file: COPY's CSV, parsed and written by pyarrow, a row group at a time.

The types are those of the columns where Parquet has them: booleans, integers, floats, dates,
timestamps (in microseconds, those with a zone in UTC), and numerics of a declared precision up to
38 digits as decimals. All others are text as Postgres writes it; so is a numeric without a
precision, whose digits no type of Parquet would hold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from taskwidgets.errors import TargetError
from taskwidgets.tabular.boundaries import scan
from taskwidgets.transfers.origins.extras import extra
from taskwidgets.transfers.part_formats import Sink
from taskwidgets.transfers.reader import Piece

__all__ = ["ParquetPart", "arrow_type"]

WHAT = "a Parquet file is written by pyarrow"
# Of CSV, parsed at once, and a row group. Measured, with its columns, its pages and their packed
# form in memory: 45 MB for each worker; with twice as much, 65, and no faster.
GROUP_BYTES = 4 << 20
QUOTE = ord('"')

_PLAIN = {
    "boolean": "bool_",
    "smallint": "int16",
    "integer": "int32",
    "bigint": "int64",
    "oid": "uint32",
    "real": "float32",
    "double precision": "float64",
    "date": "date32",
}
_DECIMAL = re.compile(r"numeric\((\d+),(\d+)\)")
MOST_DIGITS = 38  # of a decimal that every reader knows
_REFUSED = re.compile(r"In CSV column #(\d+): (?:Row #\d+: )?(.*)", re.DOTALL)


def arrow_type(arrow: Any, kind: str) -> Any:
    """The type of a column in the file, by its type in Postgres; ``arrow`` is pyarrow."""
    if kind in _PLAIN:
        return getattr(arrow, _PLAIN[kind])()
    if kind == "timestamp without time zone":
        return arrow.timestamp("us")
    if kind == "timestamp with time zone":
        return arrow.timestamp("us", tz="UTC")
    found = _DECIMAL.fullmatch(kind)
    if found and int(found[2]) <= int(found[1]) <= MOST_DIGITS:
        return arrow.decimal128(int(found[1]), int(found[2]))
    return arrow.string()


class ParquetPart:
    """Writes one file; the CSV is what COPY gives by default, without a header."""

    def __init__(self, file: Sink, columns: Sequence[str], types: Sequence[str]) -> None:
        self.rows: int | None = 0
        self._arrow = arrow = extra("pyarrow", WHAT)
        self._csv = extra("pyarrow.csv", WHAT)
        self._columns = list(columns)
        self._types = list(types)
        self._schema = arrow.schema(
            [(name, arrow_type(arrow, kind)) for name, kind in zip(columns, types, strict=True)]
        )
        # By their places: a query's columns may have any names.
        places = [f"c{place}" for place in range(len(self._columns))]
        self._reading = {"column_names": places, "use_threads": False}
        self._parsing = self._csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
        self._converting = self._csv.ConvertOptions(
            column_types=dict(zip(places, self._schema.types, strict=True)),
            # NULL is nothing at all, an empty text is a pair of quotes.
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        )
        self._text = bytearray()  # that is not written yet
        self._end = 0  # of the last record that is whole
        self._inside = False  # a quote is open at the text's end
        parquet = extra("pyarrow.parquet", WHAT)
        self._writer = parquet.ParquetWriter(
            arrow.PythonFile(file, mode="w"), self._schema, compression="zstd"
        )

    def take(self, piece: Piece) -> None:
        found = scan(piece, QUOTE, self._inside)
        if found.records:
            self._end = len(self._text) + found.last
        self._inside = found.inside
        self._text += piece
        if len(self._text) >= GROUP_BYTES and self._end:
            self._write()

    def finish(self) -> None:
        if self._text:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        text = bytes(memoryview(self._text)[: self._end])
        del self._text[: self._end]
        self._end = 0
        try:
            table = self._csv.read_csv(
                self._arrow.py_buffer(text),
                read_options=self._csv.ReadOptions(**self._reading, block_size=len(text) + 1),
                parse_options=self._parsing,
                convert_options=self._converting,
            )
        except self._arrow.ArrowInvalid as error:
            raise self._refused(str(error)) from None
        self._writer.write_table(table.rename_columns(self._columns))
        assert self.rows is not None
        self.rows += table.num_rows
        del table
        # Else each thread keeps what it has freed: measured, half as much again.
        self._arrow.default_memory_pool().release_unused()

    def _refused(self, words: str) -> TargetError:
        found = _REFUSED.match(words)
        if found is None:
            return TargetError(f"the rows cannot be written as Parquet: {words}")
        name, kind = self._columns[int(found[1])], self._types[int(found[1])]
        return TargetError(
            f'column "{name}" ({kind}) holds a value that Parquet\'s type has no place for: '
            f"{found[2]}. Export a query that has it as text, such as {name}::text"
        )
