"""A slice of the items of run.map(): how long it should be, and what is made of it.

``compute`` runs where the work is done, in a thread of this process or on a cluster's worker, and
knows nothing of jobs, nor does anything here: a worker that imports it needs no database.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

__all__ = [
    "Done",
    "Parcel",
    "Remote",
    "Sizes",
    "compute",
    "compute_awaiting",
    "compute_parcel",
    "error_from",
    "pack",
]

TARGET = 0.5  # seconds that a slice should take: a task of Dask costs about a millisecond
LONGEST = 2.0  # seconds after which a slice is given back, done in part
HELD = 0.005  # seconds that a slice of an async function may hold the loop
GROWTH = 8  # times: no more is believed of the longest slice that was measured
MOST_ITEMS = 100_000
PACKED_AT_ONCE = 1_000  # items or results; some milliseconds
MOST_BYTES = 8 << 20  # of a slice's items, and of its results, where they are sent


@dataclass
class Done:
    """What came of a slice: the results of its first ``count`` items, which may be all.

    ``results``: lists of them, pickled where they were sent. ``error``: what the item that follows
    raised. ``size``: bytes of the items or the results, whichever are more; 0 where nothing was
    sent.
    """

    results: list[list[Any] | bytes]
    count: int
    seconds: float
    error: BaseException | None = None
    size: int = 0


class Remote(Exception):
    """Where an error was raised, in the other thread or process: its traceback as text."""


def told_apart(error: BaseException) -> BaseException:
    """The error with its traceback as text, and free of the frames, which hold all they knew."""
    told = "".join(traceback.format_exception(error))
    error.__cause__ = Remote(f"\n{told}")
    return error.with_traceback(None)


def compute(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    may_go_on: Callable[[], bool] = lambda: True,
) -> Done:
    """The results of as many items as LONGEST allows, at least of one."""
    results: list[Any] = []
    began = time.perf_counter()
    for item in items:
        try:
            results.append(function(item))
        except Exception as error:  # noqa: BLE001 - raised again in the loop
            return Done([results], len(results), _since(began), told_apart(error))
        if _since(began) > LONGEST or not may_go_on():
            break
    return Done([results], len(results), _since(began))


async def compute_awaiting(function: Callable[[Any], Awaitable[Any]], items: Sequence[Any]) -> Done:
    """The same of an async function."""
    results: list[Any] = []
    began = held_since = time.perf_counter()
    for item in items:
        try:
            results.append(await function(item))
        except Exception as error:  # noqa: BLE001 - raised again in the loop
            return Done([results], len(results), _since(began), told_apart(error))
        if _since(began) > LONGEST:
            break
        if _since(held_since) > HELD:
            await asyncio.sleep(0)
            held_since = time.perf_counter()
    return Done([results], len(results), _since(began))


# ------------------------------------------------------------------ elsewhere


@dataclass(frozen=True)
class Parcel:
    """What a worker sends back: a Done, pickled."""

    results: list[bytes]
    count: int
    seconds: float
    error: bytes | None
    worker: str

    @property
    def size(self) -> int:
        """Bytes of the results."""
        return sum(map(len, self.results))


def pack(
    values: Sequence[Any], dumps: Callable[[Any], bytes]
) -> tuple[list[bytes], int, Exception | None]:
    """(lists of them pickled, how many they are, what kept the next one from being pickled).

    In parts, as pickling is one step that no other thread interrupts.
    """
    packed: list[bytes] = []
    for at in range(0, len(values), PACKED_AT_ONCE):
        part = list(values[at : at + PACKED_AT_ONCE])
        try:
            packed.append(dumps(part))
        except Exception:
            for number, value in enumerate(part):
                try:
                    dumps([value])
                except Exception as error:  # noqa: BLE001 - told of its item
                    if number:
                        packed.append(dumps(part[:number]))
                    return packed, at + number, error
            raise
    return packed, len(values), None


@functools.lru_cache(maxsize=4)
def _function(pickled: bytes) -> Callable[[Any], Any]:
    return cast(Callable[[Any], Any], pickle.loads(pickled))


def compute_parcel(function: bytes, items: list[bytes], worker: str = "") -> Parcel:
    """What a worker of a cluster does: unpack, compute, pack."""
    call = _function(function)
    unpacked = [item for part in items for item in pickle.loads(part)]
    if inspect.iscoroutinefunction(call):
        done = asyncio.run(compute_awaiting(call, unpacked))
    else:
        done = compute(call, unpacked)
    error = done.error
    results, count, fault = pack(cast("list[Any]", done.results[0]), _dumps)
    if fault is not None:
        fault.add_note("its result cannot be sent")
        error = told_apart(fault)
    return Parcel(results, count, done.seconds, _as_bytes(error), worker or _worker())


def _dumps(value: Any) -> bytes:
    """Pickled, by value where that is needed: what was defined in a notebook's cell."""
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - it is raised again, if it is so by the other one as well
        import cloudpickle

        return cast(bytes, cloudpickle.dumps(value))


def _as_bytes(error: BaseException | None) -> bytes | None:
    """The error, or where it cannot be sent, one that says the same."""
    if error is None:
        return None
    cause, notes = error.__cause__, list(getattr(error, "__notes__", ()))
    told = [str(cause), notes]
    try:
        made = _dumps([error, *told])
        pickle.loads(made)
    except Exception:  # noqa: BLE001 - whatever keeps it from being sent
        made = _dumps([RuntimeError(f"{type(error).__name__}: {error}"), *told])
    return made


def error_from(made: bytes) -> BaseException:
    """The reverse of what a parcel's error went through."""
    error, cause, notes = pickle.loads(made)
    assert isinstance(error, BaseException)
    if getattr(error, "__notes__", None) != notes:
        error.__notes__ = notes
    error.__cause__ = Remote(cause)
    return error


def _worker() -> str:
    from distributed import get_worker

    return str(get_worker().address)


def _since(moment: float) -> float:
    return time.perf_counter() - moment


class Sizes:
    """How many items a slice should have, from what those before it took. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._longest = 0  # items of the longest slice that is known to be short enough
        self._cost = 0.0  # share of what a slice may take, for each item

    def next(self, left: int | None = None, lanes: int = 1) -> int:
        """The number of items, at least 1; of ``left``, each of the lanes is to have its part."""
        with self._lock:
            number = max(1, self._longest * GROWTH)
            if self._cost:
                number = min(number, int(1 / self._cost))
        if left is not None:
            number = min(number, -(-left // (2 * lanes)))
        return max(1, min(number, MOST_ITEMS))

    def took(self, done: Done) -> None:
        """Learn from a slice."""
        items = done.count + (done.error is not None)
        share = max(done.seconds / TARGET, done.size / MOST_BYTES)
        with self._lock:
            cost = share / max(1, items)
            # What became slower is believed at once, what became faster by halves.
            self._cost = cost if cost > self._cost else (self._cost + cost) / 2
            if share <= 1.0:
                self._longest = max(self._longest, items)
