"""How many connections this process may have to one database, shared out among its jobs.

A job takes all that it needs at once, before it begins: whoever held one connection and waited for
another could wait forever for somebody who does the same. What a job only keeps for later (the
snapshot of a paused export, the connection between two transactions of an own job) counts as well,
and is taken from it when others wait.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from taskwidgets.errors import OptionError

__all__ = ["DEFAULT_CONNECTIONS", "FEWEST_CONNECTIONS", "Budget", "Lease", "checked_connections"]

# Besides what jobs work with: the keeper's connection, the listener's, and those that short
# statements share.
POOLED, POOL_OVERFLOW = 2, 4
FIXED = 2 + POOLED + POOL_OVERFLOW
# Four transfers of two workers each need 16 to work with; Postgres allows 100 by default, and
# several kernels share them.
DEFAULT_CONNECTIONS = FIXED + 16
FEWEST_CONNECTIONS = FIXED + 4  # an export of a table: the snapshot, what counts, two readers
LOOK_INTERVAL = 0.1  # seconds between two looks whether whoever waits was told to stop


def checked_connections(number: int | None) -> int:
    """The number of connections, or the default; OptionError for what cannot work."""
    if number is None:
        return DEFAULT_CONNECTIONS
    if isinstance(number, bool) or not isinstance(number, int) or number < FEWEST_CONNECTIONS:
        raise OptionError(
            f"max_connections must be a whole number from {FEWEST_CONNECTIONS} on, not {number!r}"
        )
    return number


class Lease:
    """Some connections of the budget; ``size`` is how many. To be ended by whoever took it."""

    def __init__(self, budget: Budget, size: int) -> None:
        self._budget = budget
        self.size = size
        self._reclaim: Callable[[], object] | None = None  # while it rests

    def rest(self, keep: int, reclaim: Callable[[], object]) -> None:
        """Keep only so many, and those only until others need them.

        ``reclaim`` is then called once, by another thread, and closes them.
        """
        self._budget._rest(self, keep, reclaim)

    def wake(self) -> bool:
        """Be at work again; False when it was reclaimed, or ended: a new one is needed."""
        return self._budget._wake(self)

    def end(self) -> None:
        """Give all back; idempotent."""
        self._budget._end(self)


class Budget:
    """So many connections for the work of all jobs of this process; first come, first served."""

    def __init__(self, connections: int = DEFAULT_CONNECTIONS) -> None:
        self._size = connections - FIXED
        self._free = self._size
        self._change = threading.Condition()
        self._waiting: deque[object] = deque()
        self._resting: list[Lease] = []  # the one that rests longest first

    @property
    def size(self) -> int:
        """How many there are for work, in use or not."""
        return self._size

    def resize(self, connections: int) -> None:
        """Have another number from now on; what is in use beyond it is not taken away."""
        with self._change:
            self._free += connections - FIXED - self._size
            self._size = connections - FIXED
            self._change.notify_all()

    def take(
        self,
        least: int,
        most: int,
        *,
        given_up: Callable[[], bool],
        waiting: Callable[[str], None],
    ) -> Lease | None:
        """From ``least`` to ``most`` connections as soon as there are; None when ``given_up``.

        ``waiting`` hears what is waited for, and "" when that is over.
        """
        assert 1 <= least <= most
        ticket = object()
        said = False
        with self._change:
            self._waiting.append(ticket)
        try:
            while True:
                with self._change:
                    if self._waiting[0] is ticket and self._free >= least:
                        lease = Lease(self, min(most, self._free))
                        self._free -= lease.size
                        return lease
                    oldest = self._oldest_resting() if self._waiting[0] is ticket else None
                    if oldest is None:
                        self._change.wait(LOOK_INTERVAL)
                if oldest is not None:
                    oldest()
                    continue
                if given_up():
                    return None
                if not said:
                    waiting(f"waiting for a free connection: all {self._size} are in use")
                    said = True
        finally:
            with self._change:
                self._waiting.remove(ticket)
                self._change.notify_all()  # whoever was behind it
            if said:
                waiting("")

    # ------------------------------------------------------------------ of a lease

    def _oldest_resting(self) -> Callable[[], object] | None:
        """What takes back the lease that rests longest; called with the lock, to be run without."""
        if not self._resting:
            return None
        lease = self._resting[0]
        reclaim, size = lease._reclaim, lease.size
        assert reclaim is not None
        self._forget(lease)

        def act() -> None:
            try:
                reclaim()
            finally:
                with self._change:  # free only now: the connections are closed
                    self._free += size
                    self._change.notify_all()

        return act

    def _rest(self, lease: Lease, keep: int, reclaim: Callable[[], object]) -> None:
        with self._change:
            self._free += lease.size - keep
            lease.size = keep
            lease._reclaim = reclaim
            self._resting.append(lease)
            self._change.notify_all()

    def _wake(self, lease: Lease) -> bool:
        with self._change:
            if lease not in self._resting:
                return False
            self._resting.remove(lease)
            lease._reclaim = None
            return True

    def _end(self, lease: Lease) -> None:
        with self._change:
            self._free += lease.size
            self._forget(lease)
            self._change.notify_all()

    def _forget(self, lease: Lease) -> None:
        lease.size = 0
        lease._reclaim = None
        if lease in self._resting:
            self._resting.remove(lease)
