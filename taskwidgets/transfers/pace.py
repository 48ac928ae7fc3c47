"""How large the next batch may be, so that a pause never waits long for the one in flight."""

from __future__ import annotations

import threading

from taskwidgets.runtime.control import Control

__all__ = ["LARGEST_BATCH", "SMALLEST_BATCH", "Pace"]

LARGEST_BATCH = 8 << 20  # bytes; with larger ones COPY is not faster (benchmarks/bench.py)
SMALLEST_BATCH = 64 << 10  # bytes
BATCH_SECONDS = 0.08
# Ways to the server and back take their time whatever the batch. Where they are long, batches
# become larger, so that so many times as long goes into data; a pause breaks one off that is.
WAITING_TIMES = 8.0
LONGEST_BATCH = 1.0  # seconds
# Towards the end batches become smaller, so that no worker is left alone with a large last one: a
# batch is at most this share of what is left, but no smaller than this many bytes for that.
LAST_SHARE = 0.25
LAST_BATCH = 1 << 20  # bytes
FIRST_BATCH = 1 << 20  # bytes, until it is known how fast it goes
RATED_SECONDS = 0.25  # of a limited rate, what one batch may use up: the bar moves steadily


class Pace:
    """Learns from the batches done how many bytes fit into a time; shared by workers."""

    def __init__(
        self, control: Control, largest: int | None = None, seconds: float | None = None
    ) -> None:
        """``largest``: bytes of a batch at most; ``seconds``: what one should take."""
        self._control = control
        self.largest = LARGEST_BATCH if largest is None else largest
        self._seconds = BATCH_SECONDS if seconds is None else seconds
        self._lock = threading.Lock()
        self._speed: float | None = None  # bytes per second and worker, smoothed, without waiting
        self._waiting = 0.0  # seconds of a batch, smoothed

    def batch_bytes(self, left: float | None = None) -> int:
        """The size for the next batch, of the ``left`` bytes that are not handed out yet."""
        size = float(self.largest)
        if self._speed is None:  # the first ones: something is to be seen soon
            size = min(size, FIRST_BATCH)
        if left is not None:
            size = min(size, max(LAST_BATCH, left * LAST_SHARE))
        with self._lock:
            if self._speed is not None:
                long = min(WAITING_TIMES * self._waiting, LONGEST_BATCH)
                size = min(size, self._speed * max(self._seconds - self._waiting, long))
        rate = self._control.max_rate
        if rate is not None:
            size = min(size, rate * RATED_SECONDS)
        return max(SMALLEST_BATCH, int(size))

    def took(self, amount: int, seconds: float, waiting: float = 0.0) -> None:
        """A batch of so many bytes took so long; ``waiting``: seconds that any batch would take."""
        waiting = min(waiting, 0.9 * seconds)
        speed = amount / max(seconds - waiting, 1e-6)
        with self._lock:
            if self._speed is None:
                self._speed, self._waiting = speed, waiting
            else:
                self._speed = 0.7 * self._speed + 0.3 * speed
                self._waiting = 0.7 * self._waiting + 0.3 * waiting
