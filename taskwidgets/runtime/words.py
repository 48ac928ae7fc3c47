"""How numbers and states are put into words, the same in panel, status line and terminal."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from taskwidgets.runtime.progress import Progress
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.states import State

__all__ = [
    "Described",
    "amount",
    "bytes_text",
    "count",
    "counted",
    "duration",
    "percentage",
    "speed",
    "static_line",
    "status_line",
]


class Described(Protocol):
    """What a line of text needs to know of a job."""

    id: int
    name: str

    @property
    def state(self) -> State: ...
    @property
    def progress(self) -> Progress: ...
    @property
    def error(self) -> str | None: ...
    @property
    def receipt(self) -> Receipt | None: ...


def count(number: int) -> str:
    """2171905 -> "2,171,905"."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 row", "2,000 rows"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def bytes_text(number: float) -> str:
    """31204 -> "31.2 kB", by powers of 1000 as file managers have it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:,.1f} {unit}"
        number /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """0.53 -> "0.5 s"; 75 -> "1 min 15 s"; 3700 -> "1 h 2 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def percentage(progress: Progress) -> str:
    """ "43 %", rounded down, so that 100 % means done; "" while the total is unknown."""
    fraction = progress.fraction
    return "" if fraction is None else f"{int(fraction * 100)} %"


COUNTED_IN_ROWS = frozenset({"bytes", "blocks", "rows"})
"""The units in which transfers are measured; what they have done is told in rows."""


def amount(progress: Progress) -> str:
    """ "336,776 rows" of a transfer; "3 of 10 items" of a user's own job."""
    if progress.unit in COUNTED_IN_ROWS:
        return f"{count(progress.rows)} rows"
    of = "" if progress.total is None else f" of {count(progress.total)}"
    return f"{count(progress.done)}{of} {progress.unit}"


def speed(progress: Progress) -> str:
    """ "120,000 rows/s", "12 items/min"; "" while the rate is unknown."""
    if progress.rate is None:
        return ""
    unit = "rows" if progress.unit in COUNTED_IN_ROWS else progress.unit
    if unit != "rows" and progress.rate < 1:
        return f"{count(round(60 * progress.rate))} {unit}/min"
    return f"{count(round(progress.rate))} {unit}/s"


def status_line(job: Described) -> str:
    """One line: number, name, state, how far, and what is wrong."""
    progress = job.progress
    parts = [f"job {job.id} ({job.name}): {job.state}"]
    if job.state is State.COMPLETED and job.receipt is not None:
        receipt = job.receipt
        did = f"{count(receipt.rows_loaded)} rows" if receipt.sha256 else amount(progress)
        parts.append(f"{did}{_rejected(receipt)} in {duration(receipt.seconds)}")
    elif job.state is not State.TERMINATED:
        parts.append(percentage(progress))
        parts.append(amount(progress))
    if job.error:
        parts.append(job.error)
    return ", ".join(part for part in parts if part)


def _rejected(receipt: Receipt) -> str:
    return f", {count(receipt.rows_rejected)} rejected" if receipt.rows_rejected else ""


def static_line(job: Described, now: datetime) -> str:
    """What stays true in a saved notebook: how far at what time, and how to go on.

    Never a bare "running": whoever reads it later cannot know whether that still holds.
    """
    at = f"as of {now:%H:%M:%S} UTC on {now:%Y-%m-%d}"
    state, progress = job.state, job.progress
    if state is State.COMPLETED and job.receipt is not None:
        receipt = job.receipt
        if not receipt.sha256:  # a user's own job, which has moved no file
            did = f"{amount(progress)} in {duration(receipt.seconds)}"
            return f"Job {job.id} completed: {did}, {at}."
        return (
            f"Job {job.id} completed: {count(receipt.rows_loaded)} rows{_rejected(receipt)}, "
            f"{bytes_text(receipt.bytes)}, sha256 {receipt.sha256[:12]}…, {at}."
        )
    if state is State.TERMINATED:
        return f"Job {job.id} was terminated and cleaned up, {at}."
    committed = ", ".join(
        part for part in (percentage(progress), f"{amount(progress)} committed") if part
    )
    line = f"Job {job.id}: {committed}, {at}."
    if state is State.FAILED or (state is State.INTERRUPTED and job.error):
        line += f" It stopped: {job.error}."
    elif state is State.PAUSED:
        line += " Paused."
    return f"{line} Run this cell again to go on, or tw.resume({job.id})."
