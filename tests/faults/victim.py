"""The process that comes to harm: it runs one job, up to the point at which it is held.

``main()`` imports everything once and then forks a victim for each order that it is given on its
standard input, one line of JSON; it answers with the victim's process id. A victim leaves a file
``outcome`` in the folder of the failpoints when its job is at rest.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import alembic.command  # noqa: F401 - the package imports these two when they are needed
import tenacity  # noqa: F401

import taskwidgets as tw
import taskwidgets.store.migrate
from taskwidgets import Job, Workspace
from taskwidgets.runtime.failpoints import VARIABLE
from taskwidgets.transfers import export_ranges, pace

BATCHES, BATCH = 5, 300  # transactions of the own job, and rows in each


async def undo(run: Any) -> None:
    """Delete what ``insert`` has written; done twice, it does no harm."""
    async with run.transaction() as connection:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM mine")


@tw.job(on_terminate=undo)
async def insert(run: Any) -> None:
    """Write the numbers from 0 on, a batch to a transaction."""
    for number in range(run.state.get("next", 0), BATCHES):
        async with run.transaction() as connection:
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO mine SELECT n, repeat('x', 80) FROM generate_series(%s, %s) AS n",
                    (number * BATCH, (number + 1) * BATCH - 1),
                )
            await run.checkpoint({"next": number + 1}, done=number + 1, total=BATCHES)


def begin(workspace: Workspace, kind: str, arguments: dict[str, Any]) -> Job:
    """Begin the job, or take it up again."""
    if kind == "own job":
        return insert.using(workspace)()
    work = workspace.upload if kind == "upload" else workspace.download
    return work(**arguments, workers=1)


def make_small() -> None:
    """Have small tables and files go in several batches, each with its checkpoint."""
    pace.SMALLEST_BATCH = pace.LARGEST_BATCH = 16 << 10
    export_ranges.FIRST_BLOCKS = export_ranges.MOST_BLOCKS = 4
    export_ranges.CHECKPOINT_BYTES = 1


def suffer(order: dict[str, Any], folder: Path) -> None:
    parent = os.getppid()
    workspace = Workspace(order["url"])
    make_small()
    job = begin(workspace, order["kind"], order["arguments"])
    ask = folder / "ask"
    while job.runs_here:
        if os.getppid() != parent:  # the tests are gone, and nobody will let it go
            os._exit(1)
        if ask.exists():
            getattr(job, ask.read_text())()
            ask.unlink()
        time.sleep(0.002)
    # At rest, the handle follows what others do with the job, and so forgets its own failure.
    ended = job._outcome
    fault = ended.exception() if ended.done() else job._failure
    outcome = {"state": job.state, "error": job.error, "fault": type(fault).__name__}
    made = folder / "outcome.new"
    made.write_text(json.dumps(outcome))
    made.rename(folder / "outcome")
    workspace.close()


def main() -> None:
    folder = Path(os.environ[VARIABLE])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the victims
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                suffer(json.loads(line), folder)
            except BaseException:  # noqa: BLE001 - the test tells of it
                (folder / "complaint").write_text(traceback.format_exc())
            os._exit(0)
        print(pid, flush=True)  # noqa: T201 - the answer
