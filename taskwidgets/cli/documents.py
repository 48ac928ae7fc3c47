"""Jobs as JSON: the same entries wherever a command prints one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # pandas comes with them, which takes half a second
    from taskwidgets.runtime.job import Job
    from taskwidgets.runtime.progress import Progress
    from taskwidgets.runtime.receipt import Receipt
    from taskwidgets.runtime.store import JobRecord, Owner

__all__ = ["job_document", "record_document"]


def job_document(job: Job) -> dict[str, Any]:
    """A job that this process runs or looks at, as it is now."""
    return {
        "job": job.id,
        "name": job.name,
        "kind": job.kind,
        "state": str(job.state),
        "source": job.source,
        "target": job.target,
        "progress": _progress(job.progress),
        "error": job.error,
        "receipt": _receipt(job.receipt),
        "owner": _owner(job.owner),
        "checkpoint_at": job.checkpoint_at,
        "remark": job.remark,
    }


def record_document(record: JobRecord) -> dict[str, Any]:
    """A job as the database has it."""
    return {
        "job": record.id,
        "name": record.spec.name,
        "kind": record.spec.kind,
        "state": str(record.state),
        "source": record.spec.source,
        "target": record.spec.target,
        "progress": _progress(record.progress),
        "error": (record.error or {}).get("message"),
        "receipt": _receipt(record.receipt),
        "owner": _owner(record.owner),
        "checkpoint_at": record.checkpoint_at,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def _progress(progress: Progress) -> dict[str, Any]:
    return {
        **progress.to_json(),
        "fraction": progress.fraction,
        "rate": progress.rate,
        "eta": progress.eta,
    }


def _receipt(receipt: Receipt | None) -> dict[str, Any] | None:
    return None if receipt is None else receipt.to_json()


def _owner(owner: Owner | None) -> dict[str, Any] | None:
    if owner is None:
        return None
    return {
        "host": owner.host,
        "pid": owner.pid,
        "since": owner.since,
        "seen": owner.seen,
        "kernel": owner.kernel,
        "notebook": owner.notebook,
    }
