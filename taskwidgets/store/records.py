"""Jobs as they are read: the rows of several tables, and who is alive, as one record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    case,
    func,
    literal_column,
    select,
    true,
)

from taskwidgets.runtime.faults import UNDOING
from taskwidgets.runtime.progress import Progress
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.states import FINAL, OWNED, State
from taskwidgets.runtime.store import JobRecord, JobSpec, Owner
from taskwidgets.store.keeper import LOCK_CLASS
from taskwidgets.store.run_states import progress_of
from taskwidgets.store.schema import checkpoints, events, jobs, run_states

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ALIVE",
    "HEARD",
    "OF_THIS_ROLE",
    "as_owner",
    "as_record",
    "event_table",
    "is_undoing",
    "records",
    "selection",
]

EVENT_NAMES = ["at", "kind", "from_state", "to_state", "owner", "cause", "details"]

# Whether an owner that gave itself a lease, as it holds no lock, has shown itself within it.
HEARD: ColumnElement[bool] = literal_column(
    """
    coalesce(
        jobs.heartbeat_at
            > clock_timestamp() - (jobs.owner ->> 'lease')::float8 * interval '1 second',
        false
    )
    """
)
# Whether a living session holds the job's lock. pg_locks may be read by every role, from anywhere.
LOCKED: ColumnElement[bool] = literal_column(
    f"""
    EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 2
        AND classid = {LOCK_CLASS} AND objid = (jobs.id % 2147483647)::int
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
    """
)
# Whether the owner is alive, by what it has itself said it is to be judged by.
ALIVE: ColumnElement[bool] = case((jobs.c.owner["lease"].astext.is_not(None), HEARD), else_=LOCKED)


# As in taskwidgets.embedded.roles, whose package loads all that a server needs.
RESTRICTED_ROLE = "taskwidgets_http"
# Whether the role of this session made the job. The service over HTTP, on the embedded server, also
# goes on with jobs of the superuser who runs it: its role has fewer rights, so no job gains any.
OF_THIS_ROLE: ColumnElement[bool] = literal_column(
    f"""
    coalesce(
        jobs.owner_role = CURRENT_USER
        OR (CURRENT_USER = '{RESTRICTED_ROLE}'
            AND (SELECT rolsuper FROM pg_roles WHERE rolname = jobs.owner_role)),
        false)
    """
)


def selection() -> Select[Any]:
    """What ``as_record`` needs of each job; to be narrowed by the caller."""
    ledger = (
        select(
            func.max(checkpoints.c.at).label("checkpoint_at"),
            func.sum(checkpoints.c.rows).label("ledger_rows"),
            func.sum(checkpoints.c.rejected).label("ledger_rejected"),
            func.sum(checkpoints.c.to_byte - checkpoints.c.from_byte).label("ledger_bytes"),
            func.max(checkpoints.c.to_block).label("ledger_blocks"),
        )
        .where(checkpoints.c.job_id == jobs.c.id)
        .lateral()
    )
    return select(
        jobs,
        ALIVE.label("alive"),
        OF_THIS_ROLE.label("is_of_this_role"),
        ledger,
        run_states.c.progress.label("run_progress"),
        run_states.c.at.label("run_at"),
    ).select_from(jobs.join(ledger, true()).outerjoin(run_states, run_states.c.job_id == jobs.c.id))


def as_record(row: Row[Any]) -> JobRecord:
    """A row of ``selection()``, its state the true one."""
    state = State(row.state)
    if state in OWNED and not row.alive:
        state = State.INTERRUPTED
    progress = Progress.from_json(row.progress)
    if (state in OWNED or state is State.INTERRUPTED) and row.ledger_bytes is not None:
        # Written with each transition only; between two of them, the ledger knows how far it is.
        done = {"blocks": row.ledger_blocks, "rows": row.ledger_rows}.get(
            progress.unit, row.ledger_bytes
        )
        progress = replace(
            progress,
            done=int(done or 0),
            rows=int(row.ledger_rows),
            rejected=int(row.ledger_rejected),
        )
    if row.run_progress is not None and state not in FINAL:
        # A job of the user's own: its last checkpoint knows it best.
        elapsed = progress.elapsed
        progress = progress_of(row.run_progress)
        progress = replace(progress, elapsed=max(elapsed, progress.elapsed))
    return JobRecord(
        id=row.id,
        spec=JobSpec(row.key, row.kind, row.name, row.source, row.target, row.options, row.plan),
        state=state,
        epoch=row.epoch,
        progress=progress,
        owner=as_owner(row.owner, row.claimed_at, row.heartbeat_at),
        error=row.error,
        receipt=None if row.receipt is None else Receipt.from_json(row.receipt),
        updated_at=row.updated_at,
        checkpoint_at=row.checkpoint_at or row.run_at,
        created_at=row.created_at,
        undoing=is_undoing(row.state, row.error),
        role=row.owner_role,
        is_of_this_role=row.is_of_this_role,
    )


def is_undoing(state: str, error: dict[str, Any] | None) -> bool:
    """Whether a job's clean-up has begun and is not finished: by its state and error as stored."""
    if state == State.INTERRUPTED:  # the clean-up failed
        return bool(error and error.get(UNDOING))
    return state == State.TERMINATING


def records(connection: Connection, job_ids: list[int]) -> list[JobRecord]:
    """These jobs, those that are there, with their true states."""
    return [as_record(row) for row in connection.execute(selection().where(jobs.c.id.in_(job_ids)))]


def event_table(connection: Connection, job_id: int, newest: int | None = None) -> pd.DataFrame:
    """A job's events, oldest first; with ``newest``, only so many of the last, newest first."""
    statement = select(*(events.c[name] for name in EVENT_NAMES)).where(events.c.job_id == job_id)
    if newest is None:
        statement = statement.order_by(events.c.id)
    else:
        statement = statement.order_by(events.c.id.desc()).limit(newest)
    rows = connection.execute(statement).all()
    import pandas as pd  # a quarter of a second, for those who want a table

    return pd.DataFrame([tuple(row) for row in rows], columns=EVENT_NAMES)


def as_owner(stored: dict[str, Any] | None, since: Any = None, seen: Any = None) -> Owner | None:
    """The process in a job's column ``owner``."""
    if stored is None:
        return None
    return Owner(
        stored["host"],
        stored["pid"],
        stored["session"],
        since,
        seen,
        kernel=stored.get("kernel", ""),
        notebook=stored.get("notebook", ""),
        lease=stored.get("lease"),
    )
