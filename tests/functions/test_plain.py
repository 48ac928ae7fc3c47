"""Plain functions as jobs: the same names, without await, in a thread of their own."""

import threading
import time

import pytest

import taskwidgets as tw
from taskwidgets import JobFailed, JobTerminated


async def test_a_plain_function_runs_in_a_thread(workspace, look):
    """checkpoint, track, transaction, in_thread and log work plainly; the result is kept."""
    look("CREATE TABLE mine (n int)")

    @tw.job
    def work(run, number):
        assert threading.current_thread() is not threading.main_thread()
        run.log("begun")
        for n in run.track(range(number), save_every=2):
            with run.transaction() as connection:
                with connection.cursor() as cursor:
                    cursor.execute("INSERT INTO mine VALUES (%s)", (n,))
                run.checkpoint({"last": n})
        return run.in_thread(len, "abc")

    job = work.using(workspace)(5)
    receipt = await job
    assert (receipt.result, receipt.rows_loaded) == (3, 5)
    assert look.rows("mine") == [(n,) for n in range(5)]
    assert "begun" in list(job.events().cause)
    assert look.one("SELECT state FROM taskwidgets.run_states") == {"last": 4}


@pytest.mark.parametrize("where", ["checkpoint", "track", "transaction"])
async def test_pause_ends_it_at_these_calls(where, workspace, until, settled):
    """Paused past "except Exception", with its finally run; resumed, it goes on."""
    ended, seen = [], []

    @tw.job
    def work(run):
        try:
            if where == "track":
                for n in run.track(range(100)):
                    seen.append(n)
                    time.sleep(0.002)
            for n in range(run.state.get("n", 0), 100 if where != "track" else 0):
                seen.append(n)
                time.sleep(0.002)
                if where == "checkpoint":
                    run.checkpoint({"n": n + 1})
                else:
                    with run.transaction():
                        run.checkpoint({"n": n + 1})
        except Exception:  # noqa: BLE001 - that it catches nothing is what is tested
            seen.append("caught")
        finally:
            ended.append(True)

    job = work.using(workspace)()
    await until(lambda: len(seen) > 5)
    job.pause()
    await settled(job, "paused")
    assert len(seen) < 100
    job.resume()
    await job
    assert seen == list(range(100))
    assert len(ended) == 2


async def test_terminate_ends_it_at_the_next_call(workspace, until):
    """A plain function is terminated at its next checkpoint."""
    seen = []

    @tw.job
    def work(run):
        while True:
            seen.append(1)
            time.sleep(0.002)
            run.checkpoint()

    job = work.using(workspace)()
    await until(lambda: len(seen) > 3)
    job.terminate()
    with pytest.raises(JobTerminated):
        await job


async def test_a_plain_functions_error_fails_the_job(workspace):
    """With the message and the cause."""

    @tw.job
    def work(run):
        raise KeyError("x")

    with pytest.raises(JobFailed, match="KeyError") as caught:
        await work.using(workspace)()
    assert isinstance(caught.value.__cause__, KeyError)
