"""How far a job is: the snapshot that users see, and the meter that workers feed."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Meter", "Progress"]

RATE_WINDOW = 8.0  # seconds of work over which the rate is smoothed: steady, yet follows a change
SAMPLE_SPACING = 0.1  # seconds between two samples of the window, so that it holds 80 at most


@dataclass(frozen=True)
class Progress:
    """How far a job is, at one moment.

    ``done`` and ``total`` are counted in ``unit``; ``total`` is None while it is unknown. ``rows``
    are those committed. ``rate`` is in rows per second, smoothed; ``elapsed`` and ``eta`` are
    seconds of work, pauses left out. ``rate`` and ``eta`` are None until there is enough to tell.
    """

    done: int = 0
    total: int | None = None
    unit: str = "bytes"
    rows: int = 0
    rejected: int = 0
    rate: float | None = None
    eta: float | None = None
    elapsed: float = 0.0

    @property
    def fraction(self) -> float | None:
        """From 0.0 to 1.0; None while the total is unknown."""
        if self.total is None:
            return None
        if self.total <= 0:
            return 1.0
        return min(1.0, self.done / self.total)

    def to_json(self) -> dict[str, Any]:
        """What the store keeps: everything that a later process needs to go on counting."""
        return {
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "rows": self.rows,
            "rejected": self.rejected,
            "elapsed": round(self.elapsed, 3),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any] | None) -> Progress:
        """The reverse of ``to_json``; None gives an empty progress."""
        return cls(**stored) if stored else cls()


class Meter:
    """Counts what workers have committed; any thread may add, any may read.

    Between ``stop()`` and ``start()`` the clock stands still, so pauses count nowhere.
    """

    def __init__(
        self, progress: Progress | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._base = progress or Progress()
        self._unit = self._base.unit
        self._done = self._base.done
        self._total = self._base.total
        self._rows = self._base.rows
        self._rejected = self._base.rejected
        self._elapsed = self._base.elapsed
        self._since: float | None = None
        self._samples: deque[tuple[float, int, int]] = deque()  # (time, done, rows)

    def start(self) -> None:
        """Let the clock run."""
        with self._lock:
            if self._since is None:
                self._since = self._clock()
                self._samples.clear()
                self._samples.append((self._since, self._done, self._rows))

    def stop(self) -> None:
        """Stop the clock; the rate is unknown until it runs again."""
        with self._lock:
            if self._since is not None:
                self._elapsed += self._clock() - self._since
                self._since = None
                self._samples.clear()

    def add(self, done: int, rows: int = 0, rejected: int = 0) -> None:
        """Count what has just been committed."""
        with self._lock:
            self._done += done
            self._rows += rows
            self._rejected += rejected
            if self._since is None:
                return
            now = self._clock()
            if now - self._samples[-1][0] >= SAMPLE_SPACING:
                self._samples.append((now, self._done, self._rows))
            while len(self._samples) > 2 and now - self._samples[1][0] > RATE_WINDOW:
                self._samples.popleft()

    def set(
        self, done: int, rows: int, total: int | None, unit: str = "bytes", rejected: int = 0
    ) -> None:
        """Begin from what the ledger says, counted in ``unit``."""
        with self._lock:
            self._unit = unit
            self._done, self._rows, self._total = done, rows, total
            self._rejected = rejected
            if self._since is not None:
                self._samples.clear()
                self._samples.append((self._clock(), done, rows))

    def reach(self, done: int, total: int | None, unit: str) -> None:
        """Say how far a user's own job is, whose rows are what it counts; the rate goes on."""
        with self._lock:
            more = done - self._done
            self._unit, self._total = unit, total
        self.add(more, rows=more)

    def follow(self, progress: Progress, *, running: bool) -> None:
        """Show what another process counts, as it was read from the store just now."""
        with self._lock:
            now = self._clock()
            if not running:
                self._since, self._elapsed = None, progress.elapsed
                self._samples.clear()
            elif self._since is None:
                self._since, self._elapsed = now, progress.elapsed
                self._samples.append((now, progress.done, progress.rows))
            elif now - self._samples[-1][0] >= SAMPLE_SPACING:
                self._samples.append((now, progress.done, progress.rows))
                while len(self._samples) > 2 and now - self._samples[1][0] > RATE_WINDOW:
                    self._samples.popleft()
            self._unit, self._total = progress.unit, progress.total
            self._done, self._rows = progress.done, progress.rows
            self._rejected = progress.rejected

    def snapshot(self) -> Progress:
        """The progress at this moment."""
        with self._lock:
            elapsed, rate, eta = self._elapsed, None, None
            if self._since is not None:
                now = self._clock()
                elapsed += now - self._since
                first_time, first_done, first_rows = self._samples[0]
                seconds = now - first_time
                if seconds > 2 * SAMPLE_SPACING and self._done > first_done:
                    rate = (self._rows - first_rows) / seconds
                    if self._total is not None:
                        speed = (self._done - first_done) / seconds
                        eta = max(0.0, (self._total - self._done) / speed)
            return Progress(
                done=self._done,
                total=self._total,
                unit=self._unit,
                rows=self._rows,
                rejected=self._rejected,
                rate=rate,
                eta=eta,
                elapsed=elapsed,
            )
