"""``taskwidgets jobs``, ``show``, ``rejects`` and ``prune``: what is recorded of jobs."""

from __future__ import annotations

import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskwidgets.cli.documents import record_document
from taskwidgets.cli.exits import Exit
from taskwidgets.cli.output import clean, guarded, print_json, say
from taskwidgets.cli.parameters import AsJson, DatabaseUrl, JobId, connected
from taskwidgets.errors import OptionError, TargetExists
from taskwidgets.runtime.states import State
from taskwidgets.runtime.words import amount, bytes_text, count, duration, percentage

if TYPE_CHECKING:
    import pandas as pd

    from taskwidgets.runtime.store import JobRecord

__all__ = ["jobs", "prune", "rejects", "show"]

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
SHOWN = 20  # rejects in a terminal
WIDEST = 160  # characters of a rejected record in a terminal


@guarded
def jobs(
    states: Annotated[
        list[str] | None,
        typer.Argument(metavar="STATE", help="Only these: running, failed ...", show_default=False),
    ] = None,
    search: Annotated[
        str, typer.Option(metavar="TEXT", help="A text in name, source or target.")
    ] = "",
    limit: Annotated[int, typer.Option(metavar="N", help="So many at most, the newest.")] = 100,
    database: DatabaseUrl = None,
    as_json: AsJson = False,
) -> Exit:
    """List the jobs of the database, newest first.

    Whoever runs them: a notebook, a script, another terminal.
    """
    listed = connected(database).jobs(states or None, search=search, limit=limit)
    if as_json:
        print_json([record_document(record) for record in listed])
    else:
        say(repr(listed))
    return Exit.DONE


@guarded
def show(
    job_id: JobId,
    events: Annotated[int, typer.Option(metavar="N", help="So many of its last events.")] = 10,
    database: DatabaseUrl = None,
    as_json: AsJson = False,
) -> Exit:
    """Show one job: state, receipt or error, last events."""
    if events < 0:
        raise OptionError(f"--events must be a number from 0 on, not {events}")
    source = connected(database).jobs().source
    record = source.record(job_id)
    history = source.newest_events(job_id, events)
    if as_json:
        print_json({**record_document(record), "events": _entries(history)})
        return Exit.DONE
    say("\n".join(_lines(record)))
    if len(history):
        say("\nlast events, newest first:")
    for event in _entries(history):
        moved = f"{event['from_state'] or ''} → {event['to_state']}" if event["to_state"] else ""
        words = [f"{event['at'][:19]}", event["kind"], moved, event["cause"], event["owner"]]
        say("  " + "  ".join(clean(str(word)) for word in words if word))
    return Exit.DONE


def _lines(record: JobRecord) -> list[str]:
    spec, progress, receipt = record.spec, record.progress, record.receipt
    done = [percentage(progress), amount(progress)]
    state = str(record.state)
    if receipt is None and record.state is not State.TERMINATED:
        state = ", ".join([state, *(word for word in done if word)])
    told = [
        ("job", f"{record.id} ({spec.name})"),
        ("state", state),
        ("kind", spec.kind),
        ("source", spec.source),
        ("target", spec.target),
        ("process", "" if record.owner is None else str(record.owner)),
        ("error", (record.error or {}).get("message") or ""),
    ]
    if record.checkpoint_at is not None:
        told.append(("checkpoint", f"{record.checkpoint_at:%Y-%m-%d %H:%M:%S} UTC"))
    if receipt is not None:
        told += [
            ("rows", f"{count(receipt.rows_read)} read, {count(receipt.rows_loaded)} loaded, "
                     f"{count(receipt.rows_rejected)} rejected"),
            ("size", f"{bytes_text(receipt.bytes)} in {duration(receipt.seconds)}"),
            ("sha256", receipt.sha256),
            *(("note", note) for note in receipt.notes),
        ]  # fmt: skip
    if record.state in (State.PAUSED, State.FAILED, State.INTERRUPTED, State.PENDING):
        told.append(("to go on", f"taskwidgets resume {record.id}"))
    return [f"{name:<11} {clean(text)}" for name, text in told if text]


@guarded
def rejects(
    job_id: JobId,
    csv: Annotated[
        str | None,
        typer.Option(
            "--csv", metavar="FILE", help="Write all of them to a file; - is standard output.",
            show_default=False,
        ),
    ] = None,
    if_exists: Annotated[
        str, typer.Option(metavar="WHAT", help="What to do with a file that is there: fail or "
                          "replace.")
    ] = "fail",
    database: DatabaseUrl = None,
    as_json: AsJson = False,
) -> Exit:  # fmt: skip
    """List the rows that an upload did not load, and why.

    Rows are rejected with `--on-error reject`.
    """
    if if_exists not in ("fail", "replace"):
        raise OptionError(f"--if-exists must be fail or replace, not {if_exists!r}")
    path = Path(csv).expanduser() if csv not in (None, "-") else None
    if path is not None and path.exists() and if_exists == "fail":
        raise TargetExists(f"{path} exists; choose another file, or --if-exists replace")
    found = connected(database).job(job_id).rejects()
    if csv == "-":
        found.to_csv(sys.stdout, index=False)
    elif path is not None:
        _write_whole(path, found)
    if as_json:
        print_json({"job": job_id, "rejects": _entries(found)})
    elif path is not None:
        say(f"{count(len(found))} rejects of job {job_id} in {path}")
    elif csv is None:
        _list(job_id, found)
    return Exit.DONE


def _write_whole(path: Path, found: pd.DataFrame) -> None:
    """Under another name first, so that the file is whole or not there."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        found.to_csv(unfinished, index=False)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _list(job_id: int, found: pd.DataFrame) -> None:
    if found.empty:
        say(f"job {job_id} has rejected nothing")
        return
    for reject in _entries(found.head(SHOWN)):
        column = f", column {reject['column']}" if reject["column"] else ""
        loaded = " (loaded since)" if reject["replayed_at"] else ""
        raw = clean(reject["raw"])
        say(clean(f"line {reject['line']:,}{column}: {reject['message']}{loaded}"))
        say(f"    {raw if len(raw) <= WIDEST else raw[: WIDEST - 1] + '…'}")
    if len(found) > SHOWN:
        say(f"and {count(len(found) - SHOWN)} more; --csv FILE writes them all")


@guarded
def prune(
    older_than: Annotated[
        str,
        typer.Option(metavar="AGE", help="Such as 30d, 12h or 2w.", show_default=False),
    ],
    database: DatabaseUrl = None,
    as_json: AsJson = False,
) -> Exit:
    """Delete what is kept of jobs that ended long ago.

    Those that were completed or terminated. What they loaded or wrote stays. Jobs that are not
    finished are never touched.
    """
    deleted = connected(database).prune(_age(older_than))
    if as_json:
        print_json({"deleted": deleted})
    else:
        say("1 job deleted" if deleted == 1 else f"{count(deleted)} jobs deleted")
    return Exit.DONE


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})\s*([smhdw])", text.strip().lower())
    if found is None:
        raise OptionError(
            f"--older-than {text!r}: it is a number with its unit: s, m, h, d or w, such as 30d"
        )
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def _entries(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows with plain values: times as ISO texts, what is absent as None."""
    rows: list[dict[str, Any]] = []
    for row in table.astype("object").where(table.notna(), None).to_dict("records"):
        plain = {str(name): value for name, value in row.items()}
        rows.append(
            {
                name: value.isoformat() if hasattr(value, "isoformat") else value
                for name, value in plain.items()
            }
        )
    return rows
