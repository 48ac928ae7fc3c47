"""How long a pause from a second process takes to reach a kernel that sits in a busy cell.

    python benchmarks/reach.py [--rounds 20]

A child process loads a file slowly, its main thread asleep in one long ``time.sleep``. Prints the
seconds from the request to the durable ``paused``, as a third party sees it: median and most.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

import taskwidgets as tw

SLEEPER = """
import sys, time
import taskwidgets as tw
tw.connect(sys.argv[1])
job = tw.resume(int(sys.argv[3])) if len(sys.argv) > 3 else tw.upload(sys.argv[2], "reached")
job.max_rate = 2e5
print(job.id, flush=True)
time.sleep(600)
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=20)
    given = options.parse_args()
    print(common.machine())
    with common.server() as workspace, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_text("id\n" + "".join(f"{n:09}\n" for n in range(20_000_000)))
        url = workspace.engine.url.render_as_string(hide_password=False)
        known: list[str] = []
        taken = []
        for _ in range(given.rounds):
            child = subprocess.Popen(
                [sys.executable, "-c", SLEEPER, url, str(path), *known],
                stdout=subprocess.PIPE,
                text=True,
            )
            try:
                assert child.stdout is not None
                known = [child.stdout.readline().strip()]
                taken.append(reach(workspace, int(known[0])))
            finally:
                child.kill()
                child.wait()
        print(
            f"a sleeping kernel's pause, {len(taken)} times: median "
            f"{statistics.median(taken) * 1000:.0f} ms, most {max(taken) * 1000:.0f} ms"
        )


def reach(workspace: tw.Workspace, number: int) -> float:
    """Seconds from the request to ``paused`` in the database."""
    store = workspace._store
    while store.record(number).state != "running":
        time.sleep(0.01)
    time.sleep(0.3)
    begun = time.perf_counter()
    workspace.job(number).pause()
    while store.record(number).state != "paused":
        time.sleep(0.002)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
