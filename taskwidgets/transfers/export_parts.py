"""A crew's task: ranges of blocks, each written into a part file of its own, in any order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from taskwidgets.errors import TargetError
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.threads import start_thread
from taskwidgets.store import checkpoints
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.transfers.crew import Tool
from taskwidgets.transfers.parts import PartMade, PartOrder, write_part
from taskwidgets.transfers.reader import Reader

__all__ = ["ExportParts", "Hands", "OwnHands", "PartRange"]

ToolT = TypeVar("ToolT", bound=Tool)

KEEP_ALIVE = 60.0  # seconds between two signs of life of the snapshot


@dataclass(frozen=True)
class PartRange:
    """Blocks [start, stop) of the table, which go into the part of this number."""

    number: int
    start: int
    stop: int


class Hands(Protocol[ToolT]):
    """What parts are written with: sessions of this process, or lanes to a cluster."""

    def tool(self) -> ToolT:
        """One of them."""

    def make(self, tool: ToolT, order: PartOrder) -> PartMade:
        """Have a part written by it, at the job's rate; TargetError where that is not possible."""


class OwnHands:
    """Sessions of this process: ``reader`` opens one."""

    def __init__(self, reader: Callable[[], Reader], run: Run) -> None:
        self._reader = reader
        self._run = run

    def tool(self) -> Reader:
        return self._reader()

    def make(self, tool: Reader, order: PartOrder) -> PartMade:
        return write_part(order, tool, self._run.control.pay)


class ExportParts(Generic[ToolT]):
    """Hands out the ranges that are missing, has each written, and commits it.

    ``order`` says how a range is written; ``learn`` hears how many bytes of CSV came for how many
    rows; ``count_rows``: progress goes by rows, not by blocks;
    ``check`` raises what speaks against going on.
    """

    def __init__(
        self,
        *,
        store: PostgresJobStore,
        run: Run,
        missing: list[PartRange],
        order: Callable[[PartRange], PartOrder],
        hands: Hands[ToolT],
        learn: Callable[[int, int], None],
        count_rows: bool,
        keep_alive: Callable[[], None],
        check: Callable[[], None],
    ) -> None:
        self._store = store
        self._run = run
        self._left = missing[::-1]
        self._order = order
        self._hands = hands
        self._learn = learn
        self._count_rows = count_rows
        self._keep_alive = keep_alive
        self._check = check
        self._lock = threading.Lock()
        self._aside: threading.Thread | None = None
        self._over = threading.Event()
        self._fault: Exception | None = None

    def take(self) -> PartRange | None:
        if self._fault is not None:
            raise self._fault
        self._check()
        with self._lock:
            return self._left.pop() if self._left else None

    def tool(self) -> ToolT:
        return self._hands.tool()

    def carry(self, tool: ToolT, batch: PartRange) -> None:
        reach("before the rows")
        try:
            made = self._hands.make(tool, self._order(batch))
        except TargetError:
            self._check_claim()  # whoever has the job now may have taken the folder away
            raise
        self._learn(made.read, made.rows)
        reach("after the part")
        self._commit(batch, made)

    def is_done(self, tool: ToolT, batch: PartRange) -> bool:
        with self._store.in_transaction() as connection:
            self._store.lock(connection, self._run.claim)
            return checkpoints.is_committed(connection, self._run.job_id, batch.start)

    def count(self, batch: PartRange) -> None:
        """Counted as it is committed."""

    def _check_claim(self) -> None:
        with self._store.in_transaction() as connection:
            self._store.lock(connection, self._run.claim)

    def _commit(self, batch: PartRange, made: PartMade) -> None:
        """Have this file count; another one of the same part that did before, is the one."""
        tried = False
        mark = Checkpoint(
            batch.start, batch.stop, made.rows, made.crc32,
            file={"name": made.name, "bytes": made.bytes, "sha256": made.sha256},
        )  # fmt: skip

        def act() -> None:
            nonlocal tried
            with self._store.in_transaction() as connection:
                if tried:
                    self._store.lock(connection, self._run.claim)
                    if checkpoints.is_committed(connection, self._run.job_id, mark.start):
                        return
                tried = True
                if not checkpoints.record(connection, self._run.claim, mark):
                    raise self._store.fenced(self._run.claim)
                reach("after the rows")

        self._store.database.patiently(act, self._run.say)
        self._run.checkpointed()
        self._run.meter.add(made.rows if self._count_rows else batch.stop - batch.start, made.rows)
        reach("after the checkpoint")

    def __enter__(self) -> Self:
        self._aside = start_thread(self._live, name=f"job {self._run.job_id} snapshot")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._aside is not None:
            self._aside.join()

    def _live(self) -> None:
        """Give signs of life of the snapshot; what goes wrong is raised by the next take()."""
        while not self._over.wait(KEEP_ALIVE):
            try:
                self._keep_alive()
            except Exception as fault:  # noqa: BLE001 - see above
                self._fault = fault
                return
