"""What the last checkpoint of a user's own job said: one row a job, replaced by each checkpoint.

The statements take the driver's parameters, as they run on the store's connections and on those
that the user's function writes its rows with, in the search path that the function has by then: so
each name and operator has its schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, select

from taskwidgets.runtime.progress import Progress
from taskwidgets.store.schema import run_states

__all__ = ["BEGUN", "RECORD", "RunState", "forget", "latest", "progress_of"]

# The number of checkpoints becomes %(serial)s if, and only if, the claim is valid and the number
# was one less. The job's row stays locked against a new claim until the commit, so a fenced owner
# cannot slip in between.
RECORD = """
    INSERT INTO taskwidgets.run_states (job_id, serial, state, progress)
    SELECT id, %(serial)s, %(state)s::pg_catalog.jsonb, %(progress)s::pg_catalog.jsonb
    FROM taskwidgets.jobs
    WHERE id OPERATOR(pg_catalog.=) %(job_id)s::pg_catalog.int8
      AND epoch OPERATOR(pg_catalog.=) %(epoch)s::pg_catalog.int4
      AND state OPERATOR(pg_catalog.=) ANY(%(states)s::pg_catalog.text[])
    FOR SHARE
    ON CONFLICT (job_id) DO UPDATE
    SET serial = EXCLUDED.serial, state = EXCLUDED.state, progress = EXCLUDED.progress,
        at = DEFAULT
    WHERE run_states.serial
          OPERATOR(pg_catalog.=) (EXCLUDED.serial OPERATOR(pg_catalog.-) 1::pg_catalog.int8)
"""

# Whether the claim is valid, asked before the user's statements: to fail early, not to be safe.
BEGUN = """
    SELECT FROM taskwidgets.jobs
    WHERE id OPERATOR(pg_catalog.=) %(job_id)s::pg_catalog.int8
      AND epoch OPERATOR(pg_catalog.=) %(epoch)s::pg_catalog.int4
      AND state OPERATOR(pg_catalog.=) ANY(%(states)s::pg_catalog.text[])
"""

PLACES = "places"  # beside the progress: where the loops of run.track() are, kept from the state


@dataclass(frozen=True)
class RunState:
    """A checkpoint: its number, the user's state, the progress, and where each loop is."""

    serial: int = 0
    state: Any = field(default_factory=dict)
    progress: Progress = field(default_factory=lambda: Progress(unit="items"))
    places: Mapping[str, int] = field(default_factory=dict)

    def progress_json(self) -> dict[str, Any]:
        """What the column ``progress`` holds."""
        return {**self.progress.to_json(), PLACES: dict(self.places)}


def progress_of(stored: dict[str, Any]) -> Progress:
    """The progress in the column ``progress``."""
    return Progress.from_json({name: value for name, value in stored.items() if name != PLACES})


def latest(connection: Connection, job_id: int) -> RunState:
    """The last checkpoint; one with the number 0 before the first."""
    row = connection.execute(
        select(run_states.c.serial, run_states.c.state, run_states.c.progress).where(
            run_states.c.job_id == job_id
        )
    ).one_or_none()
    if row is None:
        return RunState()
    return RunState(row.serial, row.state, progress_of(row.progress), row.progress.get(PLACES, {}))


def forget(connection: Connection, job_id: int) -> None:
    """Delete the checkpoint, when the job has been cleaned up."""
    connection.execute(delete(run_states).where(run_states.c.job_id == job_id))
