"""What a superuser does for the role of jobs over HTTP, and what that role is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest
from fix_databases import new_database, run_sql
from fix_servers import PrivateServer, plain, wait_until

from taskwidgets import Workspace
from taskwidgets.embedded.roles import RESTRICTED_ROLE
from taskwidgets.runtime.store import Owner
from taskwidgets.store import eviction
from taskwidgets.store.database import application_name

WHO = "SELECT rolsuper, rolcanlogin, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = %s"
RIGHT = [(False, True, False, False)]


@pytest.fixture
def restricted(database_url):
    """A workspace as the service over HTTP has it."""
    made = Workspace(database_url, restricted=True)
    yield made
    made.close()


def test_the_role_is_made_again_with_its_rights_only(database_url):
    """Whether it is missing, as in an older data directory, or somebody has given it more."""
    Workspace(database_url, restricted=True).close()
    assert run_sql(database_url, WHO, (RESTRICTED_ROLE,)) == RIGHT
    run_sql(database_url, f"ALTER ROLE {RESTRICTED_ROLE} SUPERUSER CREATEROLE")
    Workspace(database_url, restricted=True).close()
    assert run_sql(database_url, WHO, (RESTRICTED_ROLE,)) == RIGHT
    run_sql(database_url, f"DROP OWNED BY {RESTRICTED_ROLE}")
    workspace = Workspace(database_url, restricted=True)
    with workspace.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT session_user").scalar() == RESTRICTED_ROLE
    workspace.close()


def test_services_that_start_at_once_all_get_the_role(embedded_server, template):
    """Several on each of two databases of one server, after the role has lost a right."""
    with (
        new_database(embedded_server.url, template) as one,
        new_database(embedded_server.url, template) as two,
        ThreadPoolExecutor(6) as threads,
    ):
        Workspace(one, restricted=True).close()
        run_sql(one, f"ALTER ROLE {RESTRICTED_ROLE} NOLOGIN")
        made = list(threads.map(lambda url: Workspace(url, restricted=True), [one, two] * 3))
        for workspace in made:
            assert workspace.database.url.username == RESTRICTED_ROLE
            workspace.close()


def test_another_server_is_used_by_the_login_of_its_url(private_server: PrivateServer):
    """No role is made on a server that is not the embedded one."""
    workspace = Workspace(private_server.url(), restricted=True)
    assert workspace.database.url.username == "owner"
    assert workspace.database.administrator is None
    workspace.close()
    assert run_sql(private_server.url(), WHO, (RESTRICTED_ROLE,)) == []


def test_sessions_of_a_superuser_are_ended_for_it(database_url, restricted):
    """Those of a frozen kernel, whose job is taken over: the role itself could not end them."""
    owner = Owner(host="h", pid=1, session="f" * 32, kernel="", notebook="", since=None)
    name = application_name(owner.session)
    alive = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    with closing(psycopg2.connect(plain(database_url), application_name=name)):
        assert run_sql(database_url, alive, (name,)) == [(1,)]
        eviction.end_sessions(restricted.database, owner)
        wait_until(lambda: run_sql(database_url, alive, (name,)) == [(0,)])
