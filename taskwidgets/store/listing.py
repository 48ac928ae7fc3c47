"""All jobs of a database, newest first: listed, filtered, searched; and old ones deleted."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Select, delete, func, not_, or_, select, union_all

from taskwidgets.runtime.states import FINAL, OWNED, State
from taskwidgets.runtime.store import JobRecord
from taskwidgets.store.database import Database
from taskwidgets.store.records import ALIVE, as_record, event_table, selection
from taskwidgets.store.schema import jobs

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["newest", "newest_events", "prune", "spools_left"]


def newest(
    database: Database,
    *,
    states: Collection[State] | None = None,
    search: str = "",
    limit: int = 100,
    offset: int = 0,
) -> list[JobRecord]:
    """The newest jobs with their true states, the newest first.

    ``states``: only jobs that truly are in one of these; None: all. ``search``: only jobs that
    have this text in their name, source or target, in upper or lower case. ``offset``: so many of
    the newest are left out.
    """
    ids = _ids(states, search, limit + offset)
    if ids is None:
        return []
    chosen = ids.order_by(ids.selected_columns.id.desc()).limit(limit).offset(offset)
    statement = (
        selection().where(jobs.c.id.in_(select(chosen.subquery().c.id))).order_by(jobs.c.id.desc())
    )
    with database.begin() as connection:
        return [as_record(row) for row in connection.execute(statement)]


def newest_events(database: Database, job_id: int, limit: int = 50) -> pd.DataFrame:
    """A job's last events, the newest first; the columns of ``job.events()``."""
    with database.begin() as connection:
        return event_table(connection, job_id, newest=limit)


def prune(database: Database, older_than: timedelta, batch: int = 1000) -> int:
    """Delete the jobs that were completed or terminated longer ago than this; how many it were.

    Each ``batch`` of them goes in a transaction of its own, with all that belongs to them, so that
    nobody waits long for a lock and a broken connection loses one batch at most.
    """
    with database.begin() as connection:
        before = connection.scalar(select(func.now() - older_than))
    deleted = 0
    for state in sorted(FINAL):
        after = 0  # begin where the last batch ended: the dead rows before it are not read again
        while True:
            old = (
                select(jobs.c.id)
                .where(jobs.c.state == state, jobs.c.id > after, jobs.c.updated_at < before)
                .order_by(jobs.c.id)
                .limit(batch)
                .with_for_update(skip_locked=True)  # another prune has them in hand
            )
            with database.begin() as connection:
                gone = connection.scalars(
                    delete(jobs).where(jobs.c.id.in_(old)).returning(jobs.c.id)
                ).all()
            if not gone:
                break
            deleted += len(gone)
            after = max(gone)
    return deleted


def spools_left(database: Database, most: int) -> list[str]:
    """The spools of the newest finished jobs, which should be gone by now."""
    spool = jobs.c.plan["origin"]["spool"].astext
    finished = (
        select(spool)
        .where(jobs.c.state.in_(sorted(FINAL)), func.coalesce(spool, "") != "")
        .order_by(jobs.c.id.desc())
        .limit(most)
    )
    with database.begin() as connection:
        return [str(found) for found in connection.scalars(finished)]


def _ids(states: Collection[State] | None, search: str, most: int) -> Select[tuple[int]] | None:
    """The numbers of the newest jobs asked for, ``most`` at least; None when none can be.

    One branch for each state that a row may have, each of which reads the index jobs_state
    backwards and stops early. One condition over all states would be read along the primary key:
    a million finished jobs for the ten that run.
    """
    found = _having(search)
    if states is None:
        return select(jobs.c.id).where(*found).order_by(jobs.c.id.desc()).limit(most)
    branches = []
    for stored in State:
        if stored not in OWNED:
            wanted = stored in states
            alive: list[ColumnElement[bool]] = []
        elif (stored in states) is (State.INTERRUPTED in states):
            wanted, alive = stored in states, []
        else:  # with its owner gone, it is interrupted whatever the row says
            wanted, alive = True, [ALIVE if stored in states else not_(ALIVE)]
        if wanted:
            branches.append(
                select(jobs.c.id)
                .where(jobs.c.state == stored, *alive, *found)
                .order_by(jobs.c.id.desc())
                .limit(most)
                .subquery()
            )
    if not branches:
        return None
    merged = union_all(*(select(branch.c.id) for branch in branches)).subquery()
    return select(merged.c.id)


def _having(search: str) -> list[ColumnElement[bool]]:
    """The condition that a job has the text; none for an empty one."""
    search = search.replace("\0", "")  # which no text in Postgres can hold
    if not search:
        return []
    return [
        or_(
            *(
                column.icontains(search, autoescape=True)
                for column in (jobs.c.name, jobs.c.source, jobs.c.target)
            )
        )
    ]
