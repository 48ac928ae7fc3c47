import traceback

import psutil
import pytest
from fix_databases import other_database, run_sql
from fix_servers import wait_until

from taskwidgets import Workspace
from taskwidgets.cli.checks import all_checks
from taskwidgets.errors import (
    ConnectionsExhausted,
    DatabaseError,
    LoginRefused,
    OptionError,
    ServerUnreachable,
    TaskwidgetsError,
)
from taskwidgets.store.database import Database

SECRET = "hunter2xyz"


def refused(url, kind):
    """The error's text, after a look that the password stands nowhere."""
    with pytest.raises(TaskwidgetsError) as caught:
        Workspace(url)
    assert type(caught.value) is kind, caught.value
    shown = (
        str(caught.value) + repr(caught.value) + "".join(traceback.format_exception(caught.value))
    )
    assert SECRET not in shown
    return str(caught.value)


def test_the_right_password_is_accepted_and_shown_nowhere(password_server, csv_file):
    """With the right password all works, and url and repr of the workspace mask it."""
    made = Workspace(password_server.url(password=SECRET))
    assert SECRET not in made.url
    assert "***" in made.url
    assert SECRET not in repr(made)
    job = made.upload(csv_file("a", "1"), "t", if_exists="replace")
    job.wait()
    assert SECRET not in repr(job)
    with made._database.begin() as connection:
        rows = connection.exec_driver_sql("SELECT j::text FROM taskwidgets.jobs j").scalars().all()
    assert rows
    assert all(SECRET not in row for row in rows)
    made.close()


def test_a_password_in_the_query_is_masked_as_well(password_server):
    """A password given as ?password= is neither in the workspace's url nor in its repr."""
    made = Workspace(f"{password_server.url()}&password={SECRET}")
    assert SECRET not in made.url
    assert SECRET not in repr(made)
    made.close()


def test_a_wrong_password_in_the_query_is_in_no_error(password_server):
    """A wrong ?password= is refused without being repeated."""
    server = password_server
    with pytest.raises(LoginRefused) as caught:
        Workspace(f"{server.url(user='nobody')}&password={SECRET}")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_wrong_password_is_refused(password_server):
    """A wrong password raises LoginRefused, which names the user and what to check."""
    text = refused(password_server.url(password=f"{SECRET}-wrong"), LoginRefused)
    assert "owner" in text
    assert "password" in text


def test_a_wrong_user_is_refused(password_server):
    """A role that does not exist raises LoginRefused."""
    assert "stranger" in refused(password_server.url("stranger", SECRET), LoginRefused)


def test_a_wrong_database_is_refused(password_server):
    """A database that does not exist raises LoginRefused, which names it."""
    text = refused(password_server.url(password=SECRET, database="no_such"), LoginRefused)
    assert "no_such" in text


@pytest.mark.parametrize(
    "place", ["127.0.0.1:1", "no-such-host.invalid", "[::1]:1"], ids=["port", "host", "ipv6"]
)
def test_an_unreachable_server_is_said_to_be(place):
    """Nobody at the address raises ServerUnreachable, which names the address."""
    text = refused(f"postgresql://ann:{SECRET}@{place}/db", ServerUnreachable)
    assert "does not answer" in text
    assert place.strip("[]").split("]")[0].split(":")[0] in text


def test_a_socket_without_a_server_is_said_to_be(tmp_path):
    """A socket's directory without a server raises ServerUnreachable."""
    refused(f"postgresql://ann:{SECRET}@/db?host={tmp_path}", ServerUnreachable)


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://ann:{SECRET}@host/db",
        f"sqlite:///{SECRET}.db",
        f"postgresql://ann:{SECRET}@host:port/db",
        f"ann:{SECRET}@host/db",
        f"://{SECRET}",
        f"http//{SECRET}",
        "",
        42,
        b"postgresql://host/db",
    ],
)
def test_what_is_no_postgres_url_is_refused_unrepeated(url, monkeypatch):
    """Another database's URL, and garbage, raise OptionError without being repeated."""
    monkeypatch.delenv("TASKWIDGETS_DATABASE_URL", raising=False)
    refused(url, OptionError)


def test_a_password_with_an_at_sign_does_not_become_a_host():
    """An unescaped @ in the password makes no error that shows a part of the password."""
    url = f"postgresql://ann:pa@{SECRET}@127.0.0.1:1/db"
    with pytest.raises(TaskwidgetsError) as caught:
        Workspace(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_refused_login_is_a_database_error():
    """The classes stand under DatabaseError, so one except clause has them all."""
    assert issubclass(LoginRefused, DatabaseError)
    assert issubclass(ServerUnreachable, DatabaseError)


@pytest.mark.parametrize(("encoding", "holds"), [("LATIN1", False), ("EUC_JP", True)])
def test_a_database_that_cannot_hold_what_jobs_are_called(
    embedded_server, encoding, holds, csv_file
):
    """Its encoding is named, and what to do; one that has the characters is as good as UTF8."""
    name = f"in_{encoding.lower()}"
    run_sql(
        embedded_server.url,
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'"
        " LOCALE_PROVIDER libc LOCALE 'C'",
    )
    url = other_database(embedded_server.url, name)
    try:
        if holds:
            workspace = Workspace(url)
            workspace.upload(csv_file("a", "航空", name="便.csv"), "t").wait()
            assert [record.spec.name for record in workspace.jobs()] == ["便.csv → t"]
            assert run_sql(url, "SELECT a FROM t") == [("航空",)]
            workspace.close()
        else:
            with pytest.raises(DatabaseError, match=f"is encoded in {encoding}, .* UTF8"):
                Workspace(url)
            failed = [check for check in all_checks(url) if check.status == "fail"]
            assert [check.name for check in failed] == ["database"]
            assert f"is encoded in {encoding}" in failed[0].text
    finally:
        run_sql(embedded_server.url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def narrow(database_url, look):
    """A role that may use the database, and its URL; a function sets its connection limit."""
    name = look.one("SELECT current_database() || '_narrow'")
    look(f"CREATE ROLE {name} LOGIN")
    look(f"GRANT ALL ON SCHEMA taskwidgets, public TO {name}")
    look(f"GRANT ALL ON ALL TABLES IN SCHEMA taskwidgets TO {name}")
    look(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA taskwidgets TO {name}")

    def limit(number):
        look(f"ALTER ROLE {name} CONNECTION LIMIT {number}")

    yield database_url.replace("postgres@", f"{name}@"), limit
    look(f"DROP OWNED BY {name}")
    look(f"DROP ROLE {name}")


def test_a_role_without_a_connection_to_spare_is_told_so(narrow):
    """It is no refused login: ConnectionsExhausted says what the limit is, and what to do."""
    url, limit = narrow
    limit(0)
    text = refused(url, ConnectionsExhausted)
    assert "has no connection to spare" in text
    assert "too many connections for role" in text
    limit(-1)
    Workspace(url).close()


def test_a_job_waits_for_a_free_connection(narrow, csv_file, look):
    """It says what it waits for, and goes on by itself."""
    url, limit = narrow
    workspace = Workspace(url)
    limit(0)
    job = workspace.upload(csv_file("a", "1"), "t")
    wait_until(lambda: job.remark == "no free connection, retrying" or job.error)
    assert job.error is None
    assert job.state in ("pending", "running")
    limit(-1)
    assert job.wait(60).rows_loaded == 1
    workspace.close()


def test_a_refused_connection_leaves_no_socket_open(database_url):
    """Also while its error is kept, traceback and all, as by a logger."""
    database = Database(other_database(database_url, "none_of_this_name"))
    process, kept = psutil.Process(), []
    before = process.num_fds()
    for _ in range(5):
        with pytest.raises(LoginRefused) as caught:
            database.connect()
        kept.append(caught.value)
    assert process.num_fds() <= before
    database.dispose()
