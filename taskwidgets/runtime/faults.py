"""What went wrong with a job: as the store keeps it, and as those who wait for the job get it."""

from __future__ import annotations

import traceback
from typing import Any

from taskwidgets.errors import (
    DatabaseError,
    JobFailed,
    JobFenced,
    JobOwned,
    SourceError,
    TaskwidgetsError,
)
from taskwidgets.runtime.states import State
from taskwidgets.runtime.store import JobRecord

__all__ = ["UNDOING", "as_failed", "describe", "stored_failure"]

UNDOING = "undoing"  # in a stored error: it is the clean-up's, so the job cannot go on any more


def describe(fault: BaseException) -> dict[str, Any]:
    """An exception as the store keeps it: type, message, where in the source, traceback."""
    message = str(fault) or type(fault).__name__
    if not isinstance(fault, TaskwidgetsError):
        message = f"{type(fault).__name__}: {message}"
    message += "".join(f" ({note})" for note in getattr(fault, "__notes__", ()))
    error: dict[str, Any] = {"type": type(fault).__name__, "message": message}
    if isinstance(fault, SourceError):
        error.update(
            path=fault.path, line=fault.line, column=fault.column, row=fault.row,
            sqlstate=fault.sqlstate,
        )  # fmt: skip
    elif isinstance(fault, DatabaseError):
        error["sqlstate"] = fault.sqlstate
    if not isinstance(fault, TaskwidgetsError):
        error["traceback"] = "".join(traceback.format_exception(fault))[-8000:]
    # No text in Postgres can hold a NUL; a row that has one must not keep its error from the store.
    return {
        name: value.replace("\0", "\N{SYMBOL FOR NULL}") if isinstance(value, str) else value
        for name, value in error.items()
    }


def stored_failure(record: JobRecord) -> JobFailed | None:
    """What a failed job's record says of its end; None for any other."""
    if record.state is not State.FAILED or record.error is None:
        return None
    error = record.error
    return JobFailed(
        f"job {record.id} ({record.spec.name}) failed: {error.get('message')}",
        job_id=record.id,
        line=error.get("line"),
        column=error.get("column"),
        row=error.get("row"),
    )


def as_failed(
    fault: BaseException | None, words: str | None, *, job_id: int, name: str
) -> BaseException:
    """The error for those who wait; what speaks of the job already is told as it is."""
    if isinstance(fault, JobOwned | JobFenced | JobFailed):
        return fault
    failed = JobFailed(
        f"job {job_id} ({name}) failed: {words}",
        job_id=job_id,
        line=getattr(fault, "line", None),
        column=getattr(fault, "column", None),
        row=getattr(fault, "row", None),
    )
    failed.__cause__ = fault
    return failed
