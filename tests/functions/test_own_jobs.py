"""A user's own function as a job: states, checkpoints, wishes, arguments, receipts."""

import asyncio
import threading

import pytest

import taskwidgets as tw
from taskwidgets import JobFailed, JobTerminated, TaskwidgetsError
from taskwidgets.errors import FunctionUnknown, JobFenced, OptionError
from taskwidgets.runtime.words import status_line
from taskwidgets.widgets import dashboard_markup, markup


def states(job):
    return list(job.events().to_state.dropna())


async def test_a_function_becomes_a_job(workspace, look):
    """The call starts at once, the job completes with its progress, receipt and result."""

    @tw.job
    async def count(run, number, step=1):
        for i in range(run.state.get("next", 0), number, step):
            await run.checkpoint({"next": i + 1}, done=i + 1, total=number)
        return {"counted": (number, None)}

    job = count.using(workspace)(5)
    assert (job.kind, job.name, job.target) == ("function", "count", "")
    receipt = await job
    assert (receipt.rows_read, receipt.rows_loaded, receipt.bytes) == (5, 5, 0)
    assert receipt.result == {"counted": [5, None]}
    assert receipt.source.endswith("test_a_function_becomes_a_job.<locals>.count")
    assert (job.progress.done, job.progress.total, job.progress.unit) == (5, 5, "items")
    assert look("SELECT serial, state FROM taskwidgets.run_states") == [(5, {"next": 5})]
    assert look.state(job.id) == "completed"
    assert states(job) == ["pending", "running", "completed"]
    events = job.events()
    assert list(events.cause[events.kind == "checkpoint"]) == ["checkpoint 5: 5 items done"]
    record = workspace._store.record(job.id)
    assert record.receipt == receipt
    assert (record.progress.done, record.progress.unit, record.progress.rows) == (5, "items", 5)


async def test_pause_and_resume_go_on_at_the_state(workspace, look, until, settled):
    """Paused at a checkpoint, the function is called anew with that checkpoint's state."""
    begun, ended = [], []

    @tw.job
    async def count(run, number):
        begun.append(run.state)
        try:
            for i in range(run.state.get("next", 0), number):
                await asyncio.sleep(0.01)
                await run.checkpoint({"next": i + 1}, done=i + 1, total=number)
        finally:
            ended.append(i)

    job = count.using(workspace)(30)
    await until(lambda: job.progress.done >= 3)
    job.pause()
    await settled(job, "paused")
    stood = look.one("SELECT state FROM taskwidgets.run_states")
    assert 3 <= stood["next"] < 30
    assert look.state(job.id) == "paused"
    assert ended == [stood["next"] - 1]
    job.resume()
    receipt = await job
    assert begun == [{}, stood]
    assert receipt.rows_loaded == 30
    assert states(job) == ["pending", "running", "pausing", "paused", "running", "completed"]


async def test_pausing_is_shown_before_it_takes_effect(workspace, look, until, settled):
    """Between the wish and the next checkpoint the job is pausing, in the database as well."""
    go = asyncio.Event()

    @tw.job
    async def wait(run):
        await run.checkpoint({"a": 1})
        await go.wait()
        await run.checkpoint({"a": 2})

    job = wait.using(workspace)()
    await until(lambda: job.checkpoint_at is not None)
    job.pause()
    await until(lambda: job.state == "pausing")
    assert look.state(job.id) == "pausing"
    assert not go.is_set()
    go.set()
    await settled(job, "paused")
    assert look.one("SELECT state FROM taskwidgets.run_states") == {"a": 2}
    job.terminate()
    await settled(job, "terminated")


async def test_terminate_cancels_at_any_await(workspace, look, until):
    """terminate() ends the function at the await that it is in; its checkpoint is deleted."""
    left = []

    @tw.job
    async def wait(run):
        try:
            await run.checkpoint({"a": 1})
            await asyncio.sleep(1000)
        finally:
            left.append(True)

    job = wait.using(workspace)()
    await until(lambda: job.checkpoint_at is not None)
    job.terminate()
    with pytest.raises(JobTerminated):
        await job
    assert left == [True]
    assert look("SELECT * FROM taskwidgets.run_states") == []


async def test_a_swallowed_pause_comes_again_at_the_next_checkpoint(workspace, settled):
    """A function that swallows CancelledError and goes on is told again, and ends paused."""
    told = []

    @tw.job
    async def stubborn(run):
        while True:
            try:
                await run.checkpoint({"told": len(told)})
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                told.append(1)
                if len(told) == 3:
                    raise

    job = stubborn.using(workspace)()
    job.pause()
    await settled(job, "paused")
    assert len(told) == 3
    job.terminate()
    await settled(job, "terminated")


async def test_a_return_beats_a_wish(workspace, look, until):
    """A function that returns after the wish, without another checkpoint, is completed."""
    waits, go = asyncio.Event(), asyncio.Event()

    @tw.job
    async def wait(run):
        await run.checkpoint({"a": 1})
        waits.set()  # behind the checkpoint, which would hear a wish
        await go.wait()
        return "whole"

    job = wait.using(workspace)()
    await waits.wait()
    job.pause()
    await until(lambda: job.state == "pausing")
    go.set()
    assert (await job).result == "whole"
    assert look.state(job.id) == "completed"


async def test_a_pause_in_a_task_of_the_functions_own_ends_the_function(workspace, until, settled):
    """Told in a child of a TaskGroup, which swallows cancellation, the whole function ends."""

    @tw.job
    async def many(run):
        async def one(number):
            while True:
                await run.checkpoint({"last": number})
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(one(number))

    job = many.using(workspace)()
    await until(lambda: job.checkpoint_at is not None)
    job.pause()
    await settled(job, "paused")
    job.terminate()
    await settled(job, "terminated")


async def test_a_failure_shows_message_and_traceback_and_resumes(workspace, look):
    """An exception fails the job, its checkpoint stands, and the mended cell goes on from it."""

    def define(broken):
        @tw.job
        async def work(run):
            await run.checkpoint({"n": run.state.get("n", 0) + 1})
            if broken:
                raise ValueError("bad page")
            return run.state

        return work.using(workspace)

    job = define(broken=True)()
    with pytest.raises(JobFailed, match="ValueError: bad page") as caught:
        await job
    assert isinstance(caught.value.__cause__, ValueError)
    error = workspace._store.record(job.id).error
    assert "in work" in error["traceback"]
    again = define(broken=False)()
    assert again.id == job.id
    assert (await again).result == {"n": 2}


async def test_the_same_call_attaches_and_finds_the_finished_job(workspace):
    """The same arguments mean the same job; again() and other arguments begin a new one."""

    @tw.job
    async def work(run, a, *rest, b=2, **more):
        return [a, rest, b, more]

    call = work.using(workspace)
    job = call(1, 5, c=3)
    assert call(1, 5, b=2, c=3) is job
    assert (await job).result == [1, [5], 2, {"c": 3}]
    done = call(1, 5, c=3)
    assert done.id == job.id
    assert done.remark == f"already done: job {job.id}"
    assert call(1, 5, c=4).id != job.id
    other = call.again(1, 5, c=3)
    assert other.id != job.id
    await other


@pytest.mark.parametrize(
    ("value", "named"),
    [({1, 2}, "urls is of type set"), ([1, {"a": object()}], r"urls\[1\]\['a'\] is of type object"),
     (float("nan"), "urls is nan"), ({1: 2}, "urls has the key 1 of type int"),
     ("a\0", "NUL"), (["\ud800"], r"urls\[0\]")],
)  # fmt: skip
async def test_an_argument_that_is_no_json_is_refused(value, named, workspace, look):
    """OptionError names the argument, and the part of it, and nothing is recorded."""

    @tw.job
    async def work(run, urls):
        pass

    with pytest.raises(OptionError, match=named):
        work.using(workspace)(value)
    assert look.untouched()


async def test_wrong_arguments_are_a_type_error(workspace, look):
    """A call that does not fit the signature raises TypeError as Python's own does."""

    @tw.job
    async def work(run, urls):
        pass

    with pytest.raises(TypeError, match=r"work\(\): missing a required argument: 'urls'"):
        work.using(workspace)()
    assert look.untouched()


async def test_the_first_run_and_a_resumed_one_get_the_same_arguments(workspace, until, settled):
    """Tuples come as lists each time, keys in their order, and what a run changes is not kept."""
    seen = []

    @tw.job
    async def work(run, pages):
        seen.append((list(pages), list(pages["zz"]), type(pages["zz"])))
        pages["zz"].append(9)
        await run.checkpoint()
        if len(seen) == 1:
            await asyncio.sleep(0.05)
            raise ValueError

    call = work.using(workspace)
    with pytest.raises(JobFailed):
        await call({"zz": (1, 2), "a": 1e22})
    await call({"zz": (1, 2), "a": 1e22})
    assert seen == [(["zz", "a"], [1, 2], list)] * 2


async def test_a_state_that_is_no_json_is_refused(workspace, look):
    """checkpoint() raises OptionError naming the part, and writes nothing."""

    @tw.job
    async def work(run):
        with pytest.raises(OptionError, match=r"state\['x'\] is inf"):
            await run.checkpoint({"x": float("inf")})
        with pytest.raises(OptionError, match="done must be a whole number"):
            await run.checkpoint(done=-1)
        await run.checkpoint(done=1, unit="pages")
        return run.state

    assert (await work.using(workspace)()).result == {}
    assert look("SELECT serial, state, progress ->> 'unit' FROM taskwidgets.run_states") == [
        (1, {}, "pages")
    ]


async def test_run_state_is_a_copy(workspace):
    """What the function does to run.state does not change the checkpoint."""

    @tw.job
    async def work(run):
        await run.checkpoint({"list": [1]})
        run.state["list"].append(2)
        await run.checkpoint()
        return run.state

    assert (await work.using(workspace)()).result == {"list": [1]}


async def test_a_result_that_is_no_json_is_noted(workspace):
    """The job is completed all the same; the receipt says that the result was not kept."""

    @tw.job
    async def work(run):
        return object()

    receipt = await work.using(workspace)()
    assert receipt.result is None
    assert receipt.notes == ("the result is not JSON and was not kept",)


async def test_a_fenced_run_writes_nothing(workspace, look):
    """After another claim, a checkpoint raises JobFenced and leaves the row as it was."""

    @tw.job
    async def work(run):
        await run.checkpoint({"n": 1})
        await asyncio.to_thread(look, "UPDATE taskwidgets.jobs SET epoch = epoch + 1")
        with pytest.raises(JobFenced):
            await run.checkpoint({"n": 2})
        await run.checkpoint({"n": 3})

    job = work.using(workspace)()
    with pytest.raises(JobFenced):
        await job
    assert look("SELECT serial, state FROM taskwidgets.run_states") == [(1, {"n": 1})]


async def test_another_process_sees_the_progress(workspace, another_workspace, until, settled):
    """While it runs, the job's record has the last checkpoint's progress and time."""
    go = asyncio.Event()

    @tw.job
    async def work(run):
        await run.checkpoint(done=3, total=10, unit="pages")
        await go.wait()

    job = work.using(workspace)()
    await until(lambda: job.checkpoint_at is not None)
    record = another_workspace()._store.record(job.id)
    assert (record.state, record.progress.done, record.progress.total) == ("running", 3, 10)
    assert (record.progress.unit, record.progress.rows) == ("pages", 3)
    assert record.checkpoint_at is not None
    assert "3 of 10 pages" in status_line(job)
    assert "3 of 10 pages" in markup.facts(job, None)
    assert "3 of 10 pages" in dashboard_markup.line(record, "running", "", mine=False)
    go.set()
    await job
    assert "sha256" not in dashboard_markup.receipt_card(job.receipt)
    assert "sha256" not in markup.facts(job, None)
    assert "bytes" not in markup.facts(job, None)
    assert "3 of 10 pages" in status_line(job)


async def test_logs_come_in_order(workspace, until):
    """run.log() returns at once; the events have the lines in order, the panel the last one."""
    go = asyncio.Event()

    @tw.job
    async def work(run):
        for number in range(50):
            run.log(f"line {number}\0")
        await go.wait()

    job = work.using(workspace)()
    await until(lambda: job.remark.startswith("line 49"))
    go.set()
    await job
    events = job.events()
    lines = list(events[events.kind == "log"].cause)
    assert lines == [f"line {number}\N{SYMBOL FOR NULL}" for number in range(50)]


async def test_in_thread_leaves_the_loop_free(workspace):
    """run.in_thread() calls in another thread, with arguments, result and exception."""
    seen = {}

    def blocking(a, *, b):
        seen["thread"] = threading.current_thread()
        if b < 0:
            raise ValueError("negative")
        return a + b

    @tw.job
    async def work(run):
        with pytest.raises(ValueError, match="negative"):
            await run.in_thread(blocking, 1, b=-1)
        return await run.in_thread(blocking, 1, b=2)

    assert (await work.using(workspace)()).result == 3
    assert seen["thread"] is not threading.main_thread()


async def test_terminated_waits_for_a_thread_that_was_left_behind(workspace, until):
    """No thread of the function is at work any more when the job is terminated."""
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def blocking():
        begun.set()
        go.wait(60)
        ended.set()

    def clean(run):
        assert ended.is_set()

    @tw.job(on_terminate=clean)
    async def work(run):
        await run.in_thread(blocking)

    job = work.using(workspace)()
    await until(begun.is_set)
    job.terminate()
    await until(lambda: "waiting for the end of a thread" in job.remark)
    assert job.state == "running"
    go.set()
    with pytest.raises(JobTerminated):
        await job


async def test_on_terminate_gets_the_arguments_and_may_write(workspace, look, until):
    """It is called once with a run and the arguments; what it commits stands."""
    look("CREATE TABLE mine (n int)")
    calls = []

    async def clean(run, number, word="x"):
        async with run.transaction() as connection:
            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM mine WHERE n = %s", (run.state["wrote"],))
        calls.append((number, word, run.job_id))

    @tw.job(on_terminate=clean)
    async def work(run, number, word="x"):
        async with run.transaction() as connection:
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO mine VALUES (%s), (0)", (number,))
            await run.checkpoint({"wrote": number})
        await asyncio.sleep(1000)

    job = work.using(workspace)(7)
    await until(lambda: job.checkpoint_at is not None)
    job.terminate()
    with pytest.raises(JobTerminated):
        await job
    assert calls == [(7, "x", job.id)]
    assert look.rows("mine") == [(0,)]
    assert look("SELECT * FROM taskwidgets.run_states") == []


async def test_a_failing_on_terminate_can_be_tried_again(workspace, settled, look):
    """Its error is shown, the job is interrupted, and the next terminate() calls it again."""
    broken = [True]

    def clean(run):
        if broken:
            raise ValueError(broken.pop())

    @tw.job(on_terminate=clean)
    async def work(run):
        await asyncio.sleep(1000)

    job = work.using(workspace)()
    await settled_running(job)
    job.terminate()
    await settled(job, "interrupted")
    assert "ValueError: True" in job.error
    job.terminate()
    await settled(job, "terminated")


async def settled_running(job):
    while job.state != "running":
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("wrong", [3, len, int, "retries", "run", "yields"])
def test_what_cannot_be_a_job_is_refused_where_it_is_defined(wrong):
    """@tw.job raises OptionError for what is no function, has no run, yields, or odd options."""
    words = {"retries": "retries must", "run": "must be the run", "yields": "yields; a job",
             len: "on_terminate must"}  # fmt: skip
    with pytest.raises(OptionError, match=words.get(wrong, "is no function")):
        if wrong == "retries":
            tw.job(retries=-1)(lambda run: None)
        elif wrong == "run":
            tw.job(lambda: None)
        elif wrong == "yields":

            async def many(run):
                yield 1

            tw.job(many)
        elif wrong is len:
            tw.job(on_terminate=3)(lambda run: None)
        else:
            tw.job(wrong)


async def test_a_cancelled_future_inside_is_a_failure(workspace):
    """CancelledError that nobody asked for fails the job with words; it does not hang."""

    @tw.job
    async def work(run):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    with pytest.raises(JobFailed, match="was cancelled, and not by its job"):
        await work.using(workspace)()


async def test_system_exit_in_a_function_fails_the_job(workspace):
    """SystemExit ends neither the loop nor the job's thread; the job fails."""

    @tw.job
    async def work(run):
        raise SystemExit(3)

    with pytest.raises(JobFailed, match="ended by SystemExit"):
        await work.using(workspace)()


async def test_context_of_the_cell(workspace):
    """The function runs on the loop and in the context in which the call was made."""
    import contextvars

    variable = contextvars.ContextVar("variable")
    variable.set("the cell's")

    @tw.job
    async def work(run):
        assert threading.current_thread() is threading.main_thread()
        return variable.get()

    assert (await work.using(workspace)()).result == "the cell's"


async def test_resume_of_an_unknown_function_says_what_to_do(workspace, until, settled):
    """FunctionUnknown names the function; the job stays as it was."""
    from taskwidgets.functions import function

    @tw.job
    async def work(run):
        while True:
            await run.checkpoint()
            await asyncio.sleep(0.01)

    job = work.using(workspace)()
    await settled_running(job)
    job.pause()
    await settled(job, "paused")
    name = job.source
    known = function._functions.pop(name)
    with pytest.raises(FunctionUnknown, match="run the cell that defines it, or import it"):
        workspace.resume(job.id)
    with pytest.raises(FunctionUnknown):
        job.resume()
    assert job.state == "paused"
    assert len(states(job)) == 4
    function._functions[name] = known
    workspace.resume(job.id)
    job.terminate()
    await settled(job, "terminated")
    assert issubclass(FunctionUnknown, TaskwidgetsError)


async def test_the_same_call_while_it_is_pausing_goes_on(workspace, until):
    """Called on the loop that the function needs for its pause, it neither hangs nor gets lost."""
    go, begun = asyncio.Event(), []

    @tw.job
    async def work(run):
        begun.append(1)
        await run.checkpoint({"a": 1})
        await go.wait()
        await run.checkpoint({"a": 2})

    call = work.using(workspace)
    job = call()
    await until(lambda: job.checkpoint_at is not None)
    job.pause()
    await until(lambda: job.state == "pausing")
    assert call() is job
    go.set()
    await job
    assert begun == [1, 1]
    assert states(job) == ["pending", "running", "pausing", "paused", "running", "completed"]


async def test_again_cleans_up_an_unfinished_job_from_the_loop_itself(workspace, settled):
    """again() waits for an async on_terminate on the job's own loop, and does not hang."""
    cleaned = []

    async def clean(run):
        await asyncio.sleep(0.01)
        cleaned.append(run.job_id)

    @tw.job(on_terminate=clean)
    async def work(run):
        while not cleaned:
            await asyncio.sleep(0.01)
            await run.checkpoint()

    call = work.using(workspace)
    job = call()
    await settled_running(job)
    job.pause()
    await settled(job, "paused")
    other = call.again()
    assert cleaned == [job.id]
    assert job.state == "terminated"
    await other


async def test_another_process_pauses_and_terminates_it(
    workspace, another_workspace, settled, until
):
    """Requests from elsewhere reach a function as they reach a transfer."""

    @tw.job
    async def work(run):
        while True:
            await asyncio.sleep(0.01)
            await run.checkpoint()

    job = work.using(workspace)()
    await settled_running(job)
    seen = another_workspace().job(job.id)
    seen.pause()
    await settled(job, "paused")
    job.resume()
    await settled_running(job)
    await until(lambda: seen.state == "running")
    seen.terminate()
    await settled(job, "terminated")
