"""Roles as hosted servers make them: with time limits, few rights, read-only at times."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import psycopg2
import pytest
from fix_databases import Look
from fix_servers import plain, wait_until

from taskwidgets import Workspace
from taskwidgets.errors import DatabaseError, RightsMissing

ROWS = 3000


@pytest.fixture
def as_role(look: Look, workspace: Workspace) -> Iterator[Callable[..., Workspace]]:
    """A factory of workspaces of a role that has these settings, and may run jobs."""
    role = "limited_" + look.url.partition("?")[0].rpartition("_")[2]
    look(f"CREATE ROLE {role} LOGIN")
    look("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    look(f"GRANT USAGE ON SCHEMA public TO {role}")
    for what in ("SCHEMA taskwidgets", "ALL TABLES IN SCHEMA taskwidgets",
                 "ALL SEQUENCES IN SCHEMA taskwidgets"):  # fmt: skip
        look(f"GRANT ALL ON {what} TO {role}")
    made: list[Workspace] = []

    def make(**settings: str) -> Workspace:
        for name, value in settings.items():
            look(f"ALTER ROLE {role} SET {name} = '{value}'")
        made.append(Workspace(re.sub("//[^@]*@", f"//{role}@", look.url)))
        return made[-1]

    make.name = role
    yield make
    for one in made:
        one.close()
    look(f"DROP OWNED BY {role}")
    look(f"DROP ROLE {role}")


LIMITS = {
    "statement_timeout": "100ms",
    "lock_timeout": "20ms",
    "idle_in_transaction_session_timeout": "200ms",
}


WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def test_a_roles_time_limits_end_no_upload(as_role, look, many_rows):
    """With triggers that take longer, and a target that others have locked for longer."""
    limits = dict(LIMITS)
    if look.one("SHOW server_version_num") >= "170000":
        limits["transaction_timeout"] = "300ms"
    workspace = as_role(**limits)
    look("CREATE TABLE t (id int, name text, amount numeric, day date, note text)")
    look(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END'"
    )
    look("CREATE TRIGGER slow AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION slow()")
    look(f"GRANT ALL ON t TO {as_role.name}")
    with psycopg2.connect(plain(look.url)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE t IN SHARE MODE")
        job = workspace.upload(many_rows(ROWS), "t", if_exists="append")
        wait_until(lambda: look(WAITING) or job.error)
        cursor.execute("SELECT pg_sleep(0.1)")
    job.wait(60)
    assert look.one("SELECT count(*) FROM t") == ROWS


@pytest.mark.parametrize("rights", ["INSERT (a, b)", "INSERT (a, b), SELECT (a)"])
def test_rights_on_columns_suffice(as_role, look, tmp_path, rights):
    """Rows are appended to the columns that the role may write; the others get their defaults."""
    workspace = as_role()
    look("CREATE TABLE t (a int, b text, c int DEFAULT 7)")
    look(f"GRANT {rights} ON t TO {as_role.name}")
    (tmp_path / "a.csv").write_text("a,b\n1,x\n2,y\n")
    workspace.upload(tmp_path / "a.csv", "t", if_exists="append").wait(60)
    assert look("SELECT * FROM t ORDER BY a") == [(1, "x", 7), (2, "y", 7)]


def test_a_column_without_rights_is_named(as_role, look, tmp_path):
    """The error says which column, and what to ask for; nothing is loaded."""
    workspace = as_role()
    look("CREATE TABLE t (a int, b text)")
    look(f"GRANT INSERT (a) ON t TO {as_role.name}")
    (tmp_path / "a.csv").write_text("a,b\n1,x\n")
    with pytest.raises(RightsMissing, match=r'the column "b" of "public.t".*GRANT INSERT \("b"\)'):
        workspace.upload(tmp_path / "a.csv", "t", if_exists="append")
    assert look("SELECT * FROM t") == []


ENDED = """
    SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'taskwidgets%'
"""


def test_a_job_waits_while_the_server_takes_no_changes(workspace, look, many_rows):
    """As after a failover: new sessions are read-only for a while; then the job goes on."""
    job = workspace.upload(many_rows(ROWS), "t", max_rate=5e4)
    wait_until(lambda: job.progress.rows > 0)
    name = look.one("SELECT quote_ident(current_database())")
    look(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        look(ENDED)
        wait_until(lambda: "read-only" in job.remark)
    finally:
        look(f"BEGIN READ WRITE;ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT")
    job.max_rate = None
    assert job.wait(60).rows_loaded == look.one("SELECT count(*) FROM t") == ROWS


def test_a_role_that_may_only_read_is_told(as_role):
    """A role whose transactions are read-only gets an error that names the setting."""
    with pytest.raises(DatabaseError, match=r"default_transaction_read_only.*metadata="):
        as_role(default_transaction_read_only="on")
