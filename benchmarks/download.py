"""How fast a download is, as ratios against peers on the same table in the same run.

    python benchmarks/download.py [--rounds 3] [--quick]

Prints the ratios, the memory above an idle process, how long the event loop was held, and how long
a click on Pause takes to a durable pause.
"""

from __future__ import annotations

import argparse
import filecmp
import sys

import common

import taskwidgets as tw

SMALL, LARGE = "bench_small", "bench_large"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--quick", action="store_true", help="the 34 MB table only")
    given = options.parse_args()
    print(common.machine())
    with common.server() as workspace:
        workspace.upload(common.flights_csv(1), SMALL).wait()
        large = SMALL
        if not given.quick:
            large = LARGE
            workspace.upload(common.flights_csv(common.REPEATS), LARGE).wait()
        with workspace.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as server:
            # Whoever reads a new table first marks its rows as committed: not a contestant's work.
            server.exec_driver_sql(f"VACUUM {large}")
        speed(workspace, large, given.rounds)
        for table in dict.fromkeys((SMALL, large)):
            common.report(__file__, table, table, memory_only=table != large)


def export(table: str) -> tw.Job:
    return tw.download(table, common.DATA / "out.csv", if_exists="replace", again=True, workers=2)


def speed(workspace: tw.Workspace, large: str, count: int) -> None:
    """Against psql, and against pandas in chunks on the small table."""
    engine = workspace.engine
    by_psql = common.DATA / "psql.csv"
    by_pandas = common.DATA / "pandas.csv"

    def psql() -> float:
        return common.timed(
            lambda: common.psql(engine, f"\\copy {large} to '{by_psql}' csv header")
        )

    def settle() -> None:
        common.settle(engine)
        by_psql.unlink(missing_ok=True)
        (common.DATA / "out.csv").unlink(missing_ok=True)

    medians = common.rounds(
        {
            "taskwidgets": lambda: common.timed(lambda: export(large).wait()),
            "psql \\copy to": psql,
        },
        count,
        settle,
    )
    ratio = medians["psql \\copy to"] / medians["taskwidgets"]
    print(f"taskwidgets is {ratio:.2f} times as fast as psql \\copy to")
    export(large).wait()
    same = filecmp.cmp(by_psql, common.DATA / "out.csv", shallow=False)
    print(f"the two files are {'equal, byte for byte' if same else 'DIFFERENT'}")

    import pandas

    def pandas_chunks() -> float:
        def run() -> None:
            with engine.connect().execution_options(stream_results=True) as connection:
                frames = pandas.read_sql(f"SELECT * FROM {SMALL}", connection, chunksize=50_000)
                for number, frame in enumerate(frames):
                    frame.to_csv(
                        by_pandas, mode="a" if number else "w", header=not number, index=False
                    )

        return common.timed(run)

    medians = common.rounds(
        {
            "pandas.read_sql in chunks": pandas_chunks,
            "taskwidgets": lambda: common.timed(lambda: export(SMALL).wait()),
        },
        1,
        lambda: common.settle(engine),
    )
    ratio = medians["pandas.read_sql in chunks"] / medians["taskwidgets"]
    print(f"taskwidgets is {ratio:.1f} times as fast as pandas.read_sql with to_csv")


def one_row() -> tw.Job:
    path = common.DATA / "one.csv"
    path.unlink(missing_ok=True)
    return tw.download("SELECT 1 AS a", path, again=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        common.answer(sys.argv[2], lambda: export(sys.argv[3]), one_row)
    else:
        main()
