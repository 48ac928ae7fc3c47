"""All jobs of a database, as users hold them: a table to look at, to filter, and to open."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from taskwidgets.errors import OptionError, TaskwidgetsError
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.states import FINAL, State
from taskwidgets.runtime.store import JobRecord
from taskwidgets.runtime.viewer import viewer
from taskwidgets.runtime.words import count, percentage

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Dashboard", "JobSource", "Query", "as_of", "checked_states", "row_words", "text_table"]

WIDEST = 44  # characters of a name or an owner in the text table
HEADINGS = ("job", "name", "kind", "state", "done", "rows", "owner")


class JobSource(Protocol):
    """Where a dashboard has its jobs from. Every method blocks, and may be called in a thread."""

    def newest(
        self, *, states: Collection[State] | None, search: str, limit: int, offset: int
    ) -> list[JobRecord]:
        """The newest jobs first, in their true states, ``offset`` of them left out."""

    def record(self, job_id: int) -> JobRecord:
        """One job; JobNotFound when there is none."""

    def newest_events(self, job_id: int, limit: int) -> pd.DataFrame:
        """A job's last events, the newest first."""

    def is_mine(self, record: JobRecord) -> bool:
        """Whether the job's owner is this very process."""

    def open(self, job_id: int) -> Job:
        """The handle by which the job is looked at and controlled."""


@dataclass(frozen=True)
class Query:
    """Which jobs: ``states`` None for all; ``search`` is a text in name, source or target."""

    states: frozenset[State] | None = None
    search: str = ""


class Dashboard:
    """The jobs of one database, newest first, whoever runs them.

    In a notebook it shows itself as a live list with buttons; printed, it is a table of text. Each
    look reads the database anew: ``for record in dashboard``, ``dashboard.to_dataframe()``,
    ``repr(dashboard)``. ``dashboard.open(7)`` gives the Job.
    """

    def __init__(self, source: JobSource, query: Query, limit: int) -> None:
        self.source = source
        self.query = query
        self.limit = limit

    def records(self) -> list[JobRecord]:
        """The jobs as they are now."""
        return self.source.newest(
            states=self.query.states, search=self.query.search, limit=self.limit, offset=0
        )

    def __iter__(self) -> Iterator[JobRecord]:
        return iter(self.records())

    def open(self, job_id: int) -> Job:
        """The handle for a job: to pause, resume or terminate it; JobNotFound if there is none."""
        return self.source.open(job_id)

    def to_dataframe(self) -> pd.DataFrame:
        """One row a job, the newest first.

        ``done`` and ``total`` are counted in ``unit``; ``fraction`` goes from 0.0 to 1.0. ``owner``
        is the process that has the job or had it last, ``since`` when it took it, ``last_seen`` its
        last sign of life. Times are in UTC.
        """
        import pandas as pd  # a quarter of a second, for those who want a table

        records = self.records()
        columns = {
            "id": pd.Series([record.id for record in records], dtype="int64"),
            "name": [record.spec.name for record in records],
            "kind": [record.spec.kind for record in records],
            "state": [str(record.state) for record in records],
            "done": pd.Series([record.progress.done for record in records], dtype="int64"),
            "total": pd.array([record.progress.total for record in records], dtype="Int64"),
            "unit": [record.progress.unit for record in records],
            "fraction": pd.Series(
                [record.progress.fraction for record in records], dtype="float64"
            ),
            "rows": pd.Series([record.progress.rows for record in records], dtype="int64"),
            "owner": [owner_words(record) or None for record in records],
            "since": _times([record.owner.since if record.owner else None for record in records]),
            "last_seen": _times(
                [record.owner.seen if record.owner else None for record in records]
            ),
            "error": [(record.error or {}).get("message") for record in records],
            "created_at": _times([record.created_at for record in records]),
            "updated_at": _times([record.updated_at for record in records]),
        }
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        try:
            records = self.records()
        except TaskwidgetsError as error:  # a repr that raises hides what it was asked for
            return f"<jobs: {printable(str(error))}>"
        return text_table(records, datetime.now(UTC), self.query)

    def _ipython_display_(self) -> None:
        shown = viewer()
        if shown is None or not shown.show_dashboard(self):
            print(repr(self))  # noqa: T201 - the plain representation, where there is no front end


def checked_states(state: str | Collection[str] | None) -> frozenset[State] | None:
    """The states that a caller named, one or several; OptionError for one that does not exist."""
    if state is None:
        return None
    names = [state] if isinstance(state, str) else list(state)
    known = {str(one): one for one in State}
    for name in names:
        if name not in known:
            raise OptionError(f"there is no state {name!r}; the states are {', '.join(known)}")
    return frozenset(known[name] for name in names)


# ---------------------------------------------------------------------- words


def printable(text: str) -> str:
    """A text on one line, in which nothing moves a terminal's cursor."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def owner_words(record: JobRecord) -> str:
    """The process that has the job or had it last: "process 71 on host"; "" before the first."""
    owner = record.owner
    return "" if owner is None else f"process {owner.pid} on {owner.host}"


def done_words(record: JobRecord) -> str:
    """How far it is: "43 %"; nothing of a terminated job is left."""
    if record.state is State.TERMINATED:
        return ""
    return "100 %" if record.state is State.COMPLETED else percentage(record.progress)


def row_words(record: JobRecord) -> tuple[str, ...]:
    """What the tables tell of a job, in the order of HEADINGS."""
    gone = record.state is State.TERMINATED
    return (
        str(record.id),
        record.spec.name,
        record.spec.kind,
        str(record.state),
        done_words(record),
        "" if gone else count(record.progress.rows),
        "" if record.state in FINAL else owner_words(record),
    )


def as_of(records: Collection[JobRecord], now: datetime, query: Query) -> str:
    """The line above a table that will be read later: how many jobs, which, and when that was."""
    what = "1 job" if len(records) == 1 else f"{len(records)} jobs"
    if not records:
        what = "no jobs"
    if query.states is not None:
        what += f" that were {' or '.join(sorted(query.states))}"
    if query.search:
        what += f" with “{query.search}”"
    return f"{what}, as of {now:%H:%M:%S} UTC on {now:%Y-%m-%d}"


def text_table(records: Collection[JobRecord], now: datetime, query: Query) -> str:
    """The jobs as lines of text under headings, numbers to the right."""
    first = printable(as_of(records, now, query))
    if not records:
        return first
    rows = [HEADINGS, *(row_words(record) for record in records)]
    cells = [tuple(_short(printable(cell)) for cell in row) for row in rows]
    widths = [max(len(row[place]) for row in cells) for place in range(len(HEADINGS))]
    right = {HEADINGS.index("job"), HEADINGS.index("done"), HEADINGS.index("rows")}
    lines = [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([first, *lines])


def _short(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def _times(values: list[datetime | None]) -> pd.Series[pd.Timestamp]:
    import pandas as pd  # see above

    return pd.to_datetime(pd.Series(values, dtype="object"), utc=True)
