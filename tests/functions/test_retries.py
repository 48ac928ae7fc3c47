"""retries=N: further attempts from the last checkpoint, waits that wishes interrupt."""

import asyncio

import pytest

import taskwidgets as tw
import taskwidgets.functions.work as work_module
from taskwidgets import JobFailed
from taskwidgets.errors import JobFenced


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(work_module, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(work_module, "JITTER", 0.01)


async def test_each_attempt_begins_at_the_last_checkpoint(workspace, quick):
    """Two failures, two retries: the third attempt completes, each from the state before."""
    begun = []

    @tw.job(retries=3)
    async def work(run):
        begun.append(run.state.get("n", 0))
        await run.checkpoint({"n": len(begun)})
        if len(begun) < 3:
            raise ValueError(f"attempt {len(begun)}")
        return "done"

    job = work.using(workspace)()
    assert (await job).result == "done"
    assert begun == [0, 1, 2]
    events = job.events()
    retries = list(events[events.kind == "retry"].cause)
    assert [text.split(" in ")[0] for text in retries] == ["attempt 2 of 4", "attempt 3 of 4"]
    assert retries[0].endswith(" s: ValueError: attempt 1")


async def test_after_the_last_attempt_the_job_fails_with_the_functions_error(workspace, quick):
    """The error is the function's own, not the library's."""
    begun = []

    @tw.job(retries=2)
    async def work(run):
        begun.append(1)
        raise ValueError(f"attempt {len(begun)}")

    with pytest.raises(JobFailed, match="ValueError: attempt 3"):
        await work.using(workspace)()
    assert len(begun) == 3


@pytest.mark.parametrize("wish", ["pause", "terminate"])
async def test_a_wish_interrupts_the_waiting(wish, workspace, monkeypatch, until, settled):
    """Pause and terminate are heard at once while the job waits for its next attempt."""
    monkeypatch.setattr(work_module, "FIRST_WAIT", 1000.0)
    monkeypatch.setattr(work_module, "LONGEST_WAIT", 1000.0)

    @tw.job(retries=1)
    async def work(run):
        raise ValueError("later")

    job = work.using(workspace)()
    await until(lambda: job.remark.startswith("attempt 2 of 2 in 16 min"))
    assert job.remark.endswith("ValueError: later")
    getattr(job, wish)()
    await settled(job, "paused" if wish == "pause" else "terminated")
    if wish == "pause":
        job.terminate()
        await settled(job, "terminated")


@pytest.mark.parametrize("fault", ["rights", "fenced"])
async def test_what_cannot_help_is_not_tried_again(fault, workspace, quick, look):
    """Missing rights and a lost claim end the job at the first attempt."""
    begun = []

    @tw.job(retries=3)
    async def work(run):
        begun.append(1)
        if fault == "rights":
            async with run.transaction() as connection:
                with connection.cursor() as cursor:
                    cursor.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '42501'; END $$")
        await asyncio.to_thread(look, "UPDATE taskwidgets.jobs SET epoch = epoch + 1")
        await run.checkpoint()

    kind, words = {
        "rights": (JobFailed, "InsufficientPrivilege"),
        "fenced": (JobFenced, "was taken over"),
    }[fault]
    with pytest.raises(kind, match=words):
        await work.using(workspace)()
    assert begun == [1]


async def test_a_fault_while_stopping_is_not_tried_again(workspace, quick, until, settled):
    """What a function raises when it is told to pause fails the job; no attempt follows."""
    begun = []

    @tw.job(retries=3)
    async def work(run):
        begun.append(1)
        try:
            while True:
                await run.checkpoint()
                await asyncio.sleep(0.005)
        finally:
            raise ValueError("in finally")

    job = work.using(workspace)()
    await until(lambda: job.checkpoint_at is not None)
    job.pause()
    await settled(job, "failed")
    assert begun == [1]
