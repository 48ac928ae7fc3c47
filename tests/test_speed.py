"""Speed: guards of which each catches one kind of fall, whatever else the machine does meanwhile.

What makes a transfer slow is counted: statements and sessions in the server's log, bytes that this
process reads and writes, lines of Python for each row, segments under way at once. Where only time
tells, it is processor time, compared with that of psql or a csv.reader in the same minute, by the
best of some rounds; elapsed time, compared likewise, is the last and coarsest guard. There is no
limit in seconds, so other tests may run beside these. ``make bench`` measures.
"""

from __future__ import annotations

import csv
import itertools
import re
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import pytest
from fix_databases import Look
from fix_servers import plain, wait_until

import taskwidgets
from taskwidgets import Workspace
from taskwidgets.embedded import EmbeddedServer, wheel_binaries
from taskwidgets.transfers import pace
from taskwidgets.transfers.copy_in import Pieces
from taskwidgets.transfers.export_ranges import ExportRanges

REPEATS = 12  # 40,000 rows of 45 bytes: 480,000 rows, 22 MB
ROWS = 40_000 * REPEATS
ROUNDS = 7  # at most; the first in which all limits are kept is the last
MEETING = 20.0  # seconds; how long one session waits for another one, which fails only then

SEGMENTS = range(8, 17)  # of a file of 22 MB: two of 1 MiB, then shares of what is left
RANGES = range(8, 31)  # of an export of 22 MB: 8 blocks, four times as many each time, then shares
PER_SEGMENT = 5  # statements: BEGIN, SET, COPY, the checkpoint, COMMIT
BESIDES = 6  # the columns' types, by one session or both; a merging of the checkpoints has four
SAMPLES = 4 << 20  # bytes of a file that are read to find out its format
LINES = 0.1  # of Python for each row; 0.02 for an upload and 0.03 for a download were seen


@dataclass
class Cost:
    """What one run takes: seconds, processor seconds of both sides, bytes of the server's WAL."""

    elapsed: float
    client: float
    server: float
    wal: float


# At most so much of what psql takes for the same, or of what a csv.reader takes for one pass over
# the file. With a load of six, on two cores: see each test.
@dataclass
class Limits:
    elapsed_by_psql: float
    client_by_reader: float
    server_by_psql: float
    wal_by_psql: float


UPLOAD = Limits(2.0, 1.6, 0.85, 1.1)
DOWNLOAD = Limits(2.0, 0.8, 1.8, 1.1)


@pytest.fixture
def source(many_rows: Callable[..., Path]) -> Path:
    """A file of 22 MB with quoted newlines."""
    path = many_rows()
    header, body = path.read_bytes().split(b"\n", 1)
    path.write_bytes(header + b"\n" + body * REPEATS)
    return path


@pytest.fixture
def psql(database_url: str) -> Callable[[str], None]:
    """Runs commands in the embedded server's psql."""
    programs = wheel_binaries()
    assert programs is not None

    def run(*commands: str) -> None:
        listed = [word for command in commands for word in ("-c", command)]
        subprocess.run(
            [programs.psql, "-qX", "-v", "ON_ERROR_STOP=1", *listed, plain(database_url)],
            check=True,
        )

    return run


# ---------------------------------------------------------------------- statements


class StatementLog:
    """What the sessions of the test's database send, from the server's log."""

    def __init__(self, look: Look, data_directory: Path) -> None:
        self._look = look
        self._path = data_directory / look.one("SELECT pg_current_logfile()")
        self._numbers = itertools.count()

    def sessions(self, act: Callable[[], object], mark: str) -> list[list[str]]:
        """The statements of each session that sends one with ``mark`` in it, while this is done."""
        begun = self._path.stat().st_size
        act()
        ended = f"SELECT 'statement log {next(self._numbers)}'"
        self._look(ended)
        wait_until(lambda: ended.encode() in self._path.read_bytes()[begun:], "for the log")
        found: dict[str, list[str]] = defaultdict(list)
        for entry in re.split(r"^(?!\t)", self._path.read_bytes()[begun:].decode(), flags=re.M):
            if told := re.match(r"\S+ \S+ \S+ \[(\d+)\] LOG:  statement: (.*)", entry, re.S):
                found[told[1]].append(" ".join(told[2].split()))
        return [sent for sent in found.values() if any(mark in one for one in sent)]


@pytest.fixture
def log(look: Look, embedded_server: EmbeddedServer) -> StatementLog:
    """To be asked for before the workspace, whose sessions are logged from their beginning on."""
    name = look.one("SELECT current_database()")
    look(f"ALTER DATABASE {name} SET log_statement = 'all'")
    return StatementLog(look, embedded_server.data_directory)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are as large as they may be, also on a machine that is slow just now."""
    monkeypatch.setattr(pace, "BATCH_SECONDS", 1e6)


@pytest.mark.usefixtures("unhurried")
def test_an_upload_sends_few_statements_and_binary_rows(
    log: StatementLog, workspace: Workspace, source: Path
) -> None:
    """Two sessions; five statements for each segment; large segments, encoded by this process."""
    sessions = log.sessions(lambda: workspace.upload(source, "t", workers=2).wait(), "FROM STDIN")
    sent = [one for session in sessions for one in session]
    copies = [one for one in sent if "FROM STDIN" in one]
    assert all("(FORMAT binary)" in one for one in copies)
    assert len(copies) in SEGMENTS
    assert len(sent) <= PER_SEGMENT * len(copies) + BESIDES
    assert len(sessions) == 2


@pytest.mark.usefixtures("unhurried")
def test_a_download_sends_few_statements_and_makes_the_csv(
    log: StatementLog, workspace: Workspace, source: Path, tmp_path: Path
) -> None:
    """Two sessions; one statement for each range; text by a pipe, of which CSV is made here."""
    workspace.upload(source, "t").wait()
    sessions = log.sessions(
        lambda: workspace.download("t", tmp_path / "t.csv", workers=2).wait(), "ctid"
    )
    copies = 0
    for session in sessions:
        first = next(number for number, one in enumerate(session) if "ctid" in one)
        for one in session[first:]:
            told = re.fullmatch(r"COPY \(SELECT .* ctid .*\) TO '/\S+/rows-\w+' WITH (.*)", one)
            assert told is not None
            assert "csv" not in told[1]
        copies += len(session) - first
    assert copies in RANGES
    assert len(sessions) == 2


# ---------------------------------------------------------------------- at once


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str], threading.Event]:
    """Has the first two threads that call a method wait for each other; whether they have met."""

    def prepare(owner: type, name: str) -> threading.Event:
        have_met = threading.Event()
        barrier = threading.Barrier(2, have_met.set, MEETING)
        act: Callable[..., Any] = getattr(owner, name)

        def wait(*given: Any) -> Any:
            if not have_met.is_set():
                with suppress(threading.BrokenBarrierError):
                    barrier.wait()
            return act(*given)

        monkeypatch.setattr(owner, name, wait)
        return have_met

    return prepare


def test_two_segments_are_under_way_at_once(
    met: Callable[..., threading.Event], workspace: Workspace, source: Path
) -> None:
    """While one COPY waits for data, another session's does so as well."""
    have_met = met(Pieces, "read")
    workspace.upload(source, "t", workers=2).wait()
    assert have_met.is_set()


def test_two_ranges_are_read_at_once(
    met: Callable[..., threading.Event], workspace: Workspace, source: Path, tmp_path: Path
) -> None:
    """While rows of one range are on their way to the file, another session's come, too."""
    workspace.upload(source, "t").wait()
    have_met = met(ExportRanges, "_put")
    workspace.download("t", tmp_path / "t.csv", workers=2).wait()
    assert have_met.is_set()


# ---------------------------------------------------------------------- passes, and Python


def passed(act: Callable[[], object]) -> tuple[int, int]:
    """Bytes that this process reads and writes meanwhile; those of sockets do not count."""
    before = psutil.Process().io_counters()
    act()
    after = psutil.Process().io_counters()
    return after.read_chars - before.read_chars, after.write_chars - before.write_chars


def test_a_file_is_read_once_and_written_once(
    workspace: Workspace, source: Path, tmp_path: Path
) -> None:
    """Bytes are hashed as they are loaded or written; what looks at the format has a few of them.

    With one worker, as what a second one loads may be hashed by reading it again.
    """
    size = source.stat().st_size
    read, written = passed(lambda: workspace.upload(source, "t", workers=1).wait())
    assert size <= read <= size + SAMPLES
    assert written < SAMPLES
    target = tmp_path / "t.csv"
    read, written = passed(lambda: workspace.download("t", target, workers=1).wait())
    assert 0.9 * size <= read <= size + SAMPLES  # by the pipe, as text
    assert target.stat().st_size <= written <= size + SAMPLES


def lines_run(act: Callable[[], object]) -> int:
    """Lines of the package that threads run which are begun meanwhile."""
    folder = str(Path(taskwidgets.__file__).parent)
    counted = itertools.count()  # by one call each, which threads do not disturb

    def count(_frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            next(counted)
        return count

    def begin(frame: FrameType, _event: str, _argument: object) -> Any:
        return count if frame.f_code.co_filename.startswith(folder) else None

    threading.settrace(begin)
    try:
        act()
    finally:
        threading.settrace(None)  # type: ignore[arg-type]
    return next(counted)


def test_no_python_runs_for_single_rows(workspace: Workspace, source: Path, tmp_path: Path) -> None:
    """What is done for each row is compiled, in both directions."""
    upload = lines_run(lambda: workspace.upload(source, "t", workers=2).wait())
    download = lines_run(lambda: workspace.download("t", tmp_path / "t.csv", workers=2).wait())
    assert 1000 < upload < LINES * ROWS
    assert 1000 < download < LINES * ROWS


# ---------------------------------------------------------------------- time


class Costs:
    """Measures runs, and keeps the least of each kind."""

    def __init__(self, look: Look, server: EmbeddedServer, source: Path) -> None:
        self._look, self._source = look, source
        pid = int((server.data_directory / "postmaster.pid").read_text().split("\n")[0])
        self._postmaster = psutil.Process(pid)

    def compare(
        self, ours: Callable[[], object], theirs: Callable[[], object], limits: Limits
    ) -> Limits:
        """What was reached of the limits, in rounds in which each has its turn."""
        ours()  # the first time, modules are imported
        best: dict[Callable[[], object], Cost] = {}
        for _ in range(ROUNDS):
            for act in (ours, theirs, self._read):
                cost = self._measure(act)
                least = map(min, astuple(best.get(act, cost)), astuple(cost))
                best[act] = Cost(*least)
            mine, other, reader = best[ours], best[theirs], best[self._read]
            reached = Limits(
                mine.elapsed / other.elapsed,
                mine.client / reader.client,
                mine.server / other.server,
                (mine.wal + 1e6) / (other.wal + 1e6),
            )
            if all(map(float.__le__, astuple(reached), astuple(limits))):
                break
        return reached

    def _read(self) -> None:
        with self._source.open(newline="", encoding="utf-8") as file:
            for _ in csv.reader(file):
                pass

    def _measure(self, act: Callable[[], object]) -> Cost:
        before = self._now()
        act()
        return Cost(*(now - then for now, then in zip(self._now(), before, strict=True)))

    def _now(self) -> tuple[float, ...]:
        position = self._look.one("SELECT pg_current_wal_insert_lsn() - '0/0'")
        server, client = self._processors(self._postmaster), self._processors(psutil.Process())
        return time.perf_counter(), client, server, float(position)

    @staticmethod
    def _processors(root: psutil.Process) -> float:
        """Seconds of a process and its own; those of its children that have ended are its own."""
        total = 0.0
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                if process == root or process.name() != "postgres" or root.name() == "postgres":
                    took = process.cpu_times()
                    total += took.user + took.system + took.children_user + took.children_system
        return total


@pytest.fixture
def costs(look: Look, embedded_server: EmbeddedServer, source: Path) -> Costs:
    """Measures against psql and a csv.reader."""
    return Costs(look, embedded_server, source)


def check(reached: Limits, limits: Limits) -> None:
    """Each with a line of its own, in the order of how surely it tells."""
    assert reached.wal_by_psql <= limits.wal_by_psql
    assert reached.server_by_psql <= limits.server_by_psql
    assert reached.client_by_reader <= limits.client_by_reader
    assert reached.elapsed_by_psql <= limits.elapsed_by_psql


def test_what_an_upload_takes(
    costs: Costs, workspace: Workspace, look: Look, source: Path, psql: Callable[..., None]
) -> None:
    """Less of the server than psql's CSV does; of this process, about one pass of a csv.reader."""

    def ours() -> None:
        workspace.upload(source, "ours", workers=2, if_exists="replace", again=True).wait()

    def theirs() -> None:
        psql(
            "SET client_min_messages = error",
            "DROP TABLE IF EXISTS theirs",
            "CREATE TABLE theirs (LIKE ours)",
            f"\\copy theirs from '{source}' csv header",
        )

    reached = costs.compare(ours, theirs, UPLOAD)
    assert look.contents("ours") == look.contents("theirs")
    check(reached, UPLOAD)


def test_what_a_download_takes(
    costs: Costs, workspace: Workspace, tmp_path: Path, source: Path, psql: Callable[..., None]
) -> None:
    """Of the server about what psql's takes; of this process, a part of a csv.reader's pass."""
    workspace.upload(source, "rows").wait()
    target, other = tmp_path / "ours.csv", tmp_path / "theirs.csv"

    def ours() -> None:
        workspace.download("rows", target, workers=2, if_exists="replace", again=True).wait()

    reached = costs.compare(ours, lambda: psql(f"\\copy rows to '{other}' csv header"), DOWNLOAD)
    assert target.read_bytes() == other.read_bytes()
    check(reached, DOWNLOAD)
