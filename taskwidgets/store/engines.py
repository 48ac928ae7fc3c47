"""The address and the login of a SQLAlchemy engine that somebody else has made.

Some engines have a password that does not stay the same: a token of a cloud's IAM is good for
fifteen minutes, a secret store rotates passwords. Such an engine has a function of its own that
makes connections (``creator=``), or one that completes the connection's arguments (the event
``do_connect``, https://docs.sqlalchemy.org/en/20/core/engines.html#generating-dynamic-authentication-tokens).
Of such an engine nothing is copied: ``EngineLogin`` calls these functions for each new connection.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn
from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL

from taskwidgets.errors import OptionError, ServerUnreachable, TaskwidgetsError
from taskwidgets.store.translate import translated

__all__ = ["EngineLogin", "Login", "address_of", "changed"]

Login = Callable[[], dict[str, str]]  # gives the arguments of libpq for one connection, from now

# Drivers on libpq, whose connections tell what they were made with.
LIBPQ_DRIVERS = frozenset({"psycopg2", "psycopg"})
# What a URL for display has of a login that changes.
SHOWN = frozenset({"user", "host", "port", "dbname", "service"})
# Arguments of other drivers, by libpq's names for them.
RENAMED = {"database": "dbname"}


def address_of(made: Engine | Connection) -> tuple[URL, Login | None]:
    """The URL that leads to the engine's database, and who gives the login, if that may change.

    Parameters
    ----------
    made : Engine, Connection
        Of SQLAlchemy, or their asynchronous counterparts.

    Returns
    -------
    tuple of (URL, Login or None)
        For an engine with a URL and fixed arguments, the URL has the password, if there is one, and
        there is no login. Else the URL is for display, without a password.

    Raises
    ------
    OptionError
        For what is not Postgres, or an engine whose connections cannot be asked how they were made.
    DatabaseError
        Where the engine's own function does not reach the database.
    """
    engine = getattr(made, "sync_engine", None) or getattr(made, "engine", None)
    if not isinstance(engine, Engine):
        raise OptionError(
            "connect() takes a database URL, or a SQLAlchemy engine or connection, "
            f"not {type(made).__name__}"
        )
    if engine.dialect.name != "postgresql":
        raise OptionError(f"taskwidgets needs Postgres; that engine is for {engine.dialect.name}")
    arguments = _fixed_arguments(engine)
    if arguments is None or _listeners(engine) or callable(arguments.get("password")):
        login = EngineLogin(engine)
        with translated(engine.url):
            shown = {name: value for name, value in login().items() if name in SHOWN}
        return changed(URL.create("postgresql"), shown), login
    if engine.dialect.driver in LIBPQ_DRIVERS:
        # The URL as it is, so that it is equal to the one that the engine was made from.
        _, from_url = engine.dialect.create_connect_args(engine.url)
        added = {name: one for name, one in arguments.items() if from_url.get(name) != one}
        return changed(engine.url, _libpq_arguments(added)), None
    return changed(URL.create("postgresql"), _libpq_arguments(arguments)), None


class EngineLogin:
    """Asks an engine's own functions how to connect; each call asks anew.

    Parameters
    ----------
    engine : Engine
        One with ``creator=``, with listeners of ``do_connect``, or with a function as password.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __eq__(self, other: object) -> bool:
        # Engines that share connections, as by execution_options(), have one dialect.
        return isinstance(other, EngineLogin) and self._engine.dialect is other._engine.dialect

    def __hash__(self) -> int:
        return id(self._engine.dialect)

    def __call__(self) -> dict[str, str]:
        """The arguments of libpq for one connection, the password included."""
        try:
            return self._arguments()
        except (TaskwidgetsError, psycopg2.Error):
            raise
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            if any(one.__name__ == "OperationalError" for one in type(error).__mro__):
                raise psycopg2.OperationalError(str(error)) from None  # another driver's
            raise ServerUnreachable(
                f"the engine that was given to connect() has no login for a new connection: {words}"
            ) from error

    def _arguments(self) -> dict[str, str]:
        engine = self._engine
        arguments = _fixed_arguments(engine)
        if arguments is None:
            _check_can_be_asked(engine)
            return _ask(engine.pool._invoke_creator(None))  # type: ignore[arg-type]
        first, _ = engine.dialect.create_connect_args(engine.url)
        positional = list(first)
        for listener in _listeners(engine):
            made = listener(engine.dialect, None, positional, arguments)
            if made is not None:
                _check_can_be_asked(engine)
                return _ask(made)
        if callable(arguments.get("password")):
            arguments["password"] = arguments["password"]()
        if not isinstance(arguments.get("password", ""), str):
            raise OptionError(
                "that engine has a password that is given by a coroutine; give connect() an engine "
                "whose password comes from an ordinary function"
            )
        dsn = positional[0] if positional and isinstance(positional[0], str) else ""
        return {**(parse_dsn(dsn) if dsn else {}), **_libpq_arguments(arguments)}


def _fixed_arguments(engine: Engine) -> dict[str, Any] | None:
    """What the engine gives its driver: by its URL and ``connect_args``; None with ``creator=``."""
    creator: Any = engine.pool._creator
    if getattr(creator, "__module__", "") != "sqlalchemy.engine.create":
        return None
    _, arguments = engine.dialect.create_connect_args(engine.url)
    names = creator.__code__.co_freevars
    if "cparams" in names and creator.__closure__:  # where create_engine() keeps connect_args
        arguments = {**arguments, **creator.__closure__[names.index("cparams")].cell_contents}
    return dict(arguments)


def _listeners(engine: Engine) -> list[Callable[..., Any]]:
    """The functions that listen to ``do_connect``, those of all engines included."""
    dispatch: Any = engine.dialect.dispatch
    return list(dispatch.do_connect)


def _check_can_be_asked(engine: Engine) -> None:
    if engine.dialect.driver not in LIBPQ_DRIVERS or engine.dialect.is_async:
        raise OptionError(
            "that engine makes its connections by a function of its own (creator=), and "
            f"{engine.dialect.driver} does not tell the address of a connection; give connect() a "
            "URL"
        )


def _ask(connection: Any) -> dict[str, str]:
    """What a live connection was made with; it is closed, as it was made for this alone."""
    try:
        info = connection.info
        # psycopg2 has all parameters that have a value, psycopg those that have no default value.
        told = info.dsn_parameters if hasattr(info, "dsn_parameters") else info.get_parameters()
        lasting = {"user": info.user, "dbname": info.dbname, "password": info.password}
        found = {"host": info.host, "port": info.port, **told, **lasting}
        return _libpq_arguments({name: value for name, value in found.items() if value})
    finally:
        connection.close()


def _libpq_arguments(arguments: Mapping[str, Any]) -> dict[str, str]:
    """The arguments of a driver as libpq takes them; what belongs to the driver alone is left out.

    Raises OptionError where an encryption that the engine asks for cannot be had by libpq.
    """
    found: dict[str, str] = {}
    for name, value in arguments.items():
        if value is None:
            continue
        if name in ("dsn", "conninfo"):
            found = {**parse_dsn(value), **found}
        elif name == "ssl":  # asyncpg's
            found |= _encryption(value)
        elif isinstance(value, list | tuple):  # hosts and ports of asyncpg
            found[name] = ",".join(map(str, value))
        elif isinstance(value, str | int) and _is_of_libpq(RENAMED.get(name, name)):
            flag = int(value) if isinstance(value, bool) else value
            found[RENAMED.get(name, name)] = str(flag)
    return found


def _is_of_libpq(name: str) -> bool:
    try:
        make_dsn(**{name: "1"})
    except psycopg2.ProgrammingError:
        return False
    return True


def _encryption(wanted: Any) -> dict[str, str]:
    """asyncpg's ``ssl=`` in libpq's words."""
    if isinstance(wanted, str):
        return {} if wanted in ("true", "false") else {"sslmode": wanted}
    if isinstance(wanted, ssl.SSLContext):
        if wanted.verify_mode is ssl.CERT_NONE:
            return {"sslmode": "require"}
        raise OptionError(
            "that engine checks the server's certificate by an SSLContext, whose certificates "
            "cannot be read; give connect() a URL with ?sslmode=verify-full&sslrootcert=FILE"
        )
    return {"sslmode": "verify-full", "sslrootcert": "system"} if wanted else {}


def changed(url: URL, arguments: Mapping[str, str]) -> URL:
    """The URL with other values for these arguments of libpq."""
    for name, value in arguments.items():
        if name == "user":
            url = url.set(username=value).difference_update_query(["user"])
        elif name == "password":
            url = url.set(password=value).difference_update_query(["password"])
        elif name == "dbname":
            url = url.set(database=value).difference_update_query(["dbname"])
        elif name == "host" and not value.startswith("/") and "," not in value:
            url = url.difference_update_query(["host"]).set(host=value)
        elif name == "port" and value.isdecimal():
            url = url.difference_update_query(["port"]).set(port=int(value))
        else:
            if name == "host":
                url = url._replace(host=None)
            url = url.update_query_dict({name: value})
    return url
