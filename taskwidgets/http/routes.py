"""The one table of endpoints: handlers, checks and the OpenAPI document are made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

from taskwidgets.http.fields import (
    CONTROL,
    DOWNLOAD,
    EVENTS,
    JOBS,
    NOTHING,
    RESUME,
    UPLOAD,
    Fields,
)
from taskwidgets.http.files import Files
from taskwidgets.http.service import Service

__all__ = ["JOB", "PREFIX", "ROUTES", "Route"]

PREFIX = "/taskwidgets"
JOB = "{job_id}"  # stands in a path for the job's number

Act = Callable[[Service, Files, dict[str, Any]], dict[str, Any]]
"""What an endpoint does, in a thread: with the service, the files, and what was given."""


@dataclass(frozen=True)
class Route:
    """One endpoint. ``path`` is below PREFIX; ``fields`` are the body of a POST, the query of a
    GET; ``answer`` names a schema in ``answers.SCHEMAS``; ``statuses`` are those of its errors
    besides the ones that all have."""

    method: str
    path: str
    summary: str
    act: Act
    fields: Fields
    answer: str
    statuses: tuple[int, ...] = ()
    begins: bool = False  # may take its time

    @property
    def has_job(self) -> bool:
        """Whether the job's number is in the path."""
        return JOB in self.path


def _upload(service: Service, files: Files, given: dict[str, Any]) -> dict[str, Any]:
    return service.upload(files, **given)


def _download(service: Service, files: Files, given: dict[str, Any]) -> dict[str, Any]:
    return service.download(files, **given)


def _pause(kind: str, service: Service, files: Files, given: dict[str, Any]) -> dict[str, Any]:
    return service.pause(given["job_id"], kind, files)


def _resume(kind: str, service: Service, files: Files, given: dict[str, Any]) -> dict[str, Any]:
    return service.resume(given.pop("job_id"), kind, files, **given)


def _terminate(kind: str, service: Service, files: Files, given: dict[str, Any]) -> dict[str, Any]:
    return service.terminate(given["job_id"], kind, files)


def _progress(kind: str, service: Service, files: Files, given: dict[str, Any]) -> dict[str, Any]:
    return service.progress(given["job_id"], kind, files)


def _jobs(service: Service, files: Files, given: dict[str, Any]) -> dict[str, Any]:
    return service.jobs(
        files,
        state=given.get("state"),
        search=given.get("search", ""),
        limit=given.get("limit", 100),
        offset=given.get("offset", 0),
    )


def _job(service: Service, files: Files, given: dict[str, Any]) -> dict[str, Any]:
    return service.job(given["job_id"], files)


def _events(service: Service, files: Files, given: dict[str, Any]) -> dict[str, Any]:
    return service.events(given["job_id"], files, limit=given.get("limit", 1000))


def _status(service: Service, files: Files, given: dict[str, Any]) -> dict[str, Any]:
    return {"version": version("taskwidgets"), "database": service.fingerprint()}


def _verbs(kind: str, start: Act, fields: Fields, what: str) -> tuple[Route, ...]:
    """The five endpoints of one kind of job."""
    return (
        Route(
            "POST", f"/{kind}/start", what, start, fields, "Job", (409, 422), begins=True,
        ),
        Route(
            "POST", f"/{kind}/pause", f"Ask the {kind} to pause at its next checkpoint.",
            partial(_pause, kind), CONTROL, "Job", (404, 409, 422),
        ),
        Route(
            "POST", f"/{kind}/resume",
            f"Go on with the {kind} from its last checkpoint, in this server.",
            partial(_resume, kind), RESUME, "Job", (404, 409, 422), begins=True,
        ),
        Route(
            "POST", f"/{kind}/terminate", f"Stop the {kind} and undo what it made.",
            partial(_terminate, kind), CONTROL, "Job", (404, 409, 422),
        ),
        Route(
            "GET", f"/{kind}/progress", f"How far the {kind} is.",
            partial(_progress, kind), CONTROL, "HowFar", (404, 422),
        ),
    )  # fmt: skip


ROUTES: tuple[Route, ...] = (
    *_verbs(
        "upload", _upload, UPLOAD,
        "Load a CSV file into a table; the same again attaches to the job, or goes on with it.",
    ),
    *_verbs(
        "download", _download, DOWNLOAD,
        "Export a table or a query into a CSV file; the same again attaches or goes on.",
    ),
    Route("GET", "/jobs", "The jobs of all processes, newest first.", _jobs, JOBS, "Jobs", (422,)),
    Route("GET", f"/jobs/{JOB}", "One job.", _job, NOTHING, "Job", (404, 422)),
    Route(
        "GET", f"/jobs/{JOB}/events", "What happened to a job, oldest first.",
        _events, EVENTS, "Events", (404, 422),
    ),
    Route(
        "GET", "/status", "Which release, and which database.", _status, NOTHING, "Status", (422,)
    ),
)  # fmt: skip
