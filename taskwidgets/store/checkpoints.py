"""The ledger: which parts of a job are committed. Written in the transaction of the rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select, text

from taskwidgets.runtime.store import Claim
from taskwidgets.runtime.words import bytes_text, count
from taskwidgets.store.schema import checkpoints

__all__ = [
    "Checkpoint",
    "committed",
    "forget",
    "is_committed",
    "record",
    "record_many",
    "shift",
    "summary",
    "totals",
    "wait_for_others",
]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Committed segments: bytes [start, stop) of the file, their records, their CRC-32.

    ``rows`` are loaded, ``rejected`` are not. ``to_block``: for a download, the block of the
    table with which the next segment begins. ``file``: for a download into a folder, whose
    positions are blocks, the part file's name, bytes and sha256; the CRC-32 is that file's.
    """

    start: int
    stop: int
    rows: int
    crc32: int
    to_block: int | None = None
    rejected: int = 0
    file: dict[str, Any] | None = None


# Records a segment if, and only if, the claim is still valid. The row of the job stays locked
# against a new claim until the commit, so a fenced owner cannot slip in between.
RECORD = text(
    """
    INSERT INTO taskwidgets.checkpoints
        (job_id, from_byte, to_byte, rows, crc32, to_block, rejected, file)
    SELECT id, :start, :stop, :rows, :crc32, :to_block, :rejected, CAST(:file AS jsonb)
    FROM taskwidgets.jobs
    WHERE id = :job_id AND epoch = :epoch AND state IN ('running', 'pausing')
    FOR SHARE
    """
)


def record(connection: Connection, claim: Claim, checkpoint: Checkpoint) -> bool:
    """Record a segment in the caller's transaction; False when the claim is not valid any more."""
    done = connection.execute(
        RECORD,
        {
            "start": checkpoint.start,
            "stop": checkpoint.stop,
            "rows": checkpoint.rows,
            "crc32": checkpoint.crc32,
            "to_block": checkpoint.to_block,
            "rejected": checkpoint.rejected,
            "file": None if checkpoint.file is None else json.dumps(checkpoint.file),
            "job_id": claim.job_id,
            "epoch": claim.epoch,
        },
    )
    return done.rowcount == 1


# As RECORD, for many segments of an upload.
RECORD_MANY = text(
    """
    INSERT INTO taskwidgets.checkpoints (job_id, from_byte, to_byte, rows, crc32, rejected)
    SELECT held.id, made.start, made.stop, made.rows, made.crc32, 0
    FROM (
        SELECT j.id FROM taskwidgets.jobs AS j
        WHERE j.id = :job_id AND j.epoch = :epoch AND j.state IN ('running', 'pausing')
        FOR SHARE
    ) AS held,
    unnest(
        CAST(:starts AS bigint[]), CAST(:stops AS bigint[]), CAST(:rows AS bigint[]),
        CAST(:crc32s AS bigint[])
    ) AS made (start, stop, rows, crc32)
    """
)


def record_many(connection: Connection, claim: Claim, made: Sequence[Checkpoint]) -> bool:
    """As `record`, for segments that one transaction has loaded whole, without a reject."""
    done = connection.execute(
        RECORD_MANY,
        {
            "starts": [one.start for one in made],
            "stops": [one.stop for one in made],
            "rows": [one.rows for one in made],
            "crc32s": [one.crc32 for one in made],
            "job_id": claim.job_id,
            "epoch": claim.epoch,
        },
    )
    return done.rowcount == len(made)


# What is looked at after the lock is of the time after it: that needs READ COMMITTED, whatever the
# server's default is.
WAIT_FOR_OTHERS = text(
    """
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SELECT pg_advisory_xact_lock(hashtextextended(:segment, 0))
    """
)


def wait_for_others(connection: Connection, job_id: int, start: int) -> None:
    """Have the segment that begins at ``start`` alone until the transaction ends, its first act.

    Where a segment may be under way twice, the ledger's key does not keep the second one out:
    checkpoints that follow each other are merged. The second waits here, and then asks whether it
    `is_committed`.
    """
    connection.execute(WAIT_FOR_OTHERS, {"segment": f"taskwidgets {job_id} {start}"})


def committed(connection: Connection, job_id: int) -> list[Checkpoint]:
    """All that is committed, in the order of the source."""
    rows = connection.execute(
        select(
            checkpoints.c.from_byte,
            checkpoints.c.to_byte,
            checkpoints.c.rows,
            checkpoints.c.crc32,
            checkpoints.c.to_block,
            checkpoints.c.rejected,
            checkpoints.c.file,
        )
        .where(checkpoints.c.job_id == job_id)
        .order_by(checkpoints.c.from_byte)
    )
    return [Checkpoint(*row) for row in rows]


def totals(connection: Connection, job_id: int) -> tuple[int, int]:
    """Bytes and rows that are committed."""
    size, rows = connection.execute(
        select(
            func.coalesce(func.sum(checkpoints.c.to_byte - checkpoints.c.from_byte), 0),
            func.coalesce(func.sum(checkpoints.c.rows), 0),
        ).where(checkpoints.c.job_id == job_id)
    ).one()
    return int(size), int(rows)


def is_committed(connection: Connection, job_id: int, start: int) -> bool:
    """Whether the segment that begins at ``start`` is committed: the answer to a lost COMMIT."""
    return (
        connection.execute(
            select(checkpoints.c.from_byte).where(
                checkpoints.c.job_id == job_id,
                checkpoints.c.from_byte <= start,
                checkpoints.c.to_byte > start,
            )
        ).one_or_none()
        is not None
    )


# Of the work since the job was claimed. A job of the user's own has one row, replaced each time.
SUMMARY = text(
    """
    SELECT coalesce(sum(c.segments), 0)::bigint AS checkpoints, sum(c.rows)::bigint AS rows,
           sum(c.rejected)::bigint AS rejected,
           sum(coalesce((c.file ->> 'bytes')::bigint, c.to_byte - c.from_byte))::bigint AS bytes,
           r.serial, r.progress
    FROM taskwidgets.jobs j
    LEFT JOIN taskwidgets.checkpoints c ON c.job_id = j.id AND c.at >= j.claimed_at
    LEFT JOIN taskwidgets.run_states r ON r.job_id = j.id AND r.at >= j.claimed_at
    WHERE j.id = :job_id
    GROUP BY r.serial, r.progress
    """
)


def summary(connection: Connection, job_id: int) -> dict[str, Any] | None:
    """What was committed since the last claim, for the job's events: numbers, and a ``text``.

    None when nothing was.
    """
    row = connection.execute(SUMMARY, {"job_id": job_id}).one()
    if row.serial is not None:
        done, unit = row.progress.get("done", 0), row.progress.get("unit", "items")
        words = f"checkpoint {row.serial:,}: {count(done)} {unit} done"
        return {"text": words, "serial": row.serial, "done": done, "unit": unit}
    if not row.checkpoints:
        return None
    many = "checkpoint" if row.checkpoints == 1 else "checkpoints"
    words = f"{row.checkpoints:,} {many}: {count(row.rows)} rows, {bytes_text(row.bytes)}"
    summed = {"checkpoints": row.checkpoints, "rows": row.rows, "bytes": row.bytes}
    if row.rejected:
        words += f", {count(row.rejected)} rejected"
        summed["rejected"] = row.rejected
    return {"text": words, **summed}


# ORDER BY has all of them taken out before the first is put in.
SHIFT = text(
    """
    WITH moved AS (
        DELETE FROM taskwidgets.checkpoints
        WHERE job_id = :job_id AND from_byte >= :start AND from_byte < :behind
        RETURNING *
    )
    INSERT INTO taskwidgets.checkpoints
        (job_id, from_byte, to_byte, rows, crc32, to_block, at, rejected, segments)
    SELECT job_id, from_byte + :by, to_byte + :by, rows, crc32, to_block, at, rejected, segments
    FROM moved ORDER BY from_byte
    """
)


def shift(
    connection: Connection, job_id: int, start: int, by: int, stop: int | None = None
) -> None:
    """Move the segments from ``start`` on by ``by`` bytes: the source was mended before them.

    Those from ``stop`` on are of another file, and stay.

    They are taken out, all of them, and put in again: one after the other they would be in each
    other's places.
    """
    behind = 2**63 - 1 if stop is None else stop
    connection.execute(SHIFT, {"job_id": job_id, "start": start, "behind": behind, "by": by})


def forget(connection: Connection, job_id: int) -> None:
    """Delete the job's segments, when what they speak of is dropped."""
    connection.execute(delete(checkpoints).where(checkpoints.c.job_id == job_id))
