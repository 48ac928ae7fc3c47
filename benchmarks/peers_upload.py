"""Who loads a CSV file into a table, and the limits of the machine."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import common
from peers import (
    BLOCK,
    DUCKDB_TYPES,
    PANDAS_CHUNK,
    Peer,
    Task,
    arrow_type,
    driver,
    duck,
    engine,
    workspace,
)


def by_taskwidgets(task: Task) -> None:
    job = workspace(task.url).upload(task.path, task.table, if_exists="replace", again=True)
    job.wait()


def by_psql(task: Task) -> None:
    common.psql(task.url, f"\\copy {task.table} from '{task.path}' csv header")


def by_psycopg2(task: Task) -> None:
    with driver(task.url) as connection, Path(task.path).open("rb") as file:
        connection.cursor().copy_expert(
            f"COPY {task.table} FROM STDIN WITH (FORMAT csv, HEADER)", file, BLOCK
        )


def by_two_connections(task: Task) -> None:
    """Halves of the file, a thread each; nothing is noted down that one could go on from."""
    faults: list[BaseException] = []

    def load(begin: int, end: int, header: str) -> None:
        try:
            with driver(task.url) as connection, Path(task.path).open("rb", buffering=0) as file:
                file.seek(begin)
                connection.cursor().copy_expert(
                    f"COPY {task.table} FROM STDIN WITH (FORMAT csv{header})",
                    _Stretch(file, end - begin),
                    BLOCK,
                )
        except BaseException as fault:  # noqa: BLE001 - raised below
            faults.append(fault)

    halves = [
        threading.Thread(target=load, args=arguments)
        for arguments in ((0, task.middle, ", HEADER"), (task.middle, task.bytes, ""))
    ]
    for half in halves:
        half.start()
    for half in halves:
        half.join()
    if faults:
        raise faults[0]


class _Stretch(io.RawIOBase):
    """So many bytes of a file from where it stands."""

    def __init__(self, file: io.FileIO, left: int) -> None:
        self._file, self._left = file, left

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(min(size, self._left))
        self._left -= len(piece)
        return piece


def by_adbc(task: Task) -> None:
    from adbc_driver_postgresql import dbapi
    from pyarrow import csv as arrow_csv

    types = {name: arrow_type(kind) for name, kind in task.types.items()}
    with (
        arrow_csv.open_csv(
            task.path,
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types, null_values=[""], strings_can_be_null=True
            ),
        ) as reader,
        dbapi.connect(task.url) as connection,
        connection.cursor() as cursor,
    ):
        cursor.adbc_ingest(task.table, reader, mode="append")
        connection.commit()


def by_duckdb(task: Task) -> None:
    columns = {name: DUCKDB_TYPES[kind] for name, kind in task.types.items()}
    connection = duck(task.url)
    connection.execute("CALL pg_clear_cache()")
    connection.execute(
        f"INSERT INTO pg.public.{task.table} SELECT * FROM read_csv('{task.path}', header = true,"
        f""" delim = ',', quote = '"', escape = '"', nullstr = '', columns = {columns})"""
    )


def by_pandas(task: Task) -> None:
    _pandas(task, None)


def by_pandas_copy(task: Task) -> None:
    _pandas(task, _copy_rows)


def _pandas(task: Task, method: Any) -> None:
    import pandas

    chunks = pandas.read_csv(task.path, chunksize=PANDAS_CHUNK, dtype_backend="numpy_nullable")
    for frame in chunks:
        frame.to_sql(task.table, engine(task.url), if_exists="append", index=False, method=method)


def _copy_rows(table: Any, connection: Any, keys: list[str], rows: Iterable[Any]) -> None:
    """A callable for ``method=``, of the kind that pandas' documentation shows."""
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    buffer.seek(0)
    columns = ", ".join(f'"{key}"' for key in keys)
    with connection.connection.cursor() as cursor:
        cursor.copy_expert(f"COPY {table.name} ({columns}) FROM STDIN WITH CSV", buffer)


def by_server(task: Task) -> None:
    with driver(task.url) as connection:
        connection.cursor().execute(
            f"COPY {task.table} FROM '{task.path}' WITH (FORMAT csv, HEADER)"
        )


def read_alone(task: Task) -> None:
    block, total = bytearray(BLOCK), 0
    with Path(task.path).open("rb", buffering=0) as file:
        while taken := file.readinto(block):
            total += taken
    assert total == task.bytes


PEERS = (
    Peer("taskwidgets", by_taskwidgets, makes_table=True),
    Peer("psql \\copy", by_psql),
    Peer("psycopg2 COPY, one stream", by_psycopg2),
    Peer("psycopg2 COPY, two connections", by_two_connections),
    Peer("ADBC ingest", by_adbc),
    Peer("DuckDB postgres", by_duckdb),
    Peer("pandas.to_sql, COPY callable", by_pandas_copy, is_slow=True),
    Peer("pandas.to_sql", by_pandas, is_slow=True, is_very_slow=True),
    Peer("COPY in the server", by_server, is_limit=True, is_at_server=True),
    Peer("reading the file alone", read_alone, is_limit=True, is_file_only=True),
)
