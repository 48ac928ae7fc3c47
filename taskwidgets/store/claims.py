"""How a process becomes the one owner of a job: its lock, its row, and who is to make way."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import ColumnElement, Connection, func, literal_column, select, text

from taskwidgets.errors import (
    ConnectionsExhausted,
    DatabaseError,
    IllegalTransition,
    JobOfOtherRole,
    JobOwned,
    TaskwidgetsError,
)
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.states import OWNED, State, may_move
from taskwidgets.runtime.store import Claim, JobRecord, Owner
from taskwidgets.store import eviction, requests
from taskwidgets.store.access import FOREIGN_TRIGGERS, other_role_text, refused_trigger
from taskwidgets.store.database import Database
from taskwidgets.store.keeper import Keeper, lock_key
from taskwidgets.store.records import HEARD, OF_THIS_ROLE, as_owner, is_undoing
from taskwidgets.store.schema import jobs
from taskwidgets.store.transitions import record_move
from taskwidgets.store.translate import is_away

__all__ = ["Claims"]

TAKE_OVER_PATIENCE = 5.0  # seconds for the server to end a session; it takes milliseconds
NAMING_PATIENCE = 1.0  # seconds for the winner of a race to commit who it is; it takes milliseconds
RETRIES = (0.0, 0.1, 0.2, 0.4)  # seconds before a claim is tried again whose connection broke
LOCK_NOT_AVAILABLE = "55P03"
ROW_PATIENCE = "1s"  # for the job's row, until it is looked whether a frozen process has it locked

# Behind a pooler, a claim's own transaction holds the job's lock: see Claims._is_free.
TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:lock_class, :number)")

FOREIGN_TRIGGER: ColumnElement[str | None] = literal_column(f"({FOREIGN_TRIGGERS})")

# The last state in which the job came to rest, refusals of a changed source left out.
RESTED = text(
    """
    SELECT to_state FROM taskwidgets.events
    WHERE job_id = :job_id AND kind = 'transition'
      AND to_state IN ('paused', 'interrupted', 'failed')
      AND details ->> 'type' IS DISTINCT FROM 'SourceChanged'
    ORDER BY id DESC LIMIT 1
    """
)


class Claims:
    """Claims for one process, ``me``; ``look_up`` gives a job's record by its number."""

    def __init__(
        self,
        database: Database,
        keeper: Keeper,
        me: Owner,
        look_up: Callable[[int], JobRecord],
    ) -> None:
        self._database = database
        self._keeper = keeper
        self._me = me
        self._look_up = look_up

    def claim(
        self, job_id: int, to: State, cause: str, control: Control, *, take_over: bool
    ) -> Claim:
        """Take the job's lock, raise its epoch, and move it to ``to``."""
        deadline = time.monotonic() + TAKE_OVER_PATIENCE
        while True:
            try:
                return self._take_and_claim(job_id, to, cause, control, take_over=take_over)
            except JobOwned:
                owner = self._look_up(job_id).owner
                if (
                    not take_over
                    or owner is None
                    or owner.session == self._me.session
                    or time.monotonic() > deadline
                ):
                    raise
            eviction.end_sessions(self._database, owner)
            time.sleep(0.02)

    def _take_and_claim(
        self, job_id: int, to: State, cause: str, control: Control, *, take_over: bool
    ) -> Claim:
        if not self._keeper.take(job_id, control):
            raise self._owned(job_id)
        try:
            claim = self._claim_again(job_id, to, cause, take_over=take_over)
            if self._database.administrator is not None:
                # Its earlier owner may have been of another role. It is fenced by now, and its
                # locks on the table are gone or go soon.
                self._database.administrator.hand_over_job(job_id)
        except BaseException:
            self._keeper.free(job_id)
            raise
        self._keeper.confirm(job_id)
        return claim

    def _claim_again(self, job_id: int, to: State, cause: str, *, take_over: bool) -> Claim:
        """The claim; tried again where the connection breaks.

        A claim whose COMMIT went through all the same is one that this process finds interrupted.
        """
        for pause in RETRIES:
            try:
                return self._claim(job_id, to, cause, take_over=take_over)
            except ConnectionsExhausted:
                raise  # whoever asked waits longer for that, and hears wishes meanwhile
            except DatabaseError as error:
                if not is_away(error):
                    raise
            time.sleep(pause)
        return self._claim(job_id, to, cause, take_over=take_over)

    def _claim(self, job_id: int, to: State, cause: str, *, take_over: bool) -> Claim:
        while True:
            try:
                claim, predecessor = self._claim_row(job_id, to, cause, take_over=take_over)
                break
            except DatabaseError as error:
                if error.sqlstate != LOCK_NOT_AVAILABLE:
                    raise
            # Somebody writes for the job just now; or was frozen while it did.
            record = self._look_up(job_id)
            owner = record.owner
            if owner is None:
                continue
            if owner.lease is None:
                is_to_end = take_over and not self._is_mine(owner)
            else:
                is_to_end = take_over or record.state is State.INTERRUPTED
            if is_to_end:
                eviction.end_sessions(self._database, owner)
        if claim is None:  # said outside of the transaction, as the winner may wait for the row
            raise self._owned(job_id)
        if predecessor is not None and predecessor.lease is not None:
            eviction.end_transactions(self._database, predecessor)
        return claim

    def _claim_row(
        self, job_id: int, to: State, cause: str, *, take_over: bool
    ) -> tuple[Claim | None, Owner | None]:
        """The claim, None when somebody else has the job; and from which owner it was taken."""
        predecessor = None
        with self._database.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{ROW_PATIENCE}'"))
            row = connection.execute(
                select(
                    jobs.c.state, jobs.c.epoch, jobs.c.owner, jobs.c.error,
                    OF_THIS_ROLE.label("is_of_this_role"), FOREIGN_TRIGGER.label("trigger"),
                )
                .where(jobs.c.id == job_id)
                .with_for_update()
            ).one_or_none()  # fmt: skip
            if row is None:
                raise self._not_to_be_run(job_id)
            if row.trigger is not None:
                raise refused_trigger(row.trigger)
            if not row.is_of_this_role and not take_over:
                raise JobOfOtherRole(other_role_text(self._look_up(job_id)), job_id=job_id)
            if not self._is_free(connection, job_id):
                return None, None
            state = State(row.state)
            if to is State.RUNNING and is_undoing(row.state, row.error):
                raise IllegalTransition(
                    f"job {job_id} was being terminated; what it made may be gone in part, so it "
                    "cannot go on. Terminate it again",
                    job_id=job_id,
                )
            if state in OWNED:
                owner, is_mine = as_owner(row.owner), self._is_mine(as_owner(row.owner))
                # With the job's lock in hand, an owner that lives by that lock is gone.
                is_heard = bool(connection.scalar(select(HEARD).where(jobs.c.id == job_id)))
                if is_heard and not is_mine and not take_over:
                    return None, None
                predecessor = None if is_mine else owner
                gone = "taken from" if is_heard else "its owner is gone:"
                self._move(
                    connection, job_id, row.epoch, state, State.INTERRUPTED, f"{gone} {owner}"
                )
                state = State.INTERRUPTED
            if not may_move(state, to):
                raise IllegalTransition(
                    f"job {job_id} is {state} and cannot become {to}", job_id=job_id
                )
            rested_in = State(connection.scalar(RESTED, {"job_id": job_id}) or State.PENDING)
            requests.dismiss(connection, job_id)
            claim = Claim(job_id, row.epoch + 1, rested_in, self._me)
            values = {
                "epoch": claim.epoch,
                "owner": self._owner_json(),
                "error": None,
                "claimed_at": func.clock_timestamp(),
                "heartbeat_at": func.clock_timestamp(),
            }
            if not row.is_of_this_role:  # who made it must not change it while this role runs it
                values["owner_role"] = func.current_user()
            self._move(connection, job_id, row.epoch, state, to, cause, values)
        return claim, predecessor

    def _is_free(self, connection: Connection, job_id: int) -> bool:
        """Whether the job's lock is this claim's; asked with the job's row locked.

        A process with sessions of its own takes the job's lock before it comes to the row, and
        keeps it as its sign of life. One behind a pooler cannot keep it; it tries for the same lock
        here, and has it to the end of the transaction. Its sign of life is the heartbeat, of which
        the claim is the first. Whether that was heard is looked at with the row locked as well, by
        a statement of its own: one that has waited for the lock tells of the time before. So

        - of two with sessions, the lock lets one through, whatever the row says;
        - of two behind poolers, the row lets one go first; the other one then finds an owner that
          has just been heard;
        - of one of each kind, if the one with a session was first with the lock, the other does
          not get it, be the first one's claim still to come or long committed. If the other one
          was first, the one with a session does not get it while that claim is being made, and
          afterwards finds, in the row, an owner that has just been heard.
        """
        if not self._database.is_pooled:
            return True  # the keeper has it
        return bool(connection.scalar(TRY_LOCK, lock_key(job_id)))

    def _not_to_be_run(self, job_id: int) -> TaskwidgetsError:
        """The error for a job whose row may not be changed: none there, or not by this role."""
        record = self._look_up(job_id)  # JobNotFound
        return JobOfOtherRole(
            f"job {job_id} ({record.spec.name}) is the role {record.role}'s: this role may watch "
            f"it, but not run or terminate it. GRANT {record.role} TO this role would let it",
            job_id=job_id,
        )

    def _owned(self, job_id: int) -> TaskwidgetsError:
        record = self._look_up(job_id)
        deadline = time.monotonic() + NAMING_PATIENCE
        while record.state not in OWNED and time.monotonic() < deadline:
            time.sleep(0.01)  # the winner has the lock, and has not written its name yet
            record = self._look_up(job_id)
        if self._is_mine(record.owner):
            return JobOwned(f"job {job_id} runs in this process already", job_id=job_id)
        return JobOwned(
            f"job {job_id} ({record.spec.name}) is run by {record.owner or 'another process'}; "
            "pause it there, or wait until it is done. If that process hangs, "
            f"tw.resume({job_id}, take_over=True) takes the job from it",
            job_id=job_id,
        )

    def _is_mine(self, owner: Owner | None) -> bool:
        return owner is not None and owner.session == self._me.session

    def _owner_json(self) -> dict[str, object]:
        """Who this is, and by what it is to be judged alive: see ``records.ALIVE``."""
        names = ("host", "pid", "session", "kernel", "notebook")
        me = {name: value for name in names if (value := getattr(self._me, name))}
        lease = self._keeper.lease
        return me if lease is None else {**me, "lease": lease}

    def _move(
        self,
        connection: Connection,
        job_id: int,
        epoch: int,
        start: State,
        finish: State,
        cause: str,
        values: dict[str, object] | None = None,
    ) -> None:
        moved = record_move(connection, self._me.short, job_id, epoch, start, finish, cause, values)
        assert moved  # the row is locked, and was just read
