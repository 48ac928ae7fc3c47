"""Who writes a table into a CSV file, and the limits of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import common
from peers import BLOCK, PANDAS_CHUNK, Peer, Task, driver, duck, engine, workspace


def by_taskwidgets(task: Task) -> None:
    workspace(task.url).download(task.table, task.path, again=True).wait()


def by_psql(task: Task) -> None:
    common.psql(task.url, f"\\copy {task.table} to '{task.path}' csv header")


def by_psycopg2(task: Task) -> None:
    with driver(task.url) as connection, Path(task.path).open("wb", buffering=BLOCK) as file:
        connection.cursor().copy_expert(
            f"COPY {task.table} TO STDOUT WITH (FORMAT csv, HEADER)", file, BLOCK
        )


def by_adbc(task: Task) -> None:
    from adbc_driver_postgresql import dbapi
    from pyarrow import csv as arrow_csv

    with dbapi.connect(task.url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {task.table}")
        reader = cursor.fetch_record_batch()
        with arrow_csv.CSVWriter(task.path, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)


def by_duckdb(task: Task) -> None:
    connection = duck(task.url)
    connection.execute("CALL pg_clear_cache()")
    connection.execute(
        f"COPY (SELECT * FROM pg.public.{task.table}) TO '{task.path}' (FORMAT csv, HEADER)"
    )


def by_pandas(task: Task) -> None:
    import pandas

    with engine(task.url).connect().execution_options(stream_results=True) as connection:
        frames = pandas.read_sql(
            f"SELECT * FROM {task.table}",
            connection,
            chunksize=PANDAS_CHUNK,
            dtype_backend="numpy_nullable",
        )
        for number, frame in enumerate(frames):
            frame.to_csv(task.path, mode="a" if number else "w", header=not number, index=False)


def by_server(task: Task) -> None:
    with driver(task.url) as connection:
        connection.cursor().execute(f"COPY {task.table} TO '{task.path}' WITH (FORMAT csv, HEADER)")


def write_alone(task: Task) -> None:
    block = os.urandom(BLOCK)
    with Path(task.path).open("wb", buffering=0) as file:
        for begin in range(0, task.bytes, BLOCK):
            file.write(block[: task.bytes - begin])
        os.fsync(file.fileno())
    assert Path(task.path).stat().st_size == task.bytes


PEERS = (
    Peer("taskwidgets", by_taskwidgets),
    Peer("psql \\copy", by_psql),
    Peer("psycopg2 COPY, one stream", by_psycopg2),
    Peer("ADBC reader, pyarrow's writer", by_adbc),
    Peer("DuckDB postgres", by_duckdb),
    Peer("pandas.read_sql in chunks", by_pandas, is_slow=True),
    Peer("COPY in the server", by_server, is_limit=True, is_at_server=True),
    Peer("writing the file alone, with fsync", write_alone, is_limit=True, is_file_only=True),
)
