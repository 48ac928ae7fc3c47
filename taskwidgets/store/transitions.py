"""Where a job's state is written: the row and its event, in the caller's transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, func, insert
from sqlalchemy.exc import IntegrityError

from taskwidgets.errors import IllegalTransition
from taskwidgets.runtime.states import State
from taskwidgets.store import checkpoints
from taskwidgets.store.schema import events, jobs

__all__ = ["record_event", "record_move"]

# Where a stretch of work ends: what it did is summed up.
RESTS = frozenset({State.PAUSED, State.INTERRUPTED, State.FAILED, State.COMPLETED})


def record_move(
    connection: Connection,
    by: str,
    job_id: int,
    epoch: int,
    start: State,
    finish: State,
    cause: str,
    values: dict[str, Any] | None = None,
) -> bool:
    """The one place where a state is written; False when the job is at another epoch or state.

    ``values``: other columns of the job that change with it.
    """
    values = values or {}
    try:
        changed = connection.execute(
            jobs.update()
            .where(and_(jobs.c.id == job_id, jobs.c.epoch == epoch, jobs.c.state == start))
            .values({"state": finish, "updated_at": func.clock_timestamp(), **values})
        )
    except IntegrityError as error:
        raise IllegalTransition(str(error.orig).splitlines()[0], job_id=job_id) from None
    if changed.rowcount != 1:
        return False
    if finish in RESTS and (work := checkpoints.summary(connection, job_id)) is not None:
        record_event(connection, by, job_id, "checkpoint", work.pop("text"), details=work)
    record_event(
        connection, by, job_id, "transition", cause, start=start, to=finish,
        details=values.get("error"),
    )  # fmt: skip
    return True


def record_event(
    connection: Connection,
    by: str,
    job_id: int,
    kind: str,
    cause: str,
    *,
    start: State | None = None,
    to: State | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Record that something happened to the job."""
    connection.execute(
        insert(events).values(
            job_id=job_id,
            kind=kind,
            from_state=start,
            to_state=to,
            owner=by,
            cause=cause,
            details=details,
        )
    )
