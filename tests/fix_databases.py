"""A database for each test, cloned from one that was migrated once; and looks into it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from fix_servers import plain
from psycopg2 import sql

from taskwidgets import Workspace
from taskwidgets.embedded import EmbeddedServer
from taskwidgets.store.database import Database
from taskwidgets.store.jobs import PostgresJobStore

_numbers = itertools.count(1)


def run_sql(url: str, statement: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own; the rows, if it has any."""
    with closing(psycopg2.connect(plain(url))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []


def other_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    head, _, query = plain(url).partition("?")
    return f"{head.rpartition('/')[0]}/{name}?{query}"


@contextmanager
def new_database(
    url: str, template: str = "template0", tablespace: str | None = None
) -> Iterator[str]:
    """A database with a name that no other has, dropped afterwards; yields its URL."""
    name = f"test_{next(_numbers)}"
    run_sql(
        url,
        sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy TABLESPACE {}").format(
            sql.Identifier(name),
            sql.Identifier(template),
            sql.Identifier(tablespace or "pg_default"),
        ),
    )
    try:
        yield other_database(url, name)
    finally:
        run_sql(url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def template(embedded_server: EmbeddedServer) -> Iterator[str]:
    """The name of a database that has our schema."""
    with new_database(embedded_server.url) as url:
        database = Database(url)
        database.prepare()
        database.dispose()
        yield url.partition("?")[0].rpartition("/")[2]


@pytest.fixture
def database_url(embedded_server: EmbeddedServer, template: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    with new_database(embedded_server.url, template) as url:
        yield url


@pytest.fixture
def empty_url(embedded_server: EmbeddedServer) -> Iterator[str]:
    """A database in which taskwidgets has never been."""
    with new_database(embedded_server.url) as url:
        yield url


def end_store(store: PostgresJobStore) -> None:
    """End a store's threads and connections, whatever its jobs are at."""
    store._keeper._held.clear()  # a store with jobs goes on, as a process does
    store.close()
    store.database.dispose()


@pytest.fixture
def workspace(database_url: str) -> Iterator[Workspace]:
    """A workspace on the test's own database."""
    made = Workspace(database_url)
    yield made
    made.close()


@pytest.fixture
def another_workspace(database_url: str) -> Iterator[Callable[[], Workspace]]:
    """A factory of more workspaces on the same database, each with a session of its own."""
    made: list[Workspace] = []

    def make() -> Workspace:
        made.append(Workspace(database_url))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Look:
    """What stands in the database, seen from a connection beside everything else."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, statement: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
        return run_sql(self.url, statement, parameters)

    def one(self, statement: Any, parameters: Any = None) -> Any:
        ((value,),) = self(statement, parameters)
        return value

    def contents(self, *name: str) -> tuple[int, str]:
        """The number of rows, and a hash over all of them that knows no order."""
        statement = sql.SQL(
            "SELECT count(*), coalesce(sum(('x' || substr(md5(t::text), 1, 16))::bit(64)::bigint"
            "::numeric), 0)::text FROM {} t"
        ).format(sql.Identifier(*name))
        ((rows, total),) = self(statement)
        return rows, total

    def rows(self, *name: str) -> list[tuple[Any, ...]]:
        """All rows, sorted by their text."""
        return self(sql.SQL("SELECT * FROM {} t ORDER BY t::text").format(sql.Identifier(*name)))

    def types(self, *name: str) -> dict[str, str]:
        """Each column's type."""
        return dict(
            self(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                " JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace"
                " WHERE relname = %s AND nspname = %s AND attnum > 0 AND NOT attisdropped"
                " ORDER BY attnum",
                (name[-1], name[0] if len(name) > 1 else "public"),
            )
        )

    def exists(self, *name: str) -> bool:
        return bool(self.types(*name))

    def staging(self) -> list[str]:
        """The staging tables that are there, wherever they lie."""
        found = self("SELECT relname FROM pg_class WHERE relname LIKE 'taskwidgets_staging%'")
        return [name for (name,) in found]

    def untouched(self) -> bool:
        """Whether no job has left a trace: no row, no staging table."""
        return not self.staging() and self.one("SELECT count(*) FROM taskwidgets.jobs") == 0

    def ledger(self, job_id: int) -> tuple[int, int]:
        """Segments and rows that the ledger has for a job."""
        ((segments, rows),) = self(
            "SELECT coalesce(sum(segments), 0)::int, coalesce(sum(rows), 0)::bigint"
            " FROM taskwidgets.checkpoints"
            " WHERE job_id = %s",
            (job_id,),
        )
        return segments, rows

    def state(self, job_id: int) -> str:
        return str(self.one("SELECT state FROM taskwidgets.jobs WHERE id = %s", (job_id,)))

    def copy(self, path: Any, table: str, like: str, data_start: int = 0, **options: str) -> None:
        """Load a file by one plain COPY into a new table with the columns of ``like``."""
        given = {"format": "csv", "header": "true", **options}
        listed = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.SQL(name), sql.Literal(value))
            for name, value in given.items()
        )
        with (
            closing(psycopg2.connect(plain(self.url))) as connection,
            connection,
            connection.cursor() as cursor,
            Path(path).open("rb") as file,
        ):
            file.seek(data_start)
            cursor.execute(
                sql.SQL("CREATE TABLE {} (LIKE {})").format(
                    sql.Identifier(table), sql.Identifier(like)
                )
            )
            cursor.copy_expert(
                sql.SQL("COPY {} FROM STDIN WITH ({})").format(sql.Identifier(table), listed),
                file,
            )


@pytest.fixture
def look(database_url: str) -> Look:
    """Looks into the test's database."""
    return Look(database_url)
