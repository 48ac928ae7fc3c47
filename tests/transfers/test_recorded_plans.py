"""What the database has recorded of a job is input: changed by others, nothing of it is run.

Row security keeps other roles from it. These tests change the records as the owner of the tables
could, or an administrator.
"""

import json

import pandas as pd
import pytest
from fix_servers import wait_until

from taskwidgets import JobFailed, Workspace, job
from taskwidgets.errors import PlanRefused, TaskwidgetsError
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.upload_options import UploadOptions

ROWS = 3000


def paused(work):
    """The job, paused when some of it is done."""
    wait_until(lambda: work.progress.rows > 0 or work.error)
    work.pause()
    wait_until(lambda: work.state == "paused")
    work.join(60)
    work.max_rate = None
    return work


@pytest.fixture
def evil(look):
    """Things of another role that leave a trace in the table ``ran`` when they run."""
    look("CREATE SCHEMA evil")
    look("CREATE TABLE evil.ran (at timestamptz DEFAULT clock_timestamp())")
    look(
        "CREATE FUNCTION evil.run() RETURNS integer LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO evil.ran DEFAULT VALUES; RETURN 1; END'"
    )
    look("CREATE DOMAIN evil.word AS text CHECK (evil.run() > 0)")
    look(
        "CREATE FUNCTION evil.fire() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO evil.ran DEFAULT VALUES; RETURN NEW; END'"
    )
    look(
        "CREATE FUNCTION evil.fixed(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS"
        " 'BEGIN RETURN 1; END'"
    )
    return lambda: look.one("SELECT count(*) FROM evil.ran")


def set_plan(look, path, value):
    """Change one value in the plan of the only job."""
    look(
        "UPDATE taskwidgets.jobs SET plan = jsonb_set(plan, %s, %s)",
        (path, json.dumps(value)),
    )


def fails(work, words="changed the record|changed it"):
    """The job fails, as its plan is refused."""
    with pytest.raises(JobFailed, match=words) as caught:
        work.wait(60)
    assert isinstance(caught.value.__cause__, PlanRefused)


# ---------------------------------------------------------------------- uploads

UPLOAD = {
    "types": [
        ("{types,id}", "integer, b evil.word"),
        ("{types,id}", "integer; CREATE TABLE evil.made ()"),
        ("{types,note}", "evil.word"),
        ("{types,note}", "text DEFAULT evil.run()"),
        ("{types,note}", "text /* */ CHECK (evil.run() > 0)"),
        ("{types,note}", 'text" --'),
        ("{types,note}", 1),
    ],
    "target": [("{target}", ["evil", "t"]), ("{target}", ["pg_catalog", "pg_class"])],
    "source": [
        ("{path}", "/elsewhere.csv"), ("{origin}", {"kind": "files", "name": "x", "facts": {}}),
    ],
    "options": [
        ("{if_exists}", "append"), ("{if_exists}", "replace"), ("{on_error}", "reject"),
        ("{source_column}", "x"), ("{columns}", ["id", 1]), ("{data_start}", "0"),
        ("{dialect,delimiter}", "', HEADER"), ("{types}", {"id": "text"}), ("{columns}", None),
        ("{parts}", [{"name": "x"}]),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("path", "value"), [one for kind in UPLOAD.values() for one in kind])
@pytest.mark.sample(8)
def test_a_changed_upload_is_refused(workspace, many_rows, look, evil, path, value):
    """Types, target, file and options are those of the call; nothing of others is run."""
    work = paused(workspace.upload(many_rows(ROWS), "t", max_rate=5e4))
    set_plan(look, path, value)
    work.resume()
    fails(work)
    assert evil() == 0
    assert not look.exists("evil", "t")
    assert not look.exists("t")


def test_a_changed_upload_is_refused_in_a_new_process(workspace, database_url, many_rows, look):
    """By its number, and by the same call; which starts anew with again=True."""
    path = many_rows(ROWS)
    paused(workspace.upload(path, "t", max_rate=5e4))
    workspace.close()
    set_plan(look, "{target}", ["pg_catalog", "pg_class"])
    second = Workspace(database_url)
    fails(second.resume(1), "target|key")
    fails(second.upload(path, "t"), "target|key")
    assert second.upload(path, "t", again=True).wait(60).rows_loaded == ROWS
    second.close()


def test_options_that_do_not_make_the_key_are_refused(workspace, many_rows, look):
    """The call finds its job by a hash of the options: others there are not the call's."""
    path = many_rows(ROWS)
    work = paused(workspace.upload(path, "t", max_rate=5e4))
    look("""UPDATE taskwidgets.jobs SET options = options || '{"if_exists": "replace"}',
            plan = plan || '{"if_exists": "replace"}'""")
    fails(workspace.upload(path, "t"), "key")
    assert work.state == "failed"


def test_another_schema_of_the_same_name_is_not_the_target(
    workspace, another_workspace, many_rows, look, evil
):
    """Also where the key fits: the name in the call means the table that it meant."""
    work = paused(workspace.upload(many_rows(ROWS), "t", max_rate=5e4, if_exists="append"))
    look("CREATE TABLE evil.t (a int, b text)")
    options = look.one("SELECT options FROM taskwidgets.jobs")
    key = UploadOptions.from_json(options).key(TableName("evil", "t"))
    set_plan(look, "{target}", ["evil", "t"])
    look("UPDATE taskwidgets.jobs SET key = %s", (key,))
    workspace.close()
    fails(another_workspace().resume(work.id), "target is 'evil.t', and should be 'public.t'")
    assert look.one("SELECT count(*) FROM evil.t") == 0


PLANTED = {
    "trigger": "CREATE TRIGGER x BEFORE INSERT ON {0} FOR EACH ROW EXECUTE FUNCTION evil.fire()",
    "default": "ALTER TABLE {0} ADD COLUMN c integer DEFAULT evil.run()",
    "function of the server": "ALTER TABLE {0} ADD COLUMN c text DEFAULT current_query()",
    "check": "ALTER TABLE {0} ADD CHECK (evil.run() > 0) NOT VALID",
    "domain": "ALTER TABLE {0} ADD COLUMN c evil.word",
    "rule": "CREATE RULE x AS ON INSERT TO {0} DO ALSO SELECT evil.run()",
    "policy": "CREATE POLICY x ON {0} USING (evil.run() > 0)",
    "index": "CREATE INDEX ON {0} ((evil.fixed(id)))",
    "parent": "CREATE TABLE evil.child () INHERITS ({0})",
}


@pytest.mark.parametrize("what", PLANTED)
@pytest.mark.sample(5)
def test_a_staging_table_with_code_in_it_is_refused(workspace, many_rows, look, evil, what):
    """No row is written into it; terminate() drops it all the same."""
    work = paused(workspace.upload(many_rows(ROWS), "t", max_rate=5e4))
    look(PLANTED[what].format(f"taskwidgets.{look.staging()[0]}"))
    before = evil()
    work.resume()
    fails(work, "is not as this job made its staging table")
    assert evil() == before
    look("DROP TABLE IF EXISTS evil.child")
    work.terminate()
    wait_until(lambda: work.state == "terminated")
    assert look.staging() == []


def test_a_staging_table_of_another_role_is_not_used(role, many_rows, look):
    """Who may drop it, as the owner of the schema, may put another one there: nothing is loaded."""
    victim, attacker = role("victim"), role("attacker")
    work = paused(victim.workspace().upload(many_rows(ROWS), "t", max_rate=5e4))
    (name,) = look.staging()
    look(f"DROP TABLE taskwidgets.{name}")
    attacker(f"CREATE TABLE taskwidgets.{name} (a integer, b text)")
    attacker(f"GRANT ALL ON taskwidgets.{name} TO PUBLIC")
    work.resume()
    with pytest.raises(JobFailed, match=f"belongs to the role {attacker.name}"):
        work.wait(60)
    assert attacker(f"SELECT * FROM taskwidgets.{name}") == []


def test_the_source_column_and_own_types_pass(workspace, many_rows, look):
    """The default that a staging table has, and types that the call names, are accepted."""
    look("CREATE DOMAIN word AS text CHECK (length(VALUE) < 1000)")
    work = paused(
        workspace.upload(
            many_rows(ROWS), "t", max_rate=5e4, source_column=True, types={"note": "word"}
        )
    )
    work.resume()
    assert work.wait(60).rows_loaded == ROWS
    look("CREATE TABLE u (id int, amount text, day date, note word)")
    again = paused(workspace.upload(many_rows(ROWS), "u", max_rate=5e4, if_exists="append"))
    again.resume()
    assert again.wait(60).rows_loaded == ROWS


def test_a_spool_that_others_can_write_into_is_refused(workspace, look, tmp_path, many_rows):
    """Types of columns and data come out of it; and it is not removed."""
    work = paused(
        workspace.upload(pd.DataFrame({"a": range(ROWS), "b": "x" * 20}), "t", max_rate=2e4)
    )
    folder = tmp_path / "spool" / ("0" * 32)
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    (folder / "table.csv").write_text("a,b\n1,x\n")
    set_plan(look, "{origin,spool}", str(folder))
    work.resume()
    fails(work, "others can write into|its source is not the one")
    work.terminate()
    wait_until(lambda: work.state == "terminated")
    assert (folder / "table.csv").exists()


# ---------------------------------------------------------------------- downloads

DOWNLOAD = [
    ("{settings,role}", "postgres"),
    ("{settings,search_path}", "evil"),
    ("{oid}", "1) IS NULL THEN PERFORM evil.run(); END IF; IF (1"),
    ("{witness,filenode}", "1 THEN PERFORM evil.run()"),
    ("{table}", ["evil", "t"]),
    ("{path}", "elsewhere.csv"),
    ("{options,delimiter}", ";"),
    ("{columns}", [1]),
    ("{published}", {"size": "1"}),
    ("{materialized}", {"blocks": "1"}),
]


@pytest.fixture
def exported(workspace, look, tmp_path):
    """A function that makes a download, and pauses it when some rows are written."""
    look("CREATE TABLE t AS SELECT a, repeat('x', 100) AS b FROM generate_series(1, 20000) a")

    def make(source):
        return paused(workspace.download(source, tmp_path / "t.csv", max_rate=2e5))

    return make


@pytest.mark.parametrize(("path", "value"), DOWNLOAD)
@pytest.mark.sample(5)
def test_a_changed_download_is_refused(
    exported, database_url, workspace, look, evil, path, value, tmp_path
):
    """Settings, numbers, table and file are those of the call."""
    work = exported("t")
    workspace.close()
    look("CREATE VIEW evil.t AS SELECT evil.run() AS a, 'x' AS b")
    set_plan(look, path, value)
    second = Workspace(database_url)
    with pytest.raises(TaskwidgetsError, match=r"does not follow from the options"):
        second.resume(work.id).wait(60)
    assert evil() == 0
    assert not (tmp_path / "t.csv").exists()
    second.close()


def test_the_query_of_a_download_is_that_of_the_call(workspace, database_url, look, evil, tmp_path):
    """What the plan says the query is, is not run."""
    gate = "SELECT pg_sleep(CASE WHEN EXISTS (SELECT FROM open) THEN 0 ELSE 600 END)::text AS a, 1"
    look("CREATE TABLE open ()")
    work = workspace.download(gate, tmp_path / "t.csv")
    wait_until(lambda: work.state == "running" and work.remark == "running the query")
    work.pause()
    wait_until(lambda: work.state == "paused")
    work.join(60)
    workspace.close()
    look("INSERT INTO open DEFAULT VALUES")
    assert look.one("SELECT plan ->> 'select' FROM taskwidgets.jobs") == ""
    set_plan(look, "{select}", "SELECT 'theirs' AS a, evil.run()")
    second = Workspace(database_url)
    assert second.resume(work.id).wait(60).rows_loaded == 1
    assert "theirs" not in (tmp_path / "t.csv").read_text()
    assert evil() == 0
    second.close()


# ---------------------------------------------------------------------- functions


def test_a_changed_function_is_refused(workspace, database_url, look):
    """Another function of this process, or other arguments, are not called."""
    called = []

    @job
    def harmless(run, text):
        raise RuntimeError("the first time")

    @job
    def harmful(run, text):
        called.append(text)

    with pytest.raises(JobFailed):
        harmless.using(workspace)("x").wait(60)
    harmful.using(workspace)("y").wait(60)
    assert called == ["y"]
    name = look.one("SELECT plan ->> 'function' FROM taskwidgets.jobs WHERE id = 2")
    workspace.close()
    look(
        "UPDATE taskwidgets.jobs SET plan = jsonb_set(plan, '{function}', to_jsonb(%s::text))"
        " WHERE id = 1",
        (name,),
    )
    second = Workspace(database_url)
    fails(second.resume(1), "does not follow from its call")
    look("""UPDATE taskwidgets.jobs SET plan = jsonb_set(plan, '{arguments}', '"{\\"text\\": 1}"')
            WHERE id = 1""")
    fails(second.resume(1), "does not follow from its call")
    assert called == ["y"]
    second.close()
