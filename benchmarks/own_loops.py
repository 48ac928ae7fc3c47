"""What a loop in an own job costs for each item: run.track(), and run.map() here or by a cluster.

    python benchmarks/own_loops.py

The loop's body is empty. The cluster are two processes of one thread on this machine.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import common

import taskwidgets as tw

CLUSTER = """
import sys
from distributed import LocalCluster
with LocalCluster(
    n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
) as one:
    print(one.scheduler_address, flush=True)
    sys.stdin.read()
"""


@contextmanager
def cluster() -> Iterator[str]:
    """The address of a scheduler in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()


def scored(number: int) -> dict[str, Any]:
    """What a model might give."""
    return {"id": number, "score": number / 7, "text": f"row {number}"}


def slow(number: int) -> int:
    """5 ms of waiting."""
    time.sleep(0.005)
    return number


@tw.job
async def loop(run: Any, what: str, number: int, address: str | None) -> float:
    """Seconds that one loop takes."""
    function: Callable[[int], Any] | None = FUNCTIONS[what]
    items = range(number)
    began = time.perf_counter()
    if function is None:
        async for _ in run.track(items):
            pass
    else:
        async for _ in run.map(function, items, client=address):
            pass
    return time.perf_counter() - began


FUNCTIONS = {"track": None, "abs": abs, "scored": scored, "slow": slow}


def main() -> None:
    """Measure and print."""
    with common.server() as workspace, cluster() as address:
        for what, number, client in (
            ("track", 1_000_000, None),
            ("abs", 1_000_000, None),
            ("abs", 1_000_001, address),
            ("abs", 1_000_000, address),
            ("scored", 300_000, address),
            ("slow", 2_000, address),
        ):
            seconds = loop.using(workspace)(what, number, client).wait().result
            where = "cluster" if client else "here"
            print(
                f"{what:8}{where:8}{number:12,} items {seconds:6.2f} s {number / seconds:12,.0f}/s"
            )


if __name__ == "__main__":
    main()
