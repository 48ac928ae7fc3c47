"""Whether ten gigabytes behave as half of one does.

    python benchmarks/scale.py [--quick] [--parts-large 300] [--rounds 3] [--out values.csv]
                               [--direction upload download]

Flights, so many times 34 MB of them, in a file that is deleted afterwards, are moved once; before
and after that, fifteen times 34 MB. What is measured of both: MB a second, and the client's memory;
and beside an upload's speed, that of COPY by two bare connections, once before it: what is written
in ten gigabytes waits for the disk, which half of one does not.

The large one is moved a second time, paused after nine tenths and resumed: in the same process, and
when that has ended, in a new one, as after a kernel's restart. What is measured: how long it takes
until something new is done, and how many checkpoints and events the job has. It then goes on to its
end, and no row must be missing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import common
import contest
import report
from datasets import DATA_SETS, FOLDER, PARTS, column_types, head, middle
from peers import Task
from results import Results, Value
from sqlalchemy import text
from sqlalchemy.engine import Engine

import taskwidgets as tw

LARGE = 300  # parts of 34 MB: 10.3 GB
ROUNDS = 3  # of the small one, before the large one and after it
DIRECTIONS = ("upload", "download")
BARE = "psycopg2 COPY, two connections"
SPEED_OF_BARE = f"speed of {BARE}"
TABLE, TINY = "bench_scale", "bench_scale_tiny"
OUT, OUT_TINY = FOLDER / "scale.csv", FOLDER / "scale-tiny.csv"
NEARLY = 0.9  # of the whole: where it is paused
LOOK = 0.2  # seconds between two looks at a job's checkpoints
LEDGER = ("checkpoints", "events")

# How much room is needed, for each byte of the file: flights as a table have 1.46 (19 columns, of
# which many are short numbers), as an export 0.92 (without ".0").
TABLE_SIZE, EXPORT_SIZE = 1.5, 1.0
LOG = 3 << 30  # the server's, whose max_wal_size of 2 GB is no hard limit


class NoRoom(RuntimeError):
    """The disk has not enough room."""


class Scale:
    """What is measured on one server, of files of so many parts."""

    def __init__(
        self, engine: Engine, large: int = LARGE, small: int = PARTS, rounds: int = ROUNDS
    ) -> None:
        self._engine = engine
        self._url = common.plain_url(engine)
        self._large, self._small = large, small
        self._rounds = rounds

    def measure(self, directions: Sequence[str] = DIRECTIONS) -> Iterator[Value]:
        """All values, as they come. Raises NoRoom before anything is written."""
        flights = DATA_SETS["flights"]
        self._rows = len(flights.file(1).read_bytes().splitlines()) - 1  # of a part
        was_there = flights.path(self._large).exists()
        self._make_sure_of_room(was_there, directions)
        try:
            small, large = flights.file(self._small), flights.file(self._large)
            for direction in directions:
                yield from self._speeds(direction, small, range(1, self._rounds + 1))
                yield from self._speeds(direction, large, range(1, 2))
                yield from self._nearly(direction, large)
                after = range(self._rounds + 1, 2 * self._rounds + 1)
                yield from self._speeds(direction, small, after)
        finally:
            if not was_there:
                large = flights.path(self._large)
                for left in (large, large.with_suffix(".unfinished"), large.with_suffix(".head")):
                    left.unlink(missing_ok=True)
            for table in (TABLE, TINY):
                common.drop_table(self._engine, table)

    def _make_sure_of_room(self, was_there: bool, directions: Sequence[str]) -> None:
        size = DATA_SETS["flights"].file(1).stat().st_size * self._large
        with self._engine.connect() as connection:
            server = Path(connection.execute(text("SHOW data_directory")).scalar_one())
        files = 0 if was_there else size
        if "download" in directions:
            files += int(EXPORT_SIZE * size)
        needs: dict[int, tuple[Path, int]] = {}  # by disk, which both may be on
        for folder, needed in ((FOLDER, files), (server, int(TABLE_SIZE * size) + LOG)):
            disk = folder.stat().st_dev
            needs[disk] = (folder, needed + (needs[disk][1] if disk in needs else 0))
        for folder, needed in needs.values():
            free = shutil.disk_usage(folder).free
            if free < needed:
                raise NoRoom(
                    f"the disk of {folder} has {free / 1e9:.0f} GB free, and {size / 1e9:.1f} GB "
                    f"of flights take {needed / 1e9:.0f}: make room, or give fewer parts"
                )

    # -------------------------------------------------------------------- speed and memory

    def _speeds(self, direction: str, path: Path, rounds: range) -> Iterator[Value]:
        self._prepare(direction, path)
        size = path.stat().st_size
        for number in rounds:
            if direction == "upload":
                taken = self._turn(direction, path, BARE)
                speed = size / 1e6 / taken.seconds
                yield self._value(direction, path, number, SPEED_OF_BARE, speed, "MB/s")
            taken = self._turn(direction, path, "taskwidgets")
            speed = size / 1e6 / taken.seconds
            yield self._value(direction, path, number, "speed", speed, "MB/s")
            yield self._value(direction, path, number, "memory", taken.memory, "MiB")

    def _prepare(self, direction: str, path: Path) -> None:
        """The table that downloads read, and for the job of one row that each process begins with.

        A download's speed is told in bytes of the file that the table was loaded from.
        """
        common.drop_table(self._engine, TABLE)
        if direction == "download":
            for table, source in ((TABLE, path), (TINY, head(path))):
                common.make_table(self._engine, table, column_types(path))
                common.psql(self._url, f"\\copy {table} from '{source}' csv header")
                common.execute(self._engine, f"VACUUM (FREEZE, ANALYZE) {table}")
        common.settle(self._engine)

    def _turn(self, direction: str, path: Path, peer: str) -> contest.Turn:
        """One transfer in a process of its own."""
        moved = ((TABLE, path), (TINY, head(path)))
        if direction == "download":
            moved = ((TABLE, OUT), (TINY, OUT_TINY))
        tasks = [Task(self._url, table, str(file), {}, 0, 0) for table, file in moved]
        if peer == BARE:
            tasks = [
                Task(self._url, table, str(file), {}, file.stat().st_size, middle(file))
                for table, file in moved
            ]
            for task in tasks:
                common.drop_table(self._engine, task.table)
                common.make_table(self._engine, task.table, column_types(path))
        try:
            taken = contest.take_turn(direction, peer, *tasks, self._engine)
        except contest.PeerFailed as fault:
            raise RuntimeError(f"{direction} of {path.name}: {fault}") from None
        finally:
            for left in (OUT, OUT_TINY):
                left.unlink(missing_ok=True)
        if direction == "upload":
            common.drop_table(self._engine, TABLE)
        common.settle(self._engine)
        return taken

    # -------------------------------------------------------------------- resume, and the ledger

    def _nearly(self, direction: str, large: Path) -> Iterator[Value]:
        """Pause after nine tenths, resume in the same process, and in a new one."""
        most = dict.fromkeys(LEDGER, 0)
        try:
            told = self._run("first", most, direction, large)
            told |= self._run("second", most, direction, large, told["job"], told["done"])
        finally:
            for left in (OUT, *FOLDER.glob(f".{OUT.name}.*.partial")):
                left.unlink(missing_ok=True)
        rows = self._rows * self._large
        if told["rows"] != rows:
            raise RuntimeError(f"{direction}: {told['rows']:,} rows of {rows:,} came through")
        for name, number in most.items():
            count = self._count(name, int(told["job"]))
            yield self._value(direction, large, 1, f"{name}, at most", max(number, count), "")
            yield self._value(direction, large, 1, f"{name}, at the end", count, "")
        for name in ("resume", "resume in a new process", "the same, from tw.connect() on"):
            yield self._value(direction, large, 1, name, told[name], "ms")

    def _run(
        self, which: str, most: dict[str, int], direction: str, large: Path, *more: float
    ) -> dict[str, float]:
        """A child's side, and meanwhile the looks at how many rows its job has."""
        with subprocess.Popen(
            [sys.executable, __file__, "--child", which, direction, self._url, str(large),
             *map(str, more)],
            stdout=subprocess.PIPE, text=True,
        ) as child:  # fmt: skip
            assert child.stdout is not None
            job = child.stdout.readline()
            while job and child.poll() is None:
                for name in LEDGER:
                    most[name] = max(most[name], self._count(name, int(job)))
                time.sleep(LOOK)
            lines = child.stdout.read().splitlines()
        if child.returncode or not lines:
            raise RuntimeError(f"the {which} process of the {direction} failed, see above")
        told: dict[str, float] = json.loads(lines[0])
        return told

    def _count(self, table: str, job: int) -> int:
        statement = text(f"SELECT count(*) FROM taskwidgets.{table} WHERE job_id = :job")
        with self._engine.connect() as connection:
            return int(connection.execute(statement, {"job": job}).scalar_one())

    def _value(
        self, direction: str, path: Path, number: int, measure: str, value: float, unit: str
    ) -> Value:
        size = path.stat().st_size
        part = f"scale {direction}"
        return Value(part, "flights", "taskwidgets", number, measure, value, unit, size)


# ------------------------------------------------------------------------------ the child's side


def first(direction: str, url: str, path: str) -> None:
    """Begin, pause after nine tenths, resume, and pause again."""
    workspace = tw.connect(url)
    if direction == "upload":
        job = workspace.upload(path, TABLE, if_exists="replace", again=True)
    else:
        job = workspace.download(TABLE, OUT, if_exists="replace", again=True)
    print(job.id, flush=True)
    wait(job, lambda: (job.progress.fraction or 0) >= NEARLY, 0.01)
    done = pause(job)
    began = time.perf_counter()
    job.resume()
    wait(job, lambda: job.progress.done > done)
    took = milliseconds_since(began)
    done = pause(job)
    print(json.dumps({"job": job.id, "done": done, "resume": took}), flush=True)


def second(direction: str, url: str, path: str, number: str, done: str) -> None:
    """Take it up after the first process has ended, as one does in a restarted kernel."""
    print(number, flush=True)
    connected = time.perf_counter()
    tw.connect(url)
    began = time.perf_counter()
    job = tw.resume(int(number))
    wait(job, lambda: job.progress.done > int(done))
    told = {
        "resume in a new process": milliseconds_since(began),
        "the same, from tw.connect() on": milliseconds_since(connected),
    }
    print(json.dumps({**told, "rows": job.wait().rows_loaded}), flush=True)


def pause(job: tw.Job) -> int:
    """Pause it; what is done by then."""
    job.pause()
    wait(job, lambda: job.state == "paused")
    return job.progress.done


def wait(job: tw.Job, until: Callable[[], bool], look: float = 0.001) -> None:
    """Look again and again, every ``look`` seconds; a job that ended before is an error."""
    while not until():
        if job.state in ("completed", "failed", "terminated", "interrupted"):
            raise RuntimeError(f"{job} is {job.state} too early: {job.error}")
        time.sleep(look)


def milliseconds_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--parts-large", type=int, help=f"parts of 34 MB; {LARGE}")
    options.add_argument("--quick", action="store_true", help="500 MB against 34 MB")
    options.add_argument("--rounds", type=int, default=ROUNDS, help="before, and as many after")
    options.add_argument("--direction", nargs="+", choices=DIRECTIONS, default=DIRECTIONS)
    options.add_argument("--out", type=Path, help="a CSV file for the values")
    given = options.parse_args()
    small = 1 if given.quick else PARTS
    large = given.parts_large or (PARTS if given.quick else LARGE)
    FOLDER.mkdir(exist_ok=True)
    print(common.machine())
    values = []
    with common.server() as workspace:
        results = Results(given.out, workspace.engine) if given.out else None
        measured = Scale(workspace.engine, large, small, given.rounds)
        try:
            for value in measured.measure(given.direction):
                values.append(value)
                print(
                    f"{value.part}, {value.bytes / 1e9:.2f} GB, {value.round}: {value.measure}: "
                    f"{value.value:,.1f} {value.unit}".rstrip(),
                    flush=True,
                )
                if results is not None:
                    results.add(value)
        except NoRoom as fault:
            sys.exit(str(fault))
    print("", *report.scale(values), sep="\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        {"first": first, "second": second}[sys.argv[2]](*sys.argv[3:])
    else:
        main()
