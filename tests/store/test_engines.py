"""connect() takes an engine or a connection that the user has already."""

from __future__ import annotations

import psycopg2
import pytest
import sqlalchemy
from fix_servers import plain
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from taskwidgets import Workspace
from taskwidgets.errors import LoginRefused, OptionError, ServerUnreachable
from taskwidgets.store.database import parse_url
from taskwidgets.store.engines import address_of

PASSWORD = "hunter2xyz"


@pytest.fixture
def engine():
    """A factory of engines; a password's server is not kept waiting by idle connections."""
    made = []

    def make(url, create=sqlalchemy.create_engine, **options):
        made.append(create(url, poolclass=NullPool, **options))
        return made[-1]

    return make


def opened(made) -> tuple[str, str]:
    """Connect by what was given; the user and the database that the workspace is on."""
    workspace = Workspace(made)
    try:
        assert PASSWORD not in workspace.url + repr(workspace)
        with workspace.engine.begin() as connection:
            row = connection.execute(
                sqlalchemy.text("SELECT current_user::text, current_database()::text")
            ).one()
            return row[0], row[1]
    finally:
        workspace.close()


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "asyncpg", "psycopg_async"])
def test_an_engine_of_any_driver_leads_to_its_database(password_server, engine, driver):
    """The engine's URL counts, with its password, whatever driver it has."""
    url = make_url(password_server.url(password=PASSWORD)).set(drivername=f"postgresql+{driver}")
    is_async = driver in ("asyncpg", "psycopg_async")
    made = engine(url, create_async_engine if is_async else sqlalchemy.create_engine)
    assert opened(made) == ("owner", "postgres")


def test_a_connection_stands_for_its_engine(password_server, engine):
    """A connection in the middle of a transaction is neither used nor disturbed."""
    with engine(plain(password_server.url(password=PASSWORD))).connect() as connection:
        connection.execute(sqlalchemy.text("CREATE TEMP TABLE mine AS SELECT 1 AS one"))
        assert opened(connection) == ("owner", "postgres")
        assert connection.in_transaction()
        assert connection.scalar(sqlalchemy.text("SELECT one FROM mine")) == 1


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "asyncpg"])
def test_arguments_beside_the_url_count(password_server, engine, driver):
    """connect_args= may hold the password and more; what the URL leaves out is found there."""
    url = make_url(password_server.url()).set(drivername=f"postgresql+{driver}")
    is_async = driver == "asyncpg"
    made = engine(
        url,
        create_async_engine if is_async else sqlalchemy.create_engine,
        connect_args={"password": PASSWORD},
    )
    assert opened(made) == ("owner", "postgres")


def test_an_engine_with_a_function_of_its_own(password_server, engine):
    """creator= makes an empty URL enough: a live connection tells where it leads."""
    dsn = password_server.url(password=PASSWORD)

    def creator():
        return psycopg2.connect(dsn, options="-c search_path=elsewhere,public")

    made = engine("postgresql+psycopg2://", creator=creator)
    assert opened(made) == ("owner", "postgres")
    workspace = Workspace(made)
    with workspace.engine.begin() as connection:
        assert connection.scalar(sqlalchemy.text("SHOW search_path")) == "elsewhere,public"
    workspace.close()


async def test_a_function_that_cannot_be_asked_is_refused(engine):
    """An asyncpg engine with a creator of its own is an error that says what to do."""
    made = engine("postgresql+asyncpg://", create_async_engine, async_creator=lambda: None)
    with pytest.raises(OptionError, match=r"creator=.*give connect\(\) a URL"):
        Workspace(made)


@pytest.mark.parametrize("wrong", ["sqlite", 7])
def test_what_is_not_postgres_is_refused(engine, wrong):
    """An engine for another database, or another thing altogether, is an OptionError."""
    made = engine("sqlite://") if wrong == "sqlite" else wrong
    with pytest.raises(OptionError, match=r"sqlite|not int"):
        Workspace(made)


def test_an_engine_that_does_not_connect(private_server, password_server, engine):
    """Its fault is told as any other is, without the password."""
    url = password_server.url(password="wrong-secret")
    with pytest.raises(LoginRefused) as refused:
        Workspace(engine(url))
    assert "wrong-secret" not in str(refused.value)
    url = private_server.url()
    private_server.stop()
    try:
        with pytest.raises(ServerUnreachable):
            Workspace(engine(url))
    finally:
        private_server.start()


@pytest.mark.parametrize(
    "url",
    ["postgresql://owner:hunter2xyz@/postgres?host={socket}",
     "postgresql+psycopg2://owner@/postgres?host={socket}&password=hunter2xyz&sslmode=disable"],
)  # fmt: skip
def test_a_url_that_suffices_stays_as_it_is(password_server, engine, url):
    """Where nothing is missing, the workspace is the one that connect(url) would give."""
    url = url.format(socket=password_server.socket)
    made = engine(url)
    reached, login = address_of(made)
    assert parse_url(reached) == parse_url(url)
    assert login is None


def test_the_function_goes_on_with_the_same_workspace(run_script, database_url):
    """connect() by an engine of the current database keeps the current workspace."""
    out, err = run_script(
        """
        import sys
        import sqlalchemy
        import taskwidgets as tw
        first = tw.connect(sys.argv[1])
        engine = sqlalchemy.create_engine(sys.argv[1])
        print(tw.connect(engine) is first)
        with engine.connect() as connection:
            print(tw.connect(connection) is first)
        """,
        plain(database_url).replace("postgresql:", "postgresql+psycopg2:"),
    )
    assert (out, err) == ("True\nTrue\n", "")
