"""What a Dask cluster costs on one machine: an upload by its workers, against plain ones.

    python benchmarks/cluster.py [--quick] [--rounds 5] [--files 1] [--out values.csv]

Flights, 514 MB of them, are loaded in turn by the two plain workers of a process, and by a
LocalCluster of two processes of one thread each, whose scheduler is in the same process. Seconds
are from the call to the receipt; of CPU time, that of this process (scheduler included), of the
cluster's workers and of the server, each for itself. Each way has loaded a small file before. Both
must leave the same rows and the same hash. ``--files``: the rows in so many files.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import common
import psutil
from contest import Tree, postmaster
from datasets import DATA_SETS, FOLDER, PARTS
from distributed import LocalCluster
from results import Results, Value

import taskwidgets as tw

TABLE = "bench_cluster"
WORKERS = 2
ROUNDS = 5
PLAIN, CLUSTER = "plain workers", "cluster"


@dataclass(frozen=True)
class Load:
    """One load: seconds, and CPU seconds."""

    seconds: float
    here: float
    workers: float
    server: float


class Contest:
    """Both ways on one server."""

    def __init__(self, workspace: tw.Workspace, cluster: LocalCluster, source: str) -> None:
        self._workspace = workspace
        self._cluster = cluster
        self._source = source
        self._server = Tree(postmaster(workspace.engine), "server")
        self._seen: set[tuple[object, ...]] = set()

    def load(self, way: str) -> Load:
        """Load all once. Raises RuntimeError where the rows are not those of the load before."""
        common.drop_table(self._workspace.engine, TABLE)
        common.settle(self._workspace.engine)
        before = self._cpu()
        began = time.perf_counter()
        receipt = self.upload(way, self._source).wait()
        seconds = time.perf_counter() - began
        after = self._cpu()
        self._seen.add((*common.contents(self._workspace.engine, TABLE), receipt.sha256))
        if len(self._seen) > 1:
            raise RuntimeError(f"{way}: other rows than before")
        return Load(seconds, *(now - then for now, then in zip(after, before, strict=True)))

    def upload(self, way: str, source: str) -> tw.Job:
        given = {"client": self._cluster.scheduler_address} if way == CLUSTER else {}
        given = given or {"workers": WORKERS}
        return self._workspace.upload(source, TABLE, if_exists="replace", again=True, **given)

    def _cpu(self) -> tuple[float, float, float]:
        own = psutil.Process().cpu_times()
        workers = 0.0
        for child in psutil.Process().children():
            if child.name() != "postgres":
                taken = child.cpu_times()
                workers += taken.user + taken.system
        return own.user + own.system, workers, self._server.cpu()


def split(path: Path, files: int) -> str:
    """The rows in so many files; the pattern of their names."""
    folder = FOLDER / f"{path.stem}-in-{files}"
    pattern = str(folder / "part-*.csv")
    if folder.exists():
        return pattern
    header, *rows = path.read_bytes().splitlines(keepends=True)
    folder.mkdir()
    each = -(-len(rows) // files)
    for number in range(files):
        part = rows[number * each : (number + 1) * each]
        (folder / f"part-{number:04}.csv").write_bytes(header + b"".join(part))
    return pattern


def measure(contest: Contest, rounds: int) -> Iterator[tuple[int, str, Load]]:
    """In turn; whoever was second begins the next round."""
    for number in range(1, rounds + 1):
        for way in (PLAIN, CLUSTER) if number % 2 else (CLUSTER, PLAIN):
            yield number, way, contest.load(way)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true", help="34 MB instead of 514")
    options.add_argument("--rounds", type=int, default=ROUNDS)
    options.add_argument("--files", type=int, default=1)
    options.add_argument("--out", type=Path, help="a CSV file for the values")
    given = options.parse_args()
    path = DATA_SETS["flights"].file(1 if given.quick else PARTS)
    source = str(path) if given.files == 1 else split(path, given.files)
    print(common.machine())
    loads: dict[str, list[Load]] = {PLAIN: [], CLUSTER: []}
    with (
        common.server() as workspace,
        LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, processes=True, host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
    ):  # fmt: skip
        results = Results(given.out, workspace.engine) if given.out else None
        contest = Contest(workspace, cluster, source)
        for way in loads:
            contest.upload(way, str(DATA_SETS["flights"].file(1))).wait()
        for number, way, load in measure(contest, given.rounds):
            loads[way].append(load)
            print(
                f"{number}, {way}: {load.seconds:.2f} s; CPU: here {load.here:.2f} s, "
                f"cluster's workers {load.workers:.2f} s, server {load.server:.2f} s",
                flush=True,
            )
            if results is not None:
                results.add(
                    Value(
                        "cluster", "flights", way, number, "seconds", load.seconds, "s",
                        bytes=path.stat().st_size, note=f"{given.files} files",
                    )
                )  # fmt: skip
    plain, other = (statistics.median(one.seconds for one in loads[way]) for way in loads)
    pairs = [b.seconds / a.seconds for a, b in zip(loads[PLAIN], loads[CLUSTER], strict=True)]
    print(
        f"\nmedian: {plain:.2f} s by plain workers, {other:.2f} s by the cluster: "
        f"{100 * (other / plain - 1):+.1f} % "
        f"(rounds: {100 * (min(pairs) - 1):+.1f} to {100 * (max(pairs) - 1):+.1f} %)"
    )


if __name__ == "__main__":
    sys.exit(main())
