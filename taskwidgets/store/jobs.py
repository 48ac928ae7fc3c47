"""Jobs in Postgres: made, claimed, moved from state to state, looked up."""

from __future__ import annotations

import hmac
import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, insert, select

from taskwidgets.errors import (
    DatabaseError,
    JobFenced,
    JobNotFound,
    JobOfOtherRole,
    JobOwned,
    TaskwidgetsError,
)
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.progress import Progress
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.states import FINAL, State
from taskwidgets.runtime.store import Claim, JobRecord, JobSpec, Owner
from taskwidgets.store import rejects, requests
from taskwidgets.store.claims import Claims
from taskwidgets.store.database import Database
from taskwidgets.store.keeper import Keeper
from taskwidgets.store.listener import Listener
from taskwidgets.store.records import as_record, event_table, records, selection
from taskwidgets.store.requests import Request
from taskwidgets.store.schema import jobs, settings
from taskwidgets.store.transitions import record_event, record_move

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PostgresJobStore"]

log = logging.getLogger("taskwidgets")


class PostgresJobStore:
    """The runtime's JobStore over one database.

    ``source``: where exports read, if that is another database; ``source_location`` tells it from
    others, and is None where there is only one.
    """

    def __init__(self, database: Database, source: Database | None = None) -> None:
        self.database = database
        self.source = database if source is None else source
        self.source_location = None if source is None else source.location
        self._me = Owner.this_process(database.session)
        self._keeper = Keeper(database, self._me.session)
        self._claims = Claims(database, self._keeper, self._me, self.record)
        self._identity_key: bytes | None = None
        self._listener = Listener(database, self._keeper.held, records)

    # ------------------------------------------------------------------ reading

    def record(self, job_id: int) -> JobRecord:
        """The job with its true state; JobNotFound when there is none."""
        with self.database.begin() as connection:
            row = connection.execute(selection().where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise JobNotFound(f"there is no job {job_id} in {self.database!r}", job_id=job_id)
        return as_record(row)

    def latest(self, key: str) -> JobRecord | None:
        """The newest job of this key, whatever its state."""
        statement = selection().where(jobs.c.key == key).order_by(jobs.c.id.desc()).limit(1)
        with self.database.begin() as connection:
            row = connection.execute(statement).one_or_none()
        return None if row is None else as_record(row)

    def unfinished_twins(self, job_id: int) -> list[tuple[int, dict[str, Any]]]:
        """The numbers and plans of unfinished jobs with this one's kind, source and options.

        They are other jobs by their key, such as calls of two notebooks.
        """
        own = jobs.alias()
        statement = (
            select(jobs.c.id, jobs.c.plan)
            .join(
                own,
                (jobs.c.kind == own.c.kind)
                & (jobs.c.source == own.c.source)
                & (jobs.c.options == own.c.options),
            )
            .where(own.c.id == job_id, jobs.c.id != job_id, jobs.c.state.not_in(sorted(FINAL)))
            .order_by(jobs.c.id.desc())
        )
        with self.database.begin() as connection:
            return [(row.id, row.plan) for row in connection.execute(statement)]

    def keyed_hash(self, meant: str) -> str:
        """A hash of a text that may hold secrets, equal in every process on this database.

        HMAC-SHA-256 in hexadecimal. The key is in the database, so that a hash that is seen
        elsewhere cannot be compared with guesses.
        """
        if self._identity_key is None:
            statement = select(settings.c.value).where(settings.c.name == "identity_key")
            with self.database.begin() as connection:
                self._identity_key = str(connection.scalars(statement).one()).encode()
        return hmac.digest(self._identity_key, meant.encode(), "sha256").hex()

    def events(self, job_id: int) -> pd.DataFrame:
        """The job's events, oldest first, one row each."""
        with self.database.begin() as connection:
            return event_table(connection, job_id)

    def rejects(self, job_id: int) -> pd.DataFrame:
        """The job's rejects, in the order of the file, one row each."""
        with self.database.begin() as connection:
            return rejects.table(connection, job_id)

    def waiting_rejects(
        self, job_id: int, limit: int, offset: int, ids: Sequence[int] | None, longest: int
    ) -> tuple[pd.DataFrame, int]:
        """Some of the rejects that are not loaded yet, and how many there are."""
        with self.database.begin() as connection:
            return rejects.waiting(
                connection, job_id, limit=limit, offset=offset, ids=ids, longest=longest
            )

    # ------------------------------------------------------------------ writing

    def create(self, spec: JobSpec, prepare: Callable[[Connection, int], None]) -> JobRecord:
        """Record a new job and, in the same transaction, what it needs (its staging table).

        JobOwned when another process makes the same job in the same moment.
        """
        try:
            with self.database.begin() as connection:
                job_id = connection.scalar(insert(jobs).returning(jobs.c.id), _values(spec))
                assert job_id is not None
                record_event(
                    connection, self._me.short, job_id, "transition", "created", to=State.PENDING
                )
                prepare(connection, job_id)
        except DatabaseError as error:
            if error.sqlstate == "23505" and "jobs_one_active_per_key" in str(error):
                if self.latest(spec.key) is None:
                    raise JobOfOtherRole(
                        f"{spec.name}: another role, whose jobs this role may not see, has made "
                        "the same call, and its job is not finished. Ask who shares the database, "
                        "or call it with another target"
                    ) from None
                raise JobOwned(
                    f"{spec.name}: another process has just begun the same job; "
                    "run the cell again to see it"
                ) from None
            raise
        return self.record(job_id)

    def claim(
        self, job_id: int, to: State, cause: str, control: Control, *, take_over: bool = False
    ) -> Claim:
        """Become the one owner of the job, and move it to ``to``; see ``claims.py``."""
        claim = self._claims.claim(job_id, to, cause, control, take_over=take_over)
        self._listener.start()
        return claim

    def move(
        self,
        claim: Claim,
        to: State,
        cause: str,
        *,
        progress: Progress | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        """Record a transition in a transaction of its own."""

        def act() -> None:
            with self.database.begin() as connection:
                self.move_within(connection, claim, to, cause, progress=progress, error=error)

        self.database.patiently(act, lambda _: None)

    def move_within(
        self,
        connection: Connection,
        claim: Claim,
        to: State,
        cause: str,
        *,
        progress: Progress | None = None,
        error: dict[str, Any] | None = None,
        receipt: Receipt | None = None,
    ) -> None:
        """Record a transition inside the caller's transaction; JobFenced when not the owner."""
        row = connection.execute(
            select(jobs.c.state)
            .where(jobs.c.id == claim.job_id, jobs.c.epoch == claim.epoch)
            .with_for_update()
        ).one_or_none()
        if row is None:
            raise self.fenced(claim)
        state = State(row.state)
        if state is to:  # the reply to an earlier COMMIT was lost: it is done
            return
        values: dict[str, Any] = {}
        if progress is not None:
            values["progress"] = progress.to_json()
        if error is not None:
            values["error"] = error
        if receipt is not None:
            values["receipt"] = receipt.to_json()
        by, job_id, epoch = self._me.short, claim.job_id, claim.epoch
        if not record_move(connection, by, job_id, epoch, state, to, cause, values):
            raise self.fenced(claim)

    def lock(self, connection: Connection, claim: Claim) -> None:
        """Hold the job's row for the caller's transaction; JobFenced when not the owner.

        After a COMMIT whose reply was lost, the session that it went to may be at it even now: with
        the lock, that one has come to its end, and what is found is final.
        """
        held = connection.execute(
            select(jobs.c.id)
            .where(jobs.c.id == claim.job_id, jobs.c.epoch == claim.epoch)
            .with_for_update()
        ).one_or_none()
        if held is None:
            raise self.fenced(claim)

    def change_plan(self, connection: Connection, claim: Claim, plan: dict[str, Any]) -> None:
        """Replace what was decided before, under the claim."""
        changed = connection.execute(
            jobs.update()
            .where(jobs.c.id == claim.job_id, jobs.c.epoch == claim.epoch)
            .values(plan=plan)
        )
        if changed.rowcount != 1:
            raise self.fenced(claim)

    def plan(self, connection: Connection, claim: Claim) -> dict[str, Any]:
        """What is decided as of now; JobFenced when not the owner."""
        found = connection.scalar(
            select(jobs.c.plan).where(jobs.c.id == claim.job_id, jobs.c.epoch == claim.epoch)
        )
        if found is None:
            raise self.fenced(claim)
        assert isinstance(found, dict)
        return found

    def spec(self, connection: Connection, claim: Claim) -> JobSpec:
        """What the call asked for, and what is decided as of now; JobFenced when not the owner."""
        row = connection.execute(
            select(
                jobs.c.key, jobs.c.kind, jobs.c.name, jobs.c.source, jobs.c.target,
                jobs.c.options, jobs.c.plan,
            ).where(jobs.c.id == claim.job_id, jobs.c.epoch == claim.epoch)
        ).one_or_none()  # fmt: skip
        if row is None:
            raise self.fenced(claim)
        return JobSpec(*row)

    def count_again(
        self,
        connection: Connection,
        job_id: int,
        progress: Progress,
        receipt: Receipt,
        plan: dict[str, Any],
    ) -> None:
        """Replace what a completed job did, in the transaction that did more for it."""
        connection.execute(
            jobs.update()
            .where(jobs.c.id == job_id, jobs.c.state == State.COMPLETED)
            .values(
                progress=progress.to_json(),
                receipt=receipt.to_json(),
                plan=plan,
                updated_at=func.clock_timestamp(),
            )
        )

    def note(
        self, job_id: int, kind: str, text: str, details: dict[str, Any] | None = None
    ) -> None:
        """Record an event that is no transition."""
        with self.database.begin() as connection:
            record_event(connection, self._me.short, job_id, kind, text, details=details)

    def note_within(
        self,
        connection: Connection,
        job_id: int,
        kind: str,
        text: str,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Record an event inside the caller's transaction."""
        record_event(connection, self._me.short, job_id, kind, text, details=details)

    def release(self, claim: Claim) -> None:
        """Free the job's lock; what goes wrong here is logged, as there is nothing left to save."""
        try:
            self._keeper.free(claim.job_id)
        except Exception as error:  # noqa: BLE001 - see above
            log.warning("job %s: the lock was not freed: %s", claim.job_id, error)

    def request(self, job_id: int, verb: str, cause: str) -> None:
        """Ask whoever runs the job to ``pause`` or ``terminate`` it: a row, and a NOTIFY."""
        request = Request(uuid.uuid4(), job_id, verb, cause, self._me.short)

        def act() -> None:
            with self.database.begin() as connection:
                if requests.send(connection, request):
                    record_event(connection, self._me.short, job_id, "request", f"{verb}: {cause}")

        self.database.patiently(act, lambda _: None)

    def follow(self, job_id: int, hear: Callable[[JobRecord | None], None]) -> None:
        """Have ``hear`` called about twice a second with the job's record."""
        self._listener.follow(job_id, hear)

    def unfollow(self, job_id: int) -> None:
        """Stop following the job."""
        self._listener.unfollow(job_id)

    def owns(self, record: JobRecord) -> bool:
        """Whether the record's owner is this very process."""
        return record.owner is not None and record.owner.session == self._me.session

    def close(self) -> None:
        """End the threads and their connections, unless jobs are still under way."""
        self._listener.close()
        self._keeper.close()

    def fenced(self, claim: Claim) -> JobFenced:
        """The error for a claim that is not valid any more, naming who has the job now."""
        try:
            owner = self.record(claim.job_id).owner
        except TaskwidgetsError:
            owner = None
        return JobFenced(
            f"job {claim.job_id} was taken over by {owner or 'another process'}; "
            "what this process had in hand was not written",
            job_id=claim.job_id,
        )

    def in_transaction(self) -> AbstractContextManager[Connection]:
        """A short transaction on the store's database."""
        return self.database.begin()


def _values(spec: JobSpec) -> dict[str, Any]:
    return {
        "key": spec.key,
        "kind": spec.kind,
        "name": spec.name,
        "source": spec.source,
        "target": spec.target,
        "options": spec.options,
        "plan": spec.plan,
        "progress": Progress(total=spec.total, unit=spec.unit).to_json(),
    }
