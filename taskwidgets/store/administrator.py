"""What a superuser does so that jobs can run in sessions of a role with fewer rights.

The service over HTTP runs queries of whoever has its token. On the embedded server its sessions log
in as ``RESTRICTED_ROLE``, which reads and writes all tables and reaches no file of the server. Some
statements of the package need more: to make the schema, to change a staging table that a notebook's
job has made, to replace a table. They run here, in sessions of the superuser in which no text of a
request is ever a statement.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from psycopg2 import sql
from sqlalchemy import Connection, text

from taskwidgets.embedded.roles import (
    EMBEDDED_SETTING,
    RESTRICTED_ROLE,
    ensure_restricted_role,
)
from taskwidgets.errors import DatabaseError, LoginRefused
from taskwidgets.store.database import Database
from taskwidgets.store.driver import users_path
from taskwidgets.store.schema import SCHEMA, staging_table

__all__ = ["Administrator", "find_administrator"]

LOCK_PATIENCE = 10.0  # seconds for a table that another session reads or writes
LOCK = 0x7461736B776964 + 2  # "taskwid" and a number: one process at a time grants in a database

FIND = text("SELECT current_setting('is_superuser') = 'on', current_setting(:setting, true) = 'on'")
SESSION = text("SELECT session_user, current_setting('is_superuser')")
MISSING_RIGHTS = text(
    """
    SELECT (SELECT quote_ident(datname) FROM pg_database
            WHERE datname = current_database()
              AND NOT (has_database_privilege(:role, oid, 'CONNECT')
                       AND has_database_privilege(:role, oid, 'TEMPORARY'))) AS database,
           ARRAY(SELECT nspname::text FROM pg_namespace
                 WHERE nspname = ANY (:schemas)
                   AND NOT (has_schema_privilege(:role, oid, 'USAGE')
                            AND has_schema_privilege(:role, oid, 'CREATE'))) AS schemas
    """
)
# A table of a superuser. One of another role stays that role's: it could not use it any more.
SUPERUSERS_TABLE = text(
    """
    SELECT c.oid FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_roles owner ON owner.oid = c.relowner
    WHERE n.nspname = :schema AND c.relname = :table AND c.relkind = 'r' AND owner.rolsuper
    """
)


class Administrator:
    """The connections of a superuser; ``restricted`` are those that jobs get instead."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.lock_patience = LOCK_PATIENCE
        self.restricted = database.as_role(RESTRICTED_ROLE)
        self.restricted.administrator = self

    def prepare(self) -> None:
        """Bring the schema up to this release, and see that the other role can use it.

        Raises DatabaseError where that role can log in with more rights than it is to have.
        """
        self._database.prepare()
        self._make_role()
        self._grant([SCHEMA, "public"])
        self._check_login()
        self.restricted.prepare()

    def prepare_source(self) -> None:
        """The same, where data are only read."""
        self._database.prepare_source()
        self._make_role()
        self._check_login()
        self.restricted.prepare_source()

    def _check_login(self) -> None:
        try:
            with self.restricted.begin() as connection:
                user, is_superuser = connection.execute(SESSION).one()
        except LoginRefused as refused:
            raise LoginRefused(
                f"{refused}. Jobs over HTTP log in as the role {RESTRICTED_ROLE}, which the "
                "embedded server makes when it starts; let it in by pg_hba.conf in the data "
                "directory, as it was made",
                sqlstate=refused.sqlstate,
            ) from None
        if user != RESTRICTED_ROLE or is_superuser != "off":
            raise DatabaseError(
                f"jobs over HTTP are to log in as the role {RESTRICTED_ROLE} without the rights of "
                f"a superuser, and this session is that of {user}; look at pg_hba.conf and "
                "pg_ident.conf in the data directory"
            )

    def begin(self) -> AbstractContextManager[Connection]:
        """A short transaction of the superuser; see ``Database.begin``."""
        return self._database.begin()

    def open_schema(self, schema: str) -> None:
        """Let the other role make tables in a user's schema."""
        if not schema.startswith("pg_") and schema != "information_schema":
            self._grant([schema])

    def hand_over_table(self, schema: str, table: str) -> None:
        """Make the other role the owner of a superuser's table, so that it can replace it."""
        with self._database.begin_apart() as connection:
            _hand_over(connection, schema, table)

    def hand_over_job(self, job_id: int) -> None:
        """Make the other role the owner of what a job keeps its rows in."""
        self.hand_over_table(SCHEMA, staging_table(job_id))

    def dispose(self) -> None:
        """Close the idle connections of both roles."""
        self.restricted.dispose()
        self._database.dispose()

    def _make_role(self) -> None:
        """Make the role, also in a data directory that an earlier release has made."""
        with self._database.begin() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            with driver.cursor() as cursor:
                ensure_restricted_role(cursor)

    def _grant(self, schemas: list[str]) -> None:
        wanted = {"role": RESTRICTED_ROLE, "schemas": schemas}
        role = sql.Identifier(RESTRICTED_ROLE)
        with self._database.begin() as connection:
            missing = connection.execute(MISSING_RIGHTS, wanted).one()
            if missing.database is None and not missing.schemas:
                return
            # Two processes that grant at once would get "tuple concurrently updated".
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            missing = connection.execute(MISSING_RIGHTS, wanted).one()
            statements = [
                sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(sql.Identifier(name), role)
                for name in missing.schemas
            ]
            if missing.database is not None:
                statements.append(
                    sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(
                        sql.SQL(missing.database), role
                    )
                )
            for statement in statements:
                _execute(connection, statement)


def find_administrator(database: Database, *, is_embedded: bool) -> Administrator | None:
    """The administrator of an embedded server; None for another server, or another role.

    ``is_embedded``: it is known to be one. A URL may lead to one as well: the server tells.
    """
    with database.begin() as connection:
        is_superuser, tells = connection.execute(FIND, {"setting": EMBEDDED_SETTING}).one()
    return Administrator(database) if is_superuser and (is_embedded or tells) else None


def _hand_over(connection: Connection, schema: str, table: str) -> None:
    found = connection.scalar(SUPERUSERS_TABLE, {"schema": schema, "table": table})
    if found is None:
        return
    statement = sql.SQL("ALTER TABLE {} OWNER TO {}").format(
        sql.Identifier(schema, table), sql.Identifier(RESTRICTED_ROLE)
    )
    with users_path(connection):  # event triggers run with it: they are the user's code
        _execute(connection, statement)


def _execute(connection: Connection, statement: sql.Composable) -> None:
    cursor = connection.connection.cursor()
    try:
        cursor.execute(statement)
    finally:
        cursor.close()
