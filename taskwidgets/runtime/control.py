"""What is asked of a running job: pause or terminate, and how fast it may go.

Set from any thread (a button's handler, a method, a listener), read by workers between batches.
Nothing here touches an event loop: a handler may run on a thread whose loop sleeps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import IntEnum

from taskwidgets.errors import OptionError

__all__ = ["Control", "Stopped", "Wish", "checked_rate"]


class Wish(IntEnum):
    """Why the work is to stop; a higher one overrules a lower one, never the reverse."""

    NONE = 0
    PAUSE = 1
    TERMINATE = 2
    YIELD = 3  # the job has another owner now: write nothing more


class Stopped(Exception):
    """The work ended at a safe point because it was asked to."""

    def __init__(self, wish: Wish) -> None:
        super().__init__(wish.name.lower())
        self.wish = wish


def checked_rate(rate: float | None) -> float | None:
    """``max_rate`` in bytes per second, None for no limit; OptionError unless positive."""
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0:
        raise OptionError(
            f"max_rate must be a positive number of bytes per second, or None, not {rate!r}"
        )
    return float(rate)


class Control:
    """One job's wishes and its speed limit."""

    def __init__(self, max_rate: float | None = None) -> None:
        self._changed = threading.Condition()
        self._wish = Wish.NONE
        self._cause = ""
        self._max_rate = checked_rate(max_rate)
        self._free_at = 0.0  # monotonic time at which the bytes granted so far are used up
        self._rates_set = 0  # counts changes of max_rate: what was owed at an old rate is forgiven

    @property
    def wish(self) -> Wish:
        """The strongest wish so far."""
        return self._wish

    @property
    def cause(self) -> str:
        """Who asked, for the event."""
        return self._cause

    def ask(self, wish: Wish, cause: str) -> None:
        """Record a wish and wake whoever waits; returns at once."""
        with self._changed:
            if wish > self._wish:
                self._wish, self._cause = wish, cause
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget the wishes, before the job runs again."""
        with self._changed:
            self._wish, self._cause, self._free_at = Wish.NONE, "", 0.0

    def wake(self) -> None:
        """Wake whoever waits, without a wish: something else has happened."""
        with self._changed:
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Sleep until ``condition`` holds, looked at on each wish and wake, or the time is up."""
        with self._changed:
            self._changed.wait_for(condition, seconds)

    @property
    def max_rate(self) -> float | None:
        """Bytes per second, all workers together; None: no limit."""
        return self._max_rate

    @max_rate.setter
    def max_rate(self, rate: float | None) -> None:
        with self._changed:
            self._max_rate = checked_rate(rate)
            self._free_at = 0.0
            self._rates_set += 1
            self._changed.notify_all()

    def pay(self, amount: int) -> None:
        """Wait as long as ``amount`` bytes take at ``max_rate``, or until a wish comes in.

        The bytes of all workers go through one queue, so the limit holds for their sum.
        """
        with self._changed:
            if self._max_rate is None:
                return
            self._free_at = max(self._free_at, time.monotonic()) + amount / self._max_rate
            until, rates_set = self._free_at, self._rates_set
            while self._wish is Wish.NONE and rates_set == self._rates_set:
                left = until - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)
