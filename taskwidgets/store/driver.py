"""The driver's connections: what each transaction sets before its first statement.

A name without a schema is looked up in the session's search path. Who may create functions and
operators in a schema of that path can put one there that fits a call better than the server's own,
and it then runs with the caller's rights (CVE-2018-1058,
https://wiki.postgresql.org/wiki/A_Guide_to_CVE-2018-1058:_Protect_Your_Search_Path). So there are
two kinds of statements:

- Statements on catalogs and on the schema ``taskwidgets`` run with ``PINNED_PATH``.
- Statements that may run code of users run with the path of the user, as that code needs it: COPY
  into a table with domains, INSERT into a target with triggers, queries, views. In these, each of
  our own functions, operators and types names its schema.

Behind a pooler a session also has what earlier clients have set in it and left behind. There each
transaction first gives the settings that matter the values that they have in a new session.

The settings are sent in front of the transaction's first statement, as one message with it, so
they cost no round trip to the server. SET LOCAL ends with the transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
import psycopg2.extensions
from psycopg2 import sql
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR
from sqlalchemy import Connection

from taskwidgets.store.copy_stdin import quiet_driver, read_by_session

__all__ = [
    "PINNED_PATH",
    "READ_WRITE",
    "USERS_PATH",
    "ClosingConnection",
    "Prologue",
    "StoreConnection",
    "begin_with",
    "commit_in_users_path",
    "disable_timeouts",
    "reset_settings",
    "users_path",
]

# pg_temp is named, and last: where it is not named, it comes first.
PINNED_PATH = "SET LOCAL search_path = pg_catalog, pg_temp"
# That of the role, the database and the connection's options, whatever was set in the session.
USERS_PATH = "SET LOCAL search_path TO DEFAULT"

# The server's default, which a role may have changed: a COPY that passes over rows tells of them
# in notices.
NOTICES = "SET LOCAL client_min_messages = notice"
# The claim of a job rests on it: what is read after a lock is of the time after the lock.
READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
# For a pooler's session, whose earlier client may have left default_transaction_read_only.
READ_WRITE = "SET TRANSACTION READ WRITE"

# A role, or a database, may have limits on what takes long; on hosted servers they often do. Those
# are meant for statements that somebody forgot, and any role may lift them for its transactions.
# A job can be stopped at any time, and what has to wait for a lock sets a limit of its own.
LIMITS = ("statement_timeout", "lock_timeout")

# What earlier clients of a pooler may have left, and what matters to what is read and written.
LEFT_BEHIND = (
    "role", "bytea_output", "extra_float_digits", "IntervalStyle", "lc_monetary", "lc_numeric",
    "lc_time", "xmlbinary", "row_security", "synchronous_commit",
    "idle_in_transaction_session_timeout",
)  # fmt: skip
TRANSACTION_TIMEOUT = 170000  # the first version that has this setting
# A pooler keeps these for each client (PgBouncer, track_extra_parameters); they are part of what a
# client may ask for when it connects. So they get the values that the connection began with.
REPORTED = ("DateStyle", "TimeZone")


def reset_settings(server_version: int, reported: Sequence[tuple[str, str]] = ()) -> list[str]:
    """Statements that undo, for one transaction, what others have set in a pooler's session.

    Parameters
    ----------
    server_version : int
        As the server has it: 170002.
    reported : sequence of (str, str)
        Settings and their values as the connection began.
    """
    names = [*LEFT_BEHIND, *_limits(server_version)]
    return [
        *(f"SET LOCAL {name} TO DEFAULT" for name in names),
        *(f"SET LOCAL {name} = {_quoted(value)}" for name, value in reported),
    ]


def disable_timeouts(server_version: int) -> list[str]:
    """Statements that lift, for one transaction, the time limits of the role and the database."""
    return [f"SET LOCAL {name} = 0" for name in _limits(server_version)]


def _limits(server_version: int) -> tuple[str, ...]:
    return (*LIMITS, "transaction_timeout") if server_version >= TRANSACTION_TIMEOUT else LIMITS


def _quoted(value: str) -> str:
    """A setting's value, which has no backslash, as a literal."""
    return "'" + value.replace("'", "''") + "'"


class Prologue:
    """What the transactions of one database begin with; shared by its connections.

    ``mark`` is the statement that marks a transaction as one of this process, behind a pooler;
    "" without one. ``is_direct``: it is known that no pooler is there. ``server_version``: that of
    the last connection, 0 before the first. ``is_read_only``: nothing is written, as to a source
    of exports, which may be a standby.
    """

    def __init__(self, *, is_read_only: bool = False) -> None:
        self.is_read_only = is_read_only
        self.mark = ""
        self.is_direct = False
        self.server_version = 0

    def connect(self, dsn: str, **given: Any) -> StoreConnection:
        """A connection that uses it: for ``connection_factory`` of the driver."""
        connection = StoreConnection(dsn, **given)
        connection.prologue = self
        self.server_version = connection.info.server_version
        return connection

    def resets(self, reported: Sequence[tuple[str, str]] = ()) -> list[str]:
        """Statements for a transaction in a session that may be a pooler's; else none."""
        if self.is_direct:
            return []
        mark = [self.mark] if self.mark else []
        return [*reset_settings(self.server_version, reported), *mark]


class ClosingConnection(psycopg2.extensions.connection):
    """A connection that closes its socket where it cannot be made.

    It would stay open as long as the error's traceback has the frame of an ``__init__`` in Python.
    """

    def __init__(self, dsn: str, **given: Any) -> None:
        try:
            super().__init__(dsn, **given)
        except BaseException:
            with suppress(psycopg2.Error):
                self.close()
            raise


class StoreConnection(ClosingConnection):
    """A connection whose transactions begin with the prologue.

    ``is_users``: for queries of the user's own; then no path is set. ``in_users_path``: the path
    that the next statement needs. ``first``: statements that come before all others in the next
    transaction, such as those that join a snapshot.
    """

    def __init__(self, dsn: str, **given: Any) -> None:
        super().__init__(dsn, **given)
        self.cursor_factory = StoreCursor
        self.prologue: Prologue | None = None
        self.is_users = False
        self.in_users_path = False
        self.first = ""
        self._path = ""  # that is set in the open transaction; "": not known
        self._reported = [
            (name, value) for name in REPORTED if (value := self.get_parameter_status(name))
        ]

    def prefix(self, statement: str) -> str:
        """What is to be sent in front of the statement."""
        status = self.info.transaction_status
        if status == TRANSACTION_STATUS_INERROR:
            # Only the end of the transaction, or of a savepoint, is possible. The latter takes
            # settings back that were made since.
            self._path = ""
            return ""
        path = USERS_PATH if self.in_users_path else PINNED_PATH
        sent: list[str] = []
        if status == TRANSACTION_STATUS_IDLE:
            sent = self._opening(path)
        elif not self.is_users and self._path != path:
            sent = [path]
        self._path = path
        if statement.lstrip()[:11].upper() == "ROLLBACK TO":
            self._path = ""
        return "".join(f"{one};\n" for one in sent)

    def _opening(self, path: str) -> list[str]:
        first, self.first = [self.first] if self.first else [], ""
        resets = [] if self.prologue is None else self.prologue.resets(self._reported)
        # A standby refuses this, whether or not anything is written.
        may_write = self.prologue is not None and not self.prologue.is_read_only
        if resets and self.readonly is None and may_write:
            resets.insert(0, READ_WRITE)
        if self.is_users:
            return [*resets, USERS_PATH] if resets else []
        # SQLAlchemy or psycopg2 may have been told another one: that is in the BEGIN already.
        level = [READ_COMMITTED] if self.isolation_level is None and not self.autocommit else []
        limits = disable_timeouts(self.info.server_version)
        return [*first, *level, path, NOTICES, *resets, *limits]


class StoreCursor(psycopg2.extensions.cursor):
    """A cursor that sends the prologue with the first statement of a transaction."""

    def execute(self, query: Any, vars: Any = None) -> Any:
        """As psycopg2 has it."""
        return super().execute(self._prefixed(query), vars)

    def executemany(self, query: Any, vars_list: Any) -> Any:
        """As psycopg2 has it: one statement after the other."""
        for one in vars_list:
            self.execute(query, one)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> Any:
        """As psycopg2 has it."""
        statement = self._prefixed(sql)
        with quiet_driver():
            return super().copy_expert(statement, read_by_session(statement, file), size)

    def _prefixed(self, query: Any) -> str:
        connection: Any = self.connection
        if isinstance(query, sql.Composable):
            query = query.as_string(connection)
        elif isinstance(query, bytes):
            query = query.decode()
        return f"{connection.prefix(query)}{query}"


def _driver(connection: Connection) -> StoreConnection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, StoreConnection)
    return driver


@contextmanager
def users_path(connection: Connection) -> Iterator[None]:
    """The statements inside run in the user's search path; costs no round trip."""
    driver = _driver(connection)
    before, driver.in_users_path = driver.in_users_path, True
    try:
        yield
    finally:
        driver.in_users_path = before


def commit_in_users_path(connection: Connection) -> None:
    """To be called last in a transaction that has written to a user's table.

    COMMIT runs the deferred triggers of that table, which need the user's path.
    """
    with users_path(connection):
        connection.exec_driver_sql("SELECT")


def begin_with(connection: Connection, statements: Sequence[str]) -> None:
    """Have the next transaction begin with these, before its snapshot is taken."""
    _driver(connection).first = ";\n".join(statements)
