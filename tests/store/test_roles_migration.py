"""A database of the release before roles: who the jobs are given to, and under whose feet."""

import threading

import psycopg2
import pytest
from alembic import command
from fix_databases import run_sql
from fix_servers import plain, wait_until
from sqlalchemy import text

from taskwidgets.store import migrate
from taskwidgets.store.database import Database

INSERT = """
    INSERT INTO taskwidgets.jobs (key, kind, name, source, target, options, plan, state)
    VALUES (gen_random_uuid()::text, 'upload', 'n', 's', 't', '{}', '{}', %s) RETURNING id
"""


@pytest.fixture
def older_url(empty_url):
    """A database with the schema of the revision 0006."""
    database = Database(empty_url)
    config = migrate._config()
    with database.begin() as connection:
        connection.execute(text("CREATE SCHEMA taskwidgets"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0006")
    database.dispose()
    return empty_url


@pytest.fixture
def member(older_url):
    """A role with the grants that the release advised."""
    name = run_sql(older_url, "SELECT current_database() || '_member'")[0][0]
    run_sql(older_url, f"CREATE ROLE {name} LOGIN")
    run_sql(older_url, f"GRANT ALL ON SCHEMA taskwidgets TO {name}")
    run_sql(older_url, f"GRANT ALL ON ALL TABLES IN SCHEMA taskwidgets TO {name}")
    yield name
    run_sql(older_url, f"DROP OWNED BY {name}")
    run_sql(older_url, f"DROP ROLE {name}")


def prepare(url):
    database = Database(url)
    try:
        database.prepare()
    finally:
        database.dispose()


def roles(url):
    return dict(run_sql(url, "SELECT id, owner_role FROM taskwidgets.jobs"))


def test_what_one_role_uses_is_its_owners(older_url):
    """Nobody else has grants: finished and unfinished jobs are the owner's of the tables."""
    for state in ("completed", "paused"):
        run_sql(older_url, INSERT, (state,))
    prepare(older_url)
    assert roles(older_url) == {1: "postgres", 2: "postgres"}


def test_what_several_roles_use_is_given_to_whom_it_is_known_to_be(older_url, member):
    """By the staging table, and by the lock of a job that runs; the others have no role."""
    url = older_url.replace("postgres@", f"{member}@")
    for state in ("paused", "running", "completed", "paused"):
        run_sql(url, INSERT, (state,))
    run_sql(url, "CREATE TABLE taskwidgets.taskwidgets_staging_1 (a int)")
    connection = psycopg2.connect(plain(url))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1953983074, 2)")
    connection.commit()
    prepare(older_url)
    connection.close()
    assert roles(older_url) == {1: member, 2: member, 3: None, 4: None}
    # All see those without a role, as before; nobody deletes them but the owner of the tables.
    assert run_sql(url, "SELECT id FROM taskwidgets.jobs ORDER BY id") == [(1,), (2,), (3,), (4,)]
    assert run_sql(url, "DELETE FROM taskwidgets.jobs RETURNING id") == [(1,), (2,)]
    granted = run_sql(
        older_url,
        "SELECT DISTINCT privilege_type FROM information_schema.table_privileges"
        " WHERE grantee = %s AND table_name = 'jobs'",
        (member,),
    )
    assert {name for (name,) in granted} == {"SELECT", "INSERT", "UPDATE", "DELETE"}
    assert run_sql(url, "SELECT count(*) FROM taskwidgets.v_jobs") == [(2,)]


def test_processes_of_the_older_release_go_on(older_url, member):
    """One that has its tables locked is waited for; its statements work afterwards."""
    url = older_url.replace("postgres@", f"{member}@")
    ((job_id,),) = run_sql(url, INSERT, ("running",))
    older = psycopg2.connect(plain(url))
    with older.cursor() as cursor:
        cursor.execute("UPDATE taskwidgets.jobs SET heartbeat_at = now()")
    migrating = threading.Thread(target=prepare, args=(older_url,))
    migrating.start()
    waits = (
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock')"
    )
    wait_until(lambda: run_sql(older_url, waits)[0][0])
    older.commit()
    migrating.join()
    with older, older.cursor() as cursor:
        cursor.execute("UPDATE taskwidgets.jobs SET heartbeat_at = now(), epoch = 1")
        assert cursor.rowcount == 1
        cursor.execute(
            "INSERT INTO taskwidgets.checkpoints (job_id, from_byte, to_byte, rows, crc32)"
            " VALUES (%s, 0, 1, 1, 0)",
            (job_id,),
        )
        cursor.execute(INSERT, ("pending",))
        ((made,),) = cursor.fetchall()
    older.close()
    assert roles(older_url) == {job_id: None, made: member}


def test_eight_processes_bring_the_schema_up_once(older_url, script):
    """They wait for each other with no lock that the one that migrates needs."""
    code = """
        import sys
        from taskwidgets.store.database import Database
        import taskwidgets.store.migrate
        database = Database(sys.argv[1])
        print("ready", flush=True)
        sys.stdin.readline()
        database.prepare()
        database.dispose()
        print("done", flush=True)
    """
    scripts = [script(code, older_url) for _ in range(8)]
    for one in scripts:
        assert one.line() == "ready"
    for one in scripts:
        one.say("go")
    for one in scripts:
        assert one.end() == ("done\n", "")
    assert run_sql(older_url, "SELECT version_num FROM taskwidgets.alembic_version") == [("0007",)]
