"""How long the ledger takes: the real statements on a real server, one transaction a segment.

A transaction here is that of a segment on a cluster's worker (transfers/remote.py) without its
rows: the lock against a second copy, the looks whether the claim holds and whether the segment is
committed, the checkpoint under the job's epoch, each sixty-fourth time the merging, and the commit.
Used by ledger_simulation.py, which says what for.
"""

from __future__ import annotations

import itertools
import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

import taskwidgets as tw
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.states import State
from taskwidgets.runtime.store import Claim, JobSpec
from taskwidgets.store import checkpoints
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.merging import MERGE_AFTER, merge
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.header import read_layout
from taskwidgets.tabular.segments import SegmentReader
from taskwidgets.transfers.digest import file_sha256
from taskwidgets.transfers.remote import BEGIN, IS_CLAIMED

SEGMENT = 8 << 20  # bytes
CHANGE = text("UPDATE taskwidgets.jobs SET heartbeat_at = clock_timestamp() WHERE id = :job_id")
CHANGE_INTERVAL = 0.1  # seconds
PARTS = 40  # of a recorded distribution: each 2.5 % of the transactions

Take = Callable[[], int]


@dataclass
class Recording:
    """What one round took: milliseconds of each transaction, by whether it merged."""

    plain: list[float] = field(default_factory=list)
    merging: list[float] = field(default_factory=list)
    seconds: float = 0.0
    rows: int = 0  # of the ledger, at the end
    changes: list[float] = field(default_factory=list)  # of the job's own row

    @property
    def rate(self) -> float:
        """Transactions a second."""
        return (len(self.plain) + len(self.merging)) / self.seconds


def transact(connection: Connection, claim: Claim, index: int) -> bool:
    """What a worker asks of the ledger for one segment; whether it was its turn to merge."""
    start = index * SEGMENT
    merges = index % MERGE_AFTER == MERGE_AFTER - 1
    facts = {"job_id": claim.job_id, "epoch": claim.epoch, "beginnings": 0}
    with connection.begin():
        connection.execute(BEGIN, {"name": "recorded"})
        checkpoints.wait_for_others(connection, claim.job_id, start)
        assert connection.scalar(IS_CLAIMED, facts)
        if checkpoints.is_committed(connection, claim.job_id, start):
            return False
        mark = Checkpoint(start, start + SEGMENT, rows=80_000, crc32=index)
        assert checkpoints.record(connection, claim, mark)
        if merges:
            merge(connection, claim.job_id)
    return merges


def claimed(workspace: tw.Workspace) -> Claim:
    """A job of its own, that runs."""
    store = workspace._store
    spec = JobSpec(
        key=f"ledger {time.time_ns()}", kind="function", name="ledger", source="measured",
        target="", options={}, plan={},
    )  # fmt: skip
    record = store.create(spec, lambda connection, job_id: None)
    return store.claim(record.id, State.RUNNING, "measured", Control())


def _change(workspace: tw.Workspace, job_id: int, stop: threading.Event, took: list[float]) -> None:
    """Change the job's row now and then, as a pause or a sign of life does; milliseconds."""
    with workspace.engine.connect() as connection:
        while not stop.wait(CHANGE_INTERVAL):
            began = time.perf_counter()
            connection.execute(CHANGE, {"job_id": job_id})
            connection.commit()
            took.append((time.perf_counter() - began) * 1000)


def _work(
    arguments: dict[str, Any],
    claim: Claim,
    take: Take,
    number: int,
    think: float,
    gate: Callable[[], object],
) -> list[tuple[bool, float]]:
    """One worker: segments until there are none left."""
    engine = create_engine("postgresql+psycopg2://", connect_args=arguments, poolclass=NullPool)
    took: list[tuple[bool, float]] = []
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        connection.rollback()
        gate()
        while (index := take()) < number:
            if think:
                time.sleep(think)
            began = time.perf_counter()
            merged = transact(connection, claim, index)
            took.append((merged, (time.perf_counter() - began) * 1000))
        gate()  # whoever left earlier would take the processor from the others
    return took


def record(
    workspace: tw.Workspace, workers: int, number: int, *, think: float = 0.0, processes: bool
) -> Recording:
    """So many segments by so many workers, each ``think`` seconds apart from its ledger.

    With ``processes``, each is a process of its own, as on a cluster; else a thread.
    """
    claim = claimed(workspace)
    arguments = workspace._database.connect_arguments
    stop, changes = threading.Event(), []
    changer = threading.Thread(target=_change, args=(workspace, claim.job_id, stop, changes))
    gather = _by_processes if processes else _by_threads
    changer.start()
    took, seconds = gather(workers, (arguments, claim), number, think)
    stop.set()
    changer.join()
    with workspace.engine.connect() as connection:
        rows = len(checkpoints.committed(connection, claim.job_id))
    recording = Recording(seconds=seconds, rows=rows, changes=changes)
    for merged, milliseconds in took:
        (recording.merging if merged else recording.plain).append(milliseconds)
    return recording


def _by_threads(
    workers: int, given: tuple[dict[str, Any], Claim], number: int, think: float
) -> tuple[list[tuple[bool, float]], float]:
    numbers, lock = itertools.count(), threading.Lock()
    gate = threading.Barrier(workers + 1)
    took: list[tuple[bool, float]] = []

    def take() -> int:
        with lock:
            return next(numbers)

    def live() -> None:
        mine = _work(*given, take, number, think, gate.wait)
        with lock:
            took.extend(mine)

    threads = [threading.Thread(target=live) for _ in range(workers)]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    gate.wait()
    seconds = time.perf_counter() - began
    for thread in threads:
        thread.join()
    return took, seconds


class _Shared:
    """The next segment's number, among processes."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self) -> int:
        with self._value.get_lock():
            self._value.value += 1
            return int(self._value.value) - 1


def _live(given: Any, value: Any, number: int, think: float, gate: Any, told: Any) -> None:
    told.put(_work(*given, _Shared(value), number, think, gate.wait))


def _by_processes(
    workers: int, given: tuple[dict[str, Any], Claim], number: int, think: float
) -> tuple[list[tuple[bool, float]], float]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ledger_recording"])
    value, told = context.Value("q", 0), context.SimpleQueue()
    gate = context.Barrier(workers + 1)
    made = [
        context.Process(target=_live, args=(given, value, number, think, gate, told), daemon=True)
        for _ in range(workers)
    ]
    for process in made:
        process.start()
    gate.wait()
    began = time.perf_counter()
    gate.wait()
    seconds = time.perf_counter() - began
    took = [one for _ in made for one in told.get()]
    for process in made:
        process.join()
    return took, seconds


# ------------------------------------------------------------------------------ single statements


def fill(connection: Connection, claim: Claim, rows: int, gap: int) -> None:
    """A ledger of so many rows that do not touch each other, and MERGE_AFTER that do."""
    connection.execute(
        text(
            "INSERT INTO taskwidgets.checkpoints (job_id, from_byte, to_byte, rows, crc32)"
            " SELECT :job_id, n * :gap, n * :gap + :size, 80000, 7"
            " FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n"
        ),
        {"job_id": claim.job_id, "gap": gap, "size": SEGMENT, "first": MERGE_AFTER, "last": rows},
    )
    connection.execute(
        text(
            "INSERT INTO taskwidgets.checkpoints (job_id, from_byte, to_byte, rows, crc32)"
            " SELECT :job_id, n * :size, (n + 1) * :size, 80000, 7"
            " FROM generate_series(0, :last) n"
        ),
        {"job_id": claim.job_id, "size": SEGMENT, "last": MERGE_AFTER - 1},
    )


def merging_by_rows(workspace: tw.Workspace, sizes: Sequence[int]) -> list[tuple[int, float]]:
    """(rows of the ledger, milliseconds that merging sixty-four of them takes)."""
    return [(size, _median(workspace, size, merge)) for size in sizes]


def reading_by_rows(workspace: tw.Workspace, sizes: Sequence[int]) -> list[tuple[int, float]]:
    """(rows of the ledger, milliseconds that a resume takes to read them)."""
    return [(size, _median(workspace, size, checkpoints.committed)) for size in sizes]


def _median(workspace: tw.Workspace, size: int, act: Callable[[Connection, int], object]) -> float:
    claim = claimed(workspace)
    took = []
    for _ in range(5):
        with workspace.engine.connect() as connection, connection.begin() as transaction:
            fill(connection, claim, size, gap=2 * SEGMENT)
            began = time.perf_counter()
            act(connection, claim.job_id)
            took.append((time.perf_counter() - began) * 1000)
            transaction.rollback()
    return sorted(took)[2]


def log_bytes(workspace: tw.Workspace, number: int) -> float:
    """Bytes of the server's log for each transaction of the ledger."""
    with workspace.engine.connect() as connection:
        before = connection.scalar(text("SELECT pg_current_wal_insert_lsn()"))
        connection.rollback()
        record(workspace, 1, number, processes=False)
        more = connection.scalar(
            text("SELECT pg_current_wal_insert_lsn() - CAST(:before AS pg_lsn)"),
            {"before": before},
        )
        return float(more) / number


def loading(workspace: tw.Workspace, path: Path) -> dict[str, float]:
    """What a load writes for each byte of the file: into the table, and into the server's log."""
    lsn = text("SELECT CAST(pg_current_wal_insert_lsn() - '0/0' AS bigint)")
    with workspace.engine.connect() as connection:
        before = connection.scalar(lsn)
        connection.rollback()
        workspace.upload(path, "ledger_recorded", if_exists="replace").wait()
        size = path.stat().st_size
        table = connection.scalar(text("SELECT pg_table_size('ledger_recorded')"))
        return {
            "table": round(table / size, 2),
            "log": round((connection.scalar(lsn) - before) / size, 2),
        }


def kernel(path: Path) -> dict[str, int]:
    """Megabytes a second that one kernel cuts into segments, and that it hashes."""
    layout, size = read_layout(path, Dialect()), path.stat().st_size
    begun = time.perf_counter()
    with SegmentReader(
        path, Dialect(), layout.data_start, size, [(layout.data_start, size)]
    ) as reader:
        buffer = bytearray(SEGMENT)
        while reader.next(SEGMENT, buffer) is not None:
            pass
    cut = time.perf_counter()
    file_sha256(path)
    hashed = time.perf_counter()
    return {"cut": round(size / (cut - begun) / 1e6), "hash": round(size / (hashed - cut) / 1e6)}


def quantiles(values: Sequence[float]) -> list[float]:
    """PARTS + 1 of them, from the least to the greatest, in milliseconds."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return [round(ordered[round(part * last / PARTS)], 3) for part in range(PARTS + 1)]
