"""A model of jobs, their owners and their checkpoint logs: no database, no threads, no clock.

Each method says what the store must do when it is asked for the same thing: the value that it
returns, or the error that it raises. ``test_lease_state_machine.py`` asks both and compares.

An owner is alive by one of two signs. One with sessions of its own holds an advisory lock for each
of its jobs, by its *lock session*. One behind a pooler has a *lease*: it is alive for LEASE seconds
after its last heartbeat. The epoch of a claim is its fencing token.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

from taskwidgets.errors import IllegalTransition, JobFenced, JobNotFound, JobOwned
from taskwidgets.runtime.control import Wish
from taskwidgets.runtime.states import FINAL, OWNED, TRANSITIONS, State, may_move

LEASE = 15  # seconds
SEGMENTS, SEGMENT_BYTES = 6, 10
AT_REST = (State.PAUSED, State.INTERRUPTED, State.FAILED)
WRITABLE = (State.RUNNING, State.PAUSING)  # the states in which checkpoints are accepted
WISHES = {"pause": Wish.PAUSE, "terminate": Wish.TERMINATE}


class Mode(StrEnum):
    """By what a process shows that it is alive."""

    SESSION = "session"
    LEASE = "lease"


class LockSession(StrEnum):
    """The lock session of a process; in lease mode, the connection that heartbeats take."""

    NONE = "none"
    OPEN = "open"
    LOST = "lost"  # the server has ended it, and the process has not noticed


class Ending(StrEnum):
    """What becomes of an open transaction."""

    COMMIT = "commit"
    ROLL_BACK = "roll back"
    NEVER = "never"  # its process is frozen


# ----------------------------------------------------------------------------- what a segment holds


def rows_of(segment: int) -> int:
    """How many rows a segment has."""
    return segment % 3 + 1


def positions_of(segment: int) -> range:
    """The positions of its rows in the data table."""
    return range(segment * SEGMENT_BYTES, segment * SEGMENT_BYTES + rows_of(segment))


def bytes_of(segment: int) -> bytes:
    return bytes([segment]) * SEGMENT_BYTES


# ------------------------------------------------------------------------------------ what there is


@dataclass(eq=False)
class Process:
    """One life of an owner process; after a crash, another one bears its name."""

    name: str
    mode: Mode
    is_alive: bool = True
    held: dict[int, int] = field(default_factory=dict)  # job -> epoch, as far as it knows
    lock_session: LockSession = LockSession.NONE
    locks: set[int] = field(default_factory=set)
    wishes: dict[tuple[int, int], Wish] = field(default_factory=dict)  # by job and epoch

    def __repr__(self) -> str:
        return f"{self.name} ({self.mode})"


@dataclass(eq=False)
class Transaction:
    """An open transaction that has written a segment's rows, and perhaps its checkpoint."""

    process: Process
    job_id: int
    epoch: int
    segment: int
    is_recorded: bool = False
    is_merging: bool = False  # it holds the lock under which checkpoints are merged
    merged: frozenset[int] = frozenset()  # segments whose log entries it has merged
    is_open: bool = True
    was_ended: bool = False  # by the server


@dataclass
class Request:
    verb: str
    answer: str | None = None


@dataclass
class Event:
    """An entry of a job's history; ``cause`` is what the recorded one begins with."""

    kind: str
    start: str | None
    to: str | None
    cause: str
    details: dict[str, Any] | None = None


@dataclass(eq=False)
class Job:
    id: int
    key: str
    state: State = State.PENDING
    epoch: int = 0
    owner: Process | None = None
    heartbeat_at: int | None = None
    has_undo_error: bool = False
    version: int = 0  # in the plan
    segments: dict[int, int] = field(default_factory=dict)  # committed, with their epochs
    serial: int = 0  # of the last saved state
    serial_epoch: int = 0
    history: list[Event] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    looked_at: int = 0  # entries of the history that are compared with the recorded ones

    @property
    def is_undoing(self) -> bool:
        """Whether its clean-up has begun and is not finished."""
        interrupted = self.state is State.INTERRUPTED and self.has_undo_error
        return interrupted or self.state is State.TERMINATING

    @property
    def rested_in(self) -> State:
        """The state in which it last came to rest."""
        for event in reversed(self.history):
            if event.kind == "transition" and event.to in AT_REST:
                return State(event.to)
        return State.PENDING

    def move(self, to: State, cause: str, details: dict[str, Any] | None = None) -> None:
        if to in (*AT_REST, State.COMPLETED) and (work := self._work()) is not None:
            self.history.append(Event("checkpoint", None, None, "", work))
        self.history.append(Event("transition", self.state, to, cause, details))
        self.state = to

    def _work(self) -> dict[str, Any] | None:
        """What was committed since the last claim."""
        if self.serial and self.serial_epoch == self.epoch:
            return {"serial": self.serial, "done": self.serial, "unit": "items"}
        written = [one for one, epoch in self.segments.items() if epoch == self.epoch]
        if not written:
            return None
        return {
            "checkpoints": len(written),
            "rows": sum(map(rows_of, written)),
            "bytes": len(written) * SEGMENT_BYTES,
        }


@dataclass
class Effects:
    """What an operation does besides its answer."""

    waits: bool = False  # it waits for transactions that have the job's row locked
    endings: list[tuple[Transaction, Ending]] = field(default_factory=list)  # meanwhile
    ended_sessions: set[Process] = field(default_factory=set)  # all of theirs, by the server
    ended_transactions: list[Transaction] = field(default_factory=list)  # by the server


class Model:
    """All jobs of a database, and all processes."""

    def __init__(self, modes: dict[str, Mode]) -> None:
        self.modes = modes
        self.now = 0  # seconds
        self.jobs: dict[int, Job] = {}
        self.numbers = 0
        self.processes = {name: Process(name, mode) for name, mode in modes.items()}
        self.transactions: list[Transaction] = []
        self.effects = Effects()

    # -------------------------------------------------------------------- what others see

    def is_alive(self, job: Job) -> bool:
        """Whether the job's owner shows that it is alive."""
        if job.owner is None:
            return False
        if job.owner.mode is Mode.LEASE:
            return job.heartbeat_at is not None and self.now - job.heartbeat_at < LEASE
        return job.id in job.owner.locks

    def seen_state(self, job: Job) -> State:
        """The state that is shown to others."""
        gone = job.state in OWNED and not self.is_alive(job)
        return State.INTERRUPTED if gone else job.state

    def lock_holder(self, job_id: int) -> Process | None:
        holders = [one for one in self.processes.values() if job_id in one.locks]
        assert len(holders) <= 1
        return holders[0] if holders else None

    def writers(self, job_id: int) -> list[Transaction]:
        """The open transactions that keep the job's row locked."""
        return [one for one in self._open() if one.job_id == job_id and one.is_recorded]

    def is_in_flight(self, job_id: int, epoch: int, segment: int) -> bool:
        """Whether a worker of this claim is at the segment already."""
        facts = (job_id, epoch, segment)
        return any((one.job_id, one.epoch, one.segment) == facts for one in self._open())

    def is_valid(self, job_id: int, epoch: int) -> bool:
        return self.jobs[job_id].epoch == epoch

    def accepts(self, job_id: int, epoch: int) -> bool:
        """Whether a checkpoint is written for this claim."""
        return self.is_valid(job_id, epoch) and self.jobs[job_id].state in WRITABLE

    def _open(self) -> list[Transaction]:
        return [one for one in self.transactions if one.is_open]

    # -------------------------------------------------------------------- time and failures

    def advance(self, seconds: int) -> None:
        self.now += seconds

    def crash(self, process: Process) -> None:
        """All its sessions end; another process of that name may begin."""
        self._end_sessions(process)
        process.is_alive = False
        self.processes[process.name] = Process(process.name, process.mode)

    def lose_lock_session(self, process: Process) -> None:
        assert process.lock_session is LockSession.OPEN
        process.lock_session = LockSession.LOST
        process.locks.clear()

    def _end_sessions(self, process: Process) -> None:
        if process.lock_session is LockSession.OPEN:
            self.lose_lock_session(process)
        self._end_transactions(process)
        self.effects.ended_sessions.add(process)

    def _end_transactions(self, process: Process) -> None:
        for transaction in self._open():
            if transaction.process is process:
                transaction.is_open, transaction.was_ended = False, True
                self.effects.ended_transactions.append(transaction)

    def _evict(self, owner: Process) -> None:
        if owner.mode is Mode.LEASE:
            self._end_transactions(owner)
        else:
            self._end_sessions(owner)

    # -------------------------------------------------------------------- ownership

    def create(self, key: str) -> int:
        self.numbers += 1  # a refused one has taken a number as well
        if any(job.key == key and job.state not in FINAL for job in self.jobs.values()):
            raise JobOwned("another job of this key is active")
        job = Job(self.numbers, key)
        job.history.append(Event("transition", None, State.PENDING, "created"))
        self.jobs[job.id] = job
        return job.id

    def claim(
        self, process: Process, job_id: int, to: State, *, take_over: bool, ending: Ending
    ) -> tuple[int, State]:
        """The epoch, and the state in which the job last came to rest.

        ``ending``: what becomes of the transactions that have the job's row locked, while the claim
        waits for it.
        """
        self.effects = Effects()
        try:
            return self._claim_once(process, job_id, to, take_over, ending)
        except JobOwned:
            owner = self.jobs[job_id].owner
            if not take_over or owner in (None, process):
                raise
        assert owner is not None
        self._evict(owner)
        return self._claim_once(process, job_id, to, take_over, ending)

    def _claim_once(
        self, process: Process, job_id: int, to: State, take_over: bool, ending: Ending
    ) -> tuple[int, State]:
        if job_id in process.held:
            raise JobOwned("it runs here")
        if process.mode is Mode.SESSION:
            self._open_lock_session(process)
            if self.lock_holder(job_id) is not None:
                raise JobOwned("its lock is taken")
            process.locks.add(job_id)
        try:
            if job_id not in self.jobs:
                raise JobNotFound("no such job")
            claimed = self._claim_row(process, self.jobs[job_id], to, take_over, ending)
        except Exception:
            process.locks.discard(job_id)
            raise
        process.held[job_id] = claimed[0]
        process.wishes[job_id, claimed[0]] = Wish.NONE
        return claimed

    def _claim_row(
        self, process: Process, job: Job, to: State, take_over: bool, ending: Ending
    ) -> tuple[int, State]:
        self._wait_for_row(process, job, take_over, ending)
        if process.mode is Mode.LEASE and self.lock_holder(job.id) is not None:
            raise JobOwned("its lock is taken")
        if to is State.RUNNING and job.is_undoing:
            raise IllegalTransition("it is being terminated")
        was_owned, previous = job.state in OWNED, job.owner
        if was_owned:
            is_leased = previous is not None and previous.mode is Mode.LEASE
            is_heard = is_leased and self.is_alive(job)
            if is_heard and previous is not process and not take_over:
                raise JobOwned("its owner is alive")
        if not may_move(State.INTERRUPTED if was_owned else job.state, to):
            raise IllegalTransition("the table forbids it")
        if was_owned:
            job.move(State.INTERRUPTED, "taken from" if is_heard else "its owner is gone:")
        rested_in = job.rested_in
        for request in job.requests:
            request.answer = request.answer or "the owner it was for is gone"
        job.move(to, "claim")
        job.epoch += 1
        job.owner, job.heartbeat_at, job.has_undo_error = process, self.now, False
        if was_owned and is_leased and previous is not process:
            assert previous is not None
            self._end_transactions(previous)
        return job.epoch, rested_in

    def _wait_for_row(self, process: Process, job: Job, take_over: bool, ending: Ending) -> None:
        writers, owner = self.writers(job.id), job.owner
        if not writers:
            return
        assert owner is not None
        assert all(one.process is owner for one in writers)
        if owner.mode is Mode.LEASE:
            evicts = take_over or self.seen_state(job) is State.INTERRUPTED
        else:
            evicts = take_over and owner is not process
        if ending is Ending.NEVER and not evicts:
            ending = Ending.COMMIT  # or the claim would wait for ever, as it should
        self.effects.waits = True
        if ending is not Ending.NEVER:
            self.effects.endings += [(one, ending) for one in writers]
            for one in writers:
                self.end(one, ending)
        if evicts:
            self._evict(owner)

    def heartbeat(self, process: Process) -> bool:
        """False when it has found its connection lost; the next one makes another."""
        if not process.held:
            return True
        if process.lock_session is LockSession.LOST:
            process.lock_session = LockSession.NONE
            return False
        self._open_lock_session(process)
        for job_id, epoch in list(process.held.items()):
            if self.jobs[job_id].owner is process:
                self.jobs[job_id].heartbeat_at = self.now
            else:
                del process.held[job_id]
                process.wishes[job_id, epoch] = Wish.YIELD
        return True

    def _open_lock_session(self, process: Process) -> None:
        """A new one takes the locks of the jobs that still are the process's."""
        if process.lock_session is LockSession.OPEN:
            return
        process.lock_session = LockSession.OPEN
        if process.mode is Mode.SESSION:
            mine = [job_id for job_id in process.held if self.jobs[job_id].owner is process]
            process.locks |= {job_id for job_id in mine if self.lock_holder(job_id) is None}

    def release(self, process: Process, job_id: int) -> None:
        if process.held.pop(job_id, None) is None:
            return
        process.locks.discard(job_id)
        if process.lock_session is LockSession.LOST:
            process.lock_session = LockSession.NONE
        elif process.mode is Mode.LEASE:
            process.lock_session = LockSession.OPEN
            job = self.jobs[job_id]
            if job.owner is process and job.state in OWNED:
                job.heartbeat_at = None

    # -------------------------------------------------------------------- what an owner writes

    def move(
        self, job_id: int, epoch: int, to: State, cause: str, error: dict[str, Any] | None
    ) -> None:
        job = self.jobs[job_id]
        if job.epoch != epoch:
            raise JobFenced("another claim has been made")
        if job.state is to:
            return
        if not may_move(job.state, to):
            raise IllegalTransition("the table forbids it")
        job.move(to, cause, error)
        job.has_undo_error = job.has_undo_error or error is not None

    def forget(self, job_id: int, epoch: int) -> None:
        """The clean-up: rows and checkpoints are deleted."""
        job = self.jobs[job_id]
        if job.epoch != epoch:
            raise JobFenced("another claim has been made")
        job.segments.clear()
        job.serial = 0

    def change_plan(self, job_id: int, epoch: int) -> int:
        job = self.jobs[job_id]
        if job.epoch != epoch:
            raise JobFenced("another claim has been made")
        job.version += 1
        return job.version

    def save_state(self, job_id: int, epoch: int, serial: int) -> bool:
        """Whether the state of this number is saved: the claim's, and the one that is next."""
        job = self.jobs[job_id]
        if not self.accepts(job_id, epoch) or serial != job.serial + 1:
            return False
        job.serial, job.serial_epoch = serial, epoch
        return True

    def is_committed(self, job_id: int, epoch: int, segment: int) -> bool:
        """The answer to a lost reply, for the owner."""
        if not self.is_valid(job_id, epoch):
            raise JobFenced("another claim has been made")
        return segment in self.jobs[job_id].segments

    def begin(self, process: Process, job_id: int, epoch: int, segment: int) -> Transaction:
        self.transactions.append(Transaction(process, job_id, epoch, segment))
        return self.transactions[-1]

    def record(self, transaction: Transaction, *, merges: bool) -> bool:
        """Whether the checkpoint is accepted; if not, the transaction is over."""
        job_id, epoch = transaction.job_id, transaction.epoch
        if not self.accepts(job_id, epoch):
            transaction.is_open = False
            return False
        transaction.is_recorded = True
        others = [one for one in self._open() if one is not transaction and one.job_id == job_id]
        if merges and not any(one.is_merging for one in others):
            transaction.is_merging = True
            seen = [*self.jobs[job_id].segments, transaction.segment]
            transaction.merged = frozenset(seen)
        return True

    def end(self, transaction: Transaction, ending: Ending) -> None:
        transaction.is_open = False
        if ending is Ending.COMMIT:
            assert transaction.is_recorded
            segments = self.jobs[transaction.job_id].segments
            assert transaction.segment not in segments
            segments[transaction.segment] = transaction.epoch

    # -------------------------------------------------------------------- requests

    def request(self, job_id: int, verb: str) -> None:
        job = self.jobs[job_id]
        job.requests.append(Request(verb))
        job.history.append(Event("request", None, None, f"{verb}: "))

    def hear(self, process: Process) -> None:
        """The process answers what is asked of the jobs that it owns."""
        for job_id, epoch in process.held.items():
            if self.jobs[job_id].owner is not process:
                continue
            for request in self.jobs[job_id].requests:
                if request.answer is None:
                    wish = WISHES.get(request.verb)
                    request.answer = "it runs already" if wish is None else "heard"
                    known = process.wishes[job_id, epoch]
                    process.wishes[job_id, epoch] = max(known, wish or Wish.NONE)

    # -------------------------------------------------------------------- what must always hold

    def check_log(self, job: Job, entries: Iterable[list[int]]) -> None:
        """The checkpoint log covers the committed segments: each once, none besides, no sum lost.

        An entry may stand for several that follow each other. Those of the present claim and those
        of earlier ones stay apart.
        """
        covered: list[int] = []
        for start, stop, rows, crc32, segments in entries:
            merged = [one for one in sorted(job.segments) if start <= one * SEGMENT_BYTES < stop]
            assert [start, stop] == [merged[0] * SEGMENT_BYTES, (merged[-1] + 1) * SEGMENT_BYTES]
            assert all(second - first == 1 for first, second in pairwise(merged))
            assert rows == sum(map(rows_of, merged))
            assert crc32 == zlib.crc32(b"".join(map(bytes_of, merged)))
            assert segments == len(merged)
            epochs = {job.segments[one] for one in merged}
            assert len(epochs) == 1 or max(epochs) < job.epoch
            covered += merged
        assert covered == sorted(job.segments)

    def check_merged(self, transaction: Transaction, entries: Iterable[list[int]]) -> None:
        """After a merge, no two entries that it has seen follow each other, but by their claims."""
        job = self.jobs[transaction.job_id]
        found = [list(entry[:2]) for entry in entries]
        for (_, stop), (start, _) in pairwise(found):
            before, after = stop // SEGMENT_BYTES - 1, start // SEGMENT_BYTES
            if stop == start and {before, after} <= transaction.merged:
                is_new = [job.segments[one] == transaction.epoch for one in (before, after)]
                assert is_new[0] != is_new[1], "two entries were not merged"

    def check_history(self, job: Job) -> None:
        """Each transition begins where the one before ended, and the table has it."""
        moves = [one for one in job.history if one.kind == "transition"]
        assert (moves[0].start, moves[0].to, moves[-1].to) == (None, State.PENDING, job.state)
        for one, following in pairwise(moves):
            assert one.to == following.start
            assert (following.start, following.to) in TRANSITIONS
