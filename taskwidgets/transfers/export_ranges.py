"""A crew's task: ranges of blocks, read by copier processes, written to the file in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from taskwidgets.runtime.control import Stopped
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.threads import start_thread
from taskwidgets.store import checkpoints
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.merging import Merger
from taskwidgets.transfers.compression import Compressor
from taskwidgets.transfers.pace import Pace
from taskwidgets.transfers.partial_file import OrderedFile
from taskwidgets.transfers.range_copies import RangeCopies
from taskwidgets.transfers.reader import Piece, Reader

__all__ = ["BlockRange", "ExportRanges"]

# A checkpoint waits for the disk; so it is made after this much, or this long, not per range.
CHECKPOINT_BYTES = 64 << 20
CHECKPOINT_SECONDS = 1.0
CHECKPOINT_LOOK = 0.05  # seconds between two looks whether one is due
# Blocks of the first range, before it is known how many bytes a block gives: few, as each may
# stand for hundreds of values of a megabyte. The next may be GROWTH times as large as the largest
# yet, for the same reason: empty blocks do not foretell the ones behind them.
FIRST_BLOCKS = 8
GROWTH = 4
MOST_BLOCKS = 4096  # 32 MiB of a table, however little comes out of it
KEEP_ALIVE = 60.0  # seconds between two signs of life of the snapshot


@dataclass(frozen=True)
class BlockRange:
    """Blocks [start, stop) of the table; the ranges are numbered in their order."""

    number: int
    start: int
    stop: int


class ExportRanges:
    """Hands out ranges, writes what comes back in order, and makes checkpoints.

    ``copies`` makes the COPY of a range; ``count_rows``: progress goes by rows, not by
    blocks; ``saved``: bytes that are checkpointed already; ``check`` raises what speaks
    against going on.
    """

    def __init__(
        self,
        *,
        store: PostgresJobStore,
        run: Run,
        copies: RangeCopies,
        reader: Callable[[], Reader],
        compressor: Callable[[], Compressor],
        file: OrderedFile,
        blocks: range,
        saved: int,
        count_rows: bool,
        keep_alive: Callable[[], None],
        check: Callable[[], None],
    ) -> None:
        self._store = store
        self._run = run
        self._copies = copies
        self._reader = reader
        self._compressor = compressor
        self._file = file
        self._count_rows = count_rows
        self._keep_alive = keep_alive
        self._check = check
        self._pace = Pace(run.control)
        self._lock = threading.Lock()
        self._next, self._end = blocks.start, blocks.stop
        self._number = 0
        self._bytes_per_block: float | None = None
        self._most_blocks = FIRST_BLOCKS
        self._first_block = blocks.start
        self._shown = (0, blocks.start)  # rows of this attempt, and block, that the meter has
        self._aside: threading.Thread | None = None
        self._over = threading.Event()
        self._fault: Exception | None = None
        self._checkpoint_lock = threading.Lock()
        self._merger = Merger(run.job_id)
        self._saved = (saved, 0)  # bytes of the file and rows of this attempt in the ledger
        self._saved_at = self._alive_at = time.monotonic()

    @property
    def rows(self) -> int:
        """Rows written, in order and to the end of a range, in this attempt."""
        return self._file.settled.rows

    def take(self) -> BlockRange | None:
        if self._fault is not None:
            raise self._fault
        self._check()
        with self._lock:
            if self._next >= self._end:
                return None
            wanted = self._most_blocks
            if self._bytes_per_block is not None:
                left = (self._end - self._next) * self._bytes_per_block
                fitting = int(self._pace.batch_bytes(left) / self._bytes_per_block)
                wanted = max(1, min(fitting, wanted))
            batch = BlockRange(self._number, self._next, min(self._next + wanted, self._end))
            self._number += 1
            self._next = batch.stop
            return batch

    def tool(self) -> Reader:
        return self._reader()

    def carry(self, tool: Reader, batch: BlockRange) -> None:
        reach("before the rows")
        began, squeeze, size = time.monotonic(), self._compressor(), 0
        waiting = 0.0
        try:
            pieces = tool.read(self._copies.of(batch.start, batch.stop))
            for piece in pieces:
                waiting = waiting or time.monotonic() - began
                size += len(piece)
                self._put(batch, squeeze.compress(piece))
            if size:
                self._put(batch, squeeze.flush())
            rows = pieces.rows
            if not self._file.close_range(batch.number, rows, batch.stop):
                raise Stopped(self._run.control.wish)
        except BaseException:
            self._file.drop_range(batch.number)
            raise
        self._copies.learn(size, rows)
        blocks = batch.stop - batch.start
        with self._lock:
            self._bytes_per_block = max(1.0, size / blocks)
            self._most_blocks = min(MOST_BLOCKS, max(self._most_blocks, GROWTH * blocks))
        self._pace.took(size, time.monotonic() - began, waiting)
        self._show()
        self._run.control.pay(size)

    def is_done(self, tool: Reader, batch: BlockRange) -> bool:
        return False  # what was broken off was cut out of the file again

    def count(self, batch: BlockRange) -> None:
        """Nothing is left to do: the checkpoints are made aside."""

    def _show(self) -> None:
        """Bring the meter up to what is written in order."""
        with self._lock:
            settled, (rows, block) = self._file.settled, self._shown
            if settled.block is None or settled.block <= block:
                return
            self._shown = (settled.rows, settled.block)
        more = settled.rows - rows
        self._run.meter.add(more if self._count_rows else settled.block - block, more)

    def __enter__(self) -> Self:
        self._aside = start_thread(self._make_checkpoints, name=f"job {self._run.job_id} disk")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._aside is not None:
            self._aside.join()

    def _make_checkpoints(self) -> None:
        """In a thread of its own: waiting for the disk must not keep a worker from its next range.

        What goes wrong is raised by the next take().
        """
        while not self._over.wait(CHECKPOINT_LOOK):
            try:
                if (
                    self._file.settled.size - self._saved[0] >= CHECKPOINT_BYTES
                    or time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS
                ):
                    self.checkpoint()
                if time.monotonic() - self._alive_at >= KEEP_ALIVE:
                    self._alive_at = time.monotonic()
                    self._keep_alive()
            except Exception as fault:  # noqa: BLE001 - see above
                self._fault = fault
                return

    def _put(self, batch: BlockRange, data: Piece) -> None:
        if data and not self._file.put(batch.number, data):
            raise Stopped(self._run.control.wish)

    def checkpoint(self) -> None:
        """Have the disk hold what is written in order so far, then record it."""
        with self._checkpoint_lock:
            settled = self._file.settled
            saved_bytes, saved_rows = self._saved
            if settled.size > saved_bytes:
                self._file.sync()
                self._commit(
                    Checkpoint(
                        saved_bytes,
                        settled.size,
                        settled.rows - saved_rows,
                        settled.crc32,
                        settled.block if settled.block is not None else self._first_block,
                    )
                )
                self._saved = (settled.size, settled.rows)
                self._run.checkpointed()
            self._saved_at = time.monotonic()

    def _commit(self, mark: Checkpoint) -> None:
        tried = False

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
                self._merger.merge_if_due(connection)
                reach("after the rows")

        self._store.database.patiently(act, self._run.say)
        reach("after the checkpoint")
