"""How quickly the dashboard lists jobs among a million finished ones, of which ten run.

    python benchmarks/jobs.py [--jobs 1000000]

Prints the seconds of each look, median and most, and the server's own time for it.
"""

from __future__ import annotations

import argparse
import statistics
from datetime import timedelta

import common
from sqlalchemy import event, text

import taskwidgets as tw
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.states import State
from taskwidgets.runtime.store import JobSpec

DEEP = 100_000  # jobs that somebody has turned back over

# Every thousandth has failed; the rest is completed, and a tenth of it terminated.
FILL = text(
    """
    INSERT INTO taskwidgets.jobs (key, kind, name, source, target, options, plan, state, owner,
                                  claimed_at, heartbeat_at, progress, receipt, created_at,
                                  updated_at)
    SELECT 'key ' || n, 'upload', 'file-' || n || '.csv → table_' || n % 1000,
           '/home/analyst/data/2024/file-' || n || '.csv', 'public.table_' || n % 1000,
           '{"if_exists": "append", "on_error": "stop"}', '{"columns": ["a", "b", "c"]}',
           CASE WHEN n % 1000 = 0 THEN 'failed' WHEN n % 10 = 1 THEN 'terminated'
                ELSE 'completed' END,
           '{"host": "notebook", "pid": 4711, "session": "0123456789abcdef"}', at, at,
           '{"done": 1000000, "total": 1000000, "unit": "bytes", "rows": 20000, "rejected": 0,
             "elapsed": 1.5}', NULL, at, at
    FROM generate_series(1, :count) AS n,
         LATERAL (SELECT now() - (:count - n) * interval '30 seconds' AS at) AS times
    """
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--jobs", type=int, default=1_000_000)
    given = options.parse_args()
    print(common.machine())
    with common.server() as workspace:
        store = workspace._store
        claims = []
        for number in range(10):  # the oldest of all: the worst place for whoever reads backwards
            spec = JobSpec(f"run {number}", "upload", f"run {number}", "s", "t", {}, {}, 100)
            made = store.create(spec, lambda _connection, _job_id: None)
            claims.append(store.claim(made.id, State.RUNNING, "benchmark", Control()))
        with workspace.engine.begin() as connection:
            connection.execute(FILL, {"count": given.jobs})
        with workspace.engine.connect().execution_options(
            isolation_level="AUTOCOMMIT"
        ) as connection:
            connection.execute(text("VACUUM ANALYZE taskwidgets.jobs"))
        look(workspace)
        prune(workspace, given.jobs)
        for claim in claims:
            store.release(claim)


def look(workspace: tw.Workspace) -> None:
    """Each look at the list, ten times."""
    looks = {
        "all": lambda: workspace.jobs(),
        "running": lambda: workspace.jobs("running"),
        "interrupted": lambda: workspace.jobs("interrupted"),
        "failed": lambda: workspace.jobs("failed"),
        "completed": lambda: workspace.jobs("completed"),
        "all but the completed": lambda: workspace.jobs([s for s in State if s != "completed"]),
        "running or failed": lambda: workspace.jobs(["running", "failed"]),
        "search, many": lambda: workspace.jobs(search="table_7"),
        "search, one": lambda: workspace.jobs(search="file-77777.csv"),
        "search, none": lambda: workspace.jobs(search="no such file"),
        "running, search": lambda: workspace.jobs("running", search="run 3"),
    }
    for name, make in looks.items():
        taken, found = [], 0
        for _ in range(10):
            dashboard = make()
            seconds, found = _timed(dashboard)
            taken.append(seconds * 1000)
        print(
            f"{name}: {found} jobs, median {statistics.median(taken):.1f} ms, most "
            f"{max(taken):.1f} ms; the server {_explained(workspace, make()):.1f} ms",
            flush=True,
        )
    source = workspace.jobs().source
    seconds = common.timed(lambda: source.newest(states=None, search="", limit=25, offset=DEEP))
    print(f"the page behind the newest {DEEP:,}: {seconds * 1000:.1f} ms")
    print(f"repr: {common.timed(lambda: repr(workspace.jobs())) * 1000:.1f} ms")
    print(f"to_dataframe: {common.timed(lambda: workspace.jobs().to_dataframe()) * 1000:.1f} ms")


def _timed(dashboard: object) -> tuple[float, int]:
    found: list[object] = []
    seconds = common.timed(lambda: found.extend(dashboard))  # type: ignore[call-overload]
    return seconds, len(found)


def _explained(workspace: tw.Workspace, dashboard: object) -> float:
    """The planning and execution time that EXPLAIN ANALYZE tells of a look's statement."""
    heard: list[tuple[str, object]] = []

    def hear(
        _conn: object, _cursor: object, statement: str, parameters: object, *_: object
    ) -> None:
        heard.append((statement, parameters))

    event.listen(workspace.engine, "before_cursor_execute", hear)
    _timed(dashboard)
    event.remove(workspace.engine, "before_cursor_execute", hear)
    statement, parameters = heard[-1]
    with workspace.engine.connect() as connection:
        lines = [
            row[0]
            for row in connection.exec_driver_sql(f"EXPLAIN (ANALYZE) {statement}", parameters)
        ]
    return sum(
        float(line.split()[2]) for line in lines if line.startswith(("Planning T", "Execution T"))
    )


def prune(workspace: tw.Workspace, count: int) -> None:
    """The older half of the finished jobs."""
    age = timedelta(seconds=30 * count / 2)
    gone: list[int] = []
    seconds = common.timed(lambda: gone.append(workspace.prune(age)))
    print(f"prune: {gone[0]:,} jobs in {seconds:.1f} s, {gone[0] / seconds:,.0f} a second")


if __name__ == "__main__":
    main()
