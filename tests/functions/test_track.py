"""run.track(): the place in a loop is remembered, whatever is looped over."""

import asyncio

import pytest

import taskwidgets as tw
from taskwidgets import JobFailed
from taskwidgets.errors import OptionError


async def generated(items):
    for item in items:
        await asyncio.sleep(0)
        yield item


KINDS = {
    "list": lambda items: list(items),
    "generator": lambda items: (item for item in items),
    "async generator": generated,
}


@pytest.mark.parametrize("kind", KINDS)
async def test_paused_and_resumed_each_item_comes_once(kind, workspace, until, settled, look):
    """Ten pauses in one loop: each item comes once, in order."""
    seen = []

    @tw.job
    async def work(run):
        async for item in run.track(KINDS[kind](range(300))):
            seen.append(item)
            await asyncio.sleep(0.001)

    job = work.using(workspace)()
    for number in range(10):
        await until(lambda number=number: len(seen) > 20 * number)
        job.pause()
        await settled(job, "paused")
        assert look.one("SELECT (progress ->> 'done')::int FROM taskwidgets.run_states") == len(
            seen
        )
        job.resume()
    receipt = await job
    assert seen == list(range(300))
    assert receipt.rows_loaded == 300
    assert job.progress.total == (300 if kind == "list" else None)


async def test_an_item_whose_body_failed_comes_again(workspace):
    """An item is done when the body came round; the one that raised is the first after a resume."""
    seen = []

    @tw.job
    async def work(run):
        async for item in run.track(range(10), save_every=1):
            seen.append(item)
            if item == 6 and seen.count(6) == 1:
                raise ValueError

    call = work.using(workspace)
    with pytest.raises(JobFailed):
        await call()
    await call()
    assert seen == [*range(7), 6, 7, 8, 9]


async def test_save_every_says_how_much_is_done_again(workspace, look):
    """With save_every=4, what was done since the last multiple of 4 comes again."""
    seen = []

    @tw.job
    async def work(run):
        async for item in run.track(range(10), save_every=4):
            seen.append(item)
            if len(seen) == 7:
                raise ValueError

    call = work.using(workspace)
    with pytest.raises(JobFailed):
        await call()
    await call()
    assert seen == [*range(7), *range(4, 10)]
    assert look.one("SELECT serial FROM taskwidgets.run_states") == 3


async def test_by_default_it_is_saved_once_a_second(workspace, look, monkeypatch):
    """Without save_every the clock decides; the end is saved."""
    import taskwidgets.functions.runs as runs

    monkeypatch.setattr(runs, "SAVE_INTERVAL", 0.05)

    @tw.job
    async def work(run):
        async for _ in run.track(range(30)):
            await asyncio.sleep(0.01)

    await work.using(workspace)()
    assert 3 <= look.one("SELECT serial FROM taskwidgets.run_states") <= 8


async def test_the_place_is_kept_apart_from_the_state(workspace):
    """run.state is the user's alone, in loops that follow each other as well."""
    seen = []

    @tw.job
    async def work(run):
        async for item in run.track("abc", save_every=1):
            seen.append((item, dict(run.state)))
        await run.checkpoint({"phase": 2})
        async for item in run.track("de", save_every=1):
            seen.append((item, dict(run.state)))
            if item == "e" and len(seen) == 5:
                raise ValueError

    call = work.using(workspace)
    with pytest.raises(JobFailed):
        await call()
    await call()
    assert seen == [
        ("a", {}), ("b", {}), ("c", {}), ("d", {"phase": 2}), ("e", {"phase": 2}),
        ("e", {"phase": 2}),
    ]  # fmt: skip


async def test_a_loop_within_a_loop_needs_a_name(workspace):
    """The same line a second time is refused rather than skipped; with names it works."""

    @tw.job
    async def unnamed(run):
        async for _ in run.track(range(2)):
            async for _ in run.track(range(2)):
                pass

    with pytest.raises(JobFailed, match="give each a name"):
        await unnamed.using(workspace)()

    @tw.job
    async def same(run):
        for _ in range(2):
            async for _ in run.track(range(2), name="x"):
                pass

    with pytest.raises(JobFailed, match="'x' is another loop's already"):
        await same.using(workspace)()
    seen = []

    @tw.job
    async def named(run):
        async for a in run.track(range(3), save_every=1):
            async for b in run.track(range(3), save_every=1, name=f"inner {a}"):
                seen.append((a, b))
                if len(seen) == 5:
                    raise ValueError

    call = named.using(workspace)
    with pytest.raises(JobFailed):
        await call()
    await call()
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]


async def test_a_fast_loop_lets_the_event_loop_have_its_turn(workspace):
    """While a body without an await goes round, others on the loop come to their turn."""
    import time

    worst = 0.0

    @tw.job
    async def work(run):
        async for _ in run.track(range(300_000)):
            pass

    job = work.using(workspace)()
    while job.state in ("pending", "running"):
        before = time.monotonic()
        await asyncio.sleep(0)
        worst = max(worst, time.monotonic() - before)
        await asyncio.sleep(0.001)
    await job
    assert worst < 0.25


async def test_what_cannot_be_tracked_is_refused(workspace):
    """No iterable, or a save_every that is no number of items."""

    @tw.job
    async def work(run):
        with pytest.raises(OptionError, match="cannot be looped over"):
            async for _ in run.track(3):
                pass
        with pytest.raises(OptionError, match="save_every"):
            async for _ in run.track([1], save_every=0):
                pass

    await work.using(workspace)()


async def test_an_empty_loop_is_done(workspace):
    """Nothing to do is 0 of 0, a completed job."""

    @tw.job
    async def work(run):
        async for _ in run.track([]):
            pass

    job = work.using(workspace)()
    assert (await job).rows_loaded == 0
    assert job.progress.total == 0
