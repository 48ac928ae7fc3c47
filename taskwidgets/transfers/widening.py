"""Columns of inferred types that a later value does not fit: widened, so that nothing is lost.

Where ALTER TABLE gives what loading anew would have given, the staging table is altered, in the
transaction that loads the segment at hand. Where it does not (what has been loaded is spelled
otherwise by now), the load begins anew with the wider type: one transaction empties the staging
table, forgets the ledger and changes the plan. Types that were given, and those of an existing
table, are never changed: their misfits stop the job or are rejects.

That holds for ``on_error="reject"`` too: a type is only inferred where all of the sample fits it,
so what does not is news about the column, and no known exception in it.

Of a file that COPY reads as it stands, what lies beyond the first 32 MiB is not looked through for
all that Postgres would take and change: there it is leading zeros and plus signs, which make codes
of numbers, and what COPY refuses (see ``WELL_READ_BYTES``). With ``on_error="reject"``, and where
COPY could not read the file as it stands, all of it is looked through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from psycopg2 import sql
from sqlalchemy import Connection, text

from taskwidgets.runtime.run import Run
from taskwidgets.store import checkpoints, rejects
from taskwidgets.store.driver import users_path
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular.types import TEXT
from taskwidgets.tabular.widening import converts_exactly, wider
from taskwidgets.transfers import tables
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.upload_plan import UploadPlan

__all__ = ["BegunAnew", "Misfits", "Widening", "decide", "widenable"]

LONGEST_VALUE = 80  # characters of a value in an event


class BegunAnew(Exception):
    """The load begins anew, with other types: everything is to be read again."""


class Misfits(Exception):
    """Values of a segment that columns of inferred types do not keep.

    ``values`` are all of them by the column's index, ``lines`` the physical line and the value of
    each column's first.
    """

    def __init__(
        self, values: Mapping[int, set[str]], lines: Mapping[int, tuple[int, str]]
    ) -> None:
        super().__init__()
        self.values = values
        self.lines = lines

    def and_more(self, more: Misfits) -> Misfits:
        """These and those together."""
        values = {index: set(found) for index, found in self.values.items()}
        for index, found in more.values.items():
            values.setdefault(index, set()).update(found)
        return Misfits(values, {**more.lines, **self.lines})


def widenable(plan: UploadPlan) -> dict[int, str]:
    """The types that may be changed, by the column's index."""
    return {
        index: plan.types[column]
        for index, column in enumerate(plan.columns)
        if column in plan.inferred and plan.types[column] != TEXT
    }


@dataclass(frozen=True)
class Widening:
    """A plan, and the one with wider types; ``changed``: column -> what the events say of it."""

    old: UploadPlan
    new: UploadPlan
    exact: bool  # whether ALTER TABLE will do
    changed: dict[str, str] = field(default_factory=dict)

    def apply(self, connection: Connection, staging: TableName) -> None:
        """Alter the staging table, empty it where ALTER would not be exact."""
        types = {column: self.new.types[column] for column in self.changed}
        # The table comes before the job's row, as in every transaction that loads: whoever is
        # cut off in the middle of one can then not wait for this, while this waits for it.
        name = staging.identifier
        tables.execute(connection, sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(name))
        if not self.exact:
            tables.execute(connection, sql.SQL("TRUNCATE {}").format(name))
        # Days become text as they were written.
        connection.execute(text("SET LOCAL DateStyle = 'ISO, YMD'"))
        actions = sql.SQL(", ").join(  # in one statement, as each writes the table anew
            sql.SQL("ALTER COLUMN {0} TYPE {1} USING {0}::{1}").format(
                sql.Identifier(column), tables.type_sql(kind)
            )
            for column, kind in types.items()
        )
        with users_path(connection):  # for event triggers, which are users' code
            tables.execute(connection, sql.SQL("ALTER TABLE {} {}").format(name, actions))

    def record(self, connection: Connection, store: PostgresJobStore, run: Run) -> None:
        """Change the plan, under the claim, and say so."""
        store.change_plan(connection, run.claim, self.new.to_json())
        if not self.exact:
            checkpoints.forget(connection, run.job_id)
            rejects.forget(connection, run.job_id)
        for column, words in self.changed.items():
            store.note_within(
                connection,
                run.job_id,
                "widened",
                words,
                {"column": column, "from": self.old.types[column], "to": self.new.types[column]},
            )


def decide(whole: UploadPlan, own: UploadPlan, found: Misfits) -> Widening:
    """Which types the misfits need: of a file, whose ``own`` plan is one part of the ``whole``."""
    types, changed, exact = dict(whole.types), {}, True
    converted = _converted(whole)
    place = f"{own.source_name}, line" if whole.parts else "line"
    for index, values in found.values.items():
        column = own.columns[index]
        old = whole.types[column]
        new = types[column] = wider(old, values)
        exact &= converts_exactly(old, new, as_written=column not in converted)
        line, value = found.lines[index]
        changed[column] = (
            f'column "{column}" widened from {old} to {new}: {place} {line:,} has {_shown(value)}'
        )
    if not exact:
        changed = {
            column: f"{words}; the load began anew, so that all values are as written"
            for column, words in changed.items()
        }
    wide = whole.with_types(types, (*whole.notes, *changed.values()))
    if not exact:
        wide = replace(wide, beginnings=whole.beginnings + 1)
    return Widening(whole, wide, exact, changed)


def _converted(whole: UploadPlan) -> set[str]:
    """The columns of which some value may be written otherwise in its file."""
    plans = [whole.of_part(number) for number in whole.parts.representatives] or [whole]
    return {plan.columns[index] for plan in plans for index in plan.conversions}


def _shown(value: str) -> str:
    cut = value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}…"
    return repr(cut.replace("\0", "\N{SYMBOL FOR NULL}"))
