"""Speeds and latencies against peers, on the same data, in turn.

    python benchmarks/bench.py [--quick] [--rounds 3] [--parts upload download while scale watched]
                               [--data flights wide text narrow] [--peers taskwidgets psql ...]

Writes results.csv, results.md and results.png: of a whole run beside this file, of a --quick one
or of a choice into benchmarks/data. What each peer has moved is compared with what it was given;
a peer that fails or loses something has its error in the table, and the exit code is 1.

The part scale moves 10 GB, for which 40 GB of the disk have to be free; watched takes Chromium.

The other programs in this folder measure one thing each, and print it: latencies.py (while),
scale.py (10 GB), watched.py (with a panel in JupyterLab), rejects.py, reach.py (pause from another
process), server_latency.py (a server that loads), jobs.py (a million jobs), detection.py; report.py
draws the picture anew.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import latencies
import peers_download
import peers_upload
import report
import scale
from contest import PeerFailed, Turn, take_turn
from datasets import DATA_SETS, FOLDER, PARTS, column_types, head, middle
from peers import Peer, Task
from results import Results, Value

import taskwidgets as tw

TABLE, TINY, BACK = "bench_table", "bench_tiny", "bench_back"


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    everybody = {peer.name for peer in (*peers_upload.PEERS, *peers_download.PEERS)}
    parts = ["upload", "download", "while", "scale", "watched"]
    options.add_argument("--parts", nargs="+", choices=parts, default=parts)
    options.add_argument("--data", nargs="+", choices=list(DATA_SETS), default=list(DATA_SETS))
    options.add_argument(
        "--peers", nargs="+", metavar="NAME", default=[""],
        help=f"those whose names begin so: {', '.join(sorted(everybody))}",
    )  # fmt: skip
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--quick", action="store_true", help="a fifteenth of all data")
    options.add_argument("--out", type=Path, help="the folder of the results")
    given = options.parse_args()
    is_whole = not given.quick and given.peers == [""]
    is_whole = is_whole and (given.parts, given.data) == (parts, list(DATA_SETS))
    FOLDER.mkdir(exist_ok=True)
    out = given.out or (Path(__file__).parent if is_whole else FOLDER)
    out.mkdir(parents=True, exist_ok=True)
    with common.server() as workspace, exchange() as folder:
        results = Results(out / "results.csv", workspace.engine)
        bench = Bench(workspace, folder, results, 1 if given.quick else PARTS, given.rounds)
        for name in given.data if {"upload", "download", "while"} & set(given.parts) else ():
            with bench.data(name):
                if "upload" in given.parts:
                    bench.contest("upload", chosen(peers_upload.PEERS, given.peers))
                if "download" in given.parts:
                    bench.contest("download", chosen(peers_download.PEERS, given.peers))
                if "while" in given.parts and name == given.data[0]:
                    bench.measure_while()
        if "scale" in given.parts:
            large, small = (PARTS, 1) if given.quick else (scale.LARGE, PARTS)
            measured = scale.Scale(workspace.engine, large, small, given.rounds)
            bench.keep("scale", measured.measure())
    if "watched" in given.parts:
        import watched  # here: it takes a browser

        path = DATA_SETS["flights"].file(1 if given.quick else PARTS)
        rounds = {"rounds": 2} if given.quick else {}
        bench.keep("what a panel costs", watched.measure(path, **rounds))
    report.write(results.path)
    print(f"written: {out / 'results.md'}, results.csv and results.png")
    sys.exit(1 if bench.has_failures else 0)


def chosen(peers: Sequence[Peer], names: Sequence[str]) -> list[Peer]:
    return [peer for peer in peers if peer.name.startswith(tuple(names))]


@contextlib.contextmanager
def exchange() -> Iterator[Path]:
    """A folder that the server's account can read and write as well."""
    folder = Path(tempfile.mkdtemp(prefix="taskwidgets-bench-files-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Given:
    """What is moved: a file, the table with its rows, and what these are."""

    path: Path
    table: str
    contents: tuple[int, int]  # rows, checksum
    middle: int  # where one can cut the file


class Bench:
    """The contests on one server."""

    def __init__(
        self, workspace: tw.Workspace, folder: Path, results: Results, parts: int, rounds: int
    ) -> None:
        self._engine = workspace.engine
        self._url = common.plain_url(workspace.engine)
        self._folder = folder
        self._results = results
        self._parts = parts
        self._rounds = rounds
        self.has_failures = False

    @contextlib.contextmanager
    def data(self, name: str) -> Iterator[None]:
        """Make the files, and by psql the tables that downloads read and uploads are held to."""
        data_set = DATA_SETS[name]
        self._name = name
        self._types = column_types(data_set.file(self._parts))
        self._whole = self._load(data_set.file(self._parts), "bench_whole")
        self._part = self._whole
        if self._parts > 1:
            self._part = self._load(data_set.file(1), "bench_part")
        self._one = self._load(head(self._whole.path), "bench_one")
        self._proven: set[str] = set()  # digests of files whose contents have been compared
        self._sizes: dict[str, int] = {}
        rows = self._whole.contents[0]
        size = self._whole.path.stat().st_size
        print(f"{name}: {size / 1e6:,.0f} MB, {rows:,} rows, {len(self._types)} columns")
        try:
            yield
        finally:
            for given in (self._whole, self._part, self._one):
                common.drop_table(self._engine, given.table)

    def _load(self, path: Path, table: str) -> Given:
        common.make_table(self._engine, table, self._types)
        common.psql(self._url, f"\\copy {table} from '{path}' csv header")
        # Whoever reads a new table first marks its rows as committed: not a contestant's work.
        common.execute(self._engine, f"VACUUM (FREEZE, ANALYZE) {table}")
        return Given(path, table, common.contents(self._engine, table), middle(path))

    # -------------------------------------------------------------------- contests

    def contest(self, direction: str, peers: Sequence[Peer]) -> None:
        """All peers in turn, so that a noisy minute hits all of them."""
        failed: set[str] = set()
        turn = {"upload": self._upload, "download": self._download}[direction]
        for number in range(1, self._rounds + 1):
            for peer in peers:
                if peer.name in failed or (peer.is_very_slow and number > 1):
                    continue
                given = self._part if peer.is_slow else self._whole
                told = f"  {direction}, round {number}: {peer.name}:"
                try:
                    taken, size = turn(peer, given)
                except PeerFailed as fault:
                    failed.add(peer.name)
                    self.has_failures = True
                    self._keep(direction, peer, number, "failed", 0, "", note=str(fault))
                    print(f"{told} FAILED: {fault}", flush=True)
                    continue
                told = f"{told} {taken.seconds:.2f} s, {size / 1e6 / taken.seconds:.0f} MB/s"
                print(told, flush=True)
                keep = {"bytes": size, "rows": given.contents[0]}
                self._keep(direction, peer, number, "time", taken.seconds, "s", **keep)
                self._keep(direction, peer, number, "client CPU", taken.client_cpu, "s", **keep)
                self._keep(direction, peer, number, "server CPU", taken.server_cpu, "s", **keep)
                self._keep(direction, peer, number, "memory", taken.memory, "MiB", **keep)

    def _keep(
        self, part: str, peer: Peer, number: int, measure: str, value: float, unit: str, **more: Any
    ) -> None:
        value_of = Value(part, self._name, peer.name, number, measure, value, unit, **more)
        self._results.add(value_of)

    def _upload(self, peer: Peer, given: Given) -> tuple[Turn, int]:
        for table in (TABLE, TINY):
            if peer.makes_table:
                common.drop_table(self._engine, table)
            else:
                common.make_table(self._engine, table, self._types)
        common.settle(self._engine)
        size = given.path.stat().st_size
        tasks = [
            Task(
                self._url, table, str(self._reachable(peer, moved.path)), self._types,
                moved.path.stat().st_size, moved.middle,
            )
            for table, moved in ((TABLE, given), (TINY, self._one))
        ]  # fmt: skip
        taken = take_turn("upload", peer.name, *tasks, self._engine)
        if not peer.is_file_only:
            self._compare(common.contents(self._engine, TABLE), given.contents)
        common.drop_table(self._engine, TABLE)
        return taken, size

    def _download(self, peer: Peer, given: Given) -> tuple[Turn, int]:
        folder = self._folder if peer.is_at_server else FOLDER
        path, tiny = folder / "out.csv", folder / "out-tiny.csv"
        size = self._exported(given)
        tasks = [
            Task(self._url, moved.table, str(to), self._types, self._exported(moved), 0)
            for moved, to in ((given, path), (self._one, tiny))
        ]
        common.settle(self._engine)
        try:
            taken = take_turn("download", peer.name, *tasks, self._engine)
            if not peer.is_file_only:
                self._prove(path, given)
        finally:
            path.unlink(missing_ok=True)
            tiny.unlink(missing_ok=True)
        return taken, size

    def _exported(self, given: Given) -> int:
        """The bytes of the table as COPY writes it."""
        if given.table not in self._sizes:
            path = FOLDER / "out.csv"
            common.psql(self._url, f"\\copy {given.table} to '{path}' csv header")
            self._sizes[given.table] = path.stat().st_size
            self._prove(path, given)
            path.unlink()
        return self._sizes[given.table]

    def _reachable(self, peer: Peer, path: Path) -> Path:
        """The file, or for the server's account one that it can read."""
        if not peer.is_at_server:
            return path
        there = self._folder / path.name
        if not there.exists():
            try:
                os.link(path, there)
            except OSError:  # another file system
                shutil.copy(path, there)
            there.chmod(0o644)
        return there

    def _prove(self, path: Path, given: Given) -> None:
        """Load a peer's file back, unless one of the same bytes has been already."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha1").hexdigest() + given.table
        if digest in self._proven:
            return
        common.make_table(self._engine, BACK, self._types)
        try:
            common.psql(self._url, f"\\copy {BACK} from '{path}' csv header")
        except subprocess.CalledProcessError:
            raise PeerFailed("its file cannot be loaded back") from None
        self._compare(common.contents(self._engine, BACK), given.contents)
        common.drop_table(self._engine, BACK)
        self._proven.add(digest)

    def _compare(self, found: tuple[int, int], expected: tuple[int, int]) -> None:
        if found[0] != expected[0]:
            raise PeerFailed(f"it moved {found[0]:,} rows of {expected[0]:,}")
        if found[1] != expected[1]:
            raise PeerFailed("some of the values that it moved are others than before")

    def keep(self, what: str, values: Iterable[Value]) -> None:
        """What another program measures."""
        try:
            for value in values:
                self._results.add(value)
        except Exception as fault:  # noqa: BLE001 - what was measured before is still to be told
            self.has_failures = True
            print(f"{what}: FAILED: {fault}", flush=True)
        else:
            print(f"{what}: measured", flush=True)

    # -------------------------------------------------------------------- while a transfer runs

    def measure_while(self) -> None:
        """Latencies, the loop's lag, and the panel's messages."""
        given = self._whole
        for direction in ("upload", "download"):
            told = f"  what one notices while it runs, {direction}"
            found = latencies.measure(direction, self._url, given.path, given.table, self._name)
            self.keep(told, found)


if __name__ == "__main__":
    main()
