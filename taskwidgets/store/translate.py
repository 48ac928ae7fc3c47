"""The one edge where errors of the driver become errors of our own tree, without the password."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import sqlalchemy.exc
from sqlalchemy.engine import URL

from taskwidgets.errors import (
    ConnectionsExhausted,
    DatabaseError,
    LoginRefused,
    RightsMissing,
    ServerReadOnly,
    ServerUnreachable,
    TaskwidgetsError,
)
from taskwidgets.store.schema import SCHEMA

__all__ = ["address", "driver_error", "is_away", "is_cancelled", "scrubbed", "translated"]

# The server closed the connection or is on its way down or up; what was asked may be asked again.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
AWAY_STATES = frozenset({"57P01", "57P02", "57P03", "57P05"})
LOGIN_STATES = frozenset({"28000", "28P01", "3D000"})
# too_many_connections; libpq gives the server's text only, and no code, before a session begins.
EXHAUSTED_STATE = "53300"
EXHAUSTED_TEXTS = (
    "too many connections", "too many clients", "connection slots are reserved",
    "no more connections allowed",
)  # fmt: skip
READ_ONLY_STATE = "25006"  # read_only_sql_transaction
# undefined_table, invalid_schema_name; statements of the package are on these tables only
MISSING_STATES = frozenset({"42P01", "3F000"})
OWN_SCHEMA = re.compile(
    rf'^(?:relation "{SCHEMA}\.(?!taskwidgets_staging_)\w+"|schema "{SCHEMA}") does not exist$'
)
QUERY_CANCELLED = "57014"


def address(url: URL) -> str:
    """Where a URL leads, for messages: user, host and database, never the password."""
    service = url.query.get("service")
    if service and not (url.database or url.host):
        return f'the database of service "{service}"'
    host = url.host or url.query.get("host") or "the local socket"
    port = f":{url.port}" if url.port else ""
    return f'database "{url.database or url.username}" on {host}{port}'


def driver_error(error: BaseException) -> psycopg2.Error | None:
    """psycopg2's own error, whether raised as it is or wrapped by SQLAlchemy."""
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        original = error.orig
        return original if isinstance(original, psycopg2.Error) else None
    return error if isinstance(error, psycopg2.Error) else None


def is_away(error: BaseException) -> bool:
    """Whether the error says that the connection is gone, not that the statement was wrong."""
    # A pool of which each connection waits for an answer is a database that does not answer.
    if isinstance(error, ServerUnreachable | sqlalchemy.exc.TimeoutError):
        return True
    cause = driver_error(error)
    if cause is None:
        return isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated
    state = cause.pgcode
    if state is not None:
        return state in AWAY_STATES or state.startswith("08")
    # Without a code, the driver itself noticed: "server closed the connection unexpectedly",
    # "connection already closed", "could not connect".
    # During COPY it raises the bare DatabaseError for that.
    return (
        isinstance(cause, psycopg2.OperationalError | psycopg2.InterfaceError)
        or type(cause) is psycopg2.DatabaseError
    )


def is_cancelled(error: BaseException) -> bool:
    """Whether the statement was cancelled, as by connection.cancel()."""
    if isinstance(error, DatabaseError):
        return error.sqlstate == QUERY_CANCELLED
    cause = driver_error(error)
    return cause is not None and cause.pgcode == QUERY_CANCELLED


def scrubbed(text: str, url: URL) -> str:
    """The text with the URL's password, wherever it stands, replaced by ***."""
    password = url.password
    return text.replace(str(password), "***") if password else text


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Raise what the driver raises inside as an error of our tree, naming the server."""
    try:
        yield
    except TaskwidgetsError:
        raise
    except (psycopg2.Error, sqlalchemy.exc.SQLAlchemyError) as error:
        raise _translation(error, url) from None


def _translation(error: BaseException, url: URL) -> DatabaseError:
    cause = driver_error(error)
    state = cause.pgcode if cause is not None else None
    primary = cause.diag.message_primary if cause is not None and cause.diag else None
    text = scrubbed((primary or str(cause or error)).strip(), url)
    lowered = text.lower()
    where = address(url)
    if state == EXHAUSTED_STATE or (
        state is None and any(words in lowered for words in EXHAUSTED_TEXTS)
    ):
        return ConnectionsExhausted(
            f"{where} has no connection to spare: {text}; close some, raise the limit of the role "
            "or the server, or have this process use fewer: tw.connect(max_connections=8)",
            sqlstate=EXHAUSTED_STATE,
        )
    # libpq gives no code for what fails before the session begins, only its text.
    if state in LOGIN_STATES or (
        state is None
        and "fatal:" in lowered
        and any(
            word in lowered
            for word in ("password", "authentication", "role ", "does not exist", "pg_hba", "ident")
        )
    ):
        return LoginRefused(
            f"{where} refused the login of user {url.username or 'by default'}: {text}; "
            "check the user, the password and the database's name in the URL",
            sqlstate=state,
        )
    if state == READ_ONLY_STATE:
        return ServerReadOnly(
            f"{where} takes no changes: {text}. It is a standby, or default_transaction_read_only "
            "is on for the server, the database or the role; connect to the primary, as a role "
            "that may write",
            sqlstate=state,
        )
    if state in MISSING_STATES and OWN_SCHEMA.search(text):
        return DatabaseError(
            f"{where} has no tables of jobs any more ({text}): the database, or its schema "
            f'"{SCHEMA}", was dropped since this process connected, and the jobs that were kept '
            "there are gone. tw.connect() makes the tables again; then run the call again",
            sqlstate=state,
        )
    if state == "42501":
        return RightsMissing(f"{where}: {text}", sqlstate=state)
    if is_away(error):
        return ServerUnreachable(
            f"{where} does not answer: {text}; check that the server runs and that the address "
            "is right",
            sqlstate=state,
        )
    detail = cause.diag.message_detail if cause is not None and cause.diag else None
    if detail:
        text = f"{text} ({scrubbed(detail, url)})"
    return DatabaseError(text, sqlstate=state)
