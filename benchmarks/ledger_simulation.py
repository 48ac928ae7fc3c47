"""How the ledger behaves with 1, 10, 100 and 1,000 workers: a simulation with recorded latencies.

    python benchmarks/ledger_simulation.py record [--quick]    ledger_latencies.json, as it is here
    python benchmarks/ledger_simulation.py compare             the real one beside the simulated
    python benchmarks/ledger_simulation.py simulate [--write]  the table; or into the docs page

A worker gets a segment from the kernel, which cuts and hashes one after the other; it copies the
rows, and then has the ledger's transaction, by turns until all segments are done. What is simulated
are these events. How long the ledger's transaction takes is drawn from what was recorded with as
many at once as there are at that moment; with more than were ever recorded at once, it grows with
their number, since then the server is busy all the time. Merging is done as store/merging.py does
it, on the ledger that the simulation keeps; how long it takes depends on the rows that it reads.

Not simulated: the network, servers that fail, and what a lock on one row costs beyond the number
of workers that was recorded (see docs/explanation/scale.md).
"""

from __future__ import annotations

import argparse
import bisect
import datetime
import heapq
import json
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import common
import ledger_recording as real
from datasets import DATA_SETS

from taskwidgets.store.merging import MERGE_AFTER

LATENCIES = Path(__file__).with_name("ledger_latencies.json")
PAGE = common.ROOT / "docs" / "explanation" / "scale.md"
LEVELS = (1, 2, 4, 8, 16, 32, 64, 128)  # workers at once, while recording
SIZES = (64, 256, 1024, 4096, 16384)  # rows of a ledger, while recording
WORKERS = (1, 10, 100, 1000)
COPY = 70e6  # bytes a second and worker: 139 MB/s by two, on two cores
KERNEL = 2e9  # bytes a second that one kernel cuts and hashes
JITTER = 0.2  # segments take this much longer or shorter, so that they do not end in their order


@dataclass(frozen=True)
class Latencies:
    """What was recorded; milliseconds.

    ``plain`` and ``merging``: by workers at once, the distribution of a transaction's time.
    """

    plain: Mapping[int, Sequence[float]]
    merging: Mapping[int, Sequence[float]]
    merging_by_rows: Sequence[tuple[int, float]]
    reading_by_rows: Sequence[tuple[int, float]]

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Latencies:
        """From the recorded file's contents."""
        return cls(
            {int(level): values for level, values in told["plain_ms"].items()},
            {int(level): values for level, values in told["merging_ms"].items()},
            [(int(rows), ms) for rows, ms in told["merging_by_rows_ms"]],
            [(int(rows), ms) for rows, ms in told["reading_by_rows_ms"]],
        )

    def draw(self, chance: random.Random, at_once: int, rows: int | None) -> float:
        """Seconds for one transaction beside others; ``rows``: of the ledger that it merges."""
        levels = sorted(self.plain)
        level = levels[min(bisect.bisect_left(levels, at_once), len(levels) - 1)]
        kind = self.merging if rows is not None and self.merging.get(level) else self.plain
        values = kind[level]
        place = chance.random() * (len(values) - 1)
        low = int(place)
        milliseconds = values[low] + (values[min(low + 1, len(values) - 1)] - values[low]) * (
            place - low
        )
        if at_once > level:
            milliseconds *= at_once / level
        if rows is not None:
            extra = _between(self.merging_by_rows, rows) - _between(
                self.merging_by_rows, MERGE_AFTER
            )
            milliseconds += max(0.0, extra) * max(1.0, at_once / 2)
        return milliseconds / 1000

    def reading(self, rows: int) -> float:
        """Seconds that a resume takes to read the ledger."""
        return _between(self.reading_by_rows, rows) / 1000


def _between(points: Sequence[tuple[int, float]], rows: int) -> float:
    """On the line through the recorded points, and on beyond the last two."""
    known = [size for size, _ in points]
    right = min(max(bisect.bisect_left(known, rows), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return max(min(y0, y1) * 0.5, y0 + (y1 - y0) * (rows - x0) / (x1 - x0))


class Ledger:
    """Its rows, as numbers of segments: [first, behind the last)."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int]] = []
        self.most = 0
        self._since_merge = 0

    def __len__(self) -> int:
        return len(self._rows)

    def is_due(self) -> bool:
        """Whether the transaction that begins now is to merge."""
        self._since_merge += 1
        if self._since_merge < MERGE_AFTER:
            return False
        self._since_merge = 0
        return True

    def record(self, index: int) -> None:
        """One segment more."""
        bisect.insort(self._rows, (index, index + 1))
        self.most = max(self.most, len(self._rows))

    def merge(self) -> None:
        """What follows each other becomes one."""
        merged: list[tuple[int, int]] = []
        for first, behind in self._rows:
            if merged and merged[-1][1] == first:
                merged[-1] = (merged[-1][0], behind)
            else:
                merged.append((first, behind))
        self._rows = merged


@dataclass(frozen=True)
class Setting:
    """``copy``: seconds that a worker takes for a segment's rows; ``cut``: seconds that the kernel
    does. ``connections``: how many workers may have one at once; None: all.
    """

    workers: int
    segments: int
    copy: float
    cut: float = 0.0
    connections: int | None = None
    jitter: float = JITTER


@dataclass
class Outcome:
    """What came of it. ``waiting``: the share of the workers' time that they did not copy in."""

    seconds: float
    rate: float  # segments a second
    waiting: float
    ledger: float  # the share that they spent in the ledger's transaction
    most_rows: int
    rows: int
    most_at_once: int  # transactions of the ledger
    connections: int
    resume: float  # seconds that a resume would take to read the ledger at its longest
    took: list[float] = field(default_factory=list)  # seconds of each ledger's transaction


def simulate(setting: Setting, latencies: Latencies, seed: int = 7) -> Outcome:
    """Play it through."""
    chance = random.Random(seed)
    ledger = Ledger()
    lanes = min(setting.workers, setting.connections or setting.workers)
    events: list[tuple[float, int, str, int, int, bool]] = []  # (time, order, what, worker, ...)
    order = following = at_once = most_at_once = done = 0
    free_at = now = copied = in_ledger = 0.0
    took: list[float] = []
    idle = deque(range(lanes))

    def push(at: float, what: str, worker: int, index: int, merges: bool = False) -> None:
        nonlocal order
        order += 1
        heapq.heappush(events, (at, order, what, worker, index, merges))

    def hand_out(worker: int) -> None:
        nonlocal following, free_at, copied
        if following == setting.segments:
            return
        free_at = max(free_at, now) + setting.cut
        copy = setting.copy * (1 + setting.jitter * (2 * chance.random() - 1))
        copied += copy
        push(free_at + copy, "copied", worker, following)
        following += 1

    while idle:
        hand_out(idle.popleft())
    while events:
        now, _, what, worker, index, merges = heapq.heappop(events)
        if what == "copied":
            at_once += 1
            most_at_once = max(most_at_once, at_once)
            merges = ledger.is_due()
            seconds = latencies.draw(chance, at_once, len(ledger) if merges else None)
            took.append(seconds)
            in_ledger += seconds
            push(now + seconds, "recorded", worker, index, merges)
            continue
        at_once -= 1
        done += 1
        ledger.record(index)
        if merges:
            ledger.merge()
        hand_out(worker)
    assert done == setting.segments
    time_of_all = now * setting.workers
    return Outcome(
        seconds=now,
        rate=done / now,
        waiting=1 - copied / time_of_all,
        ledger=in_ledger / time_of_all,
        most_rows=ledger.most,
        rows=len(ledger),
        most_at_once=most_at_once,
        connections=lanes,
        resume=latencies.reading(ledger.most),
        took=took,
    )


# ------------------------------------------------------------------------------ recording


def record(quick: bool) -> dict[str, Any]:
    """All that the simulation draws from, measured on this machine."""
    flights = DATA_SETS["flights"].file(3)
    with common.server() as workspace:
        rounds = {}
        for level in LEVELS:
            number = 640 if quick else max(2000, 40 * level)
            rounds[level] = real.record(workspace, level, number, processes=True)
            print(f"{level:4} at once: {rounds[level].rate:8.0f} transactions a second")
        return {
            "machine": common.machine(),
            "postgres": workspace.engine.connect().exec_driver_sql("SHOW server_version").scalar(),
            "commit": common.commit(),
            "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
            "rate_per_second": {level: round(one.rate) for level, one in rounds.items()},
            "change_ms": {
                level: real.quantiles(one.changes)[::10] for level, one in rounds.items()
            },
            "rows_at_the_end": {level: one.rows for level, one in rounds.items()},
            "kernel_mb_per_second": real.kernel(flights),
            "written_per_byte": real.loading(workspace, flights),
            "log_bytes": round(real.log_bytes(workspace, 640)),
            "merging_by_rows_ms": _rounded(real.merging_by_rows(workspace, SIZES)),
            "reading_by_rows_ms": _rounded(real.reading_by_rows(workspace, SIZES)),
            "plain_ms": {level: real.quantiles(one.plain) for level, one in rounds.items()},
            "merging_ms": {level: real.quantiles(one.merging) for level, one in rounds.items()},
        }


def _rounded(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    return [(rows, round(milliseconds, 2)) for rows, milliseconds in points]


def compare(latencies: Latencies, workers: int = 8) -> list[tuple[float, float, float]]:
    """(seconds of copying, segments a second for real, simulated), for some of them."""
    found = []
    with common.server() as workspace:
        for copy in (0.0, 0.01, 0.05):
            number = 2000 if copy < 0.02 else 800
            told = real.record(workspace, workers, number, think=copy, processes=True)
            played = simulate(Setting(workers, number, copy, jitter=0.0), latencies)
            found.append((copy, told.rate, played.rate))
    return found


# ------------------------------------------------------------------------------ the table

COLUMNS = (
    "workers", "segment", "kernel", "segments a second", "GB/s", "in the ledger",
    "waiting in all", "ledger's rows, at most", "at once", "resume reads it in",
)  # fmt: skip


def table(latencies: Latencies) -> list[list[str]]:
    """One line for each setting."""
    lines = []
    for size in (8 << 20, 64 << 20):
        for is_cutting in (True, False):
            for workers in WORKERS:
                setting = Setting(
                    workers,
                    segments=max(2000, 30 * workers),
                    copy=size / COPY,
                    cut=size / KERNEL if is_cutting else 0.0,
                )
                one = simulate(setting, latencies)
                lines.append(
                    [
                        f"{workers:,}",
                        f"{size >> 20} MiB",
                        "2 GB/s" if is_cutting else "none",
                        f"{one.rate:,.1f}",
                        f"{one.rate * size / 1e9:,.2f}",
                        f"{one.ledger:.1%}",
                        f"{one.waiting:.1%}",
                        f"{one.most_rows:,}",
                        f"{one.most_at_once:,}",
                        f"{one.resume * 1000:,.1f} ms",
                    ]
                )
    return lines


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    """The table for the docs page."""
    rows = [COLUMNS, tuple("---:" for _ in COLUMNS), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write(markdown: str) -> None:
    """Put the table between its two marks in the docs page."""
    begin, end = "<!-- simulated -->", "<!-- end of simulated -->"
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    PAGE.write_text(f"{head}{begin}\n\n{markdown}\n\n{end}{tail}", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["record", "compare", "simulate"])
    parser.add_argument("--quick", action="store_true", help="record less")
    parser.add_argument("--write", action="store_true", help="the table goes into the docs page")
    given = parser.parse_args()
    if given.what == "record":
        lines = json.dumps(record(given.quick), indent=1)
        LATENCIES.write_text(_narrow(lines) + "\n", encoding="utf-8")
        return
    latencies = Latencies.read(json.loads(LATENCIES.read_text(encoding="utf-8")))
    if given.what == "compare":
        for copy, told, played in compare(latencies):
            print(f"copy {copy * 1000:.0f} ms: real {told:,.0f}/s, simulated {played:,.0f}/s")
        return
    markdown = as_markdown(table(latencies))
    print(markdown)
    if given.write:
        write(markdown)


def _narrow(lines: str) -> str:
    """JSON with each list of numbers on one line."""
    import re

    return re.sub(
        r"\[\s+([^\[\]{}]*?)\s+\]",
        lambda found: "[" + " ".join(found[1].split()) + "]",
        lines,
    )


if __name__ == "__main__":
    main()
