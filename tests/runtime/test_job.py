import asyncio
import gc
import time

import pytest
from fix_servers import wait_until

from taskwidgets import JobFailed, JobTerminated, TaskwidgetsError


async def test_wait_inside_a_running_loop_says_what_to_write(workspace, csv_file):
    """job.wait() on a running loop's thread raises and says "await job"."""
    job = workspace.upload(csv_file("a", "1"), "t")
    with pytest.raises(TaskwidgetsError, match="await job"):
        job.wait()
    assert (await job).rows_loaded == 1


async def test_wait_works_from_another_thread_beside_a_loop(workspace, csv_file):
    """job.wait() in a worker thread is fine though the kernel's loop runs."""
    job = workspace.upload(csv_file("a", "1"), "t")
    receipt = await asyncio.to_thread(job.wait)
    assert receipt == await job


async def test_many_tasks_may_await_one_job(workspace, many_rows):
    """Ten tasks that await the same job get the same receipt."""
    job = workspace.upload(many_rows(2000), "t")

    async def wait():
        return await job

    receipts = await asyncio.gather(*(wait() for _ in range(10)))
    assert all(receipt is receipts[0] for receipt in receipts)


async def test_awaiting_a_failed_job_raises_with_the_cause(workspace, csv_file):
    """await raises JobFailed with line, column and row, and the error itself as its cause."""
    job = workspace.upload(csv_file("a,b", "1,x", "z,y"), "t", types={"a": "integer"})
    with pytest.raises(JobFailed) as caught:
        await job
    assert (caught.value.job_id, caught.value.line, caught.value.column, caught.value.row) == (
        job.id, 3, "a", "z,y",
    )  # fmt: skip
    assert caught.value.__cause__ is not None
    with pytest.raises(JobFailed):
        await job


async def test_awaiting_a_terminated_job_raises(workspace, many_rows):
    """await raises JobTerminated when the job is terminated meanwhile."""
    job = workspace.upload(many_rows(), "t", max_rate=2e5)
    asyncio.get_running_loop().call_later(0.05, job.terminate)
    with pytest.raises(JobTerminated):
        await job


async def test_a_waiter_that_times_out_leaves_nothing_behind(workspace, csv_file):
    """After a timeout on await, the job's failure is not reported to the loop as unretrieved."""
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    path = csv_file("a", *map(str, range(40_000)), "bad")
    job = workspace.upload(path, "t", types={"a": "integer"}, max_rate=2e5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(job, 0.05)
    job.max_rate = None
    await asyncio.to_thread(wait_until, lambda: job.state == "failed")
    await asyncio.to_thread(job.join, None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_a_broken_view_does_not_hurt_the_job(workspace, many_rows):
    """A view that raises is left out; the job and the other views go on."""
    seen = []
    job = workspace.upload(many_rows(5000), "t")

    def broken():
        raise RuntimeError("no such widget")

    job.watch(broken)
    job.watch(lambda: seen.append(job.state))
    await job
    await asyncio.sleep(0)
    wait = asyncio.get_running_loop().time() + 30
    while "completed" not in seen and asyncio.get_running_loop().time() < wait:
        await asyncio.sleep(0.01)
    assert "completed" in seen


async def test_views_are_told_on_the_loop_of_the_cell(workspace, many_rows):
    """A view is called on the thread of the loop in which the job was made."""
    import threading

    threads = set()
    job = workspace.upload(many_rows(5000), "t")
    job.watch(lambda: threads.add(threading.current_thread()))
    await job
    wait = time.monotonic() + 30
    while not threads and time.monotonic() < wait:
        await asyncio.sleep(0.01)
    assert threads == {threading.main_thread()}


@pytest.mark.slow
async def test_many_watched_jobs_share_the_looks(workspace, many_rows):
    """Eight panels at once are refreshed no more often in all than a few would be."""
    source = many_rows(20_000)
    looks: list[float] = []
    started = [workspace.upload(source, f"t{number}", max_rate=150_000) for number in range(8)]
    for job in started:
        job.watch(lambda: looks.append(time.monotonic()))
    for job in started:
        while job.state == "pending":
            await asyncio.sleep(0.05)
    looks.clear()
    begun = time.monotonic()
    await asyncio.sleep(2)
    rate = len(looks) / (time.monotonic() - begun)
    assert 0 < rate < 13  # 16, if each were looked at twice a second
    for job in started:
        job.terminate()
