"""What damaged rows cost an upload: clean, 1 % and 10 % of them bad, spread evenly.

    python benchmarks/rejects.py [--quick] [--rounds 3]

Half of the bad rows have a value that is no number, a quarter one field too many with something
in it, and a quarter a quote that is never closed. Prints seconds, and ratios to the clean file
loaded with on_error="stop".
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import common
from datasets import DATA_SETS, PARTS, column_types

import taskwidgets as tw

SHARES = (0.01, 0.1)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="the small file")
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    print(common.machine())
    clean = DATA_SETS["flights"].file(1 if given.quick else PARTS)
    types = column_types(clean)
    ways = {"clean, stop": (clean, "stop"), "clean, reject": (clean, "reject")}
    for share in SHARES:
        ways[f"{share:.0%} bad, reject"] = (damaged(clean, share), "reject")
    with common.server() as workspace:
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, (path, mode) in ways.items():
                common.settle(workspace.engine)
                seconds, receipt = load(path, mode, types)
                taken[name].append(seconds)
                assert receipt.rows_read == receipt.rows_loaded + receipt.rows_rejected
                print(f"  {name}: {seconds:.2f} s, {receipt.rows_rejected:,} rejected", flush=True)
    base = statistics.median(taken["clean, stop"])
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        print(f"{name}: median {median:.2f} s, {median / base:.2f} times the clean file's")


def damaged(clean: Path, share: float) -> Path:
    """The file with that share of its rows damaged; made once."""
    path = clean.with_name(f"{clean.stem}-bad-{share:g}.csv")
    if path.exists():
        return path
    part, every = path.with_suffix(".part"), round(1 / share)
    with clean.open() as source, part.open("w") as file:
        file.write(source.readline())
        for number, line in enumerate(source):
            if number % every == every // 2:
                kind = number // every % 4
                if kind < 2:
                    line = f"x{line}"
                elif kind == 2:
                    line = f"{line[:-1]},surplus\n"
                else:
                    line = f'"{line}'
            file.write(line)
    part.rename(path)
    return path


def load(path: Path, mode: str, types: dict[str, str]) -> tuple[float, tw.Receipt]:
    receipts: list[tw.Receipt] = []

    def act() -> None:
        job = tw.upload(
            path, "bench_rejects", if_exists="replace", types=types, on_error=mode, again=True
        )
        receipts.append(job.wait())

    return common.timed(act), receipts[0]


if __name__ == "__main__":
    main()
