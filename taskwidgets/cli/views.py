"""What a command shows of a job that it runs: a bar in a terminal, lines in a pipe, JSON."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from taskwidgets.cli.documents import job_document
from taskwidgets.cli.output import clean, print_json, say
from taskwidgets.runtime.states import State
from taskwidgets.runtime.words import amount, speed

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from taskwidgets.runtime.job import Job

__all__ = ["JobView", "view_for"]

LINE_INTERVAL = 2.0  # seconds between two lines where there is no terminal


class JobView(Protocol):
    """Shows a job as long as it runs."""

    def look(self, job: Job) -> None:
        """Show how far it is now; called ten times a second."""

    def say(self, text: str) -> None:
        """Something to be known besides, a line."""

    def close(self) -> None:
        """Leave the terminal as it was; a second time does nothing, look() opens it anew."""


def view_for(*, as_json: bool, json_lines: bool) -> JobView:
    """The view for standard output as it is."""
    if json_lines:
        return Lines(lambda job: print_json(job_document(job), indent=None), speaks=False)
    if as_json:
        return Lines(None, speaks=False)
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return Bar()
    return Lines(lambda job: say(repr(job)))


class Lines:
    """A line every two seconds, and one at each change of state."""

    def __init__(self, show: Callable[[Job], None] | None, *, speaks: bool = True) -> None:
        self._show = show
        self._speaks = speaks
        self._next = 0.0
        self._state: State | None = None

    def look(self, job: Job) -> None:
        now = time.monotonic()
        if self._show is not None and (now >= self._next or job.state is not self._state):
            self._next, self._state = now + LINE_INTERVAL, job.state
            self._show(job)

    def say(self, text: str) -> None:
        if self._speaks:
            say(text)

    def close(self) -> None:
        pass


class Bar:
    """A bar in a terminal. When that is closed (EIO), the job still has to be paused."""

    def __init__(self) -> None:
        self._bars: Bars | None = None

    def look(self, job: Job) -> None:
        with suppress(OSError):
            self._look(job)

    def say(self, text: str) -> None:
        if self._bars is None:
            say(text)
            return
        with suppress(OSError):
            self._bars.console.print(clean(text), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        bars, self._bars = self._bars, None
        if bars is not None:
            with suppress(OSError):
                bars.stop()

    def _look(self, job: Job) -> None:
        if self._bars is None:
            self._bars = _new_bars()
            self._bars.add_task("", total=None, words="", left="")
            self._bars.start()
        progress = job.progress
        words = [str(job.state)] if job.state is not State.RUNNING else []
        words += [amount(progress), speed(progress)]
        if progress.rejected:
            words.append(f"{progress.rejected:,} rejected")
        self._bars.update(
            self._bars.task_ids[0],
            description=clean(f"job {job.id} ({job.name})"),
            completed=progress.done,
            total=progress.total,
            words=clean(", ".join(word for word in words if word)),
            left=clean(job.remark),
        )


def _new_bars() -> Bars:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    return Progress(
        # What does not fit is cut, so that the bar stays on one line.
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", max_width=40),
        ),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[words]}", markup=False, table_column=Column(no_wrap=True)),
        TimeRemainingColumn(),
        TextColumn("{task.fields[left]}", markup=False, table_column=Column(no_wrap=True)),
        console=Console(force_terminal=True, highlight=False),
        refresh_per_second=8,
    )
