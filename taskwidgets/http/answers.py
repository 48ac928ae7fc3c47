"""What an answer holds: bodies as plain values, and the schemas that they keep to."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

from taskwidgets.http.files import Files
from taskwidgets.runtime.progress import Progress
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.states import State
from taskwidgets.runtime.store import JobRecord

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SCHEMAS", "events_body", "job_body", "progress_body"]

PATH_OF = {"upload": "source", "download": "target"}
"""Which of a job's two ends is a file, by its kind."""


def progress_body(
    job_id: int, state: State, progress: Progress, error: str | None
) -> dict[str, Any]:
    """How far a job is."""
    fraction = progress.fraction
    percentage = None if fraction is None else math.floor(1000 * fraction) / 10
    return {
        "job_id": job_id,
        "state": str(state),
        "percentage": 100.0 if state is State.COMPLETED else percentage,
        "progress": {
            "done": progress.done,
            "total": progress.total,
            "unit": progress.unit,
            "fraction": fraction,
            "rows": progress.rows,
            "rejected": progress.rejected,
            "rate": progress.rate,
            "eta": progress.eta,
            "elapsed": progress.elapsed,
        },
        "error": error,
    }


def job_body(
    record: JobRecord, files: Files, *, here: bool, live: Progress | None = None, remark: str = ""
) -> dict[str, Any]:
    """A job; ``here``: this server is its owner; ``live``: a newer progress than the record's."""
    error = (record.error or {}).get("message")
    spec, owner = record.spec, record.owner
    ends: dict[str, str | None] = {"source": spec.source, "target": spec.target}
    if spec.kind in PATH_OF:
        end = PATH_OF[spec.kind]
        ends[end] = files.relative(ends[end] or "")
    body = progress_body(record.id, record.state, live or record.progress, error)
    del body["job_id"]
    made: dict[str, Any] = {
        "id": record.id,
        "kind": spec.kind,
        "name": spec.name,
        **ends,
        **body,
        "remark": remark,
        "receipt": None if record.receipt is None else _receipt_body(record.receipt, ends),
        "owner": None
        if owner is None
        else {
            "host": owner.host,
            "pid": owner.pid,
            "kernel": owner.kernel or None,
            "notebook": owner.notebook or None,
            "since": _moment(owner.since),
            "here": here,
        },
        "created_at": _moment(record.created_at),
        "updated_at": _moment(record.updated_at),
        "checkpoint_at": _moment(record.checkpoint_at),
    }
    return {name: scrubbed(value, files) for name, value in made.items()}


def _receipt_body(receipt: Receipt, ends: dict[str, str | None]) -> dict[str, Any]:
    return {**receipt.to_json(), **ends}


def events_body(job_id: int, events: pd.DataFrame, files: Files) -> dict[str, Any]:
    """A job's events, in the order of the frame."""
    listed = [
        {str(name): scrubbed(_plain(value), files) for name, value in event.items()}
        for event in events.to_dict("records")
    ]
    return {"job_id": job_id, "events": listed}


def scrubbed(value: Any, files: Files) -> Any:
    """The value with each text in it free of absolute paths below the root."""
    if isinstance(value, str):
        return files.scrubbed(value)
    if isinstance(value, dict):
        return {name: scrubbed(one, files) for name, one in value.items()}
    if isinstance(value, list):
        return [scrubbed(one, files) for one in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict | list):
        return value
    import pandas as pd  # whoever gives a table has loaded it

    if pd.isna(value):
        return None
    return value.isoformat() if isinstance(value, datetime) else value


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


# ---------------------------------------------------------------------- schemas


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


WHOLE = {"type": "integer"}
TEXT = {"type": "string"}
MAYBE_TEXT = {"type": ["string", "null"]}
MAYBE_NUMBER = {"type": ["number", "null"]}
MOMENT = {"type": ["string", "null"], "format": "date-time"}
STATE = {"type": "string", "enum": [str(state) for state in State]}
PERCENTAGE = {
    "type": ["number", "null"], "minimum": 0, "maximum": 100,
    "description": "rounded down to a tenth; null while the total is unknown",
}  # fmt: skip

SCHEMAS: dict[str, dict[str, Any]] = {
    "Progress": _object(
        done=WHOLE,
        total={"type": ["integer", "null"]},
        unit={**TEXT, "description": "what done and total count"},
        fraction={"type": ["number", "null"], "minimum": 0, "maximum": 1},
        rows={**WHOLE, "description": "rows committed"},
        rejected=WHOLE,
        rate={**MAYBE_NUMBER, "description": "rows per second"},
        eta={**MAYBE_NUMBER, "description": "seconds"},
        elapsed={"type": "number", "description": "seconds of work, pauses left out"},
    ),
    "HowFar": _object(
        job_id=WHOLE,
        state=STATE,
        percentage=PERCENTAGE,
        progress=_ref("Progress"),
        error=MAYBE_TEXT,
    ),
    "Receipt": _object(
        rows_read=WHOLE,
        rows_loaded=WHOLE,
        rows_rejected=WHOLE,
        bytes=WHOLE,
        seconds={"type": "number"},
        sha256=TEXT,
        source=MAYBE_TEXT,
        target=MAYBE_TEXT,
        notes={"type": "array", "items": TEXT},
        result={"description": "what a function of the user's own returned"},
    ),
    "Owner": _object(
        host=TEXT,
        pid=WHOLE,
        kernel={**MAYBE_TEXT, "description": "the Jupyter kernel's id"},
        notebook=MAYBE_TEXT,
        since=MOMENT,
        here={"type": "boolean", "description": "whether it is this server"},
    ),
    "Job": _object(
        id=WHOLE,
        kind={**TEXT, "description": "upload, download, or function"},
        name=TEXT,
        source={
            **MAYBE_TEXT,
            "description": "a path relative to the server's root, a table or a query; null for a"
            " file outside the root",
        },
        target={**MAYBE_TEXT, "description": "a table, or a path as source has it"},
        state=STATE,
        percentage=PERCENTAGE,
        progress=_ref("Progress"),
        error={**MAYBE_TEXT, "description": "what stopped it"},
        remark={**TEXT, "description": 'such as "resuming job 7 at 43 %"'},
        receipt={"anyOf": [_ref("Receipt"), {"type": "null"}]},
        owner={"anyOf": [_ref("Owner"), {"type": "null"}]},
        created_at=MOMENT,
        updated_at=MOMENT,
        checkpoint_at=MOMENT,
    ),
    "Jobs": _object(jobs={"type": "array", "items": _ref("Job")}),
    "Event": _object(
        at=MOMENT,
        kind=TEXT,
        from_state=MAYBE_TEXT,
        to_state=MAYBE_TEXT,
        owner=MAYBE_TEXT,
        cause=MAYBE_TEXT,
        details={"description": "JSON, by the kind of event"},
    ),
    "Events": _object(job_id=WHOLE, events={"type": "array", "items": _ref("Event")}),
    "Status": _object(
        version=TEXT,
        database={
            **TEXT,
            "description": "tells whether two processes are on the same database; opaque",
        },
    ),
    "Error": _object(
        error={
            "type": "object",
            "properties": {
                "code": {**TEXT, "description": "the error's name"},
                "message": {**TEXT, "description": "what is wrong, and what to do"},
                "field": {**MAYBE_TEXT, "description": "the field that is at fault"},
                "job_id": WHOLE,
                "state": {**STATE, "description": "the job's, where that is what forbids it"},
            },
            "required": ["code", "message", "field"],
            "additionalProperties": False,
        }
    ),
}
