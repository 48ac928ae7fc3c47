"""run.map(): computed ahead, given in order; the place is remembered as track() does."""

import asyncio
import itertools
import os
import signal
import threading
import time

import pytest

import taskwidgets as tw
from taskwidgets import JobFailed, JobTerminated
from taskwidgets.errors import OptionError, TaskwidgetsError
from taskwidgets.functions import slices
from taskwidgets.functions.slices import Done, Sizes


def square(number):
    return number * number


def uneven(number):
    """Later items are done sooner."""
    time.sleep(0.02 if number % 4 == 0 else 0.001)
    return number


async def fetched(number):
    await asyncio.sleep(0.002)
    return number * number


async def generated(items):
    for item in items:
        await asyncio.sleep(0)
        yield item


KINDS = {
    "list": lambda items: list(items),
    "generator": lambda items: (item for item in items),
    "async generator": generated,
}


@pytest.mark.sample(3)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", [square, fetched])
async def test_paused_and_resumed_each_result_comes_once(
    kind, function, workspace, until, settled, look
):
    """Pauses in one loop, of threads or of the event loop: each result comes once, in order."""
    seen = []

    @tw.job
    async def work(run):
        async for result in run.map(function, KINDS[kind](range(200))):
            seen.append(result)
            await asyncio.sleep(0.001)

    job = work.using(workspace)()
    for number in range(4):
        await until(lambda number=number: len(seen) > 20 * number)
        job.pause()
        await settled(job, "paused")
        assert look.one("SELECT (progress ->> 'done')::int FROM taskwidgets.run_states") == len(
            seen
        )
        job.resume()
    receipt = await job
    assert seen == [number * number for number in range(200)]
    assert receipt.rows_loaded == 200
    assert job.progress.total == (200 if kind == "list" else None)


async def test_a_plain_function_maps_as_well(workspace, until, settled):
    """for result in run.map(): in order, several threads, through a pause."""
    seen, threads = [], set()

    def compute(number):
        threads.add(threading.get_ident())
        return uneven(number)

    @tw.job
    def work(run):
        for result in run.map(compute, range(120), ahead=3):
            seen.append(result)
            time.sleep(0.001)

    job = work.using(workspace)()
    await until(lambda: len(seen) > 10)
    job.pause()
    await settled(job, "paused")
    assert len(seen) < 120
    job.resume()
    await job
    assert seen == list(range(120))
    assert len(threads) > 1


async def test_an_error_comes_in_its_turn_and_names_the_item(workspace, look):
    """What is before it comes through and is saved; when it is mended, the loop goes on there."""
    seen, broken = [], [True]

    def compute(number):
        if number == 37 and broken:
            raise ZeroDivisionError("nothing to divide by")
        return number

    @tw.job
    async def work(run):
        async for result in run.map(compute, range(50)):
            seen.append(result)

    call = work.using(workspace)
    with pytest.raises(JobFailed, match=r"nothing to divide by.*item 37") as caught:
        await call()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "in compute" in look.one("SELECT error ->> 'traceback' FROM taskwidgets.jobs")
    assert seen == list(range(37))
    assert look.one("SELECT (progress ->> 'done')::int FROM taskwidgets.run_states") == 37
    broken.clear()
    await call()
    assert seen == list(range(50))


async def test_an_error_may_be_caught_around_the_loop(workspace):
    """It is raised as the function raised it; what would mean something else, as another."""

    def compute(number):
        raise (KeyError("x") if number else StopIteration)

    @tw.job
    async def work(run):
        with pytest.raises(KeyError):
            async for _ in run.map(compute, [1]):
                pass
        with pytest.raises(TaskwidgetsError, match="StopIteration"):
            async for _ in run.map(compute, [0]):
                pass
        return "caught"

    assert (await work.using(workspace)()).result == "caught"


async def test_an_error_of_the_items_comes_behind_their_results(workspace):
    """A generator that raises ends the loop after what it gave before."""
    seen = []

    def items():
        yield from range(5)
        raise LookupError("no more")

    @tw.job
    async def work(run):
        async for result in run.map(square, items()):
            seen.append(result)

    with pytest.raises(JobFailed, match="no more"):
        await work.using(workspace)()
    assert seen == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("is_async", [False, True])
async def test_no_more_is_taken_ahead_than_said(is_async, workspace, monkeypatch):
    """Of items without an end, only some are taken; leaving the loop ends it."""
    monkeypatch.setattr(slices, "MOST_ITEMS", 5)
    taken = []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield number

    @tw.job
    async def work(run):
        items = generated(endless()) if is_async else endless()
        async for result in run.map(square, items, ahead=4):
            await asyncio.sleep(0.01)
            if result == 100:
                break

    await work.using(workspace)()
    # Of the slices that were there, the first was in the loop's hands; one item is under way.
    assert 10 < len(taken) <= 11 + (4 + 1) * 5 + 1
    await asyncio.sleep(0.05)
    number = len(taken)
    await asyncio.sleep(0.05)
    assert len(taken) == number


async def test_items_that_come_slowly_are_not_waited_for(workspace):
    """What came is computed and given while the next item is awaited."""
    gate, seen = threading.Event(), []

    def items():
        yield from range(3)
        gate.wait()
        yield 3

    async def later():
        for number in range(3):
            yield number
        await asyncio.to_thread(gate.wait)
        yield 3

    makers = {"plain": items, "async": later}

    @tw.job
    async def work(run, kind):
        async for result in run.map(square, makers[kind]()):
            seen.append(result)
            if len(seen) == 3:
                gate.set()

    for kind in makers:
        gate.clear()
        seen.clear()
        await work.using(workspace)(kind)
        assert seen == [0, 1, 4, 9]


async def test_pause_waits_for_no_result(workspace, until, settled):
    """A pause while a result is waited for takes effect at once; its item is computed again."""
    begun, gate = [], asyncio.Event()

    async def compute(number):
        begun.append(number)
        if number == 2:
            await gate.wait()
        return number

    seen = []

    @tw.job
    async def work(run):
        async for result in run.map(compute, range(4)):
            seen.append(result)

    job = work.using(workspace)()
    await until(lambda: seen == [0, 1] and 2 in begun)
    job.pause()
    await settled(job, "paused")
    assert seen == [0, 1]
    gate.set()
    job.resume()
    await job
    assert seen == [0, 1, 2, 3]
    assert begun.count(2) == 2


@pytest.mark.parametrize("is_plain", [False, True])
async def test_terminate_leaves_nothing_at_work(is_plain, workspace, until):
    """Terminated means that no thread of the job computes any more, and no task."""
    at_work, cancelled = [], []

    def compute(number):
        at_work.append(number)
        time.sleep(0.05)
        at_work.remove(number)

    async def wait(number):
        try:
            at_work.append(number)
            await asyncio.sleep(100)
        finally:
            cancelled.append(at_work.pop())

    @tw.job
    async def work(run):
        async for _ in run.map(compute if is_plain else wait, range(1000)):
            pass

    job = work.using(workspace)()
    await until(lambda: len(at_work) > 1)
    job.terminate()
    with pytest.raises(JobTerminated):
        await job
    assert at_work == []
    assert is_plain or cancelled


async def test_the_event_loop_stays_free(workspace):
    """While 200,000 results come by, others on the loop have their turn."""
    worst = 0.0

    @tw.job
    async def work(run):
        async for _ in run.map(square, range(200_000)):
            pass

    job = work.using(workspace)()
    while job.state in ("pending", "running"):
        before = time.monotonic()
        await asyncio.sleep(0)
        worst = max(worst, time.monotonic() - before)
        await asyncio.sleep(0.001)
    assert (await job).rows_loaded == 200_000
    assert worst < 0.25


async def test_rows_exactly_once_with_a_place_of_ones_own(workspace, look):
    """With start=, rows and place are one transaction: a crash in between leaves no row twice."""
    look("CREATE TABLE scores (n int)")
    crashes = iter([True, False])

    @tw.job
    async def work(run):
        place = run.state.get("next", 0)
        async for result in run.map(square, range(20), start=place):
            async with run.transaction() as connection:
                with connection.cursor() as cursor:
                    cursor.execute("INSERT INTO scores VALUES (%s)", (result,))
                place += 1
                await run.checkpoint({"next": place}, done=place, total=20)
            if place == 12 and next(crashes):
                raise ValueError

    call = work.using(workspace)
    with pytest.raises(JobFailed):
        await call()
    assert look.one("SELECT count(*) FROM scores") == 12
    await call()
    assert sorted(look.rows("scores")) == sorted((n * n,) for n in range(20))


async def test_what_cannot_be_mapped_is_refused(workspace):
    """No function, no items, numbers that make no sense, an async function in a plain one."""

    @tw.job
    async def work(run):
        for given, words in (
            ((3, [1]), "is no function"),
            ((square, 3), "cannot be looped over"),
        ):
            with pytest.raises(OptionError, match=words):
                async for _ in run.map(*given, name=words):
                    pass
        for name, options in enumerate(
            [{"ahead": 0}, {"start": -1}, {"save_every": 0}, {"start": 0, "save_every": 1}]
        ):
            if "start" not in options:
                options["name"] = str(name)
            with pytest.raises(OptionError, match=next(iter(options))):
                async for _ in run.map(square, [1], **options):
                    pass
        with pytest.raises(OptionError, match="another loop's already"):
            run.map(square, [1], name="0")
        return "all"

    @tw.job
    def plain(run):
        for _ in run.map(fetched, [1]):
            pass

    assert (await work.using(workspace)()).result == "all"
    with pytest.raises(JobFailed, match="make the job's function async"):
        await plain.using(workspace)()


async def test_an_empty_loop_is_done(workspace):
    """Nothing to do is 0 of 0."""

    @tw.job
    async def work(run):
        async for _ in run.map(square, []):
            pass

    job = work.using(workspace)()
    assert (await job).rows_loaded == 0
    assert job.progress.total == 0


CRASH = """
import sys, time
import taskwidgets as tw

@tw.job
def work(run):
    with open(sys.argv[2], "a", buffering=1) as file:
        for result in run.map(lambda n: n * n, range(400), save_every=10):
            file.write(f"{result}\\n")
            time.sleep(0.002)

tw.connect(sys.argv[1])
job = work()
print("begun", flush=True)
job.wait()
"""


def test_after_a_kill_it_goes_on_at_the_last_place(script, run_script, database_url, tmp_path):
    """A killed process costs what was done since the last save; nothing is left out."""
    path = tmp_path / "seen"
    killed = script(CRASH, database_url, str(path))
    killed.line()
    while not path.exists() or path.read_text().count("\n") < 100:
        time.sleep(0.005)
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    first = path.read_text().splitlines()
    run_script(CRASH, database_url, str(path))
    seen = [int(line) for line in path.read_text().splitlines()]
    again = len(seen) - 400
    assert 0 <= again <= 10
    assert seen[: len(first)] == [n * n for n in range(len(first))]
    assert seen[len(first) :] == [n * n for n in range(len(first) - again, 400)]


def test_slices_grow_while_items_are_quick_and_shrink_when_they_are_not():
    """From one item to what takes half a second, by eights at most, and back at once."""
    sizes = Sizes()
    assert sizes.next() == 1
    grown = []
    for _ in range(8):
        size = sizes.next()
        grown.append(size)
        sizes.took(Done([], size, size * 1e-4))
    assert grown[:4] == [1, 8, 64, 512]
    assert 4000 < grown[-1] <= 5000
    sizes.took(Done([], 3, 3.0))
    assert sizes.next() == 1


def test_the_last_items_are_shared_out_among_all():
    """Near the end each lane has something to do; large items make short slices."""
    sizes = Sizes()
    for _ in range(8):
        sizes.took(Done([], 4000, 0.1))
    assert sizes.next(left=1600, lanes=4) == 200
    assert sizes.next(left=0, lanes=4) == 1
    sizes.took(Done([], 100, 0.1, size=slices.MOST_BYTES))
    assert sizes.next() == 100


async def test_a_slice_that_becomes_slow_is_shared_out(workspace, monkeypatch):
    """What is left of a slice that takes too long goes back, in parts, and keeps its order."""
    monkeypatch.setattr(slices, "LONGEST", 0.05)
    sent = []
    compute = slices.compute
    monkeypatch.setattr(
        "taskwidgets.functions.pools.compute",
        lambda function, items, go: sent.append(len(items)) or compute(function, items, go),
    )

    def later_slow(number):
        if 600 <= number < 620:
            time.sleep(0.03)
        return number

    seen = []

    @tw.job
    async def work(run):
        async for result in run.map(later_slow, (n for n in range(1000)), ahead=2):
            seen.append(result)

    await work.using(workspace)()
    assert seen == list(range(1000))
    assert max(sent) > 64
    assert sum(sent) > 1000  # some were sent again, as they had not been come to
