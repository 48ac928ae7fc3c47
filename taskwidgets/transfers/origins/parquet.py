"""A Parquet file's table: types from its schema, rows in batches, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskwidgets.errors import SourceError
from taskwidgets.runtime.run import Run
from taskwidgets.transfers.origins.extras import extra
from taskwidgets.transfers.origins.names import table_names
from taskwidgets.transfers.origins.spool import Contents, Spool, TableWriter, check_wish
from taskwidgets.transfers.origins.texts import NULL, WRITERS

__all__ = ["parquet_head", "spool_parquet"]

BATCH_FIELDS = 100_000

Texts = Callable[[Any], list[str]]  # of an Arrow array


def spool_parquet(run: Run, spool: Spool, path: Path) -> Contents:
    """Write the file as the spool's table."""
    arrow = extra("pyarrow", f"{path} is a Parquet file")
    with _opened(path) as file:
        run.meter.set(done=0, rows=0, total=file.metadata.num_rows, unit="rows")
        columns, notes = _columns(arrow, file, path, lambda: check_wish(run))
        writer = TableWriter(run, spool, [name for name, _, _ in columns])
        try:
            for batch in _batches(file, path, max(1, BATCH_FIELDS // len(columns))):
                check_wish(run)
                writer.write(
                    [texts(batch.column(place)) for place, (_, _, texts) in enumerate(columns)]
                )
                run.meter.add(batch.num_rows)
            types = {name: kind for name, kind, _ in columns}
            empty = [
                name
                for name, field in zip(types, file.schema_arrow, strict=True)
                if arrow.types.is_null(field.type)
            ]
            contents = Contents(types, writer.rows, notes, {"empty": empty})
            writer.finish()
        finally:
            writer.close()
    return contents


def parquet_head(path: Path, rows: int) -> tuple[dict[str, str], list[list[str]], int]:
    """(types by column, the first rows as texts of COPY, how many rows there are)."""
    arrow = extra("pyarrow", f"{path} is a Parquet file")
    with _opened(path) as file:
        columns, _ = _columns(arrow, file, path, lambda: None)
        found: list[list[str]] = []
        if rows:
            batch = next(iter(_batches(file, path, rows)), None)
            if batch is not None:
                texts = [texts(batch.column(n)) for n, (_, _, texts) in enumerate(columns)]
                found = [list(row) for row in zip(*texts, strict=True)]
        return {name: kind for name, kind, _ in columns}, found, file.metadata.num_rows


def _opened(path: Path) -> Any:
    parquet = extra("pyarrow.parquet", f"{path} is a Parquet file")
    try:
        return parquet.ParquetFile(path, pre_buffer=False)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise SourceError(
            f"{path} is a Parquet file that cannot be read: {error}", path=path
        ) from (error)


def _batches(file: Any, path: Path, rows: int) -> Any:
    try:
        yield from file.iter_batches(batch_size=rows, use_threads=False)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path} is a Parquet file that cannot be read: {error}", path=path
        ) from (error)


def _columns(
    arrow: Any, file: Any, path: Path, breathe: Callable[[], None]
) -> tuple[list[tuple[str, str, Texts]], tuple[str, ...]]:
    """(name, Postgres type, how the values are written) of each column; and notes."""
    schema = file.schema_arrow
    names, notes = table_names(schema.names, path)
    found = []
    for place, name in enumerate(names):
        breathe()
        kind, texts = _decided(arrow, schema.field(place).type, file, place, path)
        found.append((name, kind, texts))
    return found, notes


def _decided(arrow: Any, kind: Any, file: Any, place: int, path: Path) -> tuple[str, Texts]:
    types = arrow.types
    if isinstance(kind, arrow.BaseExtensionType):
        inner, texts = _decided(arrow, kind.storage_type, file, place, path)
        return inner, lambda array: texts(array.storage)
    if types.is_dictionary(kind):
        inner, texts = _decided(arrow, kind.value_type, file, place, path)
        return inner, lambda array: texts(array.dictionary_decode())
    if str(kind) in _PLAIN:
        name, writer = _PLAIN[str(kind)]
        return name, _plainly(writer)
    if types.is_decimal(kind):
        return ("numeric" if kind.scale < 0 else f"numeric({kind.precision},{kind.scale})",
                _plainly("numeric"))  # fmt: skip
    if types.is_timestamp(kind) or types.is_time(kind) or types.is_duration(kind):
        return _of_moments(arrow, kind, file, place, path)
    if types.is_nested(kind):
        return "jsonb", _plainly("json")
    if types.is_fixed_size_binary(kind):
        return "bytea", _plainly("bytes")
    return "text", _plainly("text")


_PLAIN = {
    "bool": ("boolean", "boolean"),
    "int8": ("smallint", "integer"),
    "uint8": ("smallint", "integer"),
    "int16": ("smallint", "integer"),
    "uint16": ("integer", "integer"),
    "int32": ("integer", "integer"),
    "uint32": ("bigint", "integer"),
    "int64": ("bigint", "integer"),
    "uint64": ("numeric", "integer"),
    "halffloat": ("real", "float"),
    "float": ("real", "float"),
    "double": ("double precision", "float"),
    "binary": ("bytea", "bytes"),
    "large_binary": ("bytea", "bytes"),
    "date32[day]": ("date", "date"),
    "date64[ms]": ("date", "date"),
}


def _of_moments(arrow: Any, kind: Any, file: Any, place: int, path: Path) -> tuple[str, Texts]:
    """In microseconds, as Postgres has them; where any of the values is finer, they are text."""
    types = arrow.types
    zone = getattr(kind, "tz", None)
    if types.is_timestamp(kind):
        name, end = ("timestamp", "") if zone is None else ("timestamptz", "Z")
        naive, wanted = arrow.timestamp(kind.unit), arrow.timestamp("us")
    elif types.is_duration(kind):
        name, end, naive, wanted = "interval", " microseconds", kind, arrow.duration("us")
    else:
        name, end, naive, wanted = "time", "", kind, arrow.time64("us")
    finer = kind.unit == "ns" and not _all_fit(arrow, naive, wanted, file, place, path)
    final = arrow.int64() if name == "interval" else arrow.string()

    def texts(array: Any) -> list[str]:
        array = array.cast(naive)  # a moment of a zone is one of UTC
        if not finer:
            array = array.cast(wanted)
        written = array.cast(final).to_pylist()
        if finer:
            return [NULL if one is None else f'"{one}{end}"' for one in written]
        return [NULL if one is None else f"{one}{end}" for one in written]

    return ("text" if finer else name), texts


def _all_fit(arrow: Any, naive: Any, wanted: Any, file: Any, place: int, path: Path) -> bool:
    name = file.schema_arrow.names[place]
    for batch in file.iter_batches(batch_size=BATCH_FIELDS, columns=[name], use_threads=False):
        try:
            batch.column(0).cast(naive).cast(wanted)
        except arrow.ArrowInvalid:
            return False
    return True


def _plainly(writer: str) -> Texts:
    write = WRITERS[writer]
    return lambda array: [NULL if one is None else write(one) for one in array.to_pylist()]
