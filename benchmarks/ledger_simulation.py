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
import itertools
import json
import random
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
LANES, IN_FLIGHT = 64, 128 << 20  # segments at once, and their bytes, as transfers/lanes.py has it
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
    kernel: float = 2e9  # bytes a second that one kernel cuts and hashes, whichever is slower

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Latencies:
        """From the recorded file's contents."""
        return cls(
            {int(level): values for level, values in told["plain_ms"].items()},
            {int(level): values for level, values in told["merging_ms"].items()},
            [(int(rows), ms) for rows, ms in told["merging_by_rows_ms"]],
            [(int(rows), ms) for rows, ms in told["reading_by_rows_ms"]],
            min(told["kernel_mb_per_second"].values()) * 1e6,
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
    does. ``lanes``: how many segments are under way at once, by default one for each worker.
    """

    workers: int
    segments: int
    copy: float
    cut: float = 0.0
    lanes: int | None = None
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
    resume: float  # seconds that a resume would take to read the ledger at its longest


def simulate(setting: Setting, latencies: Latencies, seed: int = 7) -> Outcome:
    """Play it through."""
    return _Play(setting, latencies, random.Random(seed)).run()


class _Play:
    """One run: what is due when, and what each event brings about."""

    def __init__(self, setting: Setting, latencies: Latencies, chance: random.Random) -> None:
        self._setting, self._latencies, self._chance = setting, latencies, chance
        self._lanes = setting.lanes or setting.workers
        self._ledger = Ledger()
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = itertools.count()  # of events, so that those of one moment keep their order
        self._now = self._copied = self._in_ledger = 0.0
        self._following = self._in_flight = self._done = 0
        self._at_once = self._most_at_once = 0
        self._cutting = False
        self._idle = setting.workers
        self._ready: deque[int] = deque()  # segments that no worker has begun with

    def run(self) -> Outcome:
        self._cut()
        while self._due:
            self._now, _, what, given = heapq.heappop(self._due)
            what(*given)
        setting, ledger = self._setting, self._ledger
        assert self._done == setting.segments
        of_all = self._now * setting.workers
        return Outcome(
            seconds=self._now,
            rate=self._done / self._now,
            waiting=1 - self._copied / of_all,
            ledger=self._in_ledger / of_all,
            most_rows=ledger.most,
            rows=len(ledger),
            most_at_once=self._most_at_once,
            resume=self._latencies.reading(ledger.most),
        )

    def _after(self, seconds: float, what: Callable[..., None], *given: Any) -> None:
        event = (self._now + seconds, next(self._numbers), what, given)
        heapq.heappush(self._due, event)

    def _cut(self) -> None:
        """The kernel begins with the next segment, if it may."""
        left = self._following < self._setting.segments
        if left and not self._cutting and self._in_flight < self._lanes:
            self._cutting = True
            self._in_flight += 1
            self._after(self._setting.cut, self._is_cut, self._following)
            self._following += 1

    def _is_cut(self, index: int) -> None:
        self._cutting = False
        self._ready.append(index)
        self._copy()
        self._cut()

    def _copy(self) -> None:
        """A worker begins with a segment, if there are both."""
        if self._idle and self._ready:
            self._idle -= 1
            jitter = self._setting.jitter * (2 * self._chance.random() - 1)
            seconds = self._setting.copy * (1 + jitter)
            self._copied += seconds
            self._after(seconds, self._is_copied, self._ready.popleft())

    def _is_copied(self, index: int) -> None:
        self._at_once += 1
        self._most_at_once = max(self._most_at_once, self._at_once)
        merges = self._ledger.is_due()
        rows = len(self._ledger) if merges else None
        seconds = self._latencies.draw(self._chance, self._at_once, rows)
        self._in_ledger += seconds
        self._after(seconds, self._is_recorded, index, merges)

    def _is_recorded(self, index: int, merges: bool) -> None:
        self._at_once -= 1
        self._in_flight -= 1
        self._done += 1
        self._ledger.record(index)
        if merges:
            self._ledger.merge()
        self._idle += 1
        self._copy()
        self._cut()


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
    "what", "workers", "segments at once", "a second", "GB/s", "in the ledger", "waiting in all",
    "ledger's rows", "ledger at once", "a resume reads it in",
)  # fmt: skip


def table(latencies: Latencies) -> list[list[str]]:
    """One line for each setting."""
    lines = []
    for what, most, size in (
        ("as it is", LANES, None),
        ("no kernel, 8 MiB", None, 8 << 20),
        ("no kernel, 64 MiB", None, 64 << 20),
    ):
        for workers in WORKERS:
            lanes = min(2 * workers, most) if most else workers
            bytes_each = size or min(8 << 20, IN_FLIGHT // lanes)
            setting = Setting(
                workers,
                segments=max(2000, 30 * workers),
                copy=bytes_each / COPY,
                cut=0.0 if size else bytes_each / latencies.kernel,
                lanes=lanes,
            )
            one = simulate(setting, latencies)
            lines.append(
                [
                    what,
                    f"{workers:,}",
                    f"{lanes:,} of {bytes_each >> 20} MiB",
                    f"{one.rate:,.0f}",
                    f"{one.rate * bytes_each / 1e9:,.2f}",
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
    rows = [COLUMNS, ("---", *("---:" for _ in COLUMNS[1:])), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def recorded(told: Mapping[str, Any]) -> str:
    """The page's table of what was recorded."""
    lines = [
        "| workers at once | transactions a second | half of them within | 95 % within |",
        "|---:|---:|---:|---:|",
    ]
    for level, rate in told["rate_per_second"].items():
        values = told["plain_ms"][level]
        half, most = values[len(values) // 2], values[round((len(values) - 1) * 0.95)]
        lines.append(f"| {level} | {rate:,} | {half:.1f} ms | {most:.1f} ms |")
    return "\n".join(lines)


def write(name: str, markdown: str) -> None:
    """Put it between its two marks in the docs page."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
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
    told = json.loads(LATENCIES.read_text(encoding="utf-8"))
    latencies = Latencies.read(told)
    if given.what == "compare":
        for copy, real_one, played in compare(latencies):
            print(f"copy {copy * 1000:.0f} ms: real {real_one:,.0f}/s, simulated {played:,.0f}/s")
        return
    markdown = as_markdown(table(latencies))
    print(markdown)
    if given.write:
        write("simulated", markdown)
        write("recorded", recorded(told))


def _narrow(lines: str) -> str:
    """JSON with each list of numbers on one line."""
    return re.sub(
        r"\[\s+([^\[\]{}]*?)\s+\]",
        lambda found: "[" + " ".join(found[1].split()) + "]",
        lines,
    )


if __name__ == "__main__":
    main()
