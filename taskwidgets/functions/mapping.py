"""run.map() behind the loop: slices are computed ahead, and come back in the order of the items."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections import deque
from collections.abc import Callable, Sized
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

from taskwidgets.errors import TaskwidgetsError
from taskwidgets.functions.hands import Hands
from taskwidgets.functions.pools import Pool
from taskwidgets.functions.slices import Done, Sizes
from taskwidgets.functions.sources import Source
from taskwidgets.runtime.threads import start_thread

__all__ = ["Mapping"]

AT_ONCE = 1_000  # items that are taken, or passed over, before other threads have their turn
MOST_AHEAD = 1_000  # slices; a kernel that hands out more of them has time for little else


@dataclass(eq=False)
class _Slice:
    """``items`` are those that were handed out; the first of them has the number ``first``."""

    first: int
    items: list[Any]
    arrived: deque[list[Any] | bytes] = field(default_factory=deque)
    fault: BaseException | None = None  # of the item behind what has arrived
    done: bool = False


class Mapping:
    """One loop's work ahead.

    ``open`` makes the pool, in a thread; ``skip`` items are passed over first. ``ahead``: how many
    slices may be handed out or wait to be taken; by default twice what the pool computes at once.
    """

    def __init__(
        self,
        source: Source,
        items: object,
        open: Callable[[], Pool],
        *,
        skip: int,
        ahead: int | None,
        name: str,
    ) -> None:
        self._source = source
        self._total = len(items) if isinstance(items, Sized) else None
        self._open = open
        self._next = skip  # number of the next item to be handed out
        self._ahead = ahead
        self._sizes = Sizes()
        self._change = threading.Condition()
        self._pool: Pool | None = None
        self._slices: list[_Slice] = []  # in the order of the items
        self._asked: Future[list[Any] | None] | None = None
        self._ended = False
        self._fault: BaseException | None = None
        self._closed = False
        self._hands = Hands(f"{name} results")  # what is pickled must not hold the loop
        start_thread(self._feed, name=f"{name} slices")

    def take(self) -> Future[list[Any] | None]:
        """The next results, in order; None behind the last.

        The future fails with what an item's computing raised, once all before it are taken.
        """
        asked: Future[list[Any] | None] = Future()
        asked.set_running_or_notify_cancel()
        with self._change:
            self._asked = asked
        self._answer()
        return asked

    def close(self) -> None:
        """Hand out nothing more, and forget what is in flight; returns soon, from any thread."""
        with self._change:
            if self._closed:
                return
            self._closed = True
            self._slices.clear()
            pool = self._pool
            self._change.notify_all()
        if pool is not None:
            pool.close()
        self._source.close()
        self._hands.finish()

    # ------------------------------------------------------------------ handing out

    def _feed(self) -> None:
        try:
            self._start()
            while self._has_room():
                size = self._sizes.next(self._left(), self._lanes())
                items: list[Any] = []
                while len(items) < size and not self._closed:
                    wanted = min(AT_ONCE, size - len(items))
                    more = self._source.take(wanted)
                    items += more
                    if len(more) < wanted:
                        break
                if not items:
                    break
                self._hand_out(items)
        except BaseException as error:  # noqa: BLE001 - raised in the loop of the function
            self._fault = error
        finally:
            self._ended = True
            self._answer()

    def _start(self) -> None:
        pool = self._open()
        with self._change:
            self._pool = pool
            closed = self._closed
        if closed:
            pool.close()
        skipped = 0
        while skipped < self._next and not closed and not self._closed:
            some = len(self._source.take(min(AT_ONCE, self._next - skipped)))
            if not some:
                break
            skipped += some

    def _has_room(self) -> bool:
        """Wait until there is; False when it was closed."""
        with self._change:
            while not self._closed:
                if len(self._slices) < (self._ahead or min(2 * self._lanes(), MOST_AHEAD)):
                    return True
                self._change.wait(1.0)  # the lanes may have become more
        return False

    def _lanes(self) -> int:
        return max(1, self._pool.lanes) if self._pool is not None else 1

    def _left(self) -> int | None:
        return None if self._total is None else max(0, self._total - self._next)

    def _hand_out(self, items: list[Any]) -> None:
        with self._change:
            made = _Slice(self._next, items)
            self._next += len(items)
            self._slices.append(made)
        self._send(made)

    def _send(self, made: _Slice) -> None:
        pool = self._pool
        assert pool is not None
        if not self._closed:
            answer = pool.send(made.items, made.first)
            answer.add_done_callback(lambda answer: self._came(made, answer))

    # ------------------------------------------------------------------ coming back

    def _came(self, made: _Slice, answer: Future[Done]) -> None:
        if self._closed:
            return
        again: list[_Slice] = []
        try:
            done = answer.result()
        except BaseException as error:  # noqa: BLE001 - raised in the loop of the function
            done = Done([], 0, 0.0, error)
        else:
            if done.count or done.error is not None:
                self._sizes.took(done)
        with self._change:
            if made not in self._slices:
                return
            made.arrived.extend(done.results)
            made.done = True
            if done.error is not None:
                made.fault = _named(done.error, made.first + done.count)
            elif done.count < len(made.items):
                again = self._cut(made, done.count)
                place = self._slices.index(made) + 1
                self._slices[place:place] = again
            made.items = []
        for one in again:
            self._hands.do(lambda one=one: self._send_or_fail(one))  # type: ignore[misc]
        self._answer()

    def _cut(self, made: _Slice, done: int) -> list[_Slice]:
        """What is left of a slice that took too long or came to nothing, for several to do."""
        left = made.items[done:]
        size = -(-len(left) // (2 * self._lanes()))
        if done:
            size = max(size, self._sizes.next())
        return [
            _Slice(made.first + done + at, left[at : at + size]) for at in range(0, len(left), size)
        ]

    def _send_or_fail(self, made: _Slice) -> None:
        try:
            self._send(made)
        except Exception as error:  # noqa: BLE001 - raised in the loop of the function
            failed: Future[Done] = Future()
            failed.set_exception(error)
            self._came(made, failed)

    def _answer(self) -> None:
        """Give whoever asked what there is, if there is something."""
        with self._change:
            asked = self._asked
            if asked is None or self._closed:
                return
            while self._slices and self._slices[0].done and not self._slices[0].arrived:
                if self._slices[0].fault is not None:
                    self._asked = None
                    asked.set_exception(self._slices[0].fault)
                    return
                del self._slices[0]
                self._change.notify_all()
            if self._slices:
                if not self._slices[0].arrived:
                    return
                results = self._slices[0].arrived.popleft()
            elif self._ended:
                self._asked = None
                if self._fault is not None:
                    asked.set_exception(_raisable(self._fault))
                else:
                    asked.set_result(None)
                return
            else:
                return
            self._asked = None
        if isinstance(results, list):
            asked.set_result(results)
        else:
            self._hands.do(lambda: _unpickle(results, asked))


def _raisable(error: BaseException) -> BaseException:
    """The error itself, unless it would mean something else where the loop raises it."""
    if isinstance(
        error,
        StopIteration | StopAsyncIteration | CancelledError | asyncio.CancelledError
        | GeneratorExit | KeyboardInterrupt | SystemExit,
    ):  # fmt: skip
        told = TaskwidgetsError(f"{type(error).__name__}: {error}".rstrip(": "))
        told.__cause__ = error
        return told
    return error


def _named(error: BaseException, number: int) -> BaseException:
    """The error, with a note of the item that it is about."""
    error = _raisable(error)
    error.add_note(f"item {number} of run.map(), counted from 0")
    return error


def _unpickle(results: bytes, asked: Future[list[Any] | None]) -> None:
    try:
        asked.set_result(pickle.loads(results))
    except BaseException as error:  # noqa: BLE001 - raised in the loop of the function
        asked.set_exception(error)
