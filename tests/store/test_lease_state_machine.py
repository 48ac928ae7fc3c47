"""Several owner processes, their jobs and their leases, in any order that hypothesis thinks of.

The stores are real ones, on a real Postgres whose clock the test moves; the processes are stores
with sessions of their own, in this process. What each operation must give, ``lease_model`` says.
After each step, all that is stored is compared with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import pytest
import sqlalchemy.exc
from fix_virtual_clock import VirtualClock
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lease_model import (
    SEGMENT_BYTES,
    SEGMENTS,
    Ending,
    LockSession,
    Mode,
    Model,
    Process,
    Transaction,
    positions_of,
    rows_of,
)
from lease_processes import (
    CONNECTION_ERRORS,
    STORED,
    HeldClaim,
    OpenTransaction,
    OwnerProcess,
    Race,
    Server,
    insert_rows,
    save_state,
    write,
)

from taskwidgets.errors import DatabaseError, IllegalTransition, JobFenced, JobNotFound, JobOwned
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.faults import UNDOING
from taskwidgets.runtime.states import OWNED, RESUMABLE, TRANSITIONS, State
from taskwidgets.runtime.store import JobSpec
from taskwidgets.store import checkpoints, run_states
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.transitions import record_move
from taskwidgets.store.translate import is_away

EXAMPLES, STEPS = 10, 40
THOROUGH = 30  # times as many examples

VARIANTS = {
    "sessions": dict.fromkeys("ABC", Mode.SESSION),
    "leases": dict.fromkeys("ABC", Mode.LEASE),
    "mixed": {"A": Mode.SESSION, "B": Mode.LEASE, "C": Mode.SESSION},
}

MOST_JOBS, MOST_TRANSACTIONS = 3, 4
LOCK_TIMEOUT = "5ms"  # for a statement that must wait
LOCK_NOT_AVAILABLE = "55P03"
MISSING = 4711  # no job has this number
CHECKPOINT = Checkpoint(1_000_000, 1_000_001, 1, 0)  # one that must not be accepted
REFUSALS = (False, JobFenced)

CLAIMED = st.sampled_from([State.RUNNING, State.RUNNING, State.TERMINATING])

T = TypeVar("T")


def outcome(action: Callable[[], Any]) -> Any:
    """What an action returns, or the kind of error that it raises."""
    try:
        return action()
    except (JobOwned, JobFenced, IllegalTransition, JobNotFound) as error:
        return type(error)


class LeaseMachine(RuleBasedStateMachine):
    """The rules: what processes do, and what happens to them.

    No rule waits: what would wait for a lock either fails at once, or is not tried.
    """

    names = st.sampled_from("ABC")

    def __init__(self, server: Server, modes: dict[str, Mode]) -> None:
        super().__init__()
        self.server = server
        self.model = Model(modes)
        self.processes: dict[Process, OwnerProcess] = {}  # those that are alive
        self.claims: list[HeldClaim] = []  # those of living processes
        self.fenced: list[HeldClaim] = []  # all that are not valid any more
        self.open: dict[Transaction, OpenTransaction] = {}  # as their processes believe
        self.seen_events = 0  # the number of the last one that was compared
        server.reset()

    def teardown(self) -> None:
        for transaction in self.open.values():
            transaction.abandon()
        for process in self.processes.values():
            process.close()
        self.server.wait_for_all()

    # ------------------------------------------------------------------ what rules choose from

    def process(self, name: str) -> OwnerProcess:
        """The process of that name; after a crash, a new one."""
        model = self.model.processes[name]
        if model not in self.processes:
            self.processes[model] = OwnerProcess(self.server, model)
        return self.processes[model]

    def would_wait(self, held: HeldClaim) -> bool:
        """Whether a change of the job's row would wait for a transaction of this very claim."""
        return self.model.is_valid(*held.facts) and bool(self.model.writers(held.job_id))

    def movers(self) -> list[HeldClaim]:
        return [held for held in self.claims if not self.would_wait(held)]

    def workers(self) -> list[HeldClaim]:
        """The claims under which checkpoints are accepted."""
        return [held for held in self.claims if self.model.accepts(*held.facts)]

    def releasable(self) -> list[HeldClaim]:
        return [held for held in self.movers() if held.is_held]

    def beating(self) -> list[OwnerProcess]:
        """The processes with jobs, unless their heartbeat would wait for a transaction."""
        found = []
        for model, process in self.processes.items():
            mine = [one for one in model.held if self.model.jobs[one].owner is model]
            if model.held and not any(self.model.writers(job_id) for job_id in mine):
                found.append(process)
        return found

    def connected(self) -> list[OwnerProcess]:
        processes = self.processes.values()
        return [one for one in processes if one.model.lock_session is LockSession.OPEN]

    def to_do(self, held: HeldClaim) -> list[int]:
        """The segments that are not committed, and that no worker of the claim is at."""
        done = self.model.jobs[held.job_id].segments
        return [
            segment
            for segment in range(SEGMENTS)
            if segment not in done and not self.model.is_in_flight(*held.facts, segment)
        ]

    @staticmethod
    def pick(data: st.DataObject, options: Sequence[T], label: str) -> T:
        return data.draw(st.sampled_from(options), label)

    # ------------------------------------------------------------------ jobs and their owners

    @initialize(owners=st.lists(st.sampled_from("AABC"), max_size=2), data=st.data())
    def begin(self, owners: list[str], data: st.DataObject) -> None:
        """Two jobs; some have an owner, which has sent its first heartbeat."""
        for key in ("one", "two"):
            self.create("A", key)
        for job_id, name in zip(self.model.jobs, owners, strict=False):
            self.attempt_claim(name, job_id, State.RUNNING, data, take_over=False)
            self.beat(self.process(name))

    @precondition(lambda self: len(self.model.jobs) < MOST_JOBS)
    @rule(name=names, key=st.sampled_from(["one", "two"]))
    def create_job(self, name: str, key: str) -> None:
        """A new job; refused while another one of its key is active."""
        self.create(name, key)

    def create(self, name: str, key: str) -> None:
        store = self.process(name).store
        spec = JobSpec(key, "upload", f"job {key}", "s.csv", "public.t", {}, {"version": 0})
        expected = outcome(lambda: self.model.create(key))
        made = outcome(lambda: store.create(spec, lambda connection, job_id: None).id)
        assert made == expected

    @rule(name=names, to=CLAIMED, data=st.data())
    def claim(self, name: str, to: State, data: st.DataObject) -> None:
        self.attempt_claim(name, self.pick_job(data), to, data, take_over=False)

    @rule(name=names, data=st.data())
    def claim_what_is_free(self, name: str, data: st.DataObject) -> None:
        """A claim to run of a job that can be run, if there is one."""
        jobs = [
            job.id
            for job in self.model.jobs.values()
            if self.model.seen_state(job) in RESUMABLE and not job.is_undoing
        ]
        job_id = self.pick(data, jobs or list(self.model.jobs), "job")
        self.attempt_claim(name, job_id, State.RUNNING, data, take_over=False)

    @rule(name=names, to=CLAIMED, data=st.data())
    def take_over(self, name: str, to: State, data: st.DataObject) -> None:
        self.attempt_claim(name, self.pick_job(data), to, data, take_over=True)

    def pick_job(self, data: st.DataObject) -> int:
        return self.pick(data, list(self.model.jobs), "job")

    @rule(name=names)
    def claim_a_missing_job(self, name: str) -> None:
        process = self.process(name)
        expected = outcome(
            lambda: self.model.claim(
                process.model, MISSING, State.RUNNING, take_over=False, ending=Ending.NEVER
            )
        )
        assert expected is JobNotFound
        assert outcome(lambda: process.store.record(MISSING)) is JobNotFound
        arguments = (MISSING, State.RUNNING, "claim", Control())
        assert outcome(lambda: process.store.claim(*arguments)) is JobNotFound

    def attempt_claim(
        self, name: str, job_id: int, to: State, data: st.DataObject, *, take_over: bool
    ) -> None:
        """A claim of which all is predicted: the answer, whether it waits, and whom it evicts."""
        process, control = self.process(name), Control()
        if job_id in process.model.held and self.model.jobs[job_id].owner is not process.model:
            take_over = False  # a driver gives its claim back before it makes another one
        ending = Ending.NEVER
        if self.model.writers(job_id):
            ending = self.pick(data, list(Ending), "what becomes of its open transactions")
        expected = outcome(
            lambda: self.model.claim(process.model, job_id, to, take_over=take_over, ending=ending)
        )
        effects = self.model.effects
        race = None
        if isinstance(expected, tuple):
            race = self.pick_race(data, process, job_id)

        pids = [self.open[one].pid for one in effects.ended_transactions]
        for ended in effects.ended_sessions:
            if ended in self.processes:
                pids += self.server.sessions(self.processes[ended])

        def end_writers() -> None:
            for transaction, how in effects.endings:
                self.open.pop(transaction).end(how)

        with race or nullcontext():
            made = outcome(
                lambda: process.claim(
                    job_id, to, "claim", control, take_over=take_over,
                    while_waiting=end_writers if effects.waits else None,
                )
            )  # fmt: skip
        assert process.while_waiting is None, "the claim did not wait for the open transaction"
        if pids:
            self.server.wait_for_end("pid = ANY(%s)", pids)
        waited = " after it waited" if effects.waits else ""
        if isinstance(made, type):
            assert made is expected
            event(f"claim: {made.__name__}{waited}")
            return
        assert (made.epoch, made.rested_in) == expected
        event(f"claim: {'taken over' if take_over else 'made'}{waited}")
        if race is not None:
            event("claim: while its owner was writing")
            assert race.has_begun
            assert race.outcome in REFUSALS or is_away(race.outcome)
        self.fenced += [held for held in self.claims if held.job_id == job_id]
        self.claims.append(HeldClaim(process, made, control))
        self.check_fenced(job_id)

    def pick_race(self, data: st.DataObject, claimant: OwnerProcess, job_id: int) -> Race | None:
        """The owner until now, if there is one, may write in the moment of the claim."""
        before = (job_id, self.model.jobs[job_id].epoch - 1)
        owner = next((held for held in self.claims if held.facts == before), None)
        if owner is None or owner.process is claimant:
            return None
        store, serial = owner.process.store, self.model.jobs[job_id].serial + 1

        def write() -> bool:
            with store.in_transaction() as connection:
                return checkpoints.record(connection, owner.claim, CHECKPOINT)

        def save() -> bool:
            with store.in_transaction() as connection:
                return save_state(connection, owner, serial)

        def move() -> Any:
            return outcome(lambda: store.move(owner.claim, State.FAILED, "late"))

        acts = {"nothing": None, "a checkpoint": write, "a state": save, "a move": move}
        act = acts[self.pick(data, list(acts), "what its owner writes meanwhile")]
        return None if act is None else Race(self.server, claimant, *before, act)

    def check_fenced(self, job_id: int) -> None:
        """No checkpoint of those who had the job before is accepted."""
        fenced = [held for held in self.fenced if held.job_id == job_id][-2:]
        if not fenced:
            return
        with self.server.observer.database.engine.connect() as connection:
            for held in fenced:
                assert not checkpoints.record(connection, held.claim, CHECKPOINT)
            connection.rollback()

    @precondition(lambda self: self.releasable())
    @rule(data=st.data(), is_connection_lost=st.booleans())
    def release(self, data: st.DataObject, is_connection_lost: bool) -> None:
        """The owner gives its claim back, whatever state the job is in."""
        held = self.pick(data, self.releasable(), "claim")
        if is_connection_lost and held.process in self.connected():
            self.end_lock_session(held.process)
        self.release_claim(held)

    def release_claim(self, held: HeldClaim) -> None:
        self.model.release(held.process.model, held.job_id)
        held.process.store.release(held.claim)

    # ------------------------------------------------------------------ time and failures

    @precondition(lambda self: self.beating())
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        self.beat(self.pick(data, self.beating(), "process"))

    def beat(self, process: OwnerProcess) -> None:
        expected = self.model.heartbeat(process.model)
        assert process.heartbeat() is expected

    @rule(seconds=st.sampled_from([1, 5, 14, 15, 20]))
    def advance_clock(self, seconds: int) -> None:
        self.model.advance(seconds)
        self.server.clock.advance(seconds)

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """The server ends all sessions of a process, which never acts again."""
        process = self.pick(data, list(self.processes.values()), "process")
        self.model.crash(process.model)
        self.server.end_sessions("application_name = %s", process.name)
        for transaction in [one for one in self.open if one.process is process.model]:
            self.open.pop(transaction).abandon()
        self.claims = [held for held in self.claims if held.process is not process]
        del self.processes[process.model]
        process.close()

    @precondition(lambda self: self.connected())
    @rule(data=st.data())
    def lose_lock_session(self, data: st.DataObject) -> None:
        """The connection by which a process shows that it is alive breaks, and no other one."""
        self.end_lock_session(self.pick(data, self.connected(), "process"))

    def end_lock_session(self, process: OwnerProcess) -> None:
        self.model.lose_lock_session(process.model)
        self.server.end_sessions("pid = %s", process.lock_session)

    # ------------------------------------------------------------------ moves

    @precondition(lambda self: self.movers())
    @rule(data=st.data(), fails=st.booleans())
    def move(self, data: st.DataObject, fails: bool) -> None:
        """Moves that the table has; others are refused, as are all of a fenced owner."""
        held = self.pick(data, self.movers(), "claim")
        state = self.model.jobs[held.job_id].state
        legal = sorted(finish for start, finish in TRANSITIONS if start is state)
        self.attempt_move(held, self.pick(data, [*legal, *State], "to"), fails=fails)

    @precondition(lambda self: self.movers())
    @rule(data=st.data(), to=st.sampled_from([State.PAUSED, State.FAILED, State.COMPLETED]))
    def come_to_rest(self, data: st.DataObject, to: State) -> None:
        """What a driver does at its end: the moves, and the claim is given back."""
        held = self.pick(data, self.movers(), "claim")
        if to is State.PAUSED:
            self.attempt_move(held, State.PAUSING, fails=False)
        self.attempt_move(held, to, fails=False)
        if held.is_held:
            self.release_claim(held)

    @precondition(lambda self: self.movers())
    @rule(data=st.data())
    def terminate(self, data: st.DataObject) -> None:
        """A driver's clean-up: what the job has made is deleted."""
        held = self.pick(data, self.movers(), "claim")
        self.attempt_move(held, State.TERMINATING, fails=False)
        if self.model.jobs[held.job_id].state is State.TERMINATING:
            expected = outcome(lambda: self.model.forget(*held.facts))
            assert outcome(lambda: self.clean_up(held)) == expected
            self.attempt_move(held, State.TERMINATED, fails=False)

    def clean_up(self, held: HeldClaim) -> None:
        store = held.process.store
        with store.in_transaction() as connection:
            store.lock(connection, held.claim)
            checkpoints.forget(connection, held.job_id)
            run_states.forget(connection, held.job_id)
            connection.exec_driver_sql("DELETE FROM public.data WHERE job_id = %s", (held.job_id,))

    def attempt_move(self, held: HeldClaim, to: State, *, fails: bool) -> None:
        store = held.process.store
        error = {"message": "it failed", UNDOING: True} if fails else None
        expected = outcome(lambda: self.model.move(*held.facts, to, "move", error))
        assert outcome(lambda: store.move(held.claim, to, "move", error=error)) == expected

    @precondition(lambda self: self.movers())
    @rule(data=st.data(), start_and_finish=st.sampled_from(sorted(TRANSITIONS)))
    def move_from_another_state(
        self, data: st.DataObject, start_and_finish: tuple[State, State]
    ) -> None:
        """A move that begins at another state or epoch than the stored one changes nothing."""
        held = self.pick(data, self.movers(), "claim")
        start, finish = start_and_finish
        job = self.model.jobs[held.job_id]
        epoch = held.epoch if start is not job.state else job.epoch - 1
        with held.process.store.in_transaction() as connection:
            assert not record_move(connection, "late", held.job_id, epoch, start, finish, "late")

    # ------------------------------------------------------------------ checkpoints

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), merges=st.booleans())
    def write_segment(self, data: st.DataObject, merges: bool) -> None:
        """Rows and checkpoint, in a transaction that is over at once; of any claim."""
        held = self.pick(data, self.claims, "claim")
        self.write(held, data, merges=merges)

    @precondition(lambda self: self.workers())
    @rule(data=st.data(), merges=st.booleans())
    def write_next_segment(self, data: st.DataObject, merges: bool) -> None:
        """The same, of the owner."""
        held = self.pick(data, self.workers(), "claim")
        self.write(held, data, merges=merges)

    def write(self, held: HeldClaim, data: st.DataObject, *, merges: bool) -> None:
        done = self.model.jobs[held.job_id].segments
        options = [*self.to_do(held), *done]
        if not options:
            return
        segment = self.pick(data, options, "segment")
        start = segment * SEGMENT_BYTES
        with held.process.database.engine.connect() as connection:
            checkpoints.wait_for_others(connection, held.job_id, start)
            is_done = checkpoints.is_committed(connection, held.job_id, start)
            assert is_done is (segment in done)
            if is_done:
                return
            model = self.model.begin(held.process.model, *held.facts, segment)
            insert_rows(connection, held.job_id, segment)
            accepted = self.model.record(model, merges=merges)
            assert write(connection, held, segment, merges=merges) is accepted
            if accepted:
                self.model.end(model, Ending.COMMIT)
                connection.commit()
                self.check_merged(model)

    @precondition(lambda self: self.workers())
    @rule(data=st.data())
    def write_segment_twice(self, data: st.DataObject) -> None:
        """Of two workers with the same segment, the second waits, and finds that it is done."""
        held = self.pick(data, self.workers(), "claim")
        options = self.to_do(held)
        if not options:
            return
        segment = self.pick(data, options, "segment")
        place = held.job_id, segment * SEGMENT_BYTES
        engine = held.process.database.engine
        with engine.connect() as first, engine.connect() as second:
            checkpoints.wait_for_others(first, *place)
            second.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            with pytest.raises(sqlalchemy.exc.OperationalError) as caught:
                checkpoints.wait_for_others(second, *place)
            assert getattr(caught.value.orig, "pgcode", None) == LOCK_NOT_AVAILABLE
            second.rollback()
            model = self.model.begin(held.process.model, *held.facts, segment)
            insert_rows(first, held.job_id, segment)
            assert self.model.record(model, merges=False)
            assert write(first, held, segment, merges=False)
            self.model.end(model, Ending.COMMIT)
            first.commit()
            checkpoints.wait_for_others(second, *place)
            assert checkpoints.is_committed(second, *place)

    @precondition(lambda self: self.claims and len(self.open) < MOST_TRANSACTIONS)
    @rule(data=st.data(), records=st.booleans(), merges=st.booleans())
    def begin_segment(self, data: st.DataObject, records: bool, merges: bool) -> None:
        """A transaction that stays open, with the rows of a segment; or its checkpoint as well."""
        held = self.pick(data, self.workers() or self.claims, "claim")
        options = self.to_do(held)
        if not options:
            return
        segment = self.pick(data, options, "segment")
        model = self.model.begin(held.process.model, *held.facts, segment)
        transaction = self.open[model] = OpenTransaction(held, model)
        if records:
            self.record(transaction, merges=merges)

    def unrecorded(self) -> list[OpenTransaction]:
        return [one for model, one in self.open.items() if not model.is_recorded]

    @precondition(lambda self: self.unrecorded())
    @rule(data=st.data(), merges=st.booleans())
    def record_checkpoint(self, data: st.DataObject, merges: bool) -> None:
        """The checkpoint of an open transaction: accepted if the claim is valid, still."""
        self.record(self.pick(data, self.unrecorded(), "transaction"), merges=merges)

    def record(self, transaction: OpenTransaction, *, merges: bool) -> bool:
        if transaction.model.was_ended:
            self.find_ended(transaction, lambda: transaction.record(merges=merges))
            return False
        accepted = self.model.record(transaction.model, merges=merges)
        assert transaction.record(merges=merges) is accepted
        if not accepted:
            event("open transaction: fenced")
            self.open.pop(transaction.model).end(Ending.ROLL_BACK)
        return accepted

    def find_ended(self, transaction: OpenTransaction, act: Callable[[], Any]) -> None:
        """The server has ended the session: whatever is tried now fails."""
        event("open transaction: ended by the server")
        with pytest.raises(CONNECTION_ERRORS) as caught:
            act()
        assert is_away(caught.value)
        self.open.pop(transaction.model).abandon()

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(),
        ending=st.sampled_from([Ending.COMMIT, Ending.ROLL_BACK]),
        is_reply_lost=st.booleans(),
    )
    def end_segment(self, data: st.DataObject, ending: Ending, is_reply_lost: bool) -> None:
        """The worker commits or rolls back; where the reply is lost, it asks what became of it."""
        transaction = self.pick(data, list(self.open.values()), "transaction")
        model, held = transaction.model, transaction.held
        is_ready = model.is_recorded or ending is Ending.ROLL_BACK
        if not is_ready and not self.record(transaction, merges=False):
            return
        if model.was_ended and ending is Ending.COMMIT:
            self.find_ended(transaction, lambda: transaction.end(ending))
        elif model.was_ended or (is_reply_lost and ending is Ending.ROLL_BACK):
            self.model.end(model, ending)
            self.open.pop(model).abandon()  # the connection is lost before the COMMIT
        else:
            self.model.end(model, ending)
            self.open.pop(model).end(ending)
            if ending is Ending.COMMIT:
                event("open transaction: committed")
                self.check_merged(model)
        if is_reply_lost:
            self.ask_whether_committed(held, model.segment)

    def check_merged(self, model: Transaction) -> None:
        if model.merged:
            log = next(row[5] for row in self.server(STORED, 0) if row[0] == model.job_id)
            self.model.check_merged(model, log)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), segment=st.integers(0, SEGMENTS - 1))
    def ask(self, data: st.DataObject, segment: int) -> None:
        """An owner asks whether a segment is committed; who is fenced gets no answer."""
        self.ask_whether_committed(self.pick(data, self.claims, "claim"), segment)

    def ask_whether_committed(self, held: HeldClaim, segment: int) -> None:
        waits = self.would_wait(held)

        def act() -> bool:
            store = held.process.store
            with store.in_transaction() as connection:
                if waits:
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                store.lock(connection, held.claim)
                return checkpoints.is_committed(connection, held.job_id, segment * SEGMENT_BYTES)

        if waits:  # while a transaction of the claim may still commit, nothing is final
            with pytest.raises(DatabaseError) as caught:
                act()
            assert caught.value.sqlstate == LOCK_NOT_AVAILABLE
        else:
            assert outcome(act) == outcome(lambda: self.model.is_committed(*held.facts, segment))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), ahead=st.sampled_from([1, 1, 0, 2]))
    def save_state(self, data: st.DataObject, ahead: int) -> None:
        """The checkpoint of a user's own job: of its numbers, only the next one is accepted."""
        held = self.pick(data, self.claims, "claim")
        known = self.model.jobs[held.job_id].serial
        serial = known + (ahead if known else 1)
        expected = self.model.save_state(*held.facts, serial)
        with held.process.store.in_transaction() as connection:
            assert save_state(connection, held, serial) is expected

    @precondition(lambda self: self.movers())
    @rule(data=st.data())
    def change_plan(self, data: st.DataObject) -> None:
        held = self.pick(data, self.movers(), "claim")
        store = held.process.store
        version = self.model.jobs[held.job_id].version
        expected = outcome(lambda: self.model.change_plan(*held.facts))

        def act() -> int:
            with store.in_transaction() as connection:
                store.change_plan(connection, held.claim, {"version": version + 1})
                return int(store.plan(connection, held.claim)["version"])

        assert outcome(act) == expected

    # ------------------------------------------------------------------ requests

    @rule(name=names, data=st.data(), verb=st.sampled_from(["pause", "terminate", "resume"]))
    def request(self, name: str, data: st.DataObject, verb: str) -> None:
        job_id = self.pick_job(data)
        self.model.request(job_id, verb)
        self.process(name).store.request(job_id, verb, "a click")

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def hear_requests(self, data: st.DataObject) -> None:
        """An owner answers each request once, and nobody else does."""
        process = self.pick(data, self.claims, "claim").process
        self.model.hear(process.model)
        process.hear_requests()

    # ------------------------------------------------------------------ after each step

    @invariant()
    def agrees(self) -> None:
        """The database, what others see, and what owners know, are as the model has them."""
        self.check_stored()
        self.check_seen()
        for held in self.claims:
            assert held.control.wish is held.process.model.wishes[held.facts]

    def check_stored(self) -> None:
        stored = self.server(STORED, self.seen_events)
        assert [row[0] for row in stored] == list(self.model.jobs)
        for job_id, state, epoch, session, version, log, data, events, answers, serial in stored:
            job = self.model.jobs[job_id]
            assert (state, epoch, version) == (job.state, job.epoch, job.version)
            if job.owner in self.processes:
                assert session == self.processes[job.owner].database.session
            assert answers == [one.answer for one in job.requests]
            assert serial == job.serial
            self.model.check_log(job, log)
            assert data == [row for one in sorted(job.segments) for row in positions_of(one)]
            self.check_events(job_id, events)
        self.seen_events = max([self.seen_events, *(one[0] for row in stored for one in row[7])])

    def check_events(self, job_id: int, events: list[Any]) -> None:
        """What was recorded since the last look: exactly one entry for each transition."""
        job = self.model.jobs[job_id]
        self.model.check_history(job)
        expected = job.history[job.looked_at :]
        assert [one[1:4] for one in events] == [[one.kind, one.start, one.to] for one in expected]
        for (*_, cause, details), one in zip(events, expected, strict=True):
            assert details == one.details
            assert cause.startswith(one.cause)
        job.looked_at = len(job.history)

    def check_seen(self) -> None:
        """A job is seen as interrupted if, and only if, its owner is gone."""
        for record in self.server.records(list(self.model.jobs)):
            job = self.model.jobs[record.id]
            assert record.state is self.model.seen_state(job)
            assert record.undoing is job.is_undoing
            if job.segments and not job.serial and job.state in OWNED:
                assert record.progress.rows == sum(map(rows_of, job.segments))


# --------------------------------------------------------------------------------------- the tests


@pytest.fixture
def server(
    database_url: str, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """The database, and a package that waits for nothing that cannot come."""
    monkeypatch.setattr("taskwidgets.store.keeper.HEARTBEAT", 1e6)
    monkeypatch.setattr("taskwidgets.store.claims.NAMING_PATIENCE", 0.0)
    monkeypatch.setattr("taskwidgets.store.claims.ROW_PATIENCE", LOCK_TIMEOUT)
    monkeypatch.setattr("taskwidgets.store.eviction.LOOK", 0.002)
    made = Server(database_url, virtual_clock)
    yield made
    made.close()


def run(server: Server, modes: dict[str, Mode], examples: int, phases: Sequence[Phase]) -> None:
    run_state_machine_as_test(
        lambda: LeaseMachine(server, modes),
        settings=settings(
            max_examples=examples,
            phases=phases,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_owners_in_any_order(variant: str, server: Server) -> None:
    """Whatever the order of events, each job has one owner, and each segment is there once.

    Slow: 600 steps, after each of which all that is stored is compared.
    """
    run(server, VARIANTS[variant], EXAMPLES, [Phase.generate])  # to make it short takes minutes


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("variant", VARIANTS)
def test_owners_in_many_more_orders(variant: str, server: Server) -> None:
    """The same, with many more examples."""
    run(server, VARIANTS[variant], EXAMPLES * THOROUGH, tuple(Phase))
