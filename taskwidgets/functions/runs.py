"""``run``, as the user's function gets it: for an async function, and for a plain one."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from contextlib import asynccontextmanager, contextmanager
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from psycopg2.extensions import connection as PsycopgConnection  # noqa: N812 - it is a class

from taskwidgets.errors import OptionError
from taskwidgets.functions.ledger import Change
from taskwidgets.functions.session import (
    RESULT_INTERVAL,
    SAVE_INTERVAL,
    SKIPPED_AT_ONCE,
    YIELD_INTERVAL,
    Session,
)
from taskwidgets.functions.sources import AsyncSource, PlainSource, Source
from taskwidgets.runtime.control import Wish

__all__ = ["AsyncRun", "PlainRun", "Told"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
P = ParamSpec("P")

NEVER = 1 << 62  # items


class Told(BaseException):
    """A plain function was told to stop; no Exception, so that ``except Exception`` lets it by."""


class AsyncRun(Session):
    """The run of an async function.

    ``run.state``: what the last checkpoint said, ``{}`` at first. ``run.job_id``: the job's number.
    A pause takes effect at the next checkpoint, item of track() or end of a transaction, by
    asyncio.CancelledError; so ``finally`` and ``async with`` do their part.
    """

    _task: asyncio.Task[Any] | None = None  # that of the function
    _block_task: asyncio.Task[Any] | None = None  # that which has a transaction open

    async def checkpoint(
        self,
        state: Any = None,
        *,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
    ) -> None:
        """Make durable how far the function is; when it returns, that is committed.

        ``state``: anything that JSON has; None keeps what was said before, as it does for the
        others. ``done`` of ``total`` are counted in ``unit`` ("items"). Within a transaction's
        block, by the task that opened it, it is committed at the block's end together with the
        rows.

        Raises OptionError (naming what is no JSON), JobFenced (another process has the job now,
        nothing was written), DatabaseError; and CancelledError after the commit, where a pause or
        a termination is asked for.
        """
        await self._save(self._change(state, done, total, unit))
        self._stop_if_asked()

    def track(
        self,
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        save_every: int | None = None,
        *,
        name: str | None = None,
    ) -> AsyncIterator[ItemT]:
        """``async for item in run.track(items)``: goes on, after a resume, where it was.

        An item is done when the loop's body came round. The place is saved each ``save_every``
        items, by default once a second, on a pause, and at the end; it is kept apart from
        ``run.state``. ``items`` must come in the same order each time. ``name``: for a loop that
        is come to more than once, such as one within another.

        The place is saved behind the body, not with what a ``run.transaction()`` in it commits:
        what was done since the last save is done again after a crash. Where that must not be,
        keep the place in the state: ``run.checkpoint()`` within the transaction.
        """
        return self._track(items, save_every, self._place(name))

    async def _track(
        self, items: Iterable[ItemT] | AsyncIterable[ItemT], save_every: int | None, place: str
    ) -> AsyncIterator[ItemT]:
        done = saved = self._started(place, items, save_every)
        limit, seconds = (NEVER, SAVE_INTERVAL) if save_every is None else (save_every, 1e9)
        clock, control = time.monotonic, self._control
        self._stop_if_asked()
        if isinstance(items, AsyncIterable):
            async_iterator = aiter(items)
            for _ in range(done):
                if await anext(async_iterator, Told) is Told:
                    break
            left: AsyncIterator[ItemT] | None = async_iterator
        elif isinstance(items, Iterable):
            iterator, left = iter(items), None
            for skipped in range(0, done, SKIPPED_AT_ONCE):
                some = min(SKIPPED_AT_ONCE, done - skipped)
                next(islice(iterator, some, some), None)
                await asyncio.sleep(0)
        else:
            raise OptionError(f"run.track(): {items!r} cannot be looped over")
        saved_at = held_since = clock()
        while True:
            # An exception for the end costs a microsecond once, and nothing per item.
            try:
                item = next(iterator) if left is None else await anext(left)
            except (StopIteration, StopAsyncIteration):
                break
            yield item
            done += 1
            now = clock()
            if done - saved >= limit or now - saved_at >= seconds or control.wish is not Wish.NONE:
                await self._save(self._reached(place, done, items))
                self._stop_if_asked()
                saved, saved_at = done, clock()
            if now - held_since > YIELD_INTERVAL:
                await asyncio.sleep(0)
                held_since = clock()
        if saved != done or done == 0:
            await self._save(self._reached(place, done, items))
        self._stop_if_asked()

    def map(
        self,
        function: Callable[[ItemT], ResultT] | Callable[[ItemT], Awaitable[ResultT]],
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        *,
        client: Any = None,
        save_every: int | None = None,
        name: str | None = None,
        start: int | None = None,
        ahead: int | None = None,
    ) -> AsyncIterator[ResultT]:
        """``async for result in run.map(function, items, client=client)``: computed ahead.

        The results of ``function(item)`` come in the order of the items. An item is done when the
        loop's body came round with its result; ``save_every`` and ``name`` are those of track().
        What was computed ahead when the job was paused or the kernel was killed is computed again,
        so the function should do nothing but compute: what is to happen once belongs into the
        loop's body.

        ``client``: a ``distributed.Client``, or a scheduler's address; its workers compute, and the
        items are sent to them in slices of about half a second. Without it, some threads of this
        process do, or for an async function its loop. ``ahead``: how many slices may be under way
        or wait for the loop; by default twice as many as are computed at once. No more is taken
        from ``items`` ahead of that, by a thread if they are not asynchronous.

        ``start``: the number of the first item, for a loop whose place the function itself keeps,
        by ``run.checkpoint()`` in the same ``run.transaction()`` as its rows, so that each is
        written once; then no other place is kept.

        Raises what the function raised, with a note that has the item's number, once all results
        before it are through; ClusterUnreachable when the cluster stays away.
        """
        place = self._place(name, "run.map") if start is None else None
        return self._map(function, items, client, save_every, place, start, ahead)

    async def _map(
        self,
        function: Callable[[ItemT], Any],
        items: Iterable[ItemT] | AsyncIterable[ItemT],
        client: Any,
        save_every: int | None,
        place: str | None,
        start: int | None,
        ahead: int | None,
    ) -> AsyncIterator[Any]:
        loop = asyncio.get_running_loop()
        open_pool = self._pool(function, client, ahead, loop)
        source: Source
        if isinstance(items, AsyncIterable):
            source = AsyncSource(items, loop)
        elif isinstance(items, Iterable):
            source = PlainSource(items, f"job {self.job_id} items")
        else:
            raise OptionError(f"run.map(): {items!r} cannot be looped over")
        done = saved = self._map_from(place, items, save_every, start)
        limit, seconds = (NEVER, SAVE_INTERVAL) if save_every is None else (save_every, 1e9)
        clock, control = time.monotonic, self._control
        self._stop_if_asked()
        mapping = self._mapping(source, items, open_pool, done, ahead)
        saved_at = held_since = clock()
        try:
            while True:
                answer = asyncio.wrap_future(mapping.take())
                while not answer.done() and not self._asked_to_stop():
                    await asyncio.wait([answer], timeout=RESULT_INTERVAL)
                    held_since = clock()
                if not answer.done() or answer.exception() or self._asked_to_stop():
                    if place is not None and saved != done:
                        await self._save(self._reached(place, done, items))
                    self._stop_if_asked()
                    saved = done
                results = answer.result()
                if results is None:
                    break
                for result in results:
                    yield result
                    done += 1
                    now = clock()
                    if (
                        done - saved >= limit
                        or now - saved_at >= seconds
                        or control.wish is not Wish.NONE
                    ):
                        if place is not None:
                            await self._save(self._reached(place, done, items))
                        self._stop_if_asked()
                        saved, saved_at = done, clock()
                    if now - held_since > YIELD_INTERVAL:
                        await asyncio.sleep(0)
                        held_since = clock()
        finally:
            self._end(mapping)
        if place is not None and (saved != done or done == 0):
            await self._save(self._reached(place, done, items))
        self._stop_if_asked()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PsycopgConnection]:
        """``async with run.transaction() as connection``: rows and checkpoint commit together.

        ``connection`` is psycopg2's. What is written on it and a ``run.checkpoint()`` of the block
        are committed at its end, in one transaction that is refused when another process has the
        job (JobFenced); an exception rolls both back. A statement that takes long belongs into
        ``run.in_thread``. A pause takes effect after the commit.
        """
        change = self._open_block()
        self._block_task = asyncio.current_task()
        try:
            self._stop_if_asked()  # for a termination; a pause waits for the block's commit
            connection = await self._by_hand(self._ledger.begin)
            if connection is None:
                self._block = None  # it has not begun, so a pause need not wait for its end
                self._stop_if_asked()
            assert connection is not None
            try:
                yield connection
            except BaseException:
                await self._by_hand(self._ledger.roll_back)
                raise
            await self._by_hand(functools.partial(self._ledger.commit, change))
        finally:
            self._block, self._block_task = None, None
        self._stop_if_asked()

    async def in_thread(
        self, function: Callable[P, ResultT], /, *args: P.args, **kwargs: P.kwargs
    ) -> ResultT:
        """Call a blocking function in a thread of its own, so that the loop stays free.

        Nothing can end a thread: the job is paused or terminated only when it has come to its end.
        """
        answer = self._in_thread(functools.partial(function, *args, **kwargs))
        return await asyncio.wrap_future(answer)

    # ------------------------------------------------------------------ inside

    def _stop_if_asked(self) -> None:
        if self._asked_to_stop():
            if self._task is not None and asyncio.current_task() is not self._task:
                self._task.cancel()  # a task of the function's own must not be all that ends
            raise asyncio.CancelledError

    async def _save(self, change: Change) -> None:
        if self._block is not None and self._block_task is asyncio.current_task():
            self._block.join(change)
            return
        await self._by_hand(functools.partial(self._ledger.save, change))

    async def _by_hand(self, action: Callable[[], ResultT]) -> ResultT:
        """Have the run's thread do it; a cancelled await waits for its end all the same."""
        answer = asyncio.wrap_future(self._hands.do(action))
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            while not answer.done():
                try:
                    await asyncio.wait([answer])
                except asyncio.CancelledError:
                    continue
            answer.exception()  # looked at: no complaint that nobody did
            raise


class PlainRun(Session):
    """The run of a plain function, in a thread of its own; the same names, to be called plainly.

    A pause and a termination take effect at these calls, by an exception that ``except Exception``
    does not catch.
    """

    _block_thread: int | None = None

    def checkpoint(
        self,
        state: Any = None,
        *,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
    ) -> None:
        """Make durable how far the function is; see AsyncRun.checkpoint."""
        self._save(self._change(state, done, total, unit))
        self._stop_if_asked()

    def track(
        self, items: Iterable[ItemT], save_every: int | None = None, *, name: str | None = None
    ) -> Iterator[ItemT]:
        """``for item in run.track(items)``; see AsyncRun.track."""
        return self._track(items, save_every, self._place(name))

    def _track(self, items: Iterable[ItemT], save_every: int | None, place: str) -> Iterator[ItemT]:
        if not isinstance(items, Iterable):
            raise OptionError(f"run.track(): {items!r} cannot be looped over by a plain function")
        done = saved = self._started(place, items, save_every)
        limit, seconds = (NEVER, SAVE_INTERVAL) if save_every is None else (save_every, 1e9)
        clock, control = time.monotonic, self._control
        self._stop_if_asked()
        saved_at = clock()
        for item in islice(items, done, None):
            yield item
            done += 1
            if (
                done - saved >= limit
                or clock() - saved_at >= seconds
                or control.wish is not Wish.NONE
            ):
                self._save(self._reached(place, done, items))
                self._stop_if_asked()
                saved, saved_at = done, clock()
        if saved != done or done == 0:
            self._save(self._reached(place, done, items))
        self._stop_if_asked()

    def map(
        self,
        function: Callable[[ItemT], ResultT],
        items: Iterable[ItemT],
        *,
        client: Any = None,
        save_every: int | None = None,
        name: str | None = None,
        start: int | None = None,
        ahead: int | None = None,
    ) -> Iterator[ResultT]:
        """``for result in run.map(function, items, client=client)``; see AsyncRun.map."""
        place = self._place(name, "run.map") if start is None else None
        return self._map(function, items, client, save_every, place, start, ahead)

    def _map(
        self,
        function: Callable[[ItemT], ResultT],
        items: Iterable[ItemT],
        client: Any,
        save_every: int | None,
        place: str | None,
        start: int | None,
        ahead: int | None,
    ) -> Iterator[ResultT]:
        open_pool = self._pool(function, client, ahead)
        if not isinstance(items, Iterable):
            raise OptionError(f"run.map(): {items!r} cannot be looped over by a plain function")
        done = saved = self._map_from(place, items, save_every, start)
        limit, seconds = (NEVER, SAVE_INTERVAL) if save_every is None else (save_every, 1e9)
        clock, control = time.monotonic, self._control
        self._stop_if_asked()
        mapping = self._mapping(
            PlainSource(items, f"job {self.job_id} items"), items, open_pool, done, ahead
        )
        saved_at = clock()
        try:
            while True:
                answer = mapping.take()
                answer.add_done_callback(lambda _: control.wake())
                while not answer.done() and not self._asked_to_stop():
                    control.wait_until(
                        lambda: answer.done() or control.wish is not Wish.NONE,  # noqa: B023
                        RESULT_INTERVAL,
                    )
                if not answer.done() or answer.exception() or self._asked_to_stop():
                    if place is not None and saved != done:
                        self._save(self._reached(place, done, items))
                    self._stop_if_asked()
                    saved = done
                results = answer.result()
                if results is None:
                    break
                for result in results:
                    yield result
                    done += 1
                    if (
                        done - saved >= limit
                        or clock() - saved_at >= seconds
                        or control.wish is not Wish.NONE
                    ):
                        if place is not None:
                            self._save(self._reached(place, done, items))
                        self._stop_if_asked()
                        saved, saved_at = done, clock()
        finally:
            self._end(mapping)
        if place is not None and (saved != done or done == 0):
            self._save(self._reached(place, done, items))
        self._stop_if_asked()

    @contextmanager
    def transaction(self) -> Iterator[PsycopgConnection]:
        """``with run.transaction() as connection``; see AsyncRun.transaction."""
        change = self._open_block()
        self._block_thread = threading.get_ident()
        try:
            self._stop_if_asked()  # for a termination; a pause waits for the block's commit
            connection = self._ledger.begin()
            if connection is None:
                self._block = None  # it has not begun, so a pause need not wait for its end
                self._stop_if_asked()
            assert connection is not None
            try:
                yield connection
            except BaseException:
                self._ledger.roll_back()
                raise
            self._ledger.commit(change)
        finally:
            self._block, self._block_thread = None, None
        self._stop_if_asked()

    def in_thread(
        self, function: Callable[P, ResultT], /, *args: P.args, **kwargs: P.kwargs
    ) -> ResultT:
        """Call the function: a plain function is in a thread already."""
        return function(*args, **kwargs)

    # ------------------------------------------------------------------ inside

    def _stop_if_asked(self) -> None:
        if self._asked_to_stop():
            raise Told

    def _save(self, change: Change) -> None:
        if self._block is not None and self._block_thread == threading.get_ident():
            self._block.join(change)
            return
        self._ledger.save(change)
