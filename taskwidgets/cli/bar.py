"""A job's progress bar in a terminal, plain lines where the output is no terminal."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from taskwidgets.runtime.job import Job
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.states import State
from taskwidgets.runtime.words import count

__all__ = ["follow"]

INTERVAL = 0.1  # seconds between two looks
LINE_INTERVAL = 2.0  # seconds between two lines where there is no terminal
AT_REST = frozenset(
    {State.COMPLETED, State.FAILED, State.TERMINATED, State.PAUSED, State.INTERRUPTED}
)


def follow(job: Job, console: Console) -> Receipt:
    """Show the job until it ends; its receipt, or JobFailed, or JobTerminated."""
    if not console.is_terminal:
        next_line = time.monotonic()
        while job.state not in AT_REST:
            if time.monotonic() >= next_line:
                console.print(repr(job), markup=False, highlight=False, soft_wrap=True)
                next_line = time.monotonic() + LINE_INTERVAL
            time.sleep(INTERVAL)
        return job.wait()
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]} rows", markup=False),
        TimeRemainingColumn(),
        console=console,
    ) as bars:
        bar = bars.add_task(job.name, total=None, rows="0")
        while True:
            resting = job.state in AT_REST
            progress = job.progress
            bars.update(
                bar, completed=progress.done, total=progress.total, rows=count(progress.rows)
            )
            if resting:
                return job.wait()
            time.sleep(INTERVAL)
