"""Which contents uploads have put into which tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, or_, select, text

from taskwidgets.store.schema import loaded_contents

__all__ = ["Content", "LoadedContent", "lock", "of_table", "record"]


AT_ONCE = 1000  # rows of a statement


@dataclass(frozen=True)
class Content:
    """The data of one file, without its header, unpacked.

    ``source`` is what people see; ``source_key`` identifies the source whatever it holds, None
    where it has no name, as a DataFrame.
    """

    source: str
    source_key: str | None
    size: int  # bytes
    crc32: int
    rows: int  # read: loaded and rejected


@dataclass(frozen=True)
class LoadedContent:
    """A content that a job has put into a table."""

    content: Content
    job_id: int
    table_oid: int
    xid: int
    made_table: bool
    at: datetime


def record(
    connection: Connection,
    job_id: int,
    contents: Iterable[Content],
    *,
    table_oid: int,
    table_name: str,
    xid: int,
    made_table: bool,
) -> None:
    """Record what a job put into a table, in the transaction of its cutover."""
    left = iter(contents)
    while some := list(itertools.islice(left, AT_ONCE)):
        connection.execute(
            insert(loaded_contents),
            [
                {
                    "job_id": job_id, "table_oid": table_oid, "table_name": table_name, "xid": xid,
                    "made_table": made_table, "source": one.source, "source_key": one.source_key,
                    "bytes": one.size, "crc32": one.crc32, "rows": one.rows,
                }
                for one in some
            ],
        )  # fmt: skip


def of_table(connection: Connection, table_oid: int, table_name: str) -> list[LoadedContent]:
    """What was put into this table, or into one of this name, the newest first."""
    columns = loaded_contents.c
    found = connection.execute(
        select(loaded_contents)
        .where(or_(columns.table_oid == table_oid, columns.table_name == table_name))
        .order_by(columns.id.desc())
    )
    return [
        LoadedContent(
            Content(row.source, row.source_key, row.bytes, row.crc32, row.rows),
            row.job_id, row.table_oid, row.xid, row.made_table, row.at,
        )
        for row in found
    ]  # fmt: skip


LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


def lock(connection: Connection, table_name: str) -> None:
    """Have one transaction at a time append to a table, until it ends."""
    connection.execute(LOCK, {"name": f"taskwidgets appends to {table_name}"})
