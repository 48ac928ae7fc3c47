"""A Dask cluster as what computes the slices of run.map()."""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from taskwidgets.cluster import Cluster
from taskwidgets.errors import ClusterUnreachable, TaskwidgetsError
from taskwidgets.functions.hands import Hands
from taskwidgets.functions.slices import Done, Parcel, compute_parcel, error_from, pack
from taskwidgets.store import database

__all__ = ["ClusterPool"]

LOOK_INTERVAL = 1.0  # seconds between two looks how many threads the workers have
FIRST_RETRY, LAST_RETRY = 0.1, 2.0  # seconds between two attempts: doubling from one to the other
DEATHS = 2  # times that Dask gave an item up, each after several workers, until it is to blame


@dataclass(eq=False)
class _Errand:
    items: Sequence[Any]
    answer: Future[Done]
    packed: list[bytes] | None = None
    deaths: int = 0


class ClusterPool:
    """Sends slices to the workers, again where an answer was lost.

    ``say``: a word for the views on what is going on, "" when it is over. Everything that takes a
    while is done by one thread; what is pickled there must not hold the event loop.
    """

    def __init__(
        self,
        cluster: Cluster,
        function: Callable[[Any], Any],
        name: str,
        say: Callable[[str], None],
    ) -> None:
        import cloudpickle

        self._cluster = cluster
        self._dumps: Callable[[Any], bytes] = cloudpickle.dumps
        self._function = self._dumps(function)
        self._name = name
        self._say = say
        self._said = ""
        self._lanes, self._looked_at = cluster.threads, time.monotonic()
        self._lost_at: float | None = None
        self._pause = FIRST_RETRY
        self._lock = threading.Lock()
        self._sent: set[Future[Parcel]] = set()
        self._suspects: deque[_Errand] = deque()  # of one item, whose workers died
        self._suspect: _Errand | None = None  # that is under way
        self._end = threading.Event()
        self._hands = Hands(f"{name} cluster")
        if not self._lanes:
            self._tell("waiting for a worker of the cluster")

    @property
    def lanes(self) -> int:
        """See Pool; as it was a moment ago."""
        if time.monotonic() - self._looked_at > LOOK_INTERVAL and not self._end.is_set():
            self._looked_at = time.monotonic()
            self._hands.do(self._look)
        return self._lanes

    def send(self, items: Sequence[Any], first: int) -> Future[Done]:
        """See Pool."""
        errand = _Errand(items, Future())
        self._hands.do(lambda: self._submit(errand))
        return errand.answer

    def close(self) -> None:
        """See Pool. What a worker has begun it ends, after its item or two seconds."""
        self._end.set()
        self._hands.do(self._cancel)
        self._hands.finish()

    # ------------------------------------------------------------------ by its own thread

    def _look(self) -> None:
        try:
            self._lanes = self._cluster.count_threads(self._end.is_set)
        except ClusterUnreachable:
            return  # whoever sends finds out

    def _submit(self, errand: _Errand) -> None:
        if self._end.is_set():
            return
        try:
            if errand.packed is None:
                errand.packed, count, error = pack(errand.items, self._dumps)
                if error is not None and not count:
                    error.add_note("it cannot be sent")
                    errand.answer.set_result(Done([], 0, 0.0, error))
                    return
            sent = self._cluster.submit(
                self._name, compute_parcel, self._function, errand.packed,
                given_up=self._end.is_set,
            )  # fmt: skip
        except ClusterUnreachable as error:
            self._wait_for_cluster(errand, error)
        except Exception as error:  # noqa: BLE001 - raised in the loop of the function
            errand.answer.set_exception(error)
            self._settle(errand)
        else:
            with self._lock:
                self._sent.add(sent)
            sent.add_done_callback(lambda sent: self._hands.do(lambda: self._came(errand, sent)))

    def _came(self, errand: _Errand, sent: Future[Parcel]) -> None:
        with self._lock:
            self._sent.discard(sent)
        if self._end.is_set():
            return
        self._take_in(errand, sent)
        self._settle(errand)

    def _take_in(self, errand: _Errand, sent: Future[Parcel]) -> None:
        try:
            error = sent.exception() if not sent.cancelled() else None
            if sent.cancelled():  # with the loop of a client that was given up
                error = ClusterUnreachable(f"{self._cluster!r} gave no answer")
            if error is None:
                self._answer(errand, sent.result())
            elif not isinstance(error, ClusterUnreachable):
                errand.answer.set_exception(_of_the_worker(error))
            elif _killed(error):
                self._buried(errand)
            else:
                self._wait_for_cluster(errand, error)
        except Exception as error:  # noqa: BLE001 - raised in the loop of the function
            errand.answer.set_exception(error)

    def _answer(self, errand: _Errand, parcel: Parcel) -> None:
        self._lost_at, self._pause = None, FIRST_RETRY
        self._tell("")
        assert errand.packed is not None
        size = max(parcel.size, sum(map(len, errand.packed)))
        self._cluster.did(parcel.worker, size)
        error = None if parcel.error is None else error_from(parcel.error)
        results: list[list[Any] | bytes] = [*parcel.results]
        errand.answer.set_result(Done(results, parcel.count, parcel.seconds, error, size))

    def _buried(self, errand: _Errand) -> None:
        """Workers died with the slice in hand: of it, or of another one that they had as well.

        To tell which item it was, slices are taken apart; and those of one item are sent one after
        the other, so that none of them dies of another.
        """
        if len(errand.items) > 1:
            errand.answer.set_result(Done([], 0, 0.0))
            return
        errand.deaths += errand is self._suspect
        if errand.deaths < DEATHS:
            self._suspects.append(errand)
        else:
            fault = TaskwidgetsError("each worker that had it in hand died; of too little memory?")
            errand.answer.set_result(Done([], 0, 0.0, fault))

    def _settle(self, errand: _Errand) -> None:
        """The next suspect's turn, if this one's is over."""
        if errand is self._suspect and (errand.answer.done() or errand in self._suspects):
            self._suspect = None
        if self._suspects and self._suspect is None:
            self._suspect = self._suspects.popleft()
            self._submit(self._suspect)

    def _wait_for_cluster(self, errand: _Errand, error: ClusterUnreachable) -> None:
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
        if now - self._lost_at > database.PATIENCE:
            errand.answer.set_exception(error)
            self._settle(errand)
            return
        self._tell("cluster away, retrying")
        self._end.wait(self._pause)
        self._pause = min(2 * self._pause, LAST_RETRY)
        self._hands.do(lambda: self._submit(errand))

    def _tell(self, words: str) -> None:
        if words != self._said:
            self._said = words
            self._say(words)

    def _cancel(self) -> None:
        self._tell("")
        with self._lock:
            sent = list(self._sent)
        for one in sent:
            one.cancel()


def _killed(error: ClusterUnreachable) -> bool:
    from distributed.scheduler import KilledWorker

    return isinstance(error.__cause__, KilledWorker)


def _of_the_worker(error: BaseException) -> BaseException:
    """What the worker could not do, told apart from what the function raised."""
    if isinstance(error, ImportError | AttributeError | pickle.UnpicklingError):
        told = TaskwidgetsError(
            f"a worker of the cluster could not do its part: {type(error).__name__}: {error}; the "
            "workers need the same release of taskwidgets, and what the function imports"
        )
        told.__cause__ = error
        return told
    return error
