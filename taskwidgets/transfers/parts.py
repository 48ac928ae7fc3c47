"""One part of an export into a folder: a range of blocks, copied into a file of its own.

An order says all that it takes, so that any process can carry it out that reaches the database and
the place: ``make_part``. Each attempt writes under a name that no other one has. Which of them
counts, the ledger says; what does not is removed before the folder is published.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg2
from sqlalchemy.engine import URL
from zlib_ng import zlib_ng

from taskwidgets.errors import DatabaseError
from taskwidgets.runtime.store import Claim
from taskwidgets.store.driver import PINNED_PATH
from taskwidgets.store.translate import translated
from taskwidgets.transfers.part_formats import part_writer
from taskwidgets.transfers.places import NewFile, Place
from taskwidgets.transfers.reader import CopyOut, Reader
from taskwidgets.transfers.readers import open_reader
from taskwidgets.transfers.remote import worker_address

__all__ = ["Entry", "PartMade", "PartOrder", "make_part", "write_part"]

IS_CLAIMED = f"""
    {PINNED_PATH};
    SET LOCAL role TO DEFAULT;
    SELECT FROM taskwidgets.jobs
    WHERE id = %s AND epoch = %s AND state IN ('running', 'pausing')
"""


@dataclass(frozen=True)
class Entry:
    """How another process comes to the rows: the way to the database, and into the snapshot.

    ``url`` is for errors, without a password; ``connect``, what psycopg2.connect() takes, has it.
    ``store``: the same for the database that the job is kept in. ``claim``: for whom it is written.
    """

    url: URL
    connect: Mapping[str, Any] = field(repr=False)
    store: Mapping[str, Any] = field(repr=False)
    begin: tuple[str, ...] = field(repr=False)
    claim: Claim


@dataclass(frozen=True)
class PartOrder:
    """What is to be written: the rows of ``copy``, behind ``header``, in this format.

    ``stem``: what the name of each attempt begins with. ``columns``, ``types``: as in the plan.
    """

    place: Place
    stem: str
    format: str
    copy: CopyOut
    header: bytes = b""
    columns: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


@dataclass(frozen=True)
class PartMade:
    """A part file that is complete and durable; ``read``: bytes of CSV that went into it.

    ``worker``: the address of the cluster's worker that wrote it.
    """

    name: str
    rows: int
    bytes: int
    crc32: int
    sha256: str
    read: int
    worker: str = ""


class _NotWanted(Exception):
    """The job is not its sender's any more, or is not at work."""


def make_part(order: PartOrder, entry: Entry) -> PartMade | None:
    """Carry it out in a session of its own, in whatever process; blocks.

    None where the job is not its sender's any more, or at rest: it was sent again, or is late.
    Raises DatabaseError, also where the snapshot is gone or the statement was cancelled, and
    TargetError where the place does not take it. Then nothing is left of it.
    """
    try:
        _check_claim(entry)
        reader = open_reader(entry.url, dict(entry.connect), entry.begin)

        def finishing() -> None:
            reader.close()  # one connection at a time
            _check_claim(entry)

        try:
            made = write_part(order, reader, finishing=finishing)
        finally:
            reader.close()
    except _NotWanted:
        return None
    return replace(made, worker=worker_address())


def _check_claim(entry: Entry) -> None:
    """The snapshot does not tell: it is of an earlier moment."""
    with translated(entry.url), closing(psycopg2.connect(**entry.store)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(IS_CLAIMED, (entry.claim.job_id, entry.claim.epoch))
        if not cursor.fetchall():
            raise _NotWanted


def write_part(
    order: PartOrder,
    reader: Reader,
    breathe: Callable[[int], None] = lambda _: None,
    finishing: Callable[[], None] = lambda: None,
) -> PartMade:
    """Carry it out with this reader.

    ``breathe`` hears of each piece of CSV, and may wait; ``finishing`` is called before the file
    comes into being, and may raise.
    """
    name = f"{order.stem}-{secrets.token_hex(4)}.{order.format}"
    file = _Counted(order.place.create(name))
    read = 0
    try:
        writer = part_writer(order.format, file, order.columns, order.types)
        if order.header:
            writer.take(order.header)
        pieces = reader.read(order.copy)
        for piece in pieces:
            breathe(len(piece))
            read += len(piece)
            writer.take(piece)
        writer.finish()
        if writer.rows not in (None, pieces.rows):
            raise DatabaseError(
                f"the server gave {pieces.rows:,} rows, but {writer.rows:,} came into the file"
            )
        finishing()
        file.target.finish()
    except BaseException as error:
        file.is_given_up = True
        file.target.abandon()
        if file.fault is not None and error is not file.fault:
            raise file.fault from None  # what came back through a library
        raise
    return PartMade(name, pieces.rows, file.size, file.crc32, file.sha256.hexdigest(), read)


class _Counted(io.RawIOBase):
    """The file as libraries want one; counts and hashes what goes in."""

    def __init__(self, target: NewFile) -> None:
        self.target = target
        self.size = 0
        self.crc32 = 0
        self.sha256 = hashlib.sha256()
        self.fault: Exception | None = None
        self.is_given_up = False  # a library that writes an end even so, does it in vain

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any) -> int:
        with memoryview(data).cast("B") as view:
            if self.is_given_up:
                return len(view)
            try:
                self.target.write(view)
            except Exception as fault:
                self.fault = fault
                raise
            self.crc32 = zlib_ng.crc32(view, self.crc32)
            self.sha256.update(view)
            self.size += len(view)
            return len(view)

    def close(self) -> None:
        """Left to whoever made it: it may be to be abandoned."""
        with suppress(Exception):
            self.flush()
