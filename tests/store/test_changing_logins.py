"""Engines whose password changes: each connection of the package asks the engine anew."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import psycopg2
import pytest
import sqlalchemy
from fix_databases import run_sql
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import taskwidgets as tw
from taskwidgets import Workspace
from taskwidgets.errors import LoginRefused, OptionError, ServerUnreachable
from taskwidgets.store.database import Database
from taskwidgets.store.engines import address_of

OWNER = "hunter2xyz"


class Rotated:
    """A role whose password is changed by ``rotate``; ``password`` is the one of now."""

    def __init__(self, server) -> None:
        self.server = server
        self.name = f"role_{secrets.token_hex(4)}"
        self.password = ""
        self.asked = 0
        self.admin(f"CREATE ROLE {self.name} LOGIN")
        self.admin(f"CREATE DATABASE {self.name} OWNER {self.name} TEMPLATE template0")
        self.rotate()

    def admin(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        return run_sql(self.server.url(password=OWNER, database=database), statement)

    def rotate(self) -> None:
        """A new password; sessions under the old one are ended."""
        self.password = secrets.token_hex(8)
        self.admin(f"ALTER ROLE {self.name} PASSWORD '{self.password}'")
        self.admin(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            f" WHERE usename = '{self.name}'"
        )

    def token(self) -> str:
        """What a secret store would give."""
        self.asked += 1
        return self.password

    def url(self, driver: str = "psycopg2", password: str | None = None) -> Any:
        url = make_url(self.server.url(self.name, password, self.name))
        return url.set(drivername=f"postgresql+{driver}")

    def remove(self) -> None:
        self.admin(f"DROP DATABASE {self.name} WITH (FORCE)")
        self.admin(f"DROP ROLE {self.name}")


@pytest.fixture
def rotated(password_server) -> Iterator[Rotated]:
    """A role with a database of its own on the server that asks for passwords."""
    role = Rotated(password_server)
    yield role
    role.remove()


def by_event(role: Rotated, driver: str = "psycopg2") -> Engine:
    """As the manual of SQLAlchemy has it for tokens."""
    is_async = driver == "asyncpg"
    create = create_async_engine if is_async else sqlalchemy.create_engine
    made: Any = create(role.url(driver), poolclass=NullPool)

    @sqlalchemy.event.listens_for(made.sync_engine if is_async else made, "do_connect")
    def provide_token(_dialect, _record, _arguments, parameters):
        parameters["password"] = role.token()

    return made


def by_event_of_psycopg(role: Rotated) -> Engine:
    return by_event(role, "psycopg")


def by_event_of_asyncpg(role: Rotated) -> Engine:
    return by_event(role, "asyncpg")


def by_connection_of_an_event(role: Rotated) -> Engine:
    """A listener that makes the connection itself."""
    made = sqlalchemy.create_engine("postgresql+psycopg2://nobody@nowhere.invalid/", pool_size=1)

    @sqlalchemy.event.listens_for(made, "do_connect")
    def connect(_dialect, _record, _arguments, _parameters):
        return psycopg2.connect(role.server.url(role.name, role.token(), role.name))

    return made


def by_creator(role: Rotated) -> Engine:
    return sqlalchemy.create_engine(
        "postgresql+psycopg2://",
        creator=lambda: psycopg2.connect(role.server.url(role.name, role.token(), role.name)),
    )


def by_creator_of_psycopg(role: Rotated) -> Engine:
    """One that is given the pool's record, as SQLAlchemy allows."""
    return sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda record: psycopg.connect(role.server.url(role.name, role.token(), role.name)),
    )


def by_function_of_asyncpg(role: Rotated) -> Any:
    """asyncpg takes a function in the password's place."""
    return create_async_engine(
        role.url("asyncpg"), poolclass=NullPool, connect_args={"password": role.token}
    )


MAKERS: list[Callable[[Rotated], Any]] = [
    by_event, by_event_of_psycopg, by_event_of_asyncpg, by_connection_of_an_event, by_creator,
    by_creator_of_psycopg, by_function_of_asyncpg,
]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS)
def test_each_new_connection_asks_for_the_login(rotated, make):
    """After a change, the pool, a worker's connection and a reader's process have the new one."""
    engine = make(rotated)
    url, login = address_of(engine)
    database = Database(url, login=login)
    with database.begin() as connection:
        assert connection.exec_driver_sql("SELECT current_user::text").scalar() == rotated.name
    assert rotated.password not in f"{database!r} {database.url.render_as_string(False)}"
    for _ in range(2):
        rotated.rotate()
        before = rotated.asked
        with database.begin() as connection:  # of the pool, whose connection was ended
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
        database.connect().close()
        psycopg2.connect(**database.connect_arguments).close()
        assert rotated.asked >= before + 3
        psycopg2.connect(
            database.login_url.set(drivername="postgresql").render_as_string(hide_password=False)
        ).close()
    database.dispose()


@pytest.mark.sample(2)
@pytest.mark.parametrize("make", [by_event, by_creator, by_event_of_asyncpg])
def test_jobs_go_on_under_new_passwords(rotated, make, tmp_path, csv_file):
    """An upload, an export by several readers, a query, and a function, each after a change."""

    @tw.job
    async def add(run):
        async with run.transaction() as connection:
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO t VALUES (1)")
            await run.checkpoint({})

    workspace = Workspace(make(rotated))
    path = csv_file("a", *map(str, range(1000)))
    rotated.rotate()
    assert workspace.upload(path, "t").wait(60).rows_loaded == 1000
    rotated.rotate()
    assert workspace.download("t", tmp_path / "t.csv", workers=2).wait(60).rows_loaded == 1000
    rotated.rotate()
    query = "SELECT a FROM t ORDER BY a"
    assert workspace.download(query, tmp_path / "q.csv").wait(60).rows_loaded == 1000
    assert (tmp_path / "q.csv").read_text() == path.read_text()
    rotated.rotate()
    workspace.download("t", f"{tmp_path}/parts/", format="csv").wait(60)
    rotated.rotate()
    add.using(workspace)().wait(60)
    assert rotated.admin("SELECT count(*) FROM t", rotated.name) == [(1001,)]
    assert rotated.password not in workspace.url + repr(workspace)
    rows = rotated.admin("SELECT j::text FROM taskwidgets.jobs j", rotated.name)
    assert len(rows) == 5
    assert not any(rotated.password in row for (row,) in rows)
    workspace.close()


def test_a_paused_export_goes_on_under_a_new_password(rotated, tmp_path):
    """The snapshot's session was ended with the old password; a new one proves the table."""
    workspace = Workspace(by_event(rotated))
    with workspace.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t AS SELECT generate_series(1, 300000) AS a")
    job = workspace.download("t", tmp_path / "t.csv", max_rate=400_000)
    while job.progress.rows == 0 and job.error is None:
        job.join(0.01)
    job.pause()
    job.join(None)
    assert job.state == "paused"
    rotated.rotate()
    job.max_rate = None
    job.resume()
    assert job.wait(60).rows_loaded == 300_000
    workspace.close()


def test_workers_of_a_cluster_get_the_login_of_now(rotated, cluster_of, tmp_path, csv_file):
    """Slow: a cluster takes seconds to start. Segments and parts after a change are done."""
    cluster = cluster_of(1, 1)
    workspace = Workspace(by_event(rotated))
    for number in range(2):
        rotated.rotate()
        path = csv_file("a", *map(str, range(1000)), name=f"{number}.csv")
        job = workspace.upload(path, f"t{number}", client=cluster.address)
        assert job.wait(60).rows_loaded == 1000
        rotated.rotate()
        target = f"{tmp_path}/parts{number}/"
        job = workspace.download(f"t{number}", target, format="csv", client=cluster.address)
        assert job.wait(60).rows_loaded == 1000
    workspace.close()


def test_a_login_that_is_not_to_be_had_is_told(rotated):
    """What the engine's function raises is in the message, and is tried again like an outage."""
    engine = by_event(rotated)
    database = Database(address_of(engine)[0], login=address_of(engine)[1])

    @sqlalchemy.event.listens_for(engine, "do_connect")
    def fail(_dialect, _record, _arguments, _parameters):
        raise RuntimeError("no token today")

    with pytest.raises(ServerUnreachable, match="no login for a new connection: RuntimeError: no "):
        database.connect()
    with pytest.raises(ServerUnreachable, match="no token today"):
        database.connect_arguments  # noqa: B018
    with pytest.raises(ServerUnreachable, match="no token today"):
        Workspace(engine)
    database.dispose()


@pytest.mark.parametrize("make", [by_event, by_creator, by_creator_of_psycopg])
def test_a_login_that_is_refused_is_told(rotated, make):
    """A token that is not valid any more: LoginRefused, without the token."""
    engine = make(rotated)
    rotated.password = "an-old-token"
    with pytest.raises(LoginRefused) as refused:
        Workspace(engine)
    assert "an-old-token" not in str(refused.value)


def test_a_login_that_is_old_for_a_moment_is_tried_again(rotated):
    """The server may have the new password before the secret store has it."""
    url, login = address_of(by_event(rotated))
    database, current, said = Database(url, login=login), rotated.password, []
    rotated.password = "the-one-of-before"

    def waiting(words: str) -> None:
        said.append(words)
        rotated.password = current

    database.patiently(lambda: database.connect().close(), waiting)
    assert said == ["login refused, retrying", ""]
    fixed = Database(rotated.url(password="wrong"))
    with pytest.raises(LoginRefused):
        fixed.patiently(lambda: fixed.connect().close(), said.append)
    assert len(said) == 2
    database.dispose()
    fixed.dispose()


def test_a_coroutine_for_a_password_is_refused(rotated):
    """It would need an event loop wherever a connection is made."""

    async def token():
        return rotated.password

    engine = create_async_engine(rotated.url("asyncpg"), connect_args={"password": token})
    with pytest.warns(RuntimeWarning, match="never awaited"), pytest.raises(OptionError):
        Workspace(engine)


def test_the_same_engine_is_the_same_workspace(rotated, run_script):
    """connect() by an engine of a changing password keeps the workspace and its jobs."""
    out, err = run_script(
        """
        import sys
        import psycopg2, sqlalchemy
        import taskwidgets as tw
        engine = sqlalchemy.create_engine(
            "postgresql+psycopg2://", creator=lambda: psycopg2.connect(sys.argv[1]))
        first = tw.connect(engine)
        print(tw.connect(engine) is first, tw.connect(engine.execution_options()) is first)
        other = sqlalchemy.create_engine(
            "postgresql+psycopg2://", creator=lambda: psycopg2.connect(sys.argv[1]))
        print(tw.connect(other) is first)
        """,
        rotated.server.url(rotated.name, rotated.password, rotated.name),
    )
    assert (out, err) == ("True True\nFalse\n", "")


def test_a_fixed_engine_leaves_the_password_to_libpq(password_server, monkeypatch, tmp_path):
    """Where the engine has none, it is in no URL of ours: a password file is read each time."""
    file = tmp_path / "pgpass"
    file.write_text(f"*:*:*:owner:{OWNER}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    engine = sqlalchemy.create_engine(
        password_server.url().replace("postgresql", "postgresql+psycopg2", 1)
    )
    url, login = address_of(engine)
    assert login is None
    assert url.password is None
    Workspace(engine).close()


@pytest.mark.parametrize(
    ("wanted", "query"),
    [("require", {"sslmode": "require"}), (False, {}),
     (True, {"sslmode": "verify-full", "sslrootcert": "system"}),
     (ssl._create_unverified_context(), {"sslmode": "require"})],
)  # fmt: skip
def test_the_encryption_of_an_asyncpg_engine_is_kept(wanted, query):
    """What asyncpg is told by ssl= is asked of libpq."""
    made = create_async_engine("postgresql+asyncpg://ann@db/shop", connect_args={"ssl": wanted})
    url, login = address_of(made)
    assert login is None
    assert dict(url.query) == query


def test_an_encryption_that_cannot_be_kept_is_refused():
    """Nothing may be less verified than the engine's own connections are."""
    made = create_async_engine(
        "postgresql+asyncpg://ann@db/shop", connect_args={"ssl": ssl.create_default_context()}
    )
    with pytest.raises(OptionError, match="sslmode=verify-full&sslrootcert=FILE"):
        address_of(made)
