"""What other clients of a pooler have set in its sessions changes nothing of what is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from fix_databases import Look
from fix_exports import copied
from fix_poolers import Pooler

from taskwidgets import Workspace
from taskwidgets import job as job_decorator

SESSIONS = 8
# As another client may leave them. PgBouncer itself keeps TimeZone, DateStyle and, since 1.20,
# IntervalStyle apart for each client.
LEFT = {
    "extra_float_digits": "-3",
    "bytea_output": "escape",
    "IntervalStyle": "iso_8601",
    "client_min_messages": "error",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "search_path": "pg_temp",
    "statement_timeout": "100ms",
    "lock_timeout": "1ms",
    "synchronous_commit": "off",
    "role": "pg_monitor",
}
TABLE = """
    CREATE TABLE kinds AS
    SELECT n, n / 3::float8 AS third, n * interval '1 day 1 hour' AS span,
           decode(lpad(to_hex(n), 8, '0'), 'hex') AS raw, timestamptz '2024-01-01Z' AS at
    FROM generate_series(1, 2000) AS n
"""
QUERY = "SELECT third, span, raw, at FROM kinds ORDER BY n DESC"


@pytest.fixture
def left(make_pooler: Callable[..., Pooler]) -> tuple[Pooler, Callable[[], None]]:
    """A pooler, and what leaves settings in each of its sessions."""
    pooler = make_pooler(size=SESSIONS)

    def leave() -> None:
        with ExitStack() as stack:
            for _ in range(SESSIONS):  # a transaction each, so each has another session
                other = stack.enter_context(closing(psycopg2.connect(pooler.url)))
                cursor = other.cursor()
                for name, value in LEFT.items():
                    cursor.execute(f"SET SESSION {name} = '{value}'")
                stack.callback(other.commit)

    return pooler, leave


@pytest.fixture
def workspace(
    left: tuple[Pooler, Callable[[], None]], look: Look
) -> Iterator[tuple[Workspace, Callable[[], None]]]:
    """A workspace behind the pooler, and what leaves settings in its sessions."""
    look(TABLE)
    pooler, leave = left
    made = Workspace(pooler.url)
    leave()
    yield made, leave
    made.close()


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"extra_float_digits": "0", "IntervalStyle": "sql_standard", "bytea_output": "hex"},
    ],
)
def test_files_are_byte_for_byte_as_without_them(
    workspace: Any, look: Look, tmp_path: Path, own: dict[str, str]
) -> None:
    """A table and a query, with the settings of role and database, in a file and in parts."""
    database = look.one("SELECT current_database()")
    role = look.one("SELECT current_user")
    for number, (name, value) in enumerate(own.items()):
        whose = f"ROLE {role} IN DATABASE {database}" if number % 2 else f"DATABASE {database}"
        look(f"ALTER {whose} SET {name} TO '{value}'")
    made, leave = workspace
    if own:  # only new sessions have them
        look(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    for source, select in (("kinds", "SELECT * FROM kinds"), (QUERY, QUERY)):
        expected = copied(look.url, select)
        for number, workers in enumerate((1, 3)):
            leave()
            path = tmp_path / f"{source[:5]}-{number}.csv"
            made.download(source, path, workers=workers).wait()
            assert path.read_bytes() == expected


def test_rows_are_loaded_and_rejects_are_kept(
    workspace: Any, look: Look, csv_file: Callable[..., Path]
) -> None:
    """A trigger that takes a while is not ended; a row that COPY passes over is kept."""
    made, leave = workspace
    look("CREATE TABLE target (id int, day date)")
    look(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END'"
    )
    look("CREATE TRIGGER s AFTER INSERT ON target EXECUTE FUNCTION slow()")
    path = csv_file("id,day", *(f"{n},2024-01-01" for n in range(500)), "x,2024-01-01")
    job = made.upload(path, "target", if_exists="append", on_error="reject")
    receipt = job.wait()
    assert (receipt.rows_loaded, receipt.rows_rejected) == (500, 1)
    assert job.rejects()["raw"].tolist() == ["x,2024-01-01"]
    leave()
    made.upload(path, "made", types="text").wait()
    assert look.one("SELECT tableowner FROM pg_tables WHERE tablename = 'made'") == look.one(
        "SELECT current_user"
    )


def test_a_function_writes_with_the_settings_of_its_user(workspace: Any, look: Look) -> None:
    """Its transactions write, in the user's search path; the marks of others are not theirs."""
    made, _ = workspace
    look("CREATE TABLE seen (n int, path text, digits text)")

    @job_decorator
    def fill(run: Any) -> None:
        for number in run.track(range(3)):
            with run.transaction() as connection, connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO seen VALUES (%s, current_setting('search_path'),"
                    " current_setting('extra_float_digits'))",
                    (number,),
                )

    fill.using(made)().wait()
    assert look("SELECT * FROM seen ORDER BY n") == [(n, '"$user", public', "1") for n in range(3)]
    with made.engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM seen").scalar() == 3
