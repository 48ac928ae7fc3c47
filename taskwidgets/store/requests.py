"""Wishes for jobs that another process runs: rows, so that none is lost; NOTIFY only wakes.

A request is made once, whatever happens to the reply (its id is the asker's), and is answered once,
by the process that owns the job.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from taskwidgets.store.schema import jobs, requests

__all__ = ["CHANNEL", "Request", "answer", "dismiss", "send", "unanswered"]

CHANNEL = "taskwidgets"  # LISTEN here; the payload is the job's number


@dataclass(frozen=True)
class Request:
    """Who wants what of a job."""

    id: UUID
    job_id: int
    verb: str
    cause: str
    asked_by: str


def send(connection: Connection, request: Request) -> bool:
    """Record the request, and wake whoever listens, when the transaction commits.

    False when it was recorded before: the reply to an earlier COMMIT was lost.
    """
    row = {
        "id": request.id,
        "job_id": request.job_id,
        "verb": request.verb,
        "cause": request.cause,
        "asked_by": request.asked_by,
    }
    made = connection.execute(insert(requests).values(row).on_conflict_do_nothing())
    connection.execute(
        text("SELECT pg_notify(:channel, :job_id)"),
        {"channel": CHANNEL, "job_id": str(request.job_id)},
    )
    return made.rowcount == 1


def unanswered(connection: Connection, job_ids: Iterable[int], session: str) -> list[Request]:
    """The open requests for those of these jobs that ``session`` owns, oldest first.

    A process that has not noticed yet that its job was taken from it must not answer what is asked
    of the new owner.
    """
    columns = requests.c
    rows = connection.execute(
        select(columns.id, columns.job_id, columns.verb, columns.cause, columns.asked_by)
        .join(jobs, jobs.c.id == columns.job_id)
        .where(
            columns.job_id.in_(list(job_ids)),
            columns.answered_at.is_(None),
            jobs.c.owner["session"].astext == session,
        )
        .order_by(columns.asked_at)
    )
    return [Request(*row) for row in rows]


def answer(connection: Connection, request: Request, words: str) -> None:
    """Record what became of a request."""
    connection.execute(
        update(requests)
        .where(requests.c.id == request.id, requests.c.answered_at.is_(None))
        .values(answered_at=func.clock_timestamp(), answer=words)
    )


def dismiss(connection: Connection, job_id: int) -> None:
    """Close what was asked of an earlier owner: whoever claims the job now means it to run."""
    connection.execute(
        update(requests)
        .where(requests.c.job_id == job_id, requests.c.answered_at.is_(None))
        .values(answered_at=func.clock_timestamp(), answer="the owner it was for is gone")
    )
