"""The items of run.map(): taken as they are wanted, and not much earlier."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, Iterable
from typing import Any

from taskwidgets.runtime.threads import start_thread

__all__ = ["AsyncSource", "PlainSource", "Source"]

HURRY = 0.05  # seconds that those which are there wait for more
HELD = 0.005  # seconds that items without an await hold the loop


class Source:
    """Gives the items, in order.

    Whoever makes them, a thread or a task, may be made to wait for the next one; what is there is
    given meanwhile.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._wanted = 0
        self._made: deque[Any] = deque()
        self._ended = False
        self._fault: BaseException | None = None
        self._closed = False

    def take(self, number: int) -> list[Any]:
        """So many, or fewer where the next ones take long; none at the end.

        Raises what the items raised, once those before it are taken.
        """
        with self._change:
            self._wanted = number
            self._want()
            self._change.wait_for(lambda: self._made or self._ended)
            self._change.wait_for(lambda: len(self._made) >= number or self._ended, HURRY)
            taken = [self._made.popleft() for _ in range(min(number, len(self._made)))]
            self._wanted = 0
        if not taken and self._fault is not None:
            raise self._fault
        return taken

    def close(self) -> None:
        """Make no more of them; from any thread, and at once."""
        with self._change:
            self._closed = self._ended = True
            self._change.notify_all()

    # ------------------------------------------------------------------ for whoever makes them

    def _want(self) -> None:
        """Wake whoever makes them; called with the lock."""
        self._change.notify_all()

    @property
    def _enough(self) -> bool:
        return len(self._made) >= self._wanted

    def _made_one(self, item: Any) -> None:
        # A lock for each would take longer than most items do.
        self._made.append(item)
        number = len(self._made)
        if number == 1 or number >= self._wanted:
            with self._change:
                self._change.notify_all()

    def _end(self, fault: BaseException | None = None) -> None:
        with self._change:
            self._fault, self._ended = fault, True
            self._change.notify_all()


class PlainSource(Source):
    """What a ``for`` loop could go through, by a thread: it may wait, and read from a disk."""

    def __init__(self, items: Iterable[Any], name: str) -> None:
        super().__init__()
        self._iterator = iter(items)
        start_thread(self._make, name=name)

    def _make(self) -> None:
        try:
            while self._may_go_on():
                for item in self._iterator:
                    self._made_one(item)
                    if self._enough:
                        break
                else:
                    break
        except BaseException as error:  # noqa: BLE001 - raised in the loop of the function
            self._end(error)
        else:
            self._end()

    def _may_go_on(self) -> bool:
        with self._change:
            self._change.wait_for(lambda: not self._enough or self._closed)
            return not self._closed


class AsyncSource(Source):
    """What an ``async for`` loop could go through, by a task on the loop."""

    def __init__(self, items: AsyncIterable[Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._items = items
        self._loop = loop
        self._wake = asyncio.Event()
        self._task = loop.create_task(self._make())

    def close(self) -> None:
        """See Source; its task is cancelled at the await that it is in."""
        super().close()
        self._call(self._task.cancel)

    def _want(self) -> None:
        self._call(self._wake.set)

    def _call(self, function: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    async def _make(self) -> None:
        try:
            held_since = time.monotonic()
            iterator = aiter(self._items)
            while not self._closed:
                if self._enough:
                    self._wake.clear()
                    if self._enough:  # still, now that a wish would not be lost
                        await self._wake.wait()
                    held_since = time.monotonic()
                    continue
                try:
                    item = await anext(iterator)
                except StopAsyncIteration:
                    break
                self._made_one(item)
                if time.monotonic() - held_since > HELD:
                    await asyncio.sleep(0)
                    held_since = time.monotonic()
        except BaseException as error:
            self._end(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._end()
