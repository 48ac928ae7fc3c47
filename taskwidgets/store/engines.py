"""The address of a SQLAlchemy engine that somebody else has made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg2
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL

from taskwidgets.errors import OptionError
from taskwidgets.store.translate import translated

__all__ = ["engine_url"]

# Drivers on libpq, whose connections tell what they were made with.
TELLING = frozenset({"psycopg2", "psycopg"})
# What an engine's connect_args may say that its URL does not, each with libpq's own default; other
# parameters change nothing about where a connection leads or what it may do.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
PARAMETERS = {
    "options": "",
    "hostaddr": "",
    "sslmode": "prefer",
    "sslrootcert": "",
    "sslcert": "",
    "sslkey": "",
    "channel_binding": "prefer",
    "target_session_attrs": "any",
}


def engine_url(made: Engine | Connection) -> URL:
    """The URL, its password included, under which another engine reaches the same database.

    What the engine's own URL leaves out (``connect_args=``, ``creator=``) is asked of a live
    connection, where its driver is psycopg2 or psycopg; of others, the URL counts. Raises
    OptionError for what is not Postgres or cannot be reached by a URL, and DatabaseError where the
    engine itself does not reach the database.
    """
    engine = getattr(made, "sync_engine", None) or getattr(made, "engine", None)
    if not isinstance(engine, Engine):
        raise OptionError(
            "connect() takes a database URL, or a SQLAlchemy engine or connection, "
            f"not {type(made).__name__}"
        )
    if engine.dialect.name != "postgresql":
        raise OptionError(f"taskwidgets needs Postgres; that engine is for {engine.dialect.name}")
    url: URL = engine.url
    if engine.dialect.driver in TELLING and not engine.dialect.is_async:
        return _completed(url, _told(made, engine))
    arguments = _settings(engine)
    if "creator" in arguments:
        raise OptionError(
            "that engine makes its connections by a function of its own (creator=), which "
            f"{engine.dialect.driver} does not tell the address of; give connect() a URL"
        )
    host = arguments.get("host")
    query: dict[str, str] = {"host": str(host)} if str(host).startswith("/") else {}
    encryption = url.query.get("ssl") or url.query.get("sslmode")  # "ssl" is asyncpg's word for it
    if isinstance(encryption, str) and encryption not in ("true", "false"):
        query["sslmode"] = encryption
    port = arguments.get("port")
    return URL.create(
        "postgresql",
        username=arguments.get("user"),
        password=arguments.get("password"),
        host=None if query.get("host") else host,
        port=int(port) if port else None,
        database=arguments.get("database") or arguments.get("dbname"),
        query=query,
    )


def _told(made: Engine | Connection, engine: Engine) -> dict[str, str]:
    """What a live connection was made with; one is borrowed from the engine if none was given."""
    with translated(engine.url):
        if isinstance(made, Connection):
            return _parameters(made.connection.driver_connection)
        try:
            borrowed = engine.raw_connection()
        except Exception as error:  # noqa: BLE001 - another driver's, or a creator's: told as ours
            raise psycopg2.OperationalError(str(error)) from None
        try:
            return _parameters(borrowed.driver_connection)
        finally:
            borrowed.close()


def _parameters(connection: Any) -> dict[str, str]:
    info = connection.info
    told = info.dsn_parameters if hasattr(info, "dsn_parameters") else info.get_parameters()
    found = {
        **told,
        "user": info.user,
        "password": info.password,
        "host": info.host,
        "port": str(info.port or ""),
        "dbname": info.dbname,
    }
    return {name: str(value) for name, value in found.items() if value}


def _completed(url: URL, told: Mapping[str, str]) -> URL:
    """The engine's URL, changed where a connection of its was made with something else."""
    said = {name: value for name, value in url.query.items() if isinstance(value, str)}
    if url.username != told.get("user"):
        url = url.set(username=told.get("user"))
    password = told.get("password")
    if password and password not in (url.password, said.get("password")):
        url = url.set(password=password)
    if (url.database or said.get("dbname")) != told.get("dbname"):
        url = url.set(database=told.get("dbname")).difference_update_query(["dbname"])
    if "service" in said or "," in f"{url.host}{said.get('host', '')}{url.query.get('host')}":
        return url  # libpq chooses among several hosts, each time anew
    host, port = told.get("host", ""), told.get("port", "")
    if host and host != (url.host or said.get("host")):
        url = url.difference_update_query(["host"])
        if host.startswith("/"):
            url = url._replace(host=None).update_query_dict({"host": host})
        else:
            url = url.set(host=host)
    if port and port != str(url.port or said.get("port", "5432")):
        url = url.difference_update_query(["port"]).set(port=int(port))
    for name, default in PARAMETERS.items():
        value = told.get(name, default)
        if value != said.get(name, default):
            url = url.update_query_dict({name: value})
    return url


def _settings(engine: Engine) -> dict[str, Any]:
    """What the engine gives its driver to connect: from the URL and its ``connect_args``."""
    creator: Any = engine.pool._creator
    if getattr(creator, "__module__", "") != "sqlalchemy.engine.create":
        return {"creator": creator}
    _, arguments = engine.dialect.create_connect_args(engine.url)
    names = creator.__code__.co_freevars
    if "cparams" in names and creator.__closure__:  # where create_engine() keeps connect_args
        arguments = {**arguments, **creator.__closure__[names.index("cparams")].cell_contents}
    return dict(arguments)
