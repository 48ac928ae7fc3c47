"""run.map(client=...): the same loop, computed by a cluster's workers."""

import asyncio
import os
import signal
import threading
import time
from dataclasses import dataclass

import pytest
from distributed import Client

import taskwidgets as tw
from taskwidgets import JobFailed, JobTerminated
from taskwidgets.errors import OptionError
from taskwidgets.store import database

GIVEN = ["address", "client", "asynchronous client"]


@pytest.fixture(scope="module")
def watch(cluster):
    """Asks the scheduler itself: ``watch(function)``, which is called with it."""
    with Client(cluster.address, set_as_default=False) as client:
        yield lambda function: client.run_on_scheduler(
            lambda dask_scheduler: function(dask_scheduler)
        )


@pytest.fixture
def at_work(watch):
    """How many tasks the scheduler has of whoever, and how many are in a worker's hands."""

    def count():
        return watch(
            lambda scheduler: (
                len(scheduler.tasks)
                + sum(len(one.processing) for one in scheduler.workers.values())
            )
        )

    return count


@pytest.mark.parametrize("given", GIVEN)
async def test_results_come_in_order_whatever_the_client(given, cluster, workspace):
    """By an address, a client, an asynchronous one; the workers compute, in slices."""
    seen = []

    def square(number):
        import os

        return number * number, os.getpid()

    address = cluster.address
    client = None
    if given == "client":
        client = await asyncio.to_thread(Client, address, set_as_default=False)
    elif given == "asynchronous client":
        client = await Client(address, asynchronous=True, set_as_default=False)

    @tw.job
    async def work(run):
        async for result in run.map(square, range(20_000), client=client or address):
            seen.append(result)

    receipt = await work.using(workspace)()
    if given == "client":
        await asyncio.to_thread(client.close)
    elif given == "asynchronous client":
        await client.close()
    assert receipt.rows_loaded == 20_000
    assert [number for number, _ in seen] == [n * n for n in range(20_000)]
    processes = {process for _, process in seen}
    assert os.getpid() not in processes
    assert len(processes) == 2


async def test_plain_and_async_functions_and_values_of_ones_own(cluster, workspace):
    """A plain job, an async function, classes that are defined here: what goes there comes back."""

    @dataclass
    class Score:
        number: int

    async def score(item):
        await asyncio.sleep(0.001)
        return Score(item.number + 1)

    @tw.job
    def work(run):
        results = list(run.map(score, [Score(n) for n in range(50)], client=cluster.address))
        assert all(isinstance(result, Score) for result in results)
        assert results == [Score(number + 1) for number in range(50)]
        return "all"

    assert (await work.using(workspace)()).result == "all"


async def test_pause_and_resume_with_the_cluster_and_without(
    cluster, workspace, until, settled, look, at_work
):
    """Pause hands out nothing more; a resume goes on at the place, here or there."""
    seen, clients = [], iter([cluster.address, cluster.address, None])

    def slow(number):
        import time

        time.sleep(0.005)
        return number

    @tw.job
    async def work(run):
        async for result in run.map(slow, range(600), client=next(clients)):
            seen.append(result)

    job = work.using(workspace)()
    for number in (40, 200):
        await until(lambda number=number: len(seen) > number)
        job.pause()
        await settled(job, "paused")
        assert look.one("SELECT (progress ->> 'done')::int FROM taskwidgets.run_states") == len(
            seen
        )
        await until(lambda: at_work() == 0)
        job.resume()
    await job
    assert seen == list(range(600))


async def test_terminate_leaves_no_tasks(cluster, workspace, until, at_work):
    """What was handed out is taken back, whatever it would have taken."""

    def slow(number):
        import time

        time.sleep(0.2)

    @tw.job
    async def work(run):
        async for _ in run.map(slow, range(1000), client=cluster.address):
            pass

    job = work.using(workspace)()
    await until(lambda: at_work() >= 4)
    job.terminate()
    with pytest.raises(JobTerminated):
        await job
    await until(lambda: at_work() == 0)


async def test_workers_that_die_cost_no_result(cluster, workspace, until):
    """Killed again and again while they compute: each result comes once, in order."""
    seen = []

    def slow(number):
        import time

        time.sleep(0.004)
        return number

    @tw.job
    async def work(run):
        async for result in run.map(slow, range(800), client=cluster.address):
            seen.append(result)

    job = work.using(workspace)()
    for number in range(3):
        await until(lambda number=number: len(seen) > 50 + 150 * number)
        workers = await asyncio.to_thread(cluster.workers)
        os.kill(workers[number % len(workers)], signal.SIGKILL)
    await job
    assert seen == list(range(800))


async def test_an_item_that_kills_its_workers_is_named(cluster, workspace, watch, until):
    """Those around it are computed; the error says which one it is."""
    await until(lambda: len(cluster.workers()) == 2)
    await asyncio.to_thread(watch, lambda scheduler: setattr(scheduler, "allowed_failures", 0))
    seen = []

    def deadly(number):
        import os
        import signal

        if number == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    @tw.job
    async def work(run):
        async for result in run.map(deadly, range(12), client=cluster.address):
            seen.append(result)

    try:
        with pytest.raises(JobFailed, match=r"died.*item 7 of"):
            await work.using(workspace)()
    finally:
        await asyncio.to_thread(watch, lambda scheduler: setattr(scheduler, "allowed_failures", 3))
    assert seen == list(range(7))


async def test_errors_name_the_item(cluster, workspace):
    """What a function raises there, what cannot be sent, and what cannot be sent back."""

    def divide(number):
        return 10 / (number - 13)

    def give_lock(number):
        import threading

        return threading.Lock() if number == 5 else number

    @tw.job
    async def work(run, which):
        items, function = range(30), divide
        if which == "result":
            function = give_lock
        elif which == "item":
            items = [*range(8), threading.Lock(), 9]
        seen = []
        try:
            async for result in run.map(function, items, client=cluster.address):
                seen.append(result)
        finally:
            numbers.append(len(seen))

    numbers = []
    call = work.using(workspace)
    with pytest.raises(JobFailed, match=r"ZeroDivisionError.*item 13 of") as caught:
        await call("error")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "in divide" in str(caught.value.__cause__.__cause__)
    with pytest.raises(JobFailed, match=r"cannot be sent.*item 5 of"):
        await call("result")
    with pytest.raises(JobFailed, match=r"cannot be sent.*item 8 of"):
        await call("item")
    assert numbers == [13, 5, 8]


async def test_many_small_items_are_few_tasks(cluster, workspace, watch):
    """200,000 items that take no time at all make some dozen slices, and the loop stays free."""
    begun = await asyncio.to_thread(watch, lambda scheduler: scheduler.transition_counter)
    worst = 0.0

    @tw.job
    async def work(run):
        total = 0
        async for result in run.map(abs, range(200_000), client=cluster.address):
            total += result
        return total

    job = work.using(workspace)()
    while job.state in ("pending", "running"):
        before = time.monotonic()
        await asyncio.sleep(0)
        worst = max(worst, time.monotonic() - before)
        await asyncio.sleep(0.001)
    assert (await job).result == sum(range(200_000))
    ended = await asyncio.to_thread(watch, lambda scheduler: scheduler.transition_counter)
    assert ended - begun < 200 * 6  # waiting, processing, memory, released, forgotten
    assert worst < 0.25


async def test_the_views_see_the_cluster(cluster, workspace, until):
    """Workers and slices in flight, while the loop goes round."""
    found = []

    def slow(number):
        import time

        time.sleep(0.02)

    @tw.job
    async def work(run):
        async for _ in run.map(slow, range(100), client=cluster.address):
            if job.cluster is not None:
                found.append(job.cluster.facts())

    job = work.using(workspace)()
    await job
    assert max(facts.workers for facts in found) == 2
    assert max(facts.in_flight for facts in found) >= 2
    assert any(facts.dashboard for facts in found)


@pytest.mark.slow
async def test_a_scheduler_that_is_restarted_costs_no_result(cluster_of, workspace, until):
    """While it is away the panel says so; what was under way is computed again."""
    mine = await asyncio.to_thread(cluster_of, 1, 2)
    seen = []

    def slow(number):
        import time

        time.sleep(0.01)
        return number

    @tw.job
    async def work(run):
        async for result in run.map(slow, range(300), client=mine.address):
            seen.append(result)

    job = work.using(workspace)()
    await until(lambda: len(seen) > 30)
    await asyncio.to_thread(mine.kill)
    await until(lambda: job.remark == "cluster away, retrying")
    again = await asyncio.to_thread(cluster_of, 1, 2, mine.port)
    assert again.address == mine.address
    await job
    assert seen == list(range(300))
    assert job.remark == ""


@pytest.mark.slow
async def test_a_cluster_that_stays_away_ends_the_job_with_its_place(
    cluster_of, workspace, until, monkeypatch
):
    """After the store's patience the job stops; with another cluster it goes on."""
    monkeypatch.setattr(database, "PATIENCE", 0.5)
    monkeypatch.setattr("taskwidgets.cluster.cluster.CONNECT_SECONDS", 0.5)
    mine = await asyncio.to_thread(cluster_of, 1, 1)
    seen, addresses = [], [mine.address]

    def slow(number):
        import time

        time.sleep(0.01)
        return number

    @tw.job
    async def work(run):
        async for result in run.map(slow, range(100), client=addresses[-1]):
            seen.append(result)

    call = work.using(workspace)
    job = call()
    await until(lambda: len(seen) > 10)
    await asyncio.to_thread(mine.kill)
    with pytest.raises(JobFailed, match="the Dask cluster at"):
        await job
    assert len(seen) < 100
    addresses.append((await asyncio.to_thread(cluster_of, 1, 1)).address)
    await call()
    assert seen == list(range(100))


CRASH = """
import sys, time
import taskwidgets as tw

def square(number):
    time.sleep(0.002)
    return number * number

@tw.job
def work(run, address):
    with open(sys.argv[2], "a", buffering=1) as file:
        for result in run.map(square, range(500), client=address, save_every=20):
            file.write(f"{result}\\n")

tw.connect(sys.argv[1])
job = work(sys.argv[3])
print("begun", flush=True)
job.wait()
"""


def test_a_killed_kernel_goes_on_at_the_last_place(
    cluster, script, run_script, database_url, tmp_path, at_work
):
    """The tasks of the dead one disappear; nothing is left out, little is done again."""
    path = tmp_path / "seen"
    given = (CRASH, database_url, str(path), cluster.address)
    killed = script(*given)
    killed.line()
    while not path.exists() or path.read_text().count("\n") < 100:
        time.sleep(0.005)
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    first = path.read_text().splitlines()
    run_script(*given)
    seen = [int(line) for line in path.read_text().splitlines()]
    again = len(seen) - 500
    assert 0 <= again <= 20
    assert seen[: len(first)] == [n * n for n in range(len(first))]
    assert seen[len(first) :] == [n * n for n in range(len(first) - again, 500)]
    while at_work():
        time.sleep(0.01)


async def test_what_is_no_cluster_is_refused(workspace):
    """An error names the argument."""

    @tw.job
    async def work(run):
        with pytest.raises(OptionError, match="client must be"):
            async for _ in run.map(abs, [1], client=3):
                pass
        return "refused"

    assert (await work.using(workspace)()).result == "refused"
