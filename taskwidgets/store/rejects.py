"""Records that were not loaded: kept in the transaction of the checkpoint that counts them."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, func, select, text, update

from taskwidgets.store.schema import rejects

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "Reject",
    "file_names",
    "forget",
    "mark_replayed",
    "mend",
    "record",
    "table",
    "unloaded",
    "waiting",
]

COLUMNS = ["id", "line", "byte_offset", "raw", "column", "sqlstate", "message", "at", "replayed_at"]
# Not by COPY, which row security forbids (https://www.postgresql.org/docs/current/sql-copy.html).
INSERT = text(
    """
    INSERT INTO taskwidgets.rejects
        (job_id, line, byte_offset, raw, "column", sqlstate, message)
    SELECT :job_id, line, byte_offset, raw, "column", sqlstate, message
    FROM unnest(
        CAST(:lines AS bigint[]), CAST(:offsets AS bigint[]), CAST(:raws AS text[]),
        CAST(:columns AS text[]), CAST(:states AS text[]), CAST(:messages AS text[])
    ) AS found (line, byte_offset, raw, "column", sqlstate, message)
    """
)
FILE_BITS = 40  # of a byte_offset: the place within one of several files, and above it which one
FILES = text("SELECT plan -> 'parts' FROM taskwidgets.jobs WHERE id = :job_id")


@dataclass(frozen=True)
class Reject:
    """A record that was not loaded, and why.

    ``line`` is the physical line of the file, counted from 1, on which it begins, ``byte_offset``
    its first byte; ``raw`` its text without the line ending. ``column`` and ``sqlstate`` are None
    where it is not one column's fault, or not Postgres' finding.
    """

    line: int
    byte_offset: int
    raw: str
    message: str
    column: str | None = None
    sqlstate: str | None = None


def record(connection: Connection, job_id: int, found: Sequence[Reject]) -> None:
    """Keep them, in the caller's transaction; by one statement, as they may be many thousands."""
    if not found:
        return
    connection.execute(
        INSERT,
        {
            "job_id": job_id,
            "lines": [one.line for one in found],
            "offsets": [one.byte_offset for one in found],
            "raws": [_stored(one.raw) for one in found],
            "columns": [_stored(one.column) for one in found],
            "states": [_stored(one.sqlstate) for one in found],
            "messages": [_stored(one.message) for one in found],
        },
    )


def _stored(value: str | None) -> str | None:
    """As a text of Postgres can hold it: a NUL as its symbol, no half of a surrogate pair."""
    if value is None:
        return None
    return value.replace("\0", "\N{SYMBOL FOR NULL}").encode(errors="replace").decode()


def file_names(connection: Connection, job_id: int) -> list[str]:
    """The names of a job's several files, in their order; none where it has one."""
    stored = connection.scalar(FILES, {"job_id": job_id})
    if not stored:
        return []
    if isinstance(stored, list):
        return [part["name"] for part in stored]
    # Of many files, the paths are packed; a name is a path's end, or kept beside it.
    paths = zlib.decompress(base64.b64decode(stored["paths"])).decode().split("\0")
    names, folder = stored["names"], stored["folder"]
    return [names.get(str(number)) or path[folder:] for number, path in enumerate(paths)]


def table(connection: Connection, job_id: int) -> pd.DataFrame:
    """A job's rejects in the order of the file, one row each.

    Of several files, a column ``file`` says which; line and byte_offset are that file's own.
    """
    files = file_names(connection, job_id)
    rows = connection.execute(
        select(*(rejects.c[name] for name in COLUMNS))
        .where(rejects.c.job_id == job_id)
        .order_by(rejects.c.byte_offset)
    ).all()
    import pandas as pd  # a quarter of a second, for those who want a table

    found = pd.DataFrame([tuple(row) for row in rows], columns=COLUMNS)
    if files:
        numbers = [int(place) >> FILE_BITS for place in found["byte_offset"]]
        found.insert(1, "file", pd.Series([files[number] for number in numbers], dtype="object"))
        found["byte_offset"] = [
            int(place) & ((1 << FILE_BITS) - 1) for place in found["byte_offset"]
        ]
    return found


def waiting(
    connection: Connection,
    job_id: int,
    *,
    limit: int,
    offset: int,
    ids: Sequence[int] | None,
    longest: int,
) -> tuple[pd.DataFrame, int]:
    """Some of those that are not loaded yet, in the order of the file, and how many there are.

    Of ``raw``, at most ``longest`` characters and one more, so that what is cut shows. Of several
    files, the message begins with the file's name.
    """
    files = file_names(connection, job_id)
    wanted = [rejects.c.job_id == job_id, rejects.c.replayed_at.is_(None)]
    if ids is not None:
        wanted.append(rejects.c.id.in_(list(ids)))
    total = connection.scalar(select(func.count()).select_from(rejects).where(*wanted)) or 0
    columns = {name: rejects.c[name] for name in ("id", "line", "column", "message")}
    rows = connection.execute(
        select(
            *columns.values(),
            func.left(rejects.c.raw, longest + 1).label("raw"),
            rejects.c.byte_offset,
        )
        .where(*wanted)
        .order_by(rejects.c.byte_offset, rejects.c.id)
        .limit(limit)
        .offset(offset)
    ).all()
    import pandas as pd  # see above

    found = pd.DataFrame([tuple(row) for row in rows], columns=[*columns, "raw", "place"])
    places = found.pop("place")
    if files:
        found["message"] = [
            f"{files[int(place) >> FILE_BITS]}: {message}"
            for place, message in zip(places, found["message"], strict=True)
        ]
    return found, total


def unloaded(connection: Connection, job_id: int, ids: Sequence[int]) -> dict[int, tuple[str, int]]:
    """Of these rejects, those of the job that are not loaded yet, rows locked.

    By number: raw, and the number of the file, among several.
    """
    rows = connection.execute(
        select(rejects.c.id, rejects.c.raw, rejects.c.byte_offset)
        .where(
            rejects.c.job_id == job_id, rejects.c.id.in_(list(ids)), rejects.c.replayed_at.is_(None)
        )
        .order_by(rejects.c.id)
        .with_for_update()
    )
    return {row.id: (row.raw, row.byte_offset >> FILE_BITS) for row in rows}


def mark_replayed(connection: Connection, ids: Sequence[int]) -> None:
    """They are loaded now, by the caller's transaction."""
    connection.execute(
        update(rejects).where(rejects.c.id.in_(list(ids))).values(replayed_at=func.now())
    )


def mend(connection: Connection, reject_id: int, found: Reject) -> None:
    """Keep what somebody made of a record, and what is wrong with that."""
    connection.execute(
        update(rejects)
        .where(rejects.c.id == reject_id)
        .values(raw=found.raw, column=found.column, sqlstate=found.sqlstate, message=found.message)
    )


def forget(connection: Connection, job_id: int) -> None:
    """Delete the job's rejects, when nothing of its file is in the database any more."""
    connection.execute(delete(rejects).where(rejects.c.job_id == job_id))
