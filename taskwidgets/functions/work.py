"""A user's function as a job's work: attempts, wishes, the receipt, the clean-up."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskwidgets.cluster import Cluster
from taskwidgets.errors import (
    IllegalTransition,
    JobFenced,
    OptionError,
    RightsMissing,
    TaskwidgetsError,
)
from taskwidgets.functions.calls import Call, LoopCall, ThreadCall
from taskwidgets.functions.function import Function, Plan, find, known
from taskwidgets.functions.hands import Hands
from taskwidgets.functions.ledger import CLEANING, Ledger
from taskwidgets.functions.runs import AsyncRun, PlainRun
from taskwidgets.functions.values import json_text
from taskwidgets.runtime.control import Stopped, Wish
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.faults import describe
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.states import State
from taskwidgets.runtime.threads import LoopHandle
from taskwidgets.runtime.words import duration
from taskwidgets.store import run_states
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.translate import driver_error

if TYPE_CHECKING:
    import tenacity

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FunctionWork"]

FIRST_WAIT, LONGEST_WAIT, JITTER = 1.0, 60.0, 1.0  # seconds before another attempt: 1-2, 2-3, 4-5
LOOK_INTERVAL = 0.2  # seconds between two looks whether the loop still is there
RIGHTS_MISSING = "42501"  # https://www.postgresql.org/docs/current/errcodes-appendix.html
NOT_JSON = "the result is not JSON and was not kept"


class FunctionWork:
    """The work of one job of a user's own.

    The function is looked up when a run begins: a cell that was mended and run again counts then.
    """

    cluster: Cluster  # that a loop of the function employs, once it does

    def __init__(self, store: PostgresJobStore, plan: Plan, job_id: int) -> None:
        self._store = store
        self._plan = plan
        self._job_id = job_id
        self._notice = ""  # what is to be known of the function that a run calls
        self._told = False  # the last call was told to stop: what it raised then is not retried

    def check(self) -> None:
        """FunctionUnknown, unless this process has defined the function."""
        find(self._plan.function, self._job_id)

    def run(self, run: Run) -> Receipt:
        """Call the function, again after an error where that is wanted, and record the end."""
        self._check_record(run)
        function = find(self._plan.function, self._job_id)
        ledger = Ledger(self._store, run)
        hands = Hands(f"job {self._job_id} checkpoints")
        try:
            ledger.load()
            self._notice = self._look_at_definition(run, function)
            result = self._attempts(run, function, ledger, hands)
        finally:
            hands.close()
            ledger.close()
        return self._complete(run, result)

    def replay(self, job_id: int, mended: pd.DataFrame) -> Receipt:
        """A function of the user's own rejects nothing."""
        raise OptionError(f"job {job_id} is a function; only an upload has rejects")

    def clean_up(self, run: Run) -> None:
        """Call on_terminate, and forget the checkpoint."""
        self._check_record(run)
        function = known(self._plan.function)
        if function is None and self._plan.has_on_terminate:
            find(self._plan.function, self._job_id)
        if function is not None and function.on_terminate is not None:
            ledger = Ledger(self._store, run, CLEANING)
            hands = Hands(f"job {self._job_id} clean-up")
            try:
                ledger.load()
                self._call(run, function, function.on_terminate, ledger, hands, stops=False)
            finally:
                hands.close()
                ledger.close()

        def act() -> None:
            with self._store.in_transaction() as connection:
                self._store.lock(connection, run.claim)
                run_states.forget(connection, self._job_id)
                reach("while terminating")

        self._store.database.patiently(act, run.say)

    def _check_record(self, run: Run) -> None:
        """PlanRefused where function and arguments are not those of the call."""

        def act() -> None:
            with self._store.in_transaction() as connection:
                self._plan.check(self._store.spec(connection, run.claim), self._job_id)

        self._store.database.patiently(act, run.say)

    def _look_at_definition(self, run: Run, function: Function) -> str:
        """What to say of a function whose code, or whose notebook, is not the one it was."""
        if self._plan.changed(function):
            notice = f"{function.title} has changed since job {run.job_id} began: the new code runs"
            run.note("code", notice)
            return notice
        if not self._plan.defined_in:
            return ""
        for job_id, plan in self._store.unfinished_twins(run.job_id):
            place = Plan.from_json(plan).defined_in
            if place and not Path(place).exists():
                notice = (
                    f"job {job_id} is the same call of {place}, which is gone, and is unfinished: "
                    f"tw.resume({job_id}) goes on with it"
                )
                run.note("code", notice)
                return notice
        return ""

    # ------------------------------------------------------------------ attempts

    def _attempts(self, run: Run, function: Function, ledger: Ledger, hands: Hands) -> Any:
        import tenacity  # here, as it takes a while to import, and most functions do without

        number = function.retries + 1

        def sleep(seconds: float) -> None:
            run.control.wait_until(lambda: run.control.wish > Wish.NONE, seconds)
            if run.control.wish > Wish.NONE:
                raise Stopped(run.control.wish)

        def announce(attempt: tenacity.RetryCallState) -> None:
            assert attempt.outcome is not None
            assert attempt.next_action is not None
            fault = attempt.outcome.exception()
            assert fault is not None
            error = describe(fault)
            text = (
                f"attempt {attempt.attempt_number + 1} of {number} in "
                f"{duration(attempt.next_action.sleep)}: {error['message']}"
            )
            self._store.database.patiently(
                lambda: run.note("retry", text, error),
                run.say,
                given_up=lambda: run.control.wish >= Wish.TERMINATE,
            )
            run.say(text)

        def attempt() -> Any:
            run.say(self._notice)
            return self._call(run, function, function.call, ledger, hands)

        return tenacity.Retrying(
            stop=tenacity.stop_after_attempt(number),
            wait=tenacity.wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT)
            + tenacity.wait_random(0, JITTER),
            retry=tenacity.retry_if_exception(
                lambda fault: not self._told and not _is_for_good(fault)
            ),
            before_sleep=announce,
            sleep=sleep,
            reraise=True,
        )(attempt)

    def _call(
        self,
        run: Run,
        function: Function,
        callback: Callable[..., Any],
        ledger: Ledger,
        hands: Hands,
        *,
        stops: bool = True,
    ) -> Any:
        """Call it and wait for its end. Stopped when a wish ended it before it came to its own."""
        bound = function.bound(self._plan)
        session: AsyncRun | PlainRun
        call: Call
        if inspect.iscoroutinefunction(callback):
            session = AsyncRun(run, ledger, hands, stops=stops, employs=self._employ)
            # A clean-up is waited for by again(), perhaps on the thread of the job's loop: it runs
            # on the loop of our own, as does a job whose asyncio.run() is over.
            loop = run.loop if stops and not run.loop.closed else LoopHandle()
            call = LoopCall(
                loop, session, functools.partial(callback, session, *bound.args, **bound.kwargs)
            )
        else:
            session = PlainRun(run, ledger, hands, stops=stops, employs=self._employ)
            call = ThreadCall(
                self._job_id, functools.partial(callback, session, *bound.args, **bound.kwargs)
            )
        try:
            self._attend(run, call, ledger, stops=stops)
        finally:
            self._told = session.told
            session.close()
            if session.at_work():
                run.say("waiting for the end of a thread that the function has begun")
                wait(session.at_work())
        try:
            return call.outcome.result()
        except asyncio.CancelledError:
            wish = run.control.wish
            if stops and wish > Wish.NONE:
                raise Stopped(wish) from None
            raise TaskwidgetsError(
                f"{function.title}() was cancelled, and not by its job: its event loop has ended, "
                "or it waited for something that was cancelled; its checkpoint stands"
            ) from None
        except Exception:
            raise
        except BaseException as fault:  # SystemExit and its like must not end the job's thread
            raise TaskwidgetsError(
                f"{function.title}() was ended by {type(fault).__name__}; its checkpoint stands"
            ) from fault

    def _employ(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @staticmethod
    def _attend(run: Run, call: Call, ledger: Ledger, *, stops: bool) -> None:
        """Wait for the function's end, and let it hear wishes meanwhile."""
        control, heard = run.control, Wish.NONE if stops else Wish.YIELD
        call.outcome.add_done_callback(lambda _: control.wake())
        fault: BaseException | None = None
        while not call.outcome.done():
            control.wait_until(
                lambda: call.outcome.done() or control.wish > heard,  # noqa: B023 - called at once
                LOOK_INTERVAL,
            )
            if call.lost and not call.outcome.done():
                raise TaskwidgetsError(
                    "the event loop that ran the function was closed; its checkpoint stands"
                )
            if control.wish <= heard or call.outcome.done():
                continue
            heard = control.wish
            if heard is Wish.PAUSE:
                try:
                    run.acknowledge()
                except IllegalTransition:
                    continue
                except Exception as error:  # noqa: BLE001 - raised once the function has ended
                    fault = error
            if heard > Wish.PAUSE or fault is not None:
                call.cancel()
                ledger.cancel()
        if fault is not None:
            raise fault

    # ------------------------------------------------------------------ the end

    def _complete(self, run: Run, result: Any) -> Receipt:
        progress = run.meter.snapshot()
        notes: tuple[str, ...] = ()
        try:
            kept = json.loads(json_text(result, "the result"))
        except OptionError:
            kept, notes = None, (NOT_JSON,)
        receipt = Receipt(
            rows_read=progress.done,
            rows_loaded=progress.done,
            rows_rejected=0,
            bytes=0,
            seconds=progress.elapsed,
            sha256="",
            source=self._plan.function,
            target="",
            notes=notes,
            result=kept,
        )

        def act() -> None:
            with self._store.in_transaction() as connection:
                self._store.move_within(
                    connection, run.claim, State.COMPLETED, "the function has returned",
                    progress=progress, receipt=receipt,
                )  # fmt: skip
                reach("at the final switch")

        self._store.database.patiently(
            act, run.say, given_up=lambda: run.control.wish >= Wish.TERMINATE
        )
        reach("after the final switch")
        return receipt


def _is_for_good(fault: BaseException) -> bool:
    """Whether another attempt cannot help."""
    cause = driver_error(fault)
    return (
        not isinstance(fault, Exception)
        or isinstance(fault, Stopped | JobFenced | RightsMissing)
        or (cause is not None and cause.pgcode == RIGHTS_MISSING)
    )
