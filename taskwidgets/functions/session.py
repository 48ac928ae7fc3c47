"""What both kinds of run share, the asynchronous one and the plain one: wishes, words, places."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sized
from concurrent.futures import Future
from contextlib import suppress
from types import CodeType
from typing import Any

from taskwidgets.cluster import Cluster, Scheduler, as_scheduler
from taskwidgets.errors import OptionError, TaskwidgetsError
from taskwidgets.functions.hands import Hands
from taskwidgets.functions.ledger import Change, Ledger
from taskwidgets.functions.mapping import Mapping
from taskwidgets.functions.pools import LoopPool, Pool, ThreadPool
from taskwidgets.functions.sources import Source
from taskwidgets.functions.values import json_text
from taskwidgets.runtime.control import Wish
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.threads import start_thread

__all__ = ["SAVE_INTERVAL", "YIELD_INTERVAL", "Session"]

log = logging.getLogger("taskwidgets")

SAVE_INTERVAL = 1.0  # seconds between two checkpoints of run.track(), where no number is given
YIELD_INTERVAL = 0.005  # seconds that run.track() holds the loop; a step may take 10 ms at most
SAY_INTERVAL = 0.125  # seconds between two words for the views, as they are told eight a second
RESULT_INTERVAL = 0.05  # seconds between two looks for a pause, while a result is waited for
AT_ONCE_ON_LOOP = 8  # slices of an async function, whose calls mostly wait
MOST_THREADS = 4  # of this process, to compute in; as many as a transfer has
SKIPPED_AT_ONCE = 10_000  # items passed over on resume before the loop has its turn; under 1 ms


class Session:
    """What the function is given as ``run`` rests on; one for each attempt.

    ``stops``: whether wishes end the function here; not in on_terminate, which runs for one.
    ``employs``: hears of a cluster that is used.
    """

    def __init__(
        self,
        run: Run,
        ledger: Ledger,
        hands: Hands,
        *,
        stops: bool = True,
        employs: Callable[[Cluster], object] = lambda cluster: None,
    ) -> None:
        self._run = run
        self._ledger = ledger
        self._hands = hands
        self._stops = stops
        self._control = run.control
        self._block: Change | None = None  # what a transaction's block has said so far
        self._sites: set[tuple[CodeType, int]] = set()
        self._names: set[str] = set()
        self._said_at = 0.0
        self._mappings: list[Mapping] = []
        self._clusters: dict[Scheduler, Cluster] = {}
        self._employs = employs
        self._closed = False
        self._threads: set[Future[Any]] = set()
        self._threads_lock = threading.Lock()
        self.told = False  # a wish has ended the function at a safe point

    @property
    def job_id(self) -> int:
        """The job's number."""
        return self._run.job_id

    @property
    def state(self) -> Any:
        """What the last checkpoint said, ``{}`` before the first; a copy of one's own."""
        return json.loads(json.dumps(self._ledger.known.state))

    def log(self, text: str) -> None:
        """Record a line in the job's events and show it in the panel; returns at once."""
        line = str(text).replace("\0", "\N{SYMBOL FOR NULL}")
        line = line.encode("utf-8", "replace").decode()

        def act() -> None:
            try:
                self._run.note("log", line)
            except TaskwidgetsError as error:
                log.warning("job %s: not recorded: %s (%s)", self.job_id, line, error)
            now = time.monotonic()
            if self._hands.idle or now - self._said_at >= SAY_INTERVAL:
                self._said_at = now
                self._run.say(line)

        self._hands.do(act)

    # ------------------------------------------------------------------ inside

    def _asked_to_stop(self) -> bool:
        """Whether the function is to end here."""
        wish = self._control.wish
        # Within a transaction's block a pause waits for its commit.
        if not self._stops or wish is Wish.NONE or (wish is Wish.PAUSE and self._block is not None):
            return False
        self.told = True
        return True

    @staticmethod
    def _change(
        state: Any = None,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
    ) -> Change:
        for name, number in (("done", done), ("total", total)):
            if number is not None and (
                isinstance(number, bool) or not isinstance(number, int) or number < 0
            ):
                raise OptionError(f"{name} must be a whole number from 0 on, not {number!r}")
        if unit is not None and not isinstance(unit, str):
            raise OptionError(f"unit must be a word for what is counted, not {unit!r}")
        return Change(None if state is None else json_text(state, "state"), done, total, unit)

    def _open_block(self) -> Change:
        if self._block is not None:
            raise TaskwidgetsError(
                "run.transaction(): another one of this run is open; they cannot be nested, nor "
                "be open at the same time"
            )
        self._block = Change()
        return self._block

    def _place(self, name: str | None, call: str = "run.track") -> str:
        """What a loop's place is kept under: its name, or its number in order of the calls."""
        if name is not None:
            if name in self._names:
                raise OptionError(
                    f"{call}(): the name {name!r} is another loop's already; each loop, and "
                    "each time that it is come to, needs one of its own"
                )
            self._names.add(name)
            return f"={name}"
        frame = sys._getframe(2)
        site = (frame.f_code, frame.f_lasti)
        if site in self._sites:
            raise OptionError(
                f"{call}() came to the same line a second time, and could not tell the two loops "
                f'apart after a resume; give each a name of its own: {call}(..., name="...")'
            )
        self._sites.add(site)
        return str(len(self._sites))

    def _started(self, place: str, items: Any, save_every: int | None) -> int:
        """Where a loop goes on; the views hear at once how much there is to do."""
        if save_every is not None and (
            isinstance(save_every, bool) or not isinstance(save_every, int) or save_every < 1
        ):
            raise OptionError(f"save_every must be a whole number from 1 on, not {save_every!r}")
        done = self._ledger.known.places.get(place, 0)
        self._run.meter.reach(done, self._total(items), self._ledger.known.progress.unit)
        return done

    def _map_from(
        self, place: str | None, items: Any, save_every: int | None, start: int | None
    ) -> int:
        """Where a loop of run.map() begins: where it was, or where the function itself says."""
        if place is not None:
            return self._started(place, items, save_every)
        if isinstance(start, bool) or not isinstance(start, int) or start < 0:
            raise OptionError(f"start must be a whole number from 0 on, not {start!r}")
        if save_every is not None:
            raise OptionError(
                "start and save_every exclude each other: with start, no place is kept"
            )
        return start

    def _mapping(
        self,
        source: Source,
        items: Any,
        open_pool: Callable[[], Pool],
        skip: int,
        ahead: int | None,
    ) -> Mapping:
        mapping = Mapping(
            source, items, open_pool, skip=skip, ahead=ahead, name=f"job {self.job_id}"
        )
        self._mappings.append(mapping)
        return mapping

    def _end(self, mapping: Mapping) -> None:
        mapping.close()
        with suppress(ValueError):  # ended before
            self._mappings.remove(mapping)

    def _pool(
        self,
        function: Callable[[Any], Any],
        client: Any,
        ahead: int | None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Callable[[], Pool]:
        """What opens the pool that computes it; OptionError for what cannot be."""
        if not callable(function):
            raise OptionError(f"run.map(): {function!r} is no function")
        if ahead is not None and (
            isinstance(ahead, bool) or not isinstance(ahead, int) or ahead < 1
        ):
            raise OptionError(f"ahead must be a whole number from 1 on, not {ahead!r}")
        scheduler = as_scheduler(client)
        if scheduler is not None:
            cluster = self._clusters.setdefault(scheduler, Cluster(scheduler))
            return lambda: self._open_cluster(cluster, function)
        if inspect.iscoroutinefunction(function):
            if loop is None:
                raise OptionError(
                    "run.map(): a plain function has no loop for an async one; make the job's "
                    "function async, or give client="
                )
            return lambda: LoopPool(function, ahead or AT_ONCE_ON_LOOP, loop)
        threads = ahead or min(os.cpu_count() or 1, MOST_THREADS)
        return lambda: ThreadPool(function, threads, self._in_thread)

    def _open_cluster(self, cluster: Cluster, function: Callable[[Any], Any]) -> Pool:
        from taskwidgets.functions.cluster_pool import ClusterPool

        title = getattr(function, "__name__", type(function).__name__)
        made: list[Pool] = []

        def act() -> None:
            made.append(ClusterPool(cluster, function, f"job {self.job_id} {title}", self._run.say))

        self._ledger.patiently(act)
        self._employs(cluster)
        if self._closed:  # meanwhile
            made[0].close()
            cluster.close()
        return made[0]

    def close(self) -> None:
        """End what the function's loops have computed ahead; waits for a cluster's goodbye."""
        self._closed = True
        for mapping in list(self._mappings):
            self._end(mapping)
        for cluster in self._clusters.values():
            cluster.close()

    @staticmethod
    def _total(items: Any) -> int | None:
        return len(items) if isinstance(items, Sized) else None

    def _reached(self, place: str, done: int, items: Any) -> Change:
        return Change(done=done, total=self._total(items), places={place: done})

    def _in_thread(self, function: Callable[[], Any]) -> Future[Any]:
        """Run in a thread of its own, of which the job's end is aware."""
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()  # a cancelled await must not take it for ended

        def act() -> None:
            try:
                answer.set_result(function())
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                answer.set_exception(error)

        with self._threads_lock:
            self._threads.add(answer)
        answer.add_done_callback(self._threads.discard)
        start_thread(act, name=f"job {self.job_id} function")
        return answer

    def at_work(self) -> list[Future[Any]]:
        """The threads of the function that have not ended: a cancelled await leaves them behind."""
        with self._threads_lock:
            return list(self._threads)
