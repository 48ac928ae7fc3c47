"""A long job's ledger stays short: checkpoints that follow each other become one.

Without that, a load of a terabyte would leave more than a hundred thousand, and each resume would
read them all. The merged one covers the same bytes, with the sums and the CRC-32 of them together,
and says how many it stands for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, select, text
from zlib_ng import zlib_ng

from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.schema import checkpoints, jobs

__all__ = ["MERGE_AFTER", "Merger", "merge"]

MERGE_AFTER = 64  # checkpoints; a job has at most twice as many, and one for each gap


@dataclass(frozen=True)
class _Entry:
    """A row of the ledger."""

    checkpoint: Checkpoint
    segments: int
    at: datetime
    is_new: bool  # since the job was claimed: the summary of its work counts those


class Merger:
    """Merges one job's checkpoints now and then, in the transaction of one of them."""

    def __init__(self, job_id: int) -> None:
        self._job_id = job_id
        self._lock = threading.Lock()
        self._count = MERGE_AFTER  # those of earlier attempts, with the very first one
        self._left = 0  # after the last merge

    def merge_if_due(self, connection: Connection) -> None:
        """Called in each transaction that records a checkpoint, of one thread or several.

        One of them merges; should its transaction come to nothing, a later one does.
        """
        if self.is_due():
            left = merge(connection, self._job_id)
            # Those of many small files never follow each other: to read them all each time would
            # take a time that grows with the square of their number.
            with self._lock:
                self._left = left

    def is_due(self) -> bool:
        """Called for each checkpoint: whether its transaction is to merge."""
        with self._lock:
            self._count += 1
            is_due = self._count > max(MERGE_AFTER, self._left)
            if is_due:
                self._count = 0
        return is_due


# One at a time: of two that merge the same, one would wait for the other's end, and with many
# workers the merging would come to a jam. A key of one number, unlike the keeper's.
TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")

# By ranges, whose number does not grow with that of the rows.
DELETE = text(
    """
    DELETE FROM taskwidgets.checkpoints
    USING unnest(CAST(:firsts AS bigint[]), CAST(:stops AS bigint[])) AS merged (first, stop)
    WHERE job_id = :job_id AND from_byte >= merged.first AND from_byte < merged.stop
    """
)


def merge(connection: Connection, job_id: int) -> int:
    """Make one of all that follow each other, in the caller's transaction; how many are left.

    Those since the last claim and those from before it stay apart. Nothing is done while another
    transaction merges; what any other one has locked is left alone.
    """
    if not connection.scalar(TRY_LOCK, {"name": f"taskwidgets merges job {job_id}"}):
        return 0
    found = list(_groups(_entries(connection, job_id)))
    groups = [group for group in found if len(group) > 1]
    if not groups:
        return len(found)
    connection.execute(
        DELETE,
        {
            "job_id": job_id,
            "firsts": [group[0].checkpoint.start for group in groups],
            "stops": [group[-1].checkpoint.stop for group in groups],
        },
    )
    connection.execute(checkpoints.insert(), [_values(job_id, _merged(group)) for group in groups])
    return len(found)


def _values(job_id: int, entry: _Entry) -> dict[str, object]:
    mark = entry.checkpoint
    return {
        "job_id": job_id, "from_byte": mark.start, "to_byte": mark.stop, "rows": mark.rows,
        "crc32": mark.crc32, "to_block": mark.to_block, "rejected": mark.rejected,
        "segments": entry.segments, "at": entry.at,
    }  # fmt: skip


def _entries(connection: Connection, job_id: int) -> list[_Entry]:
    """The job's that can be locked, which they are then."""
    table = checkpoints.c
    rows = connection.execute(
        select(
            table.from_byte, table.to_byte, table.rows, table.crc32, table.to_block,
            table.rejected, table.segments, table.at, table.at >= jobs.c.claimed_at,
        )
        .join(jobs, jobs.c.id == table.job_id)
        .where(table.job_id == job_id)
        .order_by(table.from_byte)
        .with_for_update(of=checkpoints, skip_locked=True)
    )  # fmt: skip
    return [_Entry(Checkpoint(*row[:6]), int(row[6]), row[7], is_new=bool(row[8])) for row in rows]


def _groups(entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    """Those that follow each other."""
    group: list[_Entry] = []
    for entry in entries:
        if group and (
            group[-1].checkpoint.stop != entry.checkpoint.start or group[-1].is_new != entry.is_new
        ):
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _merged(group: list[_Entry]) -> _Entry:
    marks = [entry.checkpoint for entry in group]
    first, last = marks[0], marks[-1]
    crc32 = first.crc32
    for mark in marks[1:]:
        if mark.to_block is None:
            crc32 = zlib_ng.crc32_combine(crc32, mark.crc32, mark.stop - mark.start)
        else:  # a download's is that of the file from its first byte
            crc32 = mark.crc32
    return replace(
        group[-1],
        checkpoint=Checkpoint(
            first.start,
            last.stop,
            sum(mark.rows for mark in marks),
            crc32,
            last.to_block,
            sum(mark.rejected for mark in marks),
        ),
        segments=sum(entry.segments for entry in group),
        at=max(entry.at for entry in group),
    )
