"""Which product answers at an address: Postgres, a look-alike, or a pooler that splits statements.

A look-alike speaks the protocol and most of the SQL, and lacks what exactly-once loading rests on:
advisory locks, exported snapshots, rows that are read by ``ctid``, several sessions. Some of these
fail with an error, others do nothing without a word. So such a server is refused by its name, as
the first thing on the first connection.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from typing import Any

import psycopg2
import psycopg2.extensions

from taskwidgets.errors import DatabaseError

__all__ = ["ServerFacts", "examine"]

NO_LOCKS = "it has no session-level advisory locks, by which one process owns a job"
NO_BLOCKS = "its tables are not stored in blocks that ctid tells, by which an export is divided"
# What version() says of a look-alike, in lower case; its name; why it cannot be used. The texts
# are from the products' documentation, and from running PGlite 0.5.
LOOK_ALIKES = (
    ("cockroachdb", "CockroachDB", f"{NO_LOCKS}, and no exported snapshots"),
    ("redshift", "Amazon Redshift", "it has no COPY from the client and no advisory locks"),
    ("-yb-", "YugabyteDB", f"{NO_BLOCKS}, and it cannot export a snapshot"),
    ("pglite", "PGlite", "it has one connection at a time, and a job needs several"),
    ("emscripten", "PGlite", "it has one connection at a time, and a job needs several"),
    ("greenplum", "Greenplum", "its rows are on several servers, and ctid repeats among them"),
    ("cloudberry", "Cloudberry", "its rows are on several servers, and ctid repeats among them"),
    ("materialize", "Materialize", NO_LOCKS),
    ("risingwave", "RisingWave", NO_LOCKS),
    ("questdb", "QuestDB", NO_LOCKS),
    ("cratedb", "CrateDB", NO_LOCKS),
    ("cedardb", "CedarDB", NO_BLOCKS),
    ("duckdb", "DuckDB", NO_LOCKS),
    ("vertica", "Vertica", NO_LOCKS),
    ("spanner", "Google Spanner", NO_LOCKS),
    ("hologres", "Hologres", NO_BLOCKS),
    ("opengauss", "openGauss", "its catalog is that of Postgres 9.2"),
    ("gaussdb", "GaussDB", "its catalog is that of Postgres 9.2"),
)
POSTGRES = re.compile(r"PostgreSQL \d")

FACTS = """
    SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.host(pg_catalog.inet_server_addr()),
           pg_catalog.inet_server_port(), pg_catalog.current_setting('port')::pg_catalog.int4
"""
UNDEFINED_OBJECT = "42704"


@dataclass(frozen=True)
class ServerFacts:
    """What was found out about a server and a database.

    ``is_standby``: it is in recovery, and read-only. ``location``: host, port and database, as
    libpq has them from URL, service file and environment; the same for each connection of a login.
    """

    is_standby: bool
    location: str


def examine(connection: psycopg2.extensions.connection, where: str) -> ServerFacts:
    """Ask a new connection what it leads to.

    Parameters
    ----------
    connection : psycopg2 connection
        In autocommit mode, and not used yet.
    where : str
        What messages call the server.

    Raises
    ------
    DatabaseError
        For a product that is not Postgres, and for pgpool-II where it reads from standbys.
    """
    # The driver's own cursor: that of our connections sends settings that a look-alike refuses.
    with connection.cursor(cursor_factory=psycopg2.extensions.cursor) as cursor:
        _check_version(cursor, where)
        cursor.execute(FACTS)
        ((is_standby, host, port, own_port),) = cursor.fetchall()
        if _may_be_proxied(connection, host, port, own_port):
            _check_pgpool(cursor, connection, where)
    return ServerFacts(bool(is_standby), _location(connection))


def _location(connection: psycopg2.extensions.connection) -> str:
    """Where a connection leads; of several hosts all, as each connection may get another of them.

    The user is left out: a secret store may give a new one each time.
    """
    given = connection.info.dsn_parameters
    host = given.get("host") or given.get("hostaddr") or connection.info.host
    host = host if host.startswith("/") else host.lower()
    return f"{host}:{given.get('port') or connection.info.port}/{connection.info.dbname}"


def _check_version(cursor: Any, where: str) -> None:
    try:
        cursor.execute("SELECT pg_catalog.version()")
        version = str(cursor.fetchall()[0][0])
    except psycopg2.Error as error:
        if error.pgcode is None or error.pgcode.startswith(("08", "57P", "53")):
            raise  # the server is away, or full; that says nothing of what it is
        raise DatabaseError(
            f"{where} is not Postgres: it does not know pg_catalog.version() "
            f"({error.diag.message_primary or str(error).strip()})",
            sqlstate=error.pgcode,
        ) from None
    lowered = version.lower()
    for mark, name, reason in LOOK_ALIKES:
        if mark in lowered:
            raise DatabaseError(
                f"{where} is {name}, which resembles Postgres and cannot be used: {reason}. "
                f"Connect to a Postgres server, 14 or newer (it calls itself: {version[:100]})"
            )
    if not POSTGRES.match(version):
        raise DatabaseError(
            f"{where} is not Postgres, which is needed; it calls itself: {version[:100]}"
        )


def _may_be_proxied(
    connection: psycopg2.extensions.connection, host: str | None, port: int | None, own_port: int
) -> bool:
    """Whether the server sees its client at another address than the one that we connected to.

    pgpool-II could be asked for directly, but each server that is not behind one would write an
    error about it into its log.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as one:
        peer = one.getpeername()
    if not isinstance(peer, tuple):  # a Unix socket, whose name has the server's port
        return port is not None or own_port != connection.info.port
    return (peer[0], peer[1]) != (host, port)


def _check_pgpool(cursor: Any, connection: psycopg2.extensions.connection, where: str) -> None:
    """DatabaseError where pgpool-II may send a SELECT to a standby, which lags behind."""
    try:
        cursor.execute("SHOW pool_version")
    except psycopg2.Error as error:
        if error.pgcode != UNDEFINED_OBJECT:
            raise
        return  # another proxy, or an address that is translated on the way
    version = str(cursor.fetchall()[0][0])
    nodes = _rows(cursor, "SHOW pool_nodes")
    if _show(cursor, "memory_cache_enabled") == "on":
        raise _refused(where, version, "answers from a cache (memory_cache_enabled)")
    if len(nodes) > 1 and not any(one.get("role") == "primary" for one in nodes):
        raise _refused(where, version, "writes to several servers by itself, whose rows differ")
    reads = [
        one
        for one in nodes
        if one.get("role") != "primary" and float(one.get("lb_weight") or 0) > 0
    ]
    if len(nodes) < 2 or not reads or _show(cursor, "load_balance_mode") != "on":
        return
    name = connection.get_parameter_status("application_name") or ""
    if not _is_redirected(_show(cursor, "app_name_redirect_preference_list"), name):
        raise _refused(
            where, version, f"sends SELECT statements to {len(reads)} standby servers, which lag"
        )


def _refused(where: str, version: str, how: str) -> DatabaseError:
    return DatabaseError(
        f"{where} is behind pgpool-II {version}, which {how}: a job would read an older state than "
        "it has written. Connect to the primary itself, or set in pgpool.conf "
        "app_name_redirect_preference_list = 'taskwidgets.*:primary' and memory_cache_enabled = off"
    )


def _rows(cursor: Any, statement: str) -> list[dict[str, str]]:
    cursor.execute(statement)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _show(cursor: Any, name: str) -> str:
    """A setting of pgpool-II; "" where this version does not have it."""
    try:
        rows = _rows(cursor, f"PGPOOL SHOW {name}")
    except psycopg2.Error as error:
        if error.pgcode is None:
            raise
        return ""
    return str(next(iter(rows[0].values()))) if rows else ""


def _is_redirected(preferences: str, application: str) -> bool:
    """Whether pgpool-II sends all statements of this application to the primary.

    https://www.pgpool.net/docs/latest/en/html/runtime-config-load-balancing.html: pairs of a
    regular expression and a node, of which the first that matches counts; a ratio may follow.
    """
    for pair in preferences.split(","):
        pattern, _, node = pair.strip().rpartition(":")
        try:
            matches = re.search(pattern, application) is not None
        except re.error:
            matches = False
        if pattern and matches:
            return node.strip() in ("primary", "primary(1.0)", "primary(1)")
    return False
