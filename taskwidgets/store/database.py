"""One Postgres database: its address, its connections, its migrated schema."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.extras import register_hstore
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool
from sqlalchemy.util import immutabledict

from taskwidgets.errors import (
    DatabaseError,
    LoginRefused,
    OptionError,
    RightsMissing,
    ServerReadOnly,
)
from taskwidgets.postgres.server_product import ServerFacts, examine
from taskwidgets.store import pooler
from taskwidgets.store.budget import DEFAULT_CONNECTIONS, POOL_OVERFLOW, POOLED, Budget
from taskwidgets.store.driver import Prologue, StoreConnection
from taskwidgets.store.engines import Login, changed
from taskwidgets.store.schema import SCHEMA
from taskwidgets.store.translate import address, driver_error, is_away, translated

if TYPE_CHECKING:
    from taskwidgets.store.administrator import Administrator

__all__ = ["Database", "application_name", "check_encoding", "parse_url"]

# Postgres 14: the oldest that its makers still cared for when this was written, and the first that
# reads a range of blocks without reading the whole table (TID range scan).
OLDEST_SERVER = 140000
UNTRANSLATABLE = "22P05"
LOCK_NOT_AVAILABLE = "55P03"
CONNECT_ARGUMENTS = {
    "connect_timeout": 10,  # seconds
    "client_encoding": "utf8",
    # A silent network is noticed within a minute instead of two hours.
    "keepalives_idle": 30,  # seconds
    "keepalives_interval": 10,  # seconds
    "keepalives_count": 3,
}
# What a standby gives for a statement, or a session, that is in the way of its recovery.
CONFLICT_STATES = frozenset({"40001", "40P01"})
ELSEWHERE = (
    "To export only, keep the jobs in another database: tw.connect(url, metadata=other_url), or "
    'metadata="embedded"'
)
PATIENCE = 60.0  # seconds that a job waits for a database that went away, before it gives up
POOL_PATIENCE = 60.0  # seconds that a short statement waits until another one is done
FIRST_RETRY, LAST_RETRY = 0.1, 2.0  # seconds between two attempts: doubling from one to the other

# What SQLAlchemy wants to know for queries of the user, in the user's search path.
FOR_QUERIES = """
    SELECT pg_catalog.current_schema(),
           pg_catalog.array_agg(oid::pg_catalog.int8),
           pg_catalog.array_agg(typarray::pg_catalog.int8)
    FROM pg_catalog.pg_type WHERE typname OPERATOR(pg_catalog.=) 'hstore'::pg_catalog.name
"""

# What this role may do with our schema, if it is there.
RIGHTS = """
    SELECT quote_ident(current_user) AS role, EXISTS (
               SELECT FROM pg_namespace WHERE nspname = :schema) AS has_schema,
           quote_ident(pg_get_userbyid(c.relowner)) AS owner,
           coalesce(has_table_privilege(c.oid, 'SELECT')
               AND has_schema_privilege(c.relnamespace, 'USAGE'), false) AS may_read,
           coalesce(pg_has_role(c.relowner, 'USAGE'), false) AS may_change
    FROM (SELECT) AS one
    LEFT JOIN pg_class c ON c.relname = 'alembic_version' AND c.relnamespace = (
        SELECT oid FROM pg_namespace WHERE nspname = :schema)
"""


def application_name(session: str) -> str:
    """What pg_stat_activity shows of the connections of one process (at most 63 bytes)."""
    return f"taskwidgets {session[:16]}"


def parse_url(text_or_url: str | URL) -> URL:
    """A URL for SQLAlchemy with psycopg2 named, or an OptionError that does not repeat it."""
    try:
        url = make_url(text_or_url)
    except (ArgumentError, ValueError):
        raise OptionError(
            "that is no database URL; it looks like postgresql://user:password@host:5432/database"
        ) from None
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise OptionError(f"taskwidgets needs Postgres, not {url.get_backend_name()!r}")
    if "@" in (url.host or ""):
        raise OptionError(
            "that database URL has an @ too many; in a user's name or a password, write it as %40"
        )
    query = dict(url.query)
    password = query.pop("password", None)
    if password:  # libpq takes it here too; at its usual place it is masked
        url = url.set(password=url.password or str(password), query=query)
    # SQLAlchemy 2.1 takes another driver when none is named.
    return url.set(drivername="postgresql+psycopg2")


def check_encoding(connection: Connection, url: URL) -> None:
    """Raise DatabaseError where the database cannot hold what jobs are called: a → b."""
    driver: Any = connection.connection.dbapi_connection
    encoding = driver.get_parameter_status("server_encoding")
    if encoding == "UTF8":
        return
    try:
        with translated(url):
            connection.scalar(text("SELECT '→'"))
    except DatabaseError as fault:
        if fault.sqlstate != UNTRANSLATABLE:
            raise
        raise DatabaseError(
            f"{address(url)} is encoded in {encoding}, which has not all the characters that jobs "
            "are kept with; connect to a database in UTF8, such as one made by CREATE DATABASE "
            "name TEMPLATE template0 ENCODING 'UTF8'",
            sqlstate=fault.sqlstate,
        ) from None


class Database:
    """Connections to one database; ``revive`` is called before a connection is tried again.

    ``login``: gives arguments of libpq for each new connection, where these do not stay the same;
    ``url`` is then for display. ``is_source``: it is only read from; no jobs are kept in it.
    """

    def __init__(
        self,
        url: str | URL,
        revive: Callable[[], object] | None = None,
        max_connections: int = DEFAULT_CONNECTIONS,
        login: Login | None = None,
        *,
        is_source: bool = False,
    ) -> None:
        self.url, self._pooled = pooler.declared(parse_url(url))
        self._login = login
        self._facts: ServerFacts | None = None  # not before the first connection
        self.budget = Budget(max_connections)
        self._max_connections = max_connections
        self.revive = revive
        # Who does what this role may not do itself; None: nobody else is asked.
        self.administrator: Administrator | None = None
        self.lock_patience: float | None = None  # seconds, see begin_apart; None: no limit
        self._pid = os.getpid()
        self._look = threading.Lock()
        self.session = uuid.uuid4().hex  # tells this process's connections from all others
        self._is_source = is_source
        self._prologue = Prologue(is_read_only=is_source)
        # Short statements (a claim, a transition) share a few connections; ping, since the server
        # may have been restarted between two cells.
        self._short = self._engine(
            pool_size=POOLED,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=POOL_PATIENCE,
            pool_pre_ping=True,
            use_native_hstore=False,
        )
        # The engine is the user's as well: only ``begin()`` makes a transaction of the package.
        event.listen(self._short, "checkout", _for_queries_of_the_user)
        event.listen(self._short, "connect", self._prepare_for_the_user)
        # A worker's connection is its own for the whole transfer, and is closed with it.
        self._long = self._engine(poolclass=NullPool, use_native_hstore=False)
        self._settle_prologue()

    def as_role(self, role: str) -> Database:
        """The same database by another login, which needs no password; nothing is asked yet."""
        query = {name: value for name, value in self.url.query.items() if name != "user"}
        url = self.url._replace(username=role, password=None, query=immutabledict(query))
        made = Database(url, self.revive, self._max_connections, is_source=self._is_source)
        made.budget = self.budget
        return made

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler may give each transaction another session; see ``pooler.py``."""
        if self._pooled is None:
            with self.begin() as connection:
                self._look_for_pooler(connection)
        return bool(self._pooled)

    def _look_for_pooler(self, connection: Connection) -> None:
        is_between = pooler.is_between(connection)
        with self._look:
            if self._pooled is None:
                self._pooled = is_between
                self._settle_prologue()

    def _settle_prologue(self) -> None:
        if self._pooled:
            self._prologue.mark = pooler.mark(self.session)
        self._prologue.is_direct = self._pooled is False

    @property
    def prologue(self) -> list[str]:
        """What a transaction begins with that is not made through this object; perhaps nothing.

        Behind a pooler: what undoes the settings of others, and the mark.
        """
        return self._prologue.resets() if self.is_pooled else []

    def transactions_at_once(self, needed: int, wanted: int) -> int:
        """How many more transactions may be open at once, ``wanted`` at most.

        DatabaseError when a pooler gives fewer than ``needed``: what waits for each other would
        wait for ever.
        """
        if not self.is_pooled:
            return wanted  # the server itself refuses at once, and says so
        with translated(self.url):
            count = pooler.granted(self.connect_arguments, needed, wanted)
        if count < needed:
            raise DatabaseError(
                f"the pooler in front of {address(self.url)} has {count} of its connections to "
                f"the server to spare, and this needs {needed} at once; raise its pool's size "
                "(default_pool_size in PgBouncer), or resume when others have left"
            )
        return count

    def _prepare_for_the_user(self, driver: StoreConnection, _record: object) -> None:
        """Have a connection serve the user's queries, as SQLAlchemy would by statements of its own.

        Those are run in whatever search path there is, or, by the time of the first connection, in
        ours. They ask for the schema of tables whose names have none, and for the type hstore.
        """
        dialect: Any = self._short.dialect
        driver.is_users = driver.autocommit = True  # so that it is one round trip
        with driver.cursor() as cursor:
            cursor.execute(FOR_QUERIES)
            ((schema, oids, array_oids),) = cursor.fetchall()
        driver.autocommit = False
        dialect.default_schema_name = schema
        if oids:
            register_hstore(driver, oid=tuple(oids), array_oid=tuple(array_oids))
            dialect._has_native_hstore = True

    @property
    def _arguments(self) -> dict[str, Any]:
        return {**CONNECT_ARGUMENTS, "application_name": application_name(self.session)}

    def _engine(self, **options: object) -> Engine:
        engine = create_engine(
            self.url,
            hide_parameters=True,  # a statement's values are the user's data: not into tracebacks
            connect_args={**self._arguments, "connection_factory": self._prologue.connect},
            **options,
        )
        event.listen(engine, "do_connect", self._open)
        return engine

    def _open(self, _dialect: object, _record: object, dsn: list[str], given: Any) -> Any:
        """Make a connection for an engine of ours."""
        if self._login is not None:
            factory = given["connection_factory"]
            given = {**self._login(), **self._arguments, "connection_factory": factory}
        connection = psycopg2.connect(*dsn, **given)
        if self._facts is None:
            try:
                connection.autocommit = True
                self._facts = examine(connection, address(self.url))
                connection.autocommit = False
                # "cannot set transaction read-write mode during recovery"
                self._prologue.is_read_only |= self._facts.is_standby
            except BaseException:
                connection.close()
                raise
        return connection

    @property
    def connect_arguments(self) -> dict[str, Any]:
        """What psycopg2.connect() takes, the password included: for one connection, made soon."""
        if self._login is not None:
            with translated(self.url):
                return {**self._login(), **self._arguments}
        _, arguments = self._long.dialect.create_connect_args(self.url)
        return {**arguments, **self._arguments}

    @property
    def login_url(self) -> URL:
        """The URL by which another process connects soon, its password included."""
        if self._login is None:
            return self.url
        with translated(self.url):
            return changed(self.url, self._login())

    @property
    def is_standby(self) -> bool:
        """Whether the server was in recovery at the first connection."""
        return self._facts is not None and self._facts.is_standby

    @property
    def location(self) -> str:
        """Host, port and database, without the user; known from the first connection on."""
        assert self._facts is not None
        return self._facts.location

    def is_conflict(self, error: BaseException) -> bool:
        """Whether a standby has cancelled a statement because its recovery could not wait.

        "canceling statement due to conflict with recovery" and "terminating connection due to
        conflict with recovery" have the codes of a serialization failure and of a deadlock, which a
        read-only transaction does not meet otherwise.
        https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-CONFLICT
        """
        if not self.is_standby:
            return False
        if isinstance(error, DatabaseError):
            return error.sqlstate in CONFLICT_STATES
        cause = driver_error(error)
        return cause is not None and cause.pgcode in CONFLICT_STATES

    def is_same(self, other: Database) -> bool:
        """Whether the other one is on the same database by the same URL and login."""
        return self.url == other.url and self._login == other._login

    def __repr__(self) -> str:
        return f"<{address(self.url)}>"

    @property
    def engine(self) -> Engine:
        """The pooled engine, for queries of the user's own, in the user's search path."""
        return self._short

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A short transaction: committed at the end, rolled back on an error of our tree."""
        with translated(self.url), self._short.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.is_users = False
            with connection.begin():
                yield connection

    @contextmanager
    def begin_apart(self) -> Iterator[Connection]:
        """As ``begin``, on a connection of its own: for what may wait long for a table's lock.

        Those who run short statements share few connections, and would wait behind it. Raises
        DatabaseError (SQLSTATE 55P03) when ``lock_patience`` is over.
        """
        try:
            with translated(self.url), self._long.connect() as connection, connection.begin():
                if self.lock_patience is not None:
                    connection.execute(
                        text("SELECT set_config('lock_timeout', :patience, true)"),
                        {"patience": f"{1000 * self.lock_patience:.0f}"},
                    )
                yield connection
        except DatabaseError as error:
            if error.sqlstate != LOCK_NOT_AVAILABLE or self.lock_patience is None:
                raise
            raise DatabaseError(
                "another session has locked a table that this needs, and did not free it within "
                f"{self.lock_patience:g} seconds; end that session's transaction, or try again",
                sqlstate=error.sqlstate,
            ) from None

    def connect(self) -> Connection:
        """A connection of one's own, for a worker or the keeper; the caller closes it."""
        with translated(self.url):
            return self._long.connect()

    def patiently(
        self,
        action: Callable[[], object],
        waiting: Callable[[str], None],
        given_up: Callable[[], bool] = lambda: False,
    ) -> object:
        """Do something, again and again while the database is away, for PATIENCE seconds.

        ``waiting`` hears what is going on ("" when it is over); ``given_up`` ends it early.
        """
        deadline, pause, away = 0.0, FIRST_RETRY, False
        while True:
            try:
                if away and self.revive is not None:
                    self.revive()
                result = action()
            except DatabaseError as error:
                now = time.monotonic()
                if not away:  # from here on: the action itself may have taken hours
                    deadline = now + PATIENCE
                is_conflict = self.is_conflict(error)
                if is_conflict and now > deadline:
                    raise self.conflict_error(error) from None
                # A login that changes may be new at the server, and old where it is asked for.
                is_stale = self._login is not None and isinstance(error, LoginRefused)
                is_passing = is_away(error) or is_conflict or is_stale
                if not is_passing or now > deadline or given_up():
                    raise
                if isinstance(error, ServerReadOnly):
                    self._short.dispose()  # by now the address may lead to another server
                away = True
                reason = "the standby cancelled the statement" if is_conflict else "login refused"
                waiting(f"{getattr(error, 'waiting_for', reason)}, retrying")
                time.sleep(pause)
                pause = min(2 * pause, LAST_RETRY)
            else:
                if away:
                    waiting("")
                return result

    def conflict_error(self, error: DatabaseError) -> DatabaseError:
        """The error of a job that a standby has cancelled too often; it says what helps."""
        return DatabaseError(
            f"{address(self.url)}, a standby, cancels the statements of this job again and again, "
            f"as they are in the way of its recovery ({error}); set hot_standby_feedback = on or a "
            "larger max_standby_streaming_delay there, then resume",
            sqlstate=error.sqlstate,
        )

    def prepare_source(self) -> None:
        """Check the server's version; nothing is made there."""
        with self.begin() as connection:
            self._check_server(connection)

    def _check_server(self, connection: Connection) -> None:
        if self._pooled is None:  # found out here, it costs one small query
            self._look_for_pooler(connection)
        version = int(connection.scalar(text("SHOW server_version_num")) or 0)
        if version < OLDEST_SERVER:
            raise DatabaseError(
                f"{address(self.url)} is Postgres {version // 10000}; 14 or newer is needed"
            )

    def prepare(self) -> None:
        """Check the server's version and bring the schema up to this release."""
        from taskwidgets.store.access import changes_needed, check_triggers, member_grants
        from taskwidgets.store.migrate import migrate  # Alembic takes 0.1 s to import

        with self.begin() as connection:
            self._check_server(connection)
            if connection.scalar(text("SELECT pg_is_in_recovery()")):
                raise DatabaseError(
                    f"{address(self.url)} is a read-only standby, and jobs cannot be kept there; "
                    f"connect to the primary. {ELSEWHERE}"
                )
            # Of a pooler's session, an earlier client may have set it; that is undone each time.
            read_only = connection.scalar(text("SHOW default_transaction_read_only"))
            if read_only == "on" and not self._pooled:
                raise DatabaseError(
                    f"{address(self.url)} lets this role only read (default_transaction_read_only),"
                    f" and jobs cannot be kept there. {ELSEWHERE}"
                )
            check_encoding(connection, self.url)
            rights = connection.execute(text(RIGHTS), {"schema": SCHEMA}).one()
            role = rights.role
            try:
                with translated(self.url):
                    migrate(connection)
                    check_triggers(connection)
            except RightsMissing as missing:
                if not rights.has_schema:
                    remedy = (
                        "ask the database's owner to run: "
                        f"CREATE SCHEMA {SCHEMA} AUTHORIZATION {role}"
                    )
                elif rights.may_read and not rights.may_change:
                    remedy = changes_needed(rights.owner)
                else:
                    remedy = f"ask the database's owner to run: {'; '.join(member_grants(role))}"
                raise RightsMissing(
                    f'{missing}. Jobs are kept in the schema "{SCHEMA}", and {role} may not make, '
                    f"use or change it. {ELSEWHERE}; for all jobs, {remedy}",
                    sqlstate=missing.sqlstate,
                ) from None

    def forked(self) -> bool:
        """Whether this object came through a fork: its sockets belong to the parent."""
        return os.getpid() != self._pid

    def dispose(self) -> None:
        """Close the idle connections."""
        self._short.dispose(close=not self.forked())
        self._long.dispose(close=not self.forked())


def _for_queries_of_the_user(driver: StoreConnection, _record: object, _proxy: object) -> None:
    driver.is_users = True
