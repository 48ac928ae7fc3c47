"""How fast an upload is, as ratios against peers on the same data in the same run.

    python benchmarks/upload.py [--rounds 3] [--quick]

Prints the ratios, the memory above an idle process, how long the event loop was held, and how long
a click on Pause takes to a durable pause.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import common

import taskwidgets as tw

TABLE = "bench_flights"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--quick", action="store_true", help="the 34 MB file only")
    given = options.parse_args()
    small = common.flights_csv(1)
    large = small if given.quick else common.flights_csv(common.REPEATS)
    print(common.machine())
    with common.server() as workspace:
        speed(workspace, small, large, given.rounds)
        for path in dict.fromkeys((small, large)):
            label = f"{path.stat().st_size / 1e6:.0f} MB"
            common.report(__file__, path, label, memory_only=path != large)


def load(path: Path) -> tw.Job:
    return tw.upload(path, TABLE, if_exists="replace", again=True, workers=2)


def speed(workspace: tw.Workspace, small: Path, large: Path, count: int) -> None:
    """Against psql, and against pandas on the small file."""
    types = common.column_types(large)
    engine = workspace.engine

    def by_psql() -> float:
        common.make_table(engine, "bench_psql", types)
        return common.timed(
            lambda: common.psql(engine, f"\\copy bench_psql from '{large}' csv header")
        )

    def by_taskwidgets(path: Path) -> float:
        # Dropping what was there before is outside the clock for every contestant.
        common.drop_table(engine, TABLE)
        return common.timed(lambda: load(path).wait())

    print(f"{large.stat().st_size / 1e6:.0f} MB:")
    medians = common.rounds(
        {
            "psql \\copy": by_psql,
            "taskwidgets": lambda: by_taskwidgets(large),
        },
        count,
        lambda: common.settle(engine),
    )
    ratio = medians["psql \\copy"] / medians["taskwidgets"]
    print(f"taskwidgets is {ratio:.2f} times as fast as psql \\copy")

    import pandas

    frame = pandas.read_csv(small)

    def by_pandas() -> float:
        common.drop_table(engine, "bench_pandas")
        return common.timed(lambda: frame.to_sql("bench_pandas", engine, index=False))

    print(f"{small.stat().st_size / 1e6:.0f} MB:")
    medians = common.rounds(
        {
            "pandas.to_sql": by_pandas,
            "taskwidgets": lambda: by_taskwidgets(small),
        },
        1,
        lambda: common.settle(engine),
    )
    ratio = medians["pandas.to_sql"] / medians["taskwidgets"]
    print(f"taskwidgets is {ratio:.1f} times as fast as pandas.to_sql")


def one_row() -> tw.Job:
    path = common.DATA / "one.csv"
    path.write_text("a\n1\n")
    return load(path)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        common.answer(sys.argv[2], lambda: load(Path(sys.argv[3])), one_row)
    else:
        main()
