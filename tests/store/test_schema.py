import itertools
import re

import psycopg2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from fix_databases import new_database, run_sql
from fix_servers import plain, wait_until
from sqlalchemy import create_engine, text

from taskwidgets import Workspace
from taskwidgets.errors import RightsMissing, SchemaTooNew
from taskwidgets.runtime.states import TRANSITIONS, State
from taskwidgets.store.schema import SCHEMA, metadata

INSERT_JOB = """
    INSERT INTO taskwidgets.jobs (key, kind, name, source, target, options, plan, state)
    VALUES (gen_random_uuid()::text, 'upload', 'n', 's', 't', '{}', '{}', %s) RETURNING id
"""

CATALOG = """
    SELECT 'column', table_name, column_name, data_type, is_nullable, column_default,
           is_identity, ordinal_position::text
    FROM information_schema.columns WHERE table_schema = 'taskwidgets'
    AND table_name NOT IN ('alembic_version', 'v_jobs')
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef, '', '', '', '' FROM pg_indexes
    WHERE schemaname = 'taskwidgets' AND tablename <> 'alembic_version'
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid),
           '', '', '', ''
    FROM pg_constraint WHERE connamespace = 'taskwidgets'::regnamespace
    AND conrelid::regclass::text NOT LIKE '%alembic%'
    ORDER BY 1, 2, 3, 4
"""


def test_the_database_holds_the_same_transitions(look):
    """The table taskwidgets.transitions equals runtime.states.TRANSITIONS."""
    found = look("SELECT from_state, to_state FROM taskwidgets.transitions")
    assert set(found) == {(str(start), str(finish)) for start, finish in TRANSITIONS}


def test_the_trigger_refuses_every_other_pair(database_url):
    """For each pair of states an UPDATE succeeds if, and only if, the table allows it."""
    connection = psycopg2.connect(plain(database_url))
    with connection, connection.cursor() as cursor:
        for start, finish in itertools.product(State, State):
            cursor.execute(INSERT_JOB, (start,))
            (job_id,) = cursor.fetchone()
            cursor.execute("SAVEPOINT here")
            try:
                cursor.execute(
                    "UPDATE taskwidgets.jobs SET state = %s WHERE id = %s", (finish, job_id)
                )
                moved = True
            except psycopg2.IntegrityError as error:
                moved = f"is {start} and cannot become {finish}" not in str(error)
            cursor.execute("ROLLBACK TO here")
            assert moved == (start is finish or (start, finish) in TRANSITIONS), (start, finish)
    connection.close()


def test_an_unknown_state_is_refused(look):
    """No row can be in a state that runtime.states does not know."""
    with pytest.raises(psycopg2.errors.CheckViolation):
        look(INSERT_JOB, ("sleeping",))


def test_migrations_and_schema_are_the_same_for_alembic(database_url):
    """Alembic's autogenerate finds nothing to change between the migrated database and schema."""
    engine = create_engine(plain(database_url).replace("postgresql://", "postgresql+psycopg2://"))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table_schema": SCHEMA,
                "include_schemas": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_migrations_and_schema_make_the_same_catalog(database_url, empty_url, look):
    """Columns, defaults, indexes and constraints are the same, built by either."""
    engine = create_engine(plain(empty_url).replace("postgresql://", "postgresql+psycopg2://"))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        metadata.create_all(connection)
    engine.dispose()
    assert run_sql(empty_url, CATALOG) == look(CATALOG)


def test_every_server_version_migrates_and_loads(version_url, csv_file):
    """The schema is made, and a file loaded, on each version of Postgres that is there."""
    with new_database(version_url) as url:
        made = Workspace(url)
        assert made.upload(csv_file("a,b", '1,"x\ny"'), "t").wait().rows_loaded == 1
        assert run_sql(url, "SELECT * FROM t") == [(1, "x\ny")]
        made.close()


def test_eight_processes_that_come_first_make_the_schema_once(empty_url, script):
    """Of eight processes that connect in the same moment, all succeed and one migrates."""
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
    scripts = [script(code, empty_url) for _ in range(8)]
    for one in scripts:
        assert one.line() == "ready"
    for one in scripts:
        one.say("go")
    for one in scripts:
        out, err = one.end()
        assert (out, err) == ("done\n", "")
    assert run_sql(empty_url, "SELECT version_num FROM taskwidgets.alembic_version") == [("0007",)]
    assert len(run_sql(empty_url, "SELECT * FROM taskwidgets.transitions")) == len(TRANSITIONS)


def test_a_newer_schema_is_refused(database_url, look):
    """A revision that this release does not know raises SchemaTooNew, which says to upgrade."""
    look("UPDATE taskwidgets.alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match=r"9999.*pip install --upgrade taskwidgets"):
        Workspace(database_url)
    assert look.one("SELECT version_num FROM taskwidgets.alembic_version") == "9999"


def test_a_refused_connect_leaves_no_connection(database_url, look):
    """A connect() that raises has closed what it had opened."""
    look("UPDATE taskwidgets.alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaTooNew) as caught:
        Workspace(database_url)
    assert open_connections(look) == 0
    del caught


def test_a_closed_workspace_leaves_no_connection(database_url, csv_file, look):
    """After close() none of the workspace's connections is open, the lock keeper's included."""
    made = Workspace(database_url)
    made.upload(csv_file("a", "1"), "t").wait()
    made.close()
    # The server ends a session some moments after the connection is closed.
    wait_until(lambda: open_connections(look) == 0)


def open_connections(look):
    return look.one(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'taskwidgets%'"
    )


@pytest.fixture
def guest(database_url, look):
    """The URL of a role without any rights; the role goes with the test."""
    name = "guest_" + database_url.partition("?")[0].rpartition("_")[2]
    look(f"CREATE ROLE {name} LOGIN")
    yield re.sub("//[^@]*@", f"//{name}@", database_url), name
    look(f"REASSIGN OWNED BY {name} TO CURRENT_USER")
    look(f"DROP OWNED BY {name}")
    look(f"DROP ROLE {name}")


def test_a_role_that_may_not_create_the_schema_is_told_what_to_ask_for(guest, look):
    """Without the right to create the schema, RightsMissing holds a statement that helps."""
    url, _ = guest
    look("DROP SCHEMA taskwidgets CASCADE")
    with pytest.raises(RightsMissing, match=r"CREATE SCHEMA taskwidgets AUTHORIZATION") as caught:
        Workspace(url)
    look(str(caught.value).partition("to run: ")[2])
    Workspace(url).close()


def test_a_role_that_may_not_use_the_schema_is_told_what_to_ask_for(guest, look, csv_file):
    """Where others use the schema already, the statements in RightsMissing let this role in."""
    url, name = guest
    with pytest.raises(RightsMissing, match="GRANT") as caught:
        Workspace(url)
    look(str(caught.value).partition("to run: ")[2])
    look(f"GRANT CREATE ON SCHEMA public TO {name}")
    made = Workspace(url)
    assert made.upload(csv_file("a", "1"), "t").wait().rows_loaded == 1
    made.close()


def test_a_role_that_may_not_create_tables_is_told_before_anything_begins(guest, look, csv_file):
    """Without CREATE on the target's schema, upload raises RightsMissing naming the GRANT."""
    url, name = guest
    look("DROP SCHEMA taskwidgets CASCADE")
    look(f"CREATE SCHEMA taskwidgets AUTHORIZATION {name}")
    made = Workspace(url)
    with pytest.raises(RightsMissing, match=r"GRANT CREATE ON SCHEMA"):
        made.upload(csv_file("a", "1"), "public.t")
    assert look.untouched()
    made.close()
