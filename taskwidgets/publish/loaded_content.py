"""An append that would load rows again: found by the content, not by the file's name.

The checkpoints have the CRC-32 of all data, unpacked and without the header. Two contents are taken
for the same if length and CRC-32 are equal; that differing contents are is as likely as 1 to four
billion, and ends with an error, not with lost rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from psycopg2 import sql
from sqlalchemy import Connection, text
from zlib_ng import zlib_ng

from taskwidgets.errors import AlreadyLoaded
from taskwidgets.runtime.words import counted
from taskwidgets.store import loaded_contents
from taskwidgets.store.driver import users_path
from taskwidgets.store.loaded_contents import Content, LoadedContent
from taskwidgets.tabular.stream import Stream

__all__ = ["Target", "checksums", "combined_crc32", "known_contents", "refuse_loaded"]

BLOCK = 1 << 20  # bytes
CHOICES = "again=True loads it all the same"


@dataclass(frozen=True)
class Target:
    """The table that is appended to: its ``identifier`` in SQL, its ``name`` as shown."""

    oid: int
    kind: str  # pg_class.relkind
    name: str
    identifier: sql.Identifier


def combined_crc32(pieces: Iterable[tuple[int, int]]) -> int:
    """The CRC-32 of pieces that follow each other, of each its length and its CRC-32."""
    crc32 = 0
    for length, own in pieces:
        crc32 = zlib_ng.crc32_combine(crc32, own, length)
    return crc32


def checksums(
    stream: Stream,
    start: int,
    stop: int | None,
    lengths: Iterable[int],
    on_block: Callable[[], None],
) -> dict[int, int]:
    """The CRC-32 of the first bytes from ``start`` on: of each of these lengths, and of all.

    ``stop`` is behind the last byte, None: the stream's end. Lengths that are longer are left out.
    ``on_block`` is called after each MiB.
    """
    found: dict[int, int] = {}
    crc32 = position = 0
    end = None if stop is None else stop - start
    for before, length in pairwise([0, *sorted({*lengths}), 1 << 62]):
        position = before
        goal = length if end is None else min(length, end)
        while position < goal:
            block = stream.read_at(start + position, min(BLOCK, goal - position))
            if not block:
                break
            crc32 = zlib_ng.crc32(block, crc32)
            position += len(block)
            on_block()
        if position == length:
            found[length] = crc32
        else:  # the end
            found[position] = crc32
            break
    return found


def known_contents(connection: Connection, target: Target) -> list[LoadedContent]:
    """What earlier jobs put into the target; nothing where it is proven to be gone."""
    known = loaded_contents.of_table(connection, target.oid, target.name)
    if known and target.kind in ("r", "p") and not _hides_rows(connection, target):
        cursor = connection.connection.cursor()
        try:
            with users_path(connection):  # the table's policies may call users' functions
                cursor.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(target.identifier))
            if not cursor.fetchall()[0][0]:
                return []
        finally:
            cursor.close()
    return known


def refuse_loaded(
    connection: Connection,
    target: Target,
    known: Sequence[LoadedContent],
    new: Sequence[tuple[Content, Mapping[int, int]]],
) -> None:
    """AlreadyLoaded where a new content, or its beginning, or its source is known.

    ``new``: each content, and its `checksums`.
    """
    by_content: dict[tuple[int, int], LoadedContent] = {}
    by_source: dict[str, LoadedContent] = {}
    for one in reversed(known):
        by_content[one.content.size, one.content.crc32] = one
        if one.content.source_key is not None:
            by_source[one.content.source_key] = one
    same = [
        (content, loaded)
        for content, _ in new
        if content.size and (loaded := by_content.get((content.size, content.crc32)))
    ]
    if same:
        raise AlreadyLoaded(_same(connection, target, same, len(new)))
    for content, crc32s in new:
        for length, crc32 in sorted(crc32s.items(), reverse=True):
            loaded = by_content.get((length, crc32))
            if loaded is not None and 0 < length < content.size:
                rows = counted(loaded.content.rows, "row")
                raise AlreadyLoaded(
                    f"{content.source} begins with what {_job(loaded)} put into "
                    f'"{target.name}": {rows} would be there twice. Load a file with the new rows '
                    f"only; {CHOICES}"
                )
    for content, _ in new:
        loaded = by_source.get(content.source_key or "")
        if loaded is not None:
            rows = counted(loaded.content.rows, "row")
            raise AlreadyLoaded(
                f"{content.source} was changed since {_job(loaded)} put {rows} of it into "
                f'"{target.name}", which an append does not replace. Delete them first, or choose '
                f'if_exists="replace"; {CHOICES}'
            )


def _same(
    connection: Connection,
    target: Target,
    same: Sequence[tuple[Content, LoadedContent]],
    number: int,
) -> str:
    content, loaded = same[0]
    what = content.source
    if number > 1:
        what = f"{len(same):,} of {number:,} files, the first {content.source},"
    others = "" if loaded.content.source == content.source else f" from {loaded.content.source}"
    doubt = _doubt(connection, target, loaded)
    return (
        f"{what} {'has' if number == 1 else 'have'} the same content as what {_job(loaded)} put "
        f'into "{target.name}"{others}{doubt}. Nothing was appended; {CHOICES}'
    )


def _job(loaded: LoadedContent) -> str:
    return f"job {loaded.job_id} ({loaded.at:%Y-%m-%d %H:%M} UTC)"


def _doubt(connection: Connection, target: Target, loaded: LoadedContent) -> str:
    """What is to be said where nobody can tell whether the rows still are in the table."""
    if target.kind not in ("r", "p"):
        return "; of a view or a foreign table, it is unknown whether the rows are still there"
    if _hides_rows(connection, target):
        return (
            "; its row security hides rows from this role, so it is unknown whether they are there"
        )
    if target.oid != loaded.table_oid:
        return "; the table was made anew since, so it is unknown whether the rows are there"
    condition = (
        "pg_catalog.age(xmin) OPERATOR(pg_catalog.>=) pg_catalog.age({1})"
        if loaded.made_table
        else "xmin OPERATOR(pg_catalog.=) {1}"
    )
    xid = sql.SQL("{}::pg_catalog.text::pg_catalog.xid").format(sql.Literal(str(loaded.xid)))
    statement = sql.SQL(f"SELECT EXISTS (SELECT FROM {{0}} WHERE {condition})")
    cursor = connection.connection.cursor()
    try:
        with users_path(connection):
            cursor.execute(statement.format(target.identifier, xid))
        if cursor.fetchall()[0][0]:
            return ""
    finally:
        cursor.close()
    return "; all of its rows were changed or deleted since"


def _hides_rows(connection: Connection, target: Target) -> bool:
    """Whether row security lets this role see a part of the rows only."""
    return bool(connection.scalar(text("SELECT row_security_active(:oid)"), {"oid": target.oid}))
