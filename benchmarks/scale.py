"""Whether ten gigabytes behave as half of one does.

    python benchmarks/scale.py [--parts 292] [--direction upload download]

Flights, ``--parts`` times 34 MB of them, in a file that is deleted afterwards, are moved as a part
of 500 MB is, before and after: MB a second, and memory. Once more, the large one is paused after
nine tenths: how long `resume()` takes until something new is done, in the same process, and in a
new one as after a kernel's restart; and how many checkpoints and events there were at most.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import common
import contest
from datasets import DATA_SETS, FOLDER, PARTS, column_types, head
from peers import Task
from results import Value
from sqlalchemy import text
from sqlalchemy.engine import Engine

import taskwidgets as tw

LARGE = 292  # parts of 34 MB: 10.0 GB
ROUNDS = 3  # of the small one, before the large one and after it
TABLE, TINY = "bench_scale", "bench_scale_tiny"
OUT = FOLDER / "scale.csv"
NEARLY = 0.9  # of the whole: where it is paused
# The file, its table, which is a little larger, an export, and the server's log.
ROOM = 3.6


class Scale:
    """The measuring of one server; ``parts`` of the large file, ``small`` of the other one."""

    def __init__(self, engine: Engine, parts: int = LARGE, small: int = PARTS) -> None:
        self._engine = engine
        self._url = common.plain_url(engine)
        self._parts = parts
        self._small = small

    def measure(self, directions: Sequence[str] = ("upload", "download")) -> Iterator[Value]:
        """All values, as they come."""
        size = DATA_SETS["flights"].file(1).stat().st_size * self._parts
        free = shutil.disk_usage(FOLDER).free
        if free < ROOM * size:
            raise RuntimeError(
                f"{FOLDER} has {free / 1e9:.0f} GB free, and this takes {ROOM * size / 1e9:.0f}; "
                "make room, or move less: --parts"
            )
        small = DATA_SETS["flights"].file(self._small)
        kept = (FOLDER / f"flights-{self._parts}.csv").exists()
        large = DATA_SETS["flights"].file(self._parts)
        try:
            for direction in directions:
                yield from self._speeds(direction, small, large)
                yield from self._nearly(direction, large)
        finally:
            if not kept:
                large.unlink(missing_ok=True)
            for table in (TABLE, TINY):
                common.drop_table(self._engine, table)

    # -------------------------------------------------------------------- speed and memory

    def _speeds(self, direction: str, small: Path, large: Path) -> Iterator[Value]:
        for path, rounds in ((small, ROUNDS), (large, 1), (small, ROUNDS)):
            self._prepare(direction, path)
            for number in range(1, rounds + 1):
                taken = self._turn(direction, path)
                size = path.stat().st_size
                yield self._value(
                    direction, path, number, "speed", size / 1e6 / taken.seconds, "MB/s"
                )
                yield self._value(direction, path, number, "memory", taken.memory, "MiB")

    def _prepare(self, direction: str, path: Path) -> None:
        """The table that a download reads."""
        common.drop_table(self._engine, TABLE)
        common.settle(self._engine)
        if direction == "download":
            common.make_table(self._engine, TABLE, column_types(path))
            common.psql(self._url, f"\\copy {TABLE} from '{path}' csv header")
            common.execute(self._engine, f"VACUUM (FREEZE, ANALYZE) {TABLE}")
            common.settle(self._engine)

    def _turn(self, direction: str, path: Path) -> contest.Turn:
        tiny = head(path)
        if direction == "upload":
            tasks = [
                Task(self._url, table, str(source), {}, source.stat().st_size, 0)
                for table, source in ((TABLE, path), (TINY, tiny))
            ]
        else:
            common.make_table(self._engine, TINY, column_types(path))
            tasks = [
                Task(self._url, table, str(to), {}, 0, 0)
                for table, to in ((TABLE, OUT), (TINY, OUT.with_suffix(".tiny")))
            ]
        try:
            return contest.take_turn(direction, "taskwidgets", *tasks, self._engine)
        finally:
            for left in (OUT, OUT.with_suffix(".tiny")):
                left.unlink(missing_ok=True)
            if direction == "upload":
                common.drop_table(self._engine, TABLE)

    # -------------------------------------------------------------------- the ledger, and resume

    def _nearly(self, direction: str, large: Path) -> Iterator[Value]:
        """Pause after nine tenths, resume in the same process, and in a new one."""
        self._prepare(direction, large)
        most = {"checkpoints": 0, "events": 0}
        with self._child("first", direction, large) as child:
            while child.poll() is None:
                for name in most:
                    most[name] = max(most[name], self._count(name))
                time.sleep(0.5)
            told = _told(child)
        with self._child("second", direction, large, str(told["job"])) as child:
            child.wait()
            again = _told(child)
        for name, number in most.items():
            yield self._value(direction, large, 1, f"{name}, at most", number, "")
        yield self._value(direction, large, 1, "resume", told["resume"], "ms")
        yield self._value(direction, large, 1, "resume in a new process", again["resume"], "ms")

    def _count(self, table: str) -> int:
        with self._engine.connect() as connection:
            found = connection.execute(
                text(
                    f"SELECT count(*) FROM taskwidgets.{table}"
                    " WHERE job_id = (SELECT max(id) FROM taskwidgets.jobs)"
                )
            )
            return int(found.scalar_one())

    def _child(self, which: str, direction: str, large: Path, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, __file__, "--child", which, direction, self._url, str(large), *more],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @staticmethod
    def _value(
        direction: str, path: Path, number: int, measure: str, value: float, unit: str
    ) -> Value:
        size = path.stat().st_size
        return Value(
            f"scale {direction}", "flights", "taskwidgets", number, measure, value, unit, size
        )


def _told(child: subprocess.Popen[str]) -> dict[str, float]:
    assert child.stdout is not None
    lines = child.stdout.read().splitlines()
    if child.returncode or not lines:
        raise RuntimeError(f"{child.args!r} ended with {child.returncode}")
    told: dict[str, float] = json.loads(lines[-1])
    return told


# ------------------------------------------------------------------------------ the child's side


def first(direction: str, url: str, path: str) -> None:
    """Begin, pause after nine tenths, resume, and pause again."""
    workspace = tw.connect(url)
    if direction == "upload":
        job = workspace.upload(path, TABLE, if_exists="replace", again=True)
    else:
        job = workspace.download(TABLE, OUT, if_exists="replace", again=True)
    while not job.progress.total or job.progress.done < NEARLY * job.progress.total:
        if job.state not in ("pending", "running"):
            raise RuntimeError(f"it is {job.state}: {job.error}")
        time.sleep(0.05)
    pause(job)
    took = resumed(lambda: (job.resume(), job)[1], job.progress.done)
    pause(job)
    print(json.dumps({"job": job.id, "resume": took}), flush=True)


def second(direction: str, url: str, path: str, number: str) -> None:
    """Take it up after the first process has ended; then clean up."""
    workspace = tw.connect(url)
    paused = workspace.job(int(number))
    before = paused.progress.done
    found: list[tw.Job] = []

    def resume() -> tw.Job:
        found.append(workspace.resume(int(number)))
        return found[-1]

    took = resumed(resume, before)
    found[-1].terminate()
    found[-1].join(None)
    print(json.dumps({"resume": took}), flush=True)


def pause(job: tw.Job) -> None:
    job.pause()
    while job.state in ("running", "pausing"):
        time.sleep(0.01)
    if job.state != "paused":
        raise RuntimeError(f"it is {job.state}: {job.error}")


def resumed(resume: Callable[[], tw.Job], before: float) -> float:
    """Milliseconds from the call until something new is done."""
    began = time.perf_counter()
    job = resume()
    while job.progress.done <= before:
        if job.state not in ("running", "paused", "pending"):
            raise RuntimeError(f"it is {job.state}: {job.error}")
        time.sleep(0.001)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--parts", type=int, default=LARGE)
    directions = ["upload", "download"]
    options.add_argument("--direction", nargs="+", choices=directions, default=directions)
    given = options.parse_args()
    FOLDER.mkdir(exist_ok=True)
    speeds: dict[tuple[str, int], list[float]] = {}
    with common.server() as workspace:
        for value in Scale(workspace.engine, given.parts).measure(given.direction):
            size = value.bytes / 1e9
            told = f"{value.part}, {size:.1f} GB: {value.measure}: {value.value:,.1f} {value.unit}"
            print(told, flush=True)
            if value.measure == "speed":
                speeds.setdefault((value.part, value.bytes), []).append(value.value)
    for (part, size), values in speeds.items():
        print(f"{part}, {size / 1e9:.1f} GB: median {statistics.median(values):,.0f} MB/s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        {"first": first, "second": second}[sys.argv[2]](*sys.argv[3:])
    else:
        main()
