"""Jobs over HTTP log in as a role that reads and writes tables, and reaches nothing else."""

from __future__ import annotations

import threading
from contextlib import closing

import psycopg2
import pytest
from fix_databases import run_sql
from fix_jupyter import SLOW, JupyterServer
from fix_servers import plain, wait_until

from taskwidgets.embedded.roles import RESTRICTED_ROLE
from taskwidgets.errors import JobOfOtherRole
from taskwidgets.store import records

# Each in another way to what only a superuser may do. Several are refused only when they run.
ESCAPES = {
    "read a file": "SELECT pg_catalog.pg_read_file('/etc/passwd')",
    "read the server's file": "SELECT pg_read_file('PG_VERSION')",
    "read bytes": "SELECT pg_read_binary_file('global/pg_control')",
    "list a folder": "SELECT pg_ls_dir('/')",
    "list the log": "SELECT * FROM pg_ls_logdir()",
    "look at a file": "SELECT * FROM pg_stat_file('/etc/passwd')",
    "import a file": "SELECT lo_import('/etc/passwd')",
    "export a file": "SELECT lo_export(1, '/tmp/taskwidgets-escaped')",
    "after a role": "SELECT set_config('role', 'postgres', false)",
    "after a role of files": "SELECT set_config('role', 'pg_read_server_files', false)",
    "after another login": "SELECT set_config('session_authorization', 'postgres', false)",
    "after a role, with a file": (
        "WITH r AS MATERIALIZED (SELECT set_config('role', 'none', true) AS role)"
        " SELECT pg_read_file('/etc/passwd' || left(role, 0)) FROM r"
    ),
    "a statement in XML": (
        "SELECT query_to_xml('COPY (SELECT 1) TO ''/tmp/taskwidgets-escaped''',true,true,'')"
    ),
    "a query in XML": "SELECT query_to_xml('SELECT pg_read_file(''/etc/passwd'')',true,true,'')",
    "a table's rules": "SELECT * FROM pg_hba_file_rules",
    "settings in files": "SELECT * FROM pg_file_settings",
    "reload": "SELECT pg_reload_conf()",
    "in a row function": "SELECT * FROM generate_series(1, 2) n, LATERAL pg_ls_dir('/' || n) AS f",
    "in a VALUES": "VALUES (pg_read_file('/etc/passwd'))",
    "by a view of a superuser": "TABLE restricted_view",
}
STATEMENTS = (
    "COPY (SELECT 1) TO PROGRAM 'touch /tmp/taskwidgets-escaped'",
    "COPY restricted_rows FROM PROGRAM 'echo 1'",
    "COPY restricted_rows FROM '/etc/passwd'",
    "ALTER SYSTEM SET work_mem = '8MB'",
    "SELECT 1; RESET ROLE",
    "SELECT 1; SET SESSION AUTHORIZATION postgres",
    "SELECT 1; COMMIT",
    "SET ROLE postgres",
    "LOAD 'auto_explain'",
    "DO $$ BEGIN PERFORM pg_read_file('/etc/passwd'); END $$",
)


def test_the_role_has_one_name():
    """The store knows it without loading the server's modules."""
    assert records.RESTRICTED_ROLE == RESTRICTED_ROLE


@pytest.fixture(scope="module")
def made(http_database_url: str) -> None:
    """What the notebook's role has made."""
    run_sql(
        http_database_url,
        "CREATE TABLE restricted_rows (n int);"
        "CREATE VIEW restricted_view AS SELECT pg_read_file('/etc/passwd') AS text",
    )


@pytest.mark.parametrize("way", ESCAPES)
def test_a_query_cannot_do_what_only_a_superuser_may(server: JupyterServer, made, seen, way):
    """Whether it is refused at once or when it runs, its file is never made."""
    answer = server.post("download/start", {"source": ESCAPES[way], "path": f"escape {way}.csv"})
    if answer.status == 200:
        job = server.wait_for(answer.body["id"], "failed", "completed")
        assert job["state"] == "failed"
        message = job["error"]
    else:
        assert answer.status in (403, 422)
        message = answer.error["message"]
    wanted = (
        "permission denied",
        "would write",
        "is not allowed in a non-volatile function",
        "cannot set parameter",
    )
    assert any(words in message for words in wanted), message
    assert not (server.root / f"escape {way}.csv").exists()


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_that_is_no_query_is_refused(server: JupyterServer, made, statement):
    """Nothing of it is run."""
    answer = server.post("download/start", {"source": statement, "path": "statement.csv"})
    assert answer.status == 422, answer


def test_the_session_itself_has_the_role(server: JupyterServer, made):
    """Not only its current role: no RESET ROLE leads to more."""
    job = server.download(
        "SELECT session_user AS login, current_user AS role, current_setting('is_superuser') AS s",
        "session.csv",
    )
    server.wait_for(job["id"], "completed")
    expected = f"login,role,s\n{RESTRICTED_ROLE},{RESTRICTED_ROLE},off\n"
    assert (server.root / "session.csv").read_text() == expected


def test_an_upload_runs_as_the_role_too(server: JupyterServer, rows_file, seen):
    """A table that a job over HTTP has made is the role's; the superuser uses it as any other."""
    job = server.upload(rows_file("as_role.csv", 20), "as_role")
    server.wait_for(job["id"], "completed")
    owner = "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'as_role'::regclass"
    assert seen.one(owner) == RESTRICTED_ROLE
    assert seen.one("SELECT count(*) FROM as_role") == 20


@pytest.mark.parametrize("schema", ["public", "restricted_schema"])
@pytest.mark.parametrize("owner", ["postgres", "restricted_ann"])
def test_tables_of_others_are_read_and_appended_to(
    server: JupyterServer, http_database_url, rows_file, seen, schema, owner
):
    """Also serial columns, row security, other schemas, and tables of other roles."""
    name = f"shared_{schema[:4]}_{owner[:4]}"
    run_sql(
        http_database_url,
        f"DO $$ BEGIN CREATE ROLE restricted_ann; EXCEPTION WHEN duplicate_object THEN END $$;"
        f"CREATE SCHEMA IF NOT EXISTS {schema};"
        f"CREATE TABLE {schema}.{name} (pk serial, id int, text text);"
        f"ALTER TABLE {schema}.{name} ENABLE ROW LEVEL SECURITY;"
        f"ALTER TABLE {schema}.{name} OWNER TO {owner}",
    )
    (server.root / f"{name}.csv").write_text("id,text\n1,a\n2,b\n")
    job = server.upload(f"{name}.csv", f"{schema}.{name}", if_exists="append")
    assert server.wait_for(job["id"], "completed", "failed")["error"] is None
    assert seen.one(f"SELECT array_agg(pk || text ORDER BY pk) FROM {schema}.{name}") == [
        "1a",
        "2b",
    ]
    job = server.download(f"{schema}.{name}", f"{name}-out.csv")
    assert server.wait_for(job["id"], "completed", "failed")["error"] is None
    assert (server.root / f"{name}-out.csv").read_text() == "pk,id,text\n1,1,a\n2,2,b\n"
    job = server.upload(f"{name}.csv", f"{schema}.{name}_new")
    assert server.wait_for(job["id"], "completed", "failed")["error"] is None


def test_a_table_of_the_notebook_is_replaced(
    server: JupyterServer, http_database_url, rows_file, seen
):
    """As before; grants and comment go on to the new table."""
    run_sql(
        http_database_url,
        "CREATE TABLE notebooks (a int);"
        "COMMENT ON TABLE notebooks IS 'kept';"
        "GRANT SELECT ON notebooks TO pg_monitor",
    )
    job = server.upload(rows_file("replacing.csv", 7), "notebooks", if_exists="replace")
    assert server.wait_for(job["id"], "completed", "failed")["error"] is None
    assert seen.one("SELECT count(*) FROM notebooks") == 7
    assert seen.one("SELECT obj_description('notebooks'::regclass)") == "kept"
    assert seen.one("SELECT has_table_privilege('pg_monitor', 'notebooks', 'SELECT')")


def test_our_own_tables_are_not_given_away(server: JupyterServer, rows_file, seen):
    """A request to replace a table of the schema taskwidgets changes nothing about it."""
    answer = server.post(
        "upload/start",
        {"source": rows_file("own.csv", 3), "table": "taskwidgets.jobs", "if_exists": "replace"},
    )
    assert answer.status in (403, 409, 422), answer
    owner = "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'taskwidgets.jobs'::regclass"
    assert seen.one(owner) == "postgres"


@pytest.mark.parametrize("end", ["resume", "terminate"])
def test_a_job_of_the_notebook_goes_on_over_http(
    server: JupyterServer, elsewhere, rows_file, seen, end
):
    """Its staging table, which the superuser has made, is handed over with the job."""
    source = rows_file(f"handed-{end}.csv", 3000)
    job = elsewhere.upload(server.root / source, f"handed_{end}", workers=1, max_rate=SLOW)
    server.wait_for_rows(job.id)
    job.pause()
    server.wait_for(job.id, "paused")
    options = {"max_rate": 1e9} if end == "resume" else {}
    server.ok(server.post(f"upload/{end}", {"job_id": job.id, **options}))
    if end == "resume":
        assert server.wait_for(job.id, "completed", "failed")["error"] is None
        assert seen.one(f"SELECT count(*) FROM handed_{end}") == 3000
    else:
        server.wait_for(job.id, "terminated")
        assert not seen.exists(f"handed_{end}")
    staging = f"taskwidgets.taskwidgets_staging_{job.id}"
    assert seen.one(f"SELECT to_regclass('{staging}') IS NULL")


def test_a_job_over_http_goes_on_in_the_notebook(server: JupyterServer, elsewhere, rows_file, seen):
    """The superuser takes up what the role has begun, where that is asked for by name."""
    source = rows_file("taken_up.csv", 3000)
    job_id = server.upload(source, "taken_up", workers=1, max_rate=SLOW)["id"]
    server.wait_for_rows(job_id)
    server.ok(server.post("upload/pause", {"job_id": job_id}))
    server.wait_for(job_id, "paused")
    with pytest.raises(JobOfOtherRole, match="take_over=True"):
        elsewhere.resume(job_id)
    elsewhere.resume(job_id, max_rate=1e9, take_over=True).wait()
    assert seen.one("SELECT count(*) FROM taken_up") == 3000


def test_a_job_that_runs_in_a_notebook_is_taken_over(
    server: JupyterServer, elsewhere, rows_file, seen
):
    """The kernel's later writes are fenced; its staging table is handed over."""
    source = rows_file("taken_over.csv", 3000)
    job = elsewhere.upload(server.root / source, "taken_over", workers=1, max_rate=SLOW)
    server.wait_for_rows(job.id)
    server.ok(server.post("upload/resume", {"job_id": job.id, "take_over": True, "max_rate": 1e9}))
    assert server.wait_for(job.id, "completed", "failed")["error"] is None
    assert seen.one("SELECT count(*) FROM taken_over") == 3000


def test_blocked_requests_keep_no_other_from_beginning(
    server: JupyterServer, http_database_url, numbers_table
):
    """Many wait for a table that a session has locked; another download begins and is done."""
    locked = numbers_table("locked_numbers", 10)
    free = numbers_table("free_numbers", 10)
    answers: list[int] = []

    def ask(number: int) -> None:
        source = f"SELECT * FROM {locked} WHERE n > {number}"
        answer = server.post("download/start", {"source": source, "path": f"lock{number}.csv"})
        answers.append(answer.status)

    with closing(psycopg2.connect(plain(http_database_url))) as holder:
        holder.cursor().execute(f"LOCK {locked}")
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        waiting = (
            "SELECT count(*) = 12 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
            " WHERE NOT granted AND relname = 'locked_numbers'"
        )
        wait_until(lambda: run_sql(http_database_url, waiting) == [(True,)], "for the requests")
        job = server.download(free, "free.csv")
        server.wait_for(job["id"], "completed")
        assert answers == []  # they wait still
        holder.rollback()
        for thread in threads:
            thread.join()
    assert answers == [200] * 12
