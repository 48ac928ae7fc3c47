"""Errors of our own tree as HTTP has them: a status, a code, and the field that is at fault."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskwidgets.errors import (
    DatabaseError,
    EmbeddedServerError,
    FunctionUnknown,
    IllegalTransition,
    JobNotFound,
    JobOfOtherRole,
    JobOwned,
    LoginRefused,
    PlanRefused,
    RightsMissing,
    SchemaTooNew,
    ServerUnreachable,
    SourceError,
    TargetError,
    TargetExists,
    TaskwidgetsError,
)
from taskwidgets.http.fields import BadField
from taskwidgets.http.files import OutsideRoot
from taskwidgets.notebook_server import error_code

__all__ = ["RETRY_AFTER", "BadRequest", "Fault", "Refused", "Unavailable", "fault_of"]

RETRY_AFTER = 5  # seconds after which a client may ask again

# The first class that an error is an instance of decides.
STATUSES: tuple[tuple[type[TaskwidgetsError], int], ...] = (
    (JobNotFound, 404),
    (IllegalTransition, 409),
    (JobOwned, 409),
    (JobOfOtherRole, 403),
    (PlanRefused, 409),
    (FunctionUnknown, 409),
    (TargetExists, 409),
    (ServerUnreachable, 503),
    (LoginRefused, 503),
    (SchemaTooNew, 503),
    (EmbeddedServerError, 503),
    (RightsMissing, 403),
)
# Classes of SQLSTATE that say nothing about the request: connections, resources, the operator.
NOT_NOW = frozenset({"08", "53", "55", "57", "58"})


class BadRequest(Exception):
    """What came is no JSON, or no text in UTF-8."""


class Refused(Exception):
    """The job's ``state`` forbids what was asked, or who has it; ``error`` says so."""

    def __init__(self, error: IllegalTransition | JobOwned, state: str | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.state = state


class Unavailable(Exception):
    """The server cannot serve this just now."""


@dataclass(frozen=True)
class Fault:
    """An answer that says what is wrong."""

    status: int
    code: str
    message: str
    field: str | None = None
    state: str | None = None  # of the job, where it is the state that forbids what was asked
    job_id: int | None = None

    def body(self) -> dict[str, Any]:
        """The body of the answer."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "field": self.field}
        if self.job_id is not None:
            error["job_id"] = self.job_id
        if self.state is not None:
            error["state"] = self.state
        return {"error": error}


def fault_of(error: Exception, given: Mapping[str, Any]) -> Fault | None:
    """What to answer to an error; None for one that nobody expected.

    ``given``: the fields of the request, one of which may be at fault.
    """
    text = str(error)
    match error:
        case BadRequest():
            return Fault(400, "bad_request", text)
        case BadField():
            return Fault(422, "invalid_field", text, error.field)
        case OutsideRoot():
            return Fault(403, "outside_root", text)
        case Unavailable():
            return Fault(503, "unavailable", text)
        case Refused():
            code = error_code(type(error.error))
            return Fault(409, code, text, state=error.state, job_id=error.error.job_id)
        case TaskwidgetsError():
            status = _status(error)
            return Fault(
                status,
                error_code(type(error)),
                text,
                _field(error, given) if status == 422 or isinstance(error, TargetError) else None,
                job_id=getattr(error, "job_id", None),
            )
    return None


def _status(error: TaskwidgetsError) -> int:
    for kind, status in STATUSES:
        if isinstance(error, kind):
            return status
    if isinstance(error, DatabaseError) and (error.sqlstate or "")[:2] in NOT_NOW:
        return 503
    return 422


def _field(error: TaskwidgetsError, given: Mapping[str, Any]) -> str | None:
    """The field that an error is about, as far as can be told; ``given`` is what was sent."""
    if isinstance(error, SourceError):
        return "source" if "source" in given else None
    if isinstance(error, TargetError):
        return next((name for name in ("table", "path") if name in given), None)
    # Such an error mostly names its argument, and as its first word; else it repeats the value.
    text = str(error)
    for words in (lambda name: [name], lambda name: sorted(_texts(given[name]))):
        found = [
            (match.start(), name)
            for name in given
            for word in words(name)
            if (match := re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text))
        ]
        if found:
            return min(found)[1]
    return None


def _texts(value: object) -> set[str]:
    """All texts in a value that say something."""
    match value:
        case str():
            return {value} - {""}
        case Mapping():
            return {text for pair in value.items() for one in pair for text in _texts(one)}
        case list() | tuple():
            return {text for one in value for text in _texts(one)}
    return set()
