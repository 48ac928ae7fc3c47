"""A job in this process: the handle that users hold, and the thread that drives it.

The driver is one blocking function in one thread, so that a pause is durable even while the
kernel's loop sits in a busy cell. On the loop there is one coroutine per running job, which tells
the views (twice a second) and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from taskwidgets.errors import (
    ConnectionsExhausted,
    DatabaseError,
    IllegalTransition,
    JobFenced,
    JobNotFound,
    JobOwned,
    JobTerminated,
    TaskwidgetsError,
)
from taskwidgets.runtime.control import Control, Stopped, Wish
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.faults import UNDOING, as_failed, describe, stored_failure
from taskwidgets.runtime.progress import Meter, Progress
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.run import Run, Work
from taskwidgets.runtime.states import FINAL, OWNED, RESUMABLE, State
from taskwidgets.runtime.store import Claim, JobRecord, JobStore, Owner
from taskwidgets.runtime.threads import LoopHandle, in_running_loop, start_thread
from taskwidgets.runtime.viewer import viewer
from taskwidgets.runtime.words import status_line

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Job"]

log = logging.getLogger("taskwidgets")

# Seconds to wait for a connection to claim a job with, and between two attempts.
CLAIM_PATIENCE, CLAIM_RETRY = 60.0, 0.5
AT_REST = frozenset({State.PAUSED, State.FAILED, State.INTERRUPTED})
# Seconds between two looks at a running job. Numbers that change faster cannot be read, and each
# look costs the page 10 ms (benchmarks/watched.py).
VIEW_INTERVAL = 0.5
# Of several that are watched at once, each is looked at more seldom: ten looks a second in all.
VIEW_SHARE = 0.1  # seconds for each of them


_watched: set[Job] = set()  # those at work that have views


class Job:
    """A job that this process runs or has run: ``job`` in a cell shows it, ``await job`` waits.

    ``state`` is one of taskwidgets' states (``"running"``, ``"paused"`` ...); ``progress`` a
    Progress; ``error`` the text of what stopped it, None otherwise; ``receipt`` a Receipt once it
    is completed. ``pause()``, ``resume()`` and ``terminate()`` return at once, may be called from
    any thread and any number of times, and raise IllegalTransition where the state forbids it.
    """

    def __init__(
        self, record: JobRecord, store: JobStore, work: Work, max_rate: float | None = None
    ) -> None:
        self.id = record.id
        self.name = record.spec.name
        self.kind = record.spec.kind
        self.source = record.spec.source
        self.target = record.spec.target
        self._created = (record.spec.key, record.created_at)
        self._store = store
        self._work = work
        self._lock = threading.RLock()
        self._control = Control(max_rate)
        self._meter = Meter(record.progress)
        self._state = record.state
        self._receipt = record.receipt
        self._error = (record.error or {}).get("message")
        self._failure: BaseException | None = stored_failure(record)
        self._remark = ""
        self._checkpoint_at = record.checkpoint_at
        self._loop = LoopHandle()
        self._views: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None
        self._claim: Claim | None = None
        self._next: tuple[str, bool] | None = None  # (cause, terminate) for after this driver
        self._owner = record.owner
        self._epoch = record.epoch  # of the newest claim that this process knows of
        self._undoing = record.undoing  # its clean-up has begun: it can only be brought to its end
        self._was_taken = False  # by another process, while it ran here
        self._is_followed = False
        self._resume_elsewhere: Callable[[], object] | None = None
        self._outcome: Future[Receipt] = Future()
        if record.state in FINAL or record.state is State.FAILED:
            self._settle()

    # ------------------------------------------------------------------ what it is

    @property
    def state(self) -> State:
        """Where the job stands."""
        return self._state

    @property
    def progress(self) -> Progress:
        """How far it is, at this moment."""
        return self._meter.snapshot()

    @property
    def error(self) -> str | None:
        """What stopped it, in words; None unless it failed."""
        return self._error

    @property
    def receipt(self) -> Receipt | None:
        """What it did; None until it is completed."""
        return self._receipt

    @property
    def remark(self) -> str:
        """What is to be known besides the state: "resuming job 7 at 43 %", "already loaded"."""
        return self._remark

    @remark.setter
    def remark(self, text: str) -> None:
        self._remark = text
        self._loop.call(self._tell)

    @property
    def checkpoint_at(self) -> datetime | None:
        """When something was last committed (UTC); None before the first checkpoint."""
        return self._checkpoint_at

    @property
    def cluster(self) -> object | None:
        """The cluster whose workers do its work, if that is so."""
        return getattr(self._work, "cluster", None)

    def employ(self, cluster: object) -> None:
        """Have this cluster's workers do its work from the next attempt on, if its kind can."""
        if hasattr(self._work, "cluster"):
            self._work.cluster = cluster

    @property
    def runs_here(self) -> bool:
        """Whether this process is at work on it."""
        return self._thread is not None

    @property
    def is_ending(self) -> bool:
        """Whether this process is terminating it, or is about to."""
        with self._lock:
            return self._thread is not None and self._is_told_to_end

    @property
    def _is_told_to_end(self) -> bool:
        comes_next = self._next is not None and self._next[1]
        return self._control.wish >= Wish.TERMINATE or comes_next

    def is_of(self, record: JobRecord) -> bool:
        """Whether it is this job: numbers begin anew where the schema was dropped."""
        return self._created == (record.spec.key, record.created_at)

    def _gone(self) -> JobNotFound:
        return JobNotFound(
            f"job {self.id} ({self.name}) is not in the database any more: the database, its "
            'schema "taskwidgets" or the job was dropped since, and what was kept of the job is '
            "gone. Run the call again, which makes a new job",
            job_id=self.id,
        )

    def _check_number(self) -> None:
        """JobNotFound where the number is another job's by now; one that was pruned has nothing."""
        try:
            record = self._store.record(self.id)
        except JobNotFound:
            return
        if not self.is_of(record):
            raise self._gone()

    @property
    def owner(self) -> Owner | None:
        """The process that runs it, or ran it last; None before the first."""
        return self._owner

    @property
    def max_rate(self) -> float | None:
        """Bytes per second that the job may move; None: no limit. Set it at any time."""
        return self._control.max_rate

    @max_rate.setter
    def max_rate(self, rate: float | None) -> None:
        self._control.max_rate = rate

    def events(self) -> pd.DataFrame:
        """Its history, oldest first: at, kind, from_state, to_state, owner, cause, details."""
        self._check_number()
        return self._store.events(self.id)

    def rejects(self) -> pd.DataFrame:
        """What an upload with ``on_error="reject"`` did not load, in the order of the file.

        Columns: id, line (physical, from 1), byte_offset, raw (the record's text), column,
        sqlstate, message, at, replayed_at (when it was loaded after all); of several files also
        file. Mend ``raw`` and give the frame to ``replay``.
        """
        self._check_number()
        return self._store.rejects(self.id)

    def waiting_rejects(
        self, limit: int, offset: int = 0, ids: Sequence[int] | None = None, longest: int = 20_000
    ) -> tuple[pd.DataFrame, int]:
        """Some of the rejects that are not loaded yet, and how many there are; for views.

        Columns: id, line, column, message, raw; of ``raw``, at most ``longest`` characters and one
        more. ``ids``: only of these.
        """
        self._check_number()
        return self._store.waiting_rejects(self.id, limit, offset, ids, longest)

    def replay(self, mended: pd.DataFrame) -> Receipt:
        """Load those of the rejects whose ``raw`` was changed, each exactly once; blocks.

        ``mended``: the frame of ``rejects()``, or some rows of it. What still does not fit stays a
        reject, with its new text and message. Returns the receipt, counted anew. For a job that
        is completed; IllegalTransition otherwise, and OptionError for another frame.
        """
        self._check_number()
        receipt = self._work.replay(self.id, mended)
        self._receipt = receipt
        self._loop.call(self._tell)
        return receipt

    def __repr__(self) -> str:
        return status_line(self)

    def _ipython_display_(self) -> None:
        shown = viewer()
        if shown is None or not shown.show(self):
            print(repr(self))  # noqa: T201 - the plain representation, where there is no front end

    # ------------------------------------------------------------------ what can be asked of it

    def pause(self, cause: str = "job.pause()") -> None:
        """Ask the job to stop at its next checkpoint; ``paused`` means that all is committed."""
        with self._lock:
            if self._next is not None and not self._next[1]:
                self._next = None  # a resume that has not begun is taken back
                return
            if not self._starting:
                if self._state in (State.PAUSED, State.PAUSING):
                    if self._thread is None:  # another process may just have gone on with it
                        self._request("pause", cause, unless_at_rest=True)
                    return
                if self._runs_elsewhere:
                    self._request("pause", cause)
                    return
                if self._thread is None or self._state is not State.RUNNING:
                    raise self._illegal("paused")
            self._control.ask(Wish.PAUSE, cause)

    def terminate(self, cause: str = "job.terminate()") -> None:
        """Stop the job now and undo what it made; the target stays as it was before."""
        with self._lock:
            if self._state in (State.TERMINATED, State.TERMINATING):
                return
            if self._state is State.COMPLETED:
                raise self._illegal("terminated")
            if self._runs_elsewhere:
                self._request("terminate", cause)
            elif self._thread is None:
                self._begin(cause, terminate=True)
            elif self._state in AT_REST and not self._starting:  # its driver is just leaving
                self._next = (cause, True)
            else:
                self._control.ask(Wish.TERMINATE, cause)

    def resume(self, cause: str = "job.resume()") -> None:
        """Go on from the last checkpoint, after a pause, a failure or an interruption.

        Where it was a termination that was cut off, that is brought to its end.
        """
        with self._lock:
            if (self._starting or self._state is State.RUNNING) and (
                self._control.wish is Wish.NONE or self._runs_elsewhere
            ):
                return
            if self._state not in RESUMABLE or self.is_ending:
                raise self._illegal("resumed")
            self.check()
            if self._thread is None and self._resume_elsewhere is not None:
                start_thread(self._ask_to_resume, self._resume_elsewhere, name=f"job {self.id} ask")
            elif self._thread is None:
                self._begin(cause)
            else:  # its driver is just leaving, or about to pause
                self._next = (cause, False)

    @property
    def _starting(self) -> bool:
        """Whether a driver is on its way that has no claim yet: the state still is the old one."""
        return self._thread is not None and self._claim is None

    @property
    def _runs_elsewhere(self) -> bool:
        """Whether another process is at work on it, as far as has been heard."""
        return self._thread is None and self._state in OWNED

    def _request(self, verb: str, cause: str, *, unless_at_rest: bool = False) -> None:
        """Ask the process that runs the job; in a thread, as a click must not wait for it."""

        def send() -> None:
            try:
                record = self._store.record(self.id)
                if not self.is_of(record):
                    raise self._gone()
                if unless_at_rest and record.state not in OWNED:
                    return
                self._store.request(self.id, verb, cause)
            except TaskwidgetsError as fault:
                self._error = f"the request to {verb} it could not be sent: {fault}"
                self._loop.call(self._tell)

        start_thread(send, name=f"job {self.id} request")

    def resumed_by(self, resume: Callable[[], object]) -> None:
        """Have ``resume()`` ask another process to run it, as the one that ran it before.

        ``resume``, which may block, is called in a thread. It holds until this process begins the
        job itself.
        """
        with self._lock:
            self._resume_elsewhere = resume

    def _ask_to_resume(self, resume: Callable[[], object]) -> None:
        try:
            resume()
        except TaskwidgetsError as fault:
            self._error = f"it could not be resumed where it ran: {fault}"
            self._loop.call(self._tell)

    def _illegal(self, asked: str) -> IllegalTransition:
        hint = {
            State.PAUSING: "; wait until it is paused",
            State.RUNNING: "; it is about to stop",
            State.COMPLETED: "; again=True in the call that made it starts a new one",
            State.TERMINATED: "; the call that made it starts a new one",
        }.get(self._state, "")
        return IllegalTransition(
            f"job {self.id} is {self._state} and cannot be {asked}{hint}", job_id=self.id
        )

    def __await__(self) -> Generator[Any, None, Receipt]:
        """Wait for the end: the Receipt, or JobFailed, or JobTerminated. A pause is waited out."""
        shown = viewer()
        if shown is not None:
            shown.show_before_await(self)
        with self._lock:
            outcome = self._outcome
        # A task that is cancelled while it waits must not cancel the outcome for everybody else.
        answer = asyncio.wrap_future(outcome)
        # When it gave up waiting before the job failed, nobody fetches the error: no complaint.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        return asyncio.shield(answer).__await__()

    def wait(self, timeout: float | None = None) -> Receipt:
        """Block until the end, for scripts; ``timeout`` in seconds raises TimeoutError.

        On the thread of a running event loop, such as a notebook's cell, this would wait for
        itself: there it raises, and ``await job`` is the way.
        """
        if in_running_loop():
            raise TaskwidgetsError(
                "job.wait() would stop the event loop of this thread, and with it the notebook; "
                "write: await job"
            )
        with self._lock:
            outcome = self._outcome
        return outcome.result(timeout)

    # ------------------------------------------------------------------ views

    def watch(self, view: Callable[[], None]) -> None:
        """Have the job's loop call ``view`` on changes, twice a second at most."""
        with self._lock:
            self._views.append(view)

    @property
    def loop(self) -> LoopHandle:
        """The loop (and the cell's context) on which the views are called."""
        return self._loop

    def _tell(self) -> None:
        for view in list(self._views):
            try:
                view()
            except Exception:
                # A broken view must not hurt the job, nor fail twice a second.
                self._views.remove(view)
                log.exception("job %s: a view of it failed and is not told any more", self.id)

    async def _conduct(self, driver: threading.Thread) -> None:
        """The job's coroutine on the loop: it feeds the views as long as the driver lives."""
        try:
            while self._thread is driver:
                (_watched.add if self._views else _watched.discard)(self)
                self._tell()
                await asyncio.sleep(max(VIEW_INTERVAL, VIEW_SHARE * len(_watched)))
        finally:
            if self._thread is None:  # else a driver that came after has a coroutine of its own
                _watched.discard(self)
        self._tell()

    # ------------------------------------------------------------------ run by others

    def follow(self) -> None:
        """Keep up with what other processes do with the job, while it does not run here."""
        with self._lock:
            if self._thread is not None or self._state in FINAL or self._is_followed:
                return
            self._is_followed = True
        self._store.follow(self.id, self._hear)

    def _hear_gone(self) -> None:
        """The job is in the database no more: whoever waits for it would wait for ever."""
        with self._lock:
            if self._thread is not None or not self._is_followed:
                return
            self._is_followed = False
            self._failure = self._gone()
            self._error = str(self._failure)
            if self._state in OWNED:
                self._state = State.INTERRUPTED
            self._remark = ""
        self._store.unfollow(self.id)
        self._settle()
        self._loop.call(self._tell)

    def _hear(self, record: JobRecord | None) -> None:
        """What the store has of the job just now."""
        if record is None or not self.is_of(record):
            self._hear_gone()
            return
        with self._lock:
            if self._thread is not None or not self._is_followed:
                return
            state, running = record.state, record.state in OWNED
            if record.epoch == self._epoch and state is self._state and not running:
                return  # nobody has done anything with it
            self._was_taken = self._was_taken or isinstance(self._failure, JobFenced)
            self._epoch, self._owner = record.epoch, record.owner
            self._undoing = record.undoing
            self._state, self._receipt = state, record.receipt
            self._error = (record.error or {}).get("message")
            self._failure = stored_failure(record)
            self._checkpoint_at = record.checkpoint_at
            self._meter.follow(record.progress, running=running)
            self._remark = ""
            if running:
                self._remark = f"{'taken over' if self._was_taken else 'run'} by {record.owner}"
                if self._outcome.done():
                    self._outcome = Future()
            over = state in FINAL
            if over:
                self._is_followed = False
        if over:
            self._store.unfollow(self.id)
        if over or self._failure is not None:
            self._settle()
        self._loop.call(self._tell)

    # ------------------------------------------------------------------ the driver

    def check(self) -> None:
        """Raise what keeps this process from running the job, such as FunctionUnknown."""
        self._work.check()

    def go_on(self, cause: str, remark: str = "", *, take_over: bool = False) -> None:
        """Begin, or go on after a stop; nothing when the driver is at work already.

        ``take_over``: also when another process has the job, which is fenced then.
        """
        with self._lock:
            if self._loop.closed:  # an earlier asyncio.run() of the same script
                self._loop = LoopHandle()
            if self._thread is not None:
                leaving = self._state in AT_REST and not self._starting
                if (leaving or self._control.wish is Wish.PAUSE) and self._next is None:
                    self._next = (cause, False)
                return
            self._remark = remark
            self._begin(cause, take_over=take_over)

    def join(self, seconds: float | None) -> None:
        """Wait until the driver is at rest; it is so while a job is paused."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _begin(self, cause: str, terminate: bool = False, *, take_over: bool = False) -> None:
        if self._is_followed:
            self._is_followed = False
            self._store.unfollow(self.id)
            self._meter.stop()
        self._control.clear()
        self._resume_elsewhere = None
        if terminate or self._undoing:
            self._control.ask(Wish.TERMINATE, cause)
        if self._outcome.done():
            self._outcome = Future()
        self._error, self._failure = None, None
        self._thread = start_thread(self._drive, cause, take_over, name=f"job {self.id}")
        self._loop.spawn(partial(self._conduct, self._thread))

    def _drive(self, cause: str, take_over: bool) -> None:
        """From the claim to rest. What goes wrong in here is the job's to show, never lost."""
        try:
            if self._control.wish is Wish.TERMINATE and self._state is State.PENDING:
                # Nothing goes from pending to terminating; begun, it can be cleaned up.
                self._terminate(self._claim_as(State.RUNNING, cause), cause)
            elif self._control.wish is Wish.TERMINATE:
                run = self._claim_as(State.TERMINATING, cause, take_over=take_over)
                self._terminate(run, cause)
            else:
                run = self._claim_as(State.RUNNING, cause, take_over=take_over)
                self._meter.start()
                self._attempt(run)
        except JobOwned:
            self._loop.call(self._tell)  # another process came first: its run is followed
        except Exception as fault:  # noqa: BLE001 - see above
            # With a claim that is given up now, the job is interrupted, for everybody; without
            # one (the database is away, another process has the job) it is what it was.
            self._end(State.INTERRUPTED if self._claim else self._state, fault)
        finally:
            self._meter.stop()
            if self._claim is not None:
                self._store.release(self._claim)
            self._leave()

    def _claim_as(self, state: State, cause: str, *, take_over: bool = False) -> Run:
        claim = self._claim_when_free(state, cause, take_over=take_over)
        with self._lock:
            self._claim = claim
            self._epoch, self._was_taken = claim.epoch, False
            self._owner = claim.owner
            self._set_state(state)
        return Run(
            self.id,
            claim,
            self._store,
            self._control,
            self._meter,
            self._loop,
            moved=self._set_state,
            checkpointed=self._checkpointed,
            say=self._say,
        )

    def _claim_when_free(self, state: State, cause: str, *, take_over: bool) -> Claim:
        """Claim the job; wait a while where the server has no connection to spare."""
        deadline = time.monotonic() + CLAIM_PATIENCE
        is_new = self._state is State.PENDING
        while True:
            try:
                # Where the database was made anew, the number may be another job's by now.
                if not is_new and not self.is_of(self._store.record(self.id)):
                    raise self._gone()
                return self._store.claim(self.id, state, cause, self._control, take_over=take_over)
            except JobNotFound:
                raise self._gone() from None
            except ConnectionsExhausted as fault:
                begun = self._control.wish
                if begun is Wish.PAUSE or time.monotonic() > deadline:
                    raise
                self.remark = f"{fault.waiting_for}, retrying"
                self._control.wait_until(lambda: self._control.wish is not begun, CLAIM_RETRY)  # noqa: B023

    def _checkpointed(self) -> None:
        self._checkpoint_at = datetime.now(UTC)

    def _say(self, text: str) -> None:
        self.remark = text

    def _leave(self) -> None:
        """The driver's last act: answer who waits, or begin again if that was asked meanwhile."""
        with self._lock:
            self._thread, self._claim = None, None
            follow, self._next = self._next, None
            if self._state is State.FAILED and self._control.wish is Wish.TERMINATE:
                follow = (self._control.cause, True)  # asked for in the moment of the failure
            if follow is not None and self._state not in FINAL:
                self._begin(*follow)
                return
        if self._state in FINAL or self._failure is not None:
            self._settle()
        self._loop.call(self._tell)
        self.follow()  # another process may go on with it

    def _attempt(self, run: Run) -> None:
        """From running to wherever it goes."""
        try:
            receipt = self._work.run(run)
        except Stopped as stopped:
            self._meter.stop()
            if stopped.wish is Wish.YIELD:
                raise self._store.fenced(run.claim) from None
            if stopped.wish is Wish.PAUSE:
                run.acknowledge()
                reach("while pausing")
                self._move(run, State.PAUSED, self._control.cause)
            if self._control.wish is Wish.TERMINATE:  # perhaps while the pause was being made
                self._terminate(run, self._control.cause)
        except JobFenced:
            raise
        except Exception as fault:  # noqa: BLE001 - any fault fails the job, and is shown there
            self._meter.stop()
            if self._control.wish is Wish.TERMINATE:
                self._terminate(run, self._control.cause)
            else:
                self._fail(run, fault)
        else:
            self._meter.stop()
            self._receipt = receipt
            self._set_state(State.COMPLETED)

    def _fail(self, run: Run, fault: Exception) -> None:
        error = describe(fault)
        try:
            self._store.move(run.claim, State.FAILED, "error", progress=self.progress, error=error)
        except DatabaseError as away:
            # The database is gone: for everybody else the job is interrupted, so here as well.
            self._end(State.INTERRUPTED, fault)
            self._error = f"{error['message']} (and this could not be recorded: {away})"
        else:
            self._end(State.FAILED, fault)

    def _terminate(self, run: Run, cause: str) -> None:
        if self._state is State.PAUSING:
            self._move(run, State.PAUSED, cause)
        if self._state is not State.TERMINATING:
            self._move(run, State.TERMINATING, cause)
        self._undoing = True
        try:
            self._work.clean_up(run)
            reach("after the clean-up")
        except Exception as fault:  # noqa: BLE001 - shown; the next terminate() tries again
            self._store.move(
                run.claim, State.INTERRUPTED, f"the clean-up failed: {fault}",
                error={**describe(fault), UNDOING: True},
            )  # fmt: skip
            self._end(State.INTERRUPTED, fault)
        else:
            self._move(run, State.TERMINATED, cause)

    def _move(self, run: Run, to: State, cause: str) -> None:
        self._store.move(run.claim, to, cause, progress=self.progress)
        self._set_state(to)

    def _set_state(self, state: State) -> None:
        with self._lock:
            self._state = state
        if state is not State.RUNNING:
            self._remark = ""
        self._loop.call(self._tell)

    def _end(self, state: State, fault: BaseException) -> None:
        self._error = describe(fault)["message"]
        self._failure = fault
        self._set_state(state)

    def _settle(self) -> None:
        """Answer all who wait. Nobody waiting is fine: a Future with an error does not complain."""
        with self._lock:
            if self._outcome.done():
                return
            if self._state is State.COMPLETED and self._receipt is not None:
                self._outcome.set_result(self._receipt)
            elif self._state is State.TERMINATED:
                self._outcome.set_exception(
                    JobTerminated(f"job {self.id} ({self.name}) was terminated", job_id=self.id)
                )
            else:
                self._outcome.set_exception(
                    as_failed(self._failure, self._error, job_id=self.id, name=self.name)
                )
