"""A look at the server through its socket: does it answer, and is its database there."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taskwidgets.embedded.directory import advice
from taskwidgets.embedded.sockets import DATABASE, PORT, ROLE
from taskwidgets.errors import EmbeddedServerError

if TYPE_CHECKING:
    import psycopg2.extensions

__all__ = ["NotYet", "look", "other_sessions"]

PATIENCE = 10  # seconds for one connection; it takes milliseconds

# "the database system is starting up", "... is shutting down", "... is in recovery mode" and so
# on: SQLSTATE 57P03, which the driver does not tell for a connection that failed.
PASSING = "the database system is"

# admin_shutdown, crash_shutdown, cannot_connect_now
GOING_DOWN = ("57P01", "57P02", "57P03")


@dataclass(frozen=True)
class NotYet:
    """Nobody answers there now, for this reason; it may be another thing in a moment."""

    reason: str


def look(socket_directory: Path, data: Path) -> str | NotYet:
    """Return the version of the server that answers at the socket.

    The database is made if it is missing.

    Raises EmbeddedServerError if a server answers but will not have us, or has other data.
    """
    import psycopg2.errors  # here: importing the package must be quick

    try:
        connection = _connect(socket_directory)
    except psycopg2.OperationalError as error:
        text = str(error).strip()
        if "FATAL" in text and PASSING not in text:
            raise EmbeddedServerError(
                f"The embedded server at {socket_directory} refuses to let us in: {text}"
            ) from error
        return NotYet(text)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('data_directory'), current_setting('server_version')"
            )
            row = cursor.fetchone()
            assert row is not None  # a SELECT without FROM has one row
            directory, version = row
            if not _same(Path(directory), data):
                raise EmbeddedServerError(
                    f"The server at {socket_directory} serves {directory} and not {data}. "
                    "Set TASKWIDGETS_HOME to another directory."
                )
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                # A kernel that was killed may have left the same statement running in the server:
                # then ours waits for it, and finds the database there.
                with contextlib.suppress(
                    psycopg2.errors.UniqueViolation, psycopg2.errors.DuplicateDatabase
                ):
                    # template1 would not do while a session is in it; here nobody can be.
                    cursor.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
            return str(version).split()[0]  # some builds add their name in brackets
    except psycopg2.Error as error:
        if error.pgcode in (None, *GOING_DOWN):
            return NotYet(str(error).strip())  # it went down while we were looking
        text = f"The embedded server cannot make the database {DATABASE}: {error}"
        raise EmbeddedServerError(f"{text}{advice(text)}".rstrip()) from error
    finally:
        connection.close()


def other_sessions(socket_directory: Path) -> int | None:
    """Return how many sessions of clients there are; None if the server does not answer now."""
    import psycopg2

    try:
        connection = _connect(socket_directory)
    except psycopg2.Error:
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            row = cursor.fetchone()
            assert row is not None  # count(*) gives one row
            return int(row[0])
    except psycopg2.Error:
        return None
    finally:
        connection.close()


def _connect(socket_directory: Path) -> psycopg2.extensions.connection:
    import psycopg2

    return psycopg2.connect(
        host=str(socket_directory),
        port=PORT,
        user=ROLE,
        dbname="postgres",
        connect_timeout=PATIENCE,
        # Said, else $PGHOSTADDR and $PGOPTIONS would count.
        hostaddr="",
        options="-c search_path=pg_catalog,pg_temp",
    )


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
